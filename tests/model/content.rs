//! Contents of the account-data event as one byte each, with IDs from a fixed pool.

use std::fmt;

use crate::{
    analytics_id::AnalyticsId,
    consent::content::{Observed, ObservedId},
};

/// An ID of the pool.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id(u8);

impl Id {
    /// The ID that the account had before the run.
    pub(super) const OLD: Self = Self(0);

    /// Returns the `nth` ID that `device` creates. IDs are numbered by device, not in the order
    /// of creation, so that orders with the same result are one state.
    pub(super) fn minted(device: usize, nth: u8) -> Self {
        assert!(device < 3 && nth < 2, "the pool has two IDs a device");
        Self(1 + 2 * u8::try_from(device).unwrap() + nth)
    }

    /// Returns the `nth` ID that a foreign client creates.
    pub(super) fn foreign(nth: u8) -> Self {
        Self(7 + nth)
    }

    pub(super) fn of(id: &AnalyticsId) -> Self {
        Self(id.reveal().strip_prefix("id-").unwrap().parse().unwrap())
    }

    pub(super) fn real(self) -> AnalyticsId {
        AnalyticsId::from_foreign(&format!("id-{}", self.0)).unwrap()
    }

    pub(super) fn mask(self) -> u16 {
        1 << self.0
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("old"),
            minted @ 1..7 => write!(f, "d{}.{}", (minted - 1) / 2, (minted - 1) % 2),
            foreign => write!(f, "foreign.{}", foreign - 7),
        }
    }
}

/// The `id` member.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Member {
    Absent,
    Unusable,
    Usable(Id),
}

/// An [`Observed`] content in one byte.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Content(u8);

impl Content {
    pub(super) const UNSET: Self = Self::new(None, Member::Absent);

    pub(super) const fn new(flag: Option<bool>, id: Member) -> Self {
        let flag = match flag {
            None => 0,
            Some(false) => 1,
            Some(true) => 2,
        };
        let id = match id {
            Member::Absent => 0,
            Member::Unusable => 1,
            Member::Usable(id) => 2 + id.0,
        };
        Self(flag << 4 | id)
    }

    pub(super) fn flag(self) -> Option<bool> {
        match self.0 >> 4 {
            0 => None,
            flag => Some(flag == 2),
        }
    }

    pub(super) fn id(self) -> Member {
        match self.0 & 0xf {
            0 => Member::Absent,
            1 => Member::Unusable,
            id => Member::Usable(Id(id - 2)),
        }
    }

    /// Returns the ID of an opt-in.
    pub(super) fn granted(self) -> Option<Id> {
        match self.id() {
            Member::Usable(id) if self.flag() == Some(true) => Some(id),
            _ => None,
        }
    }

    pub(super) fn has_nothing_to_remove(self) -> bool {
        self.flag() != Some(true) && self.id() == Member::Absent
    }

    pub(super) fn of(observed: &Observed) -> Self {
        let id = match &observed.id {
            ObservedId::Absent => Member::Absent,
            ObservedId::Unusable => Member::Unusable,
            ObservedId::Usable(id) => Member::Usable(Id::of(id)),
        };
        Self::new(observed.flag, id)
    }

    pub(super) fn real(self) -> Observed {
        let id = match self.id() {
            Member::Absent => ObservedId::Absent,
            Member::Unusable => ObservedId::Unusable,
            Member::Usable(id) => ObservedId::Usable(id.real()),
        };
        Observed { flag: self.flag(), id, agreed: None }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.flag() {
            None => f.write_str("{")?,
            Some(flag) => write!(f, "{{{flag} ")?,
        }
        match self.id() {
            Member::Absent => f.write_str("}"),
            Member::Unusable => f.write_str("unusable}"),
            Member::Usable(id) => write!(f, "{id:?}}}"),
        }
    }
}
