//! The events that wait for the backends: in memory, and also in a file if the app chooses
//! one.

#[cfg(not(feature = "sqlite"))]
mod absent;
mod error;
mod memory;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

#[cfg(not(feature = "sqlite"))]
pub(crate) use self::absent::Journal;
pub use self::error::QueueError;
pub(crate) use self::memory::{Queue, Queued};
#[cfg(feature = "sqlite")]
pub(crate) use self::sqlite::journal::Journal;

#[cfg(feature = "sqlite")]
use super::stats::DropReason;
#[cfg(feature = "sqlite")]
use crate::event::UserUpdate;

/// The number of an event's row in the file. Rows count from 1, without gaps, in the order
/// in which events leave the intake.
pub(crate) type Row = u64;

/// For each lane, in order, the row up to which all events have left.
pub(crate) type Marks = Vec<Row>;

/// Rows that one lane did not take, although later rows may wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) lane: usize,
    pub(crate) first: Row,
    pub(crate) last: Row,
}

impl Refused {
    /// Adds `row` of `lane` to `all`, merging it with the row before it if that is there.
    pub(crate) fn note(all: &mut Vec<Self>, lane: usize, row: Row) {
        match all.iter_mut().rev().find(|refused| refused.lane == lane) {
            Some(refused) if refused.last + 1 == row => refused.last = row,
            _ => all.push(Self { lane, first: row, last: row }),
        }
    }
}

/// The erasures that the last process left in the file.
#[cfg(feature = "sqlite")]
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) enum FoundErasures {
    #[default]
    None,
    /// As they were given to the journal.
    Some(Vec<u8>),
    /// They cannot be decrypted.
    Damaged,
}

/// Prints no content, which has identifiers.
#[cfg(feature = "sqlite")]
impl std::fmt::Debug for FoundErasures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FoundErasures(..)")
    }
}

/// The content that the last process left in the file.
#[cfg(feature = "sqlite")]
#[derive(Debug, Default)]
pub(crate) struct Restored {
    /// The event of each row, or the reason why it is dropped, oldest first.
    pub(crate) rows: Vec<(Row, Result<Queued, DropReason>)>,
    /// For each lane, the row up to which all events have left.
    pub(crate) done: Marks,
    pub(crate) refused: Vec<Refused>,
    /// The user properties that still wait, by lane.
    pub(crate) users: Vec<(usize, UserUpdate)>,
    pub(crate) erasures: FoundErasures,
    /// The highest row number that was ever used.
    pub(crate) last: Row,
}

#[cfg(feature = "sqlite")]
impl Restored {
    /// Returns whether `row` still waits for `lane`.
    pub(crate) fn waits(&self, lane: usize, row: Row) -> bool {
        let refused = |refused: &&Refused| {
            refused.lane == lane && (refused.first..=refused.last).contains(&row)
        };
        self.done.get(lane).is_some_and(|done| *done < row)
            && !self.refused.iter().any(|r| refused(&r))
    }
}
