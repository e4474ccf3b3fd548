//! Contents of the account-data event as two bytes each, with IDs from a fixed pool, and
//! agreements to one of two policies.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    analytics_id::AnalyticsId,
    clock::EARLIEST_TIME,
    consent::{
        content::{Change, Observed, ObservedId},
        policy::Policy,
    },
};

/// The time between two days of the model, in milliseconds.
const DAY: u64 = 400 * 24 * 3600 * 1000;
/// The age at which an agreement becomes old.
const RENEW_AFTER: Duration = Duration::from_secs(300 * 24 * 3600);

/// Returns the time of day on `day`, which is 1 or 2, in milliseconds since 1970.
pub(super) fn millis(day: u8) -> u64 {
    EARLIEST_TIME + u64::from(day) * DAY
}

fn day_of(millis: u64) -> u8 {
    ((millis - EARLIEST_TIME) / DAY).try_into().unwrap()
}

/// Returns the `nth` policy, of two. They differ in their recipients. Each covers what the other
/// does not, as if they differed in their version.
pub(super) fn policy(nth: u8) -> Arc<Policy> {
    Arc::new(Policy::new("1").recipients([format!("{nth}")]).renew_after(RENEW_AFTER))
}

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

/// The days on which the user agreed to each policy; 0 for none.
type Days = [u8; 2];

/// A content of the event. The bits, from the lowest: four for the ID, two for the flag, four
/// for the ID that the agreements are bound to, and two for the day of each agreement.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Content(u16);

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
        Self((flag << 4 | id) as u16)
    }

    pub(super) fn flag(self) -> Option<bool> {
        match self.0 >> 4 & 3 {
            0 => None,
            flag => Some(flag == 2),
        }
    }

    pub(super) fn id(self) -> Member {
        match self.0 & 0xf {
            0 => Member::Absent,
            1 => Member::Unusable,
            id => Member::Usable(Id((id - 2) as u8)),
        }
    }

    /// Returns the ID that the agreements are bound to, and their days.
    fn agreements(self) -> Option<(Id, Days)> {
        let day = |nth: u16| (self.0 >> (10 + 2 * nth) & 3) as u8;
        match self.0 >> 6 & 0xf {
            0 => None,
            id => Some((Id((id - 1) as u8), [day(0), day(1)])),
        }
    }

    /// Returns this content with other agreements.
    fn with_agreements(self, agreements: Option<(Id, Days)>) -> Self {
        let bits = agreements.map_or(0, |(id, [first, second])| {
            (1 + u16::from(id.0)) << 6 | u16::from(first) << 10 | u16::from(second) << 12
        });
        Self(self.0 & 0x3f | bits)
    }

    /// Returns another content with the agreements of this one, as a client writes that does
    /// not know them.
    pub(super) fn replaced(self, flag: Option<bool>, id: Member) -> Self {
        Self::new(flag, id).with_agreements(self.agreements())
    }

    /// Returns this content on an account whose user agreed to `policy` on `day`.
    pub(super) fn agreed(self, policy: u8, day: u8) -> Self {
        let Member::Usable(id) = self.id() else { return self };
        let mut days = self.agreements().map_or([0; 2], |(_, days)| days);
        days[usize::from(policy)] = day;
        self.with_agreements(Some((id, days)))
    }

    /// Returns the ID and the agreements alone.
    pub(super) fn without_flag(self) -> Self {
        self.replaced(None, self.id())
    }

    pub(super) fn has_agreements(self) -> bool {
        self.agreements().is_some()
    }

    /// Returns this content with a member that has no agreement.
    fn with_leftovers(self) -> Self {
        self.with_agreements(Some((Id::OLD, [0; 2])))
    }

    /// Returns the day of the agreement to `policy` under the ID of this content.
    pub(super) fn agreed_on(self, policy: u8) -> Option<u8> {
        let (id, days) = self.agreements()?;
        let day = days[usize::from(policy)];
        (day > 0 && self.id() == Member::Usable(id)).then_some(day)
    }

    /// Returns the part of this content that a device with `policy` can distinguish.
    pub(super) fn seen_by(self, policy: Option<u8>) -> Self {
        let bare = Self::new(self.flag(), self.id());
        match policy.and_then(|policy| Some((policy, self.agreed_on(policy)?))) {
            Some((policy, day)) => bare.agreed(policy, day),
            None if self.has_agreements() && self.flag() != Some(true) => bare.with_leftovers(),
            None => bare,
        }
    }

    /// Returns the content after a device with `policy` has made `change` to this one.
    pub(super) fn after(self, change: &Change, policy: Option<u8>) -> Self {
        let written = Self::of(&change.outcome(), policy);
        match (change, written.id(), self.agreements()) {
            (Change::OptIn(_, None), Member::Usable(id), Some((bound, days))) if bound == id => {
                written.with_agreements(Some((id, days)))
            }
            (Change::OptIn(_, Some(_)), Member::Usable(id), Some((bound, days))) if bound == id => {
                let policy = policy.unwrap();
                let day = written.agreed_on(policy).unwrap();
                written.with_agreements(Some((id, days))).agreed(policy, day)
            }
            _ => written,
        }
    }

    /// Returns the ID of an opt-in.
    pub(super) fn granted(self) -> Option<Id> {
        match self.id() {
            Member::Usable(id) if self.flag() == Some(true) => Some(id),
            _ => None,
        }
    }

    /// Returns this content if it is an opt-in with an ID.
    pub(super) fn opt_in(self) -> Option<Self> {
        self.granted().map(|_| self)
    }

    pub(super) fn has_nothing_to_remove(self) -> bool {
        self.flag() != Some(true) && self.id() == Member::Absent && !self.has_agreements()
    }

    /// Returns the content that a device with `policy` observed.
    pub(super) fn of(observed: &Observed, policy: Option<u8>) -> Self {
        let id = match &observed.id {
            ObservedId::Absent => Member::Absent,
            ObservedId::Unusable => Member::Unusable,
            ObservedId::Usable(id) => Member::Usable(Id::of(id)),
        };
        let content = Self::new(observed.flag, id);
        match (policy, observed.agreed) {
            (Some(policy), Some(at)) => content.agreed(policy, day_of(at)),
            _ if observed.has_leftovers => content.with_leftovers(),
            _ => content,
        }
    }

    /// Returns what a device with `policy` observes.
    pub(super) fn real(self, policy: Option<u8>) -> Observed {
        let id = match self.id() {
            Member::Absent => ObservedId::Absent,
            Member::Unusable => ObservedId::Unusable,
            Member::Usable(id) => ObservedId::Usable(id.real()),
        };
        let agreed = policy.and_then(|policy| self.agreed_on(policy)).map(millis);
        let has_leftovers = self.has_agreements() && self.flag() != Some(true);
        Observed { flag: self.flag(), id, agreed, has_leftovers }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.flag() {
            None => f.write_str("{")?,
            Some(flag) => write!(f, "{{{flag} ")?,
        }
        match self.id() {
            Member::Absent => {}
            Member::Unusable => f.write_str("unusable")?,
            Member::Usable(id) => write!(f, "{id:?}")?,
        }
        if let Some((id, days)) = self.agreements() {
            write!(f, " agreed under {id:?} on {days:?}")?;
        }
        f.write_str("}")
    }
}
