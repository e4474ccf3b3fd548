//! What is to be said about the user to one backend, until it has taken it.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::{
    event::{OutgoingEvent, Said, UserProperties},
    sink::queue::Queued,
};

/// So many refusals in a row, of whatever carried them, are put down to the user
/// properties. One bad event of a batch causes fewer, because each refusal halves the
/// batch.
const MOST_REFUSALS: u32 = 10;

/// The user properties that wait for a request that can carry them.
#[derive(Debug, Default)]
pub(crate) struct PendingUser {
    properties: UserProperties,
    epoch: u64,
    /// They have changed since [`PendingUser::take_changed`] last returned them.
    changed: bool,
    /// Refusals in a row of requests that carried them.
    refusals: u32,
    /// The last request that carried them was refused: the next one goes without, to
    /// show whether the events are to blame.
    skip_next: bool,
}

impl PendingUser {
    /// Takes what another process left in the file.
    #[cfg(feature = "sqlite")]
    pub(crate) fn restored(Said { user, epoch }: Said) -> Self {
        Self { properties: user, epoch, ..Self::default() }
    }

    /// Adds what was said later. If both together exceed the limit of one event, the newer
    /// alone stays.
    pub(crate) fn add(&mut self, newer: &Said) {
        if newer.user.is_empty() {
            return;
        }
        if self.epoch != newer.epoch {
            *self = Self { epoch: newer.epoch, ..Self::default() };
        }
        self.properties.add(&newer.user);
        if self.properties.check().is_err() {
            self.properties = newer.user.clone();
        }
        self.changed = true;
        // What was refused may have been replaced.
        self.refusals = 0;
    }

    /// Returns what is still to be said, for the file, if that has changed since the last
    /// call.
    pub(crate) fn take_changed(&mut self) -> Option<Said> {
        let changed = std::mem::take(&mut self.changed);
        changed.then(|| Said { user: self.properties.clone(), epoch: self.epoch })
    }

    /// Returns what the next request of `epoch` may carry.
    pub(super) fn offer(&self, epoch: u64) -> Option<UserProperties> {
        let may_ride = self.epoch == epoch && !self.skip_next;
        (may_ride && !self.properties.is_empty()).then(|| self.properties.clone())
    }

    /// Notes that a backend took a request, and what it carried.
    pub(super) fn delivered(&mut self, carried: Option<&UserProperties>) {
        self.skip_next = false;
        if let Some(carried) = carried {
            self.refusals = 0;
            self.properties.remove(carried);
            self.changed = true;
        }
    }

    /// Notes that a backend refused a request, and whether it carried these. Returns whether
    /// they are forgotten: that was one refusal too many.
    pub(super) fn refused(&mut self, carried: bool) -> bool {
        if !carried {
            return false;
        }
        self.skip_next = true;
        self.refusals += 1;
        let is_last = self.refusals >= MOST_REFUSALS && !self.properties.is_empty();
        if is_last {
            self.properties = UserProperties::default();
            self.refusals = 0;
            self.changed = true;
        }
        is_last
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
    let events = batch.iter().enumerate().map(|(place, queued)| match &offered {
        Some(user) if carrier == Some(place) => {
            let user = Some(Box::new(user.clone()));
            Arc::new(OutgoingEvent { user, ..OutgoingEvent::clone(&queued.event) })
        }
        _ => queued.event.clone(),
    });
    let events = events.collect();
    (events, offered.filter(|_| carrier.is_some()))
}
