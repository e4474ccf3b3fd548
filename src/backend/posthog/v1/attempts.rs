//! Which attempt to send a batch a request is.

use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::{backend::Batch, event::OutgoingEvent};

/// The last request.
#[derive(Default)]
pub(super) struct Attempts(Mutex<Last>);

#[derive(Default)]
struct Last {
    attempt: Attempt,
    events: Vec<Uuid>,
}

/// One attempt to send a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attempt {
    /// The ID that all attempts have. It is the unique ID of an event, so that it tells the
    /// service nothing else.
    pub(super) request: Uuid,
    /// Counts from 1.
    pub(super) number: u32,
}

impl Attempts {
    /// Returns the next attempt to send `batch`. It is another attempt of the last request if
    /// the first event was in that request: the sink sends the oldest events first, so these
    /// were not accepted.
    pub(super) fn next(&self, batch: &Batch) -> Attempt {
        let events: Vec<_> = batch.events().map(OutgoingEvent::uuid).collect();
        let first = events.first().copied().unwrap_or_default();
        let mut last = self.lock();
        last.attempt = if last.events.contains(&first) {
            Attempt { number: last.attempt.number.saturating_add(1), ..last.attempt }
        } else {
            Attempt { request: first, number: 1 }
        };
        last.events = events;
        last.attempt
    }

    pub(super) fn forget(&self) {
        *self.lock() = Last::default();
    }

    fn lock(&self) -> MutexGuard<'_, Last> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::samples::{batch, event},
        event::Properties,
    };

    fn batch_of(ids: &[u128]) -> Batch {
        let event = |id: &u128| OutgoingEvent {
            uuid: Uuid::from_u128(*id),
            ..event("Opened", Properties::new())
        };
        batch(ids.iter().map(event))
    }

    #[test]
    fn a_batch_that_begins_with_an_event_of_the_last_request_is_another_attempt() {
        let attempts = Attempts::default();
        for (ids, request, number) in [
            (&[1, 2, 3, 4][..], 1, 1),
            (&[1, 2, 3, 4, 5], 1, 2),
            // The first ones were accepted.
            (&[3, 5], 1, 3),
            (&[6], 6, 1),
            (&[6], 6, 2),
            (&[7, 6], 7, 1),
        ] {
            let attempt = Attempt { request: Uuid::from_u128(request), number };
            assert_eq!(attempts.next(&batch_of(ids)), attempt, "{ids:?}");
        }
        attempts.forget();
        assert_eq!(attempts.next(&batch_of(&[7])).number, 1);
    }
}
