//! The user properties that wait to be sent to one backend.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::{
    event::{OutgoingEvent, UserProperties, UserUpdate},
    sink::queue::Queued,
};

/// After this many refusals in a row of requests that carried them, user properties are
/// considered the cause. A single bad event causes fewer refusals, because each one halves
/// the batch.
const MOST_REFUSALS: u32 = 10;

/// User properties in a request.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) properties: UserProperties,
    /// The place of the event that carries them.
    pub(super) place: usize,
}

/// User properties that wait for a request that can carry them.
#[derive(Debug, Default)]
pub(crate) struct PendingUser {
    properties: UserProperties,
    epoch: u64,
    /// Whether they have changed since the last call of [`PendingUser::take_changed`].
    changed: bool,
    /// Refusals in a row of requests that carried them.
    refusals: u32,
    /// Whether the next request must not carry them, because the last one that did was
    /// refused. This shows whether the events are the cause.
    skip_next: bool,
}

impl PendingUser {
    /// Restores user properties that another process left in the file.
    #[cfg(feature = "sqlite")]
    pub(crate) fn restored(UserUpdate { user, epoch }: UserUpdate) -> Self {
        Self { properties: user, epoch, ..Self::default() }
    }

    /// Adds newer properties. If both together exceed the size limit of one event, only
    /// the newer ones are kept.
    pub(crate) fn add(&mut self, newer: &UserUpdate) {
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
        // The refused properties may have been replaced.
        self.refusals = 0;
    }

    /// Returns the waiting properties, for the file, if they have changed since the last
    /// call.
    pub(crate) fn take_changed(&mut self) -> Option<UserUpdate> {
        let changed = std::mem::take(&mut self.changed);
        changed.then(|| UserUpdate { user: self.properties.clone(), epoch: self.epoch })
    }

    /// Returns the properties that the next request of `epoch` may carry.
    pub(super) fn offer(&self, epoch: u64) -> Option<UserProperties> {
        let may_carry = self.epoch == epoch && !self.skip_next;
        (may_carry && !self.properties.is_empty()).then(|| self.properties.clone())
    }

    /// Notes that the backend accepted a request, which carried `carried`.
    pub(super) fn delivered(&mut self, carried: Option<&UserProperties>) {
        self.skip_next = false;
        if let Some(carried) = carried {
            self.refusals = 0;
            self.properties.remove(carried);
            self.changed = true;
        }
    }

    /// Notes that the backend refused a request, and whether the request carried these
    /// properties. Returns whether they were dropped, because they were refused too often.
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

/// Returns the events of `batch` as they are sent, and the user properties that one of them
/// carries. The first event for which `carries` returns `true` gets the `offered`
/// properties.
pub(super) fn attach(
    batch: &[Queued],
    offered: Option<UserProperties>,
    carries: impl Fn(&OutgoingEvent) -> bool,
) -> (Vec<Arc<OutgoingEvent>>, Option<Carried>) {
    let carrier = offered.as_ref().and_then(|_| batch.iter().position(|q| carries(&q.event)));
    let events = batch.iter().enumerate().map(|(place, queued)| match &offered {
        Some(user) if carrier == Some(place) => {
            let user = Some(Box::new(user.clone()));
            Arc::new(OutgoingEvent { user, ..OutgoingEvent::clone(&queued.event) })
        }
        _ => queued.event.clone(),
    });
    let events = events.collect();
    let carried = offered.zip(carrier);
    (events, carried.map(|(properties, place)| Carried { properties, place }))
}
