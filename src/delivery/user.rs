//! What is to be said about the user to one backend, until it has taken it.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::{
    event::{InvalidEvent, OutgoingEvent, Said, UserProperties},
    queue::{Queued, Row},
};

/// So many refusals in a row, of whatever carried them, are put down to the user
/// properties. One bad event of a batch causes fewer, because each refusal halves the
/// batch.
const MOST_REFUSALS: u32 = 10;

/// The user properties that wait for a request that can carry them.
#[derive(Debug, Default)]
pub(crate) struct PendingUser {
    said: UserProperties,
    epoch: u64,
    /// The first row of the file that has a part of them; none if a part is in no row.
    row: Option<Row>,
    /// Refusals in a row of requests that carried them.
    refusals: u32,
    /// The last request that carried them was refused: the next one goes without, to
    /// show whether the events are to blame.
    rests: bool,
}

impl PendingUser {
    /// Adds what was said, and is written down in `row`, if it is.
    pub(crate) fn say(&mut self, newer: &Said, row: Option<Row>) {
        if newer.user.is_empty() {
            return;
        }
        if self.epoch != newer.epoch {
            *self = Self { epoch: newer.epoch, ..Self::default() };
        }
        self.row = if self.said.is_empty() { row } else { row.and(self.row) };
        self.said.add(&newer.user);
        // What was refused may have been replaced.
        self.refusals = 0;
    }

    /// Checks that `newer` can be added to what waits.
    pub(crate) fn check(&self, newer: &UserProperties) -> Result<(), InvalidEvent> {
        let mut said = self.said.clone();
        said.add(newer);
        said.check()
    }

    /// Returns what the next request of `epoch` may carry.
    pub(super) fn offer(&self, epoch: u64) -> Option<UserProperties> {
        let may_ride = self.epoch == epoch && !self.rests && self.refusals < MOST_REFUSALS;
        (may_ride && !self.said.is_empty()).then(|| self.said.clone())
    }

    /// Notes that a backend took a request, and what it carried.
    pub(super) fn delivered(&mut self, carried: Option<&UserProperties>) {
        self.rests = false;
        if let Some(carried) = carried {
            self.refusals = 0;
            self.said.remove(carried);
        }
    }

    /// Notes that a backend refused a request, and whether it carried these.
    pub(super) fn refused(&mut self, carried: bool) {
        if carried {
            self.rests = true;
            self.refusals = self.refusals.saturating_add(1);
        }
    }

    /// Returns what a restart would lose: that of which a part is in no row from `first`
    /// on, the first that has not left the file.
    pub(crate) fn unwritten(&self, epoch: u64, first: Row) -> Option<&UserProperties> {
        let is_written = self.row.is_some_and(|row| row >= first);
        (self.epoch == epoch && !is_written && !self.said.is_empty()).then_some(&self.said)
    }

    /// Notes that all of it is written down in `row`.
    pub(crate) fn written(&mut self, row: Row) {
        self.row = Some(row);
    }
}

/// Returns the events of `batch` as they leave: the first that `carries` user properties
/// has those that are `offered`, and no other has any. Says what is carried.
pub(super) fn attach(
    batch: &[Queued],
    offered: Option<UserProperties>,
    carries: impl Fn(&OutgoingEvent) -> bool,
) -> (Vec<Arc<OutgoingEvent>>, Option<UserProperties>) {
    let carrier = offered.as_ref().and_then(|_| batch.iter().position(|q| carries(&q.event)));
    let events = batch.iter().enumerate().map(|(place, queued)| {
        let user = offered.as_ref().filter(|_| carrier == Some(place));
        // What is written down with an event is for the next process.
        if user.is_none() && queued.event.user.is_none() {
            return queued.event.clone();
        }
        let user = user.map(|user| Box::new(user.clone()));
        Arc::new(OutgoingEvent { user, ..OutgoingEvent::clone(&queued.event) })
    });
    let events = events.collect();
    (events, offered.filter(|_| carrier.is_some()))
}
