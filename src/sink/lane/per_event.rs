//! Accounts for a batch whose service answered for each event.

use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::{
    Lane, retry::Wait, retry_state::RetryState, settle::SentBatch, state::LaneState, user::Carried,
};
use crate::{
    backend::EventOutcome,
    sink::{limits::Limits, stats::DropReason},
};

impl Lane {
    /// Logs that not all of the `events` events were delivered, and schedules the next attempt.
    ///
    /// Events to be sent again make the lane wait as after a temporary failure, even if others
    /// were delivered: the service is in trouble, and a request without a wait would be one of
    /// very many.
    pub(super) fn pace(
        &self,
        outcomes: &[EventOutcome],
        retry_after: Option<Duration>,
        events: usize,
        limits: &Limits,
        retries: &mut RetryState,
    ) {
        let now = Instant::now();
        let number_of = |wanted: fn(EventOutcome) -> bool| {
            (0..events).filter(|place| wanted(EventOutcome::at(outcomes, *place))).count()
        };
        let delivered = number_of(EventOutcome::is_delivered);
        let again = number_of(|outcome| outcome == EventOutcome::SendAgain);
        let warned = retries.warned_of_events;
        if again > 0 {
            retries.leave(events - again);
            let wait = Wait::asked(retries.fail(now), fastrand::f64(), retry_after);
            retries.wait(now, wait);
        } else if delivered == 0 {
            retries.refuse_batch(now);
        } else {
            retries.succeed(events, limits.batch_events);
        }
        retries.warned_of_events = delivered < events;
        if retries.warned_of_events && !warned {
            warn!(backend = self.name(), "some events are refused, or must be sent again");
        }
    }
}

impl LaneState {
    /// Accounts for each event of `sent`, and puts those to be sent again back into the queue.
    /// Returns whether the user properties were dropped.
    pub(super) fn settle_each(
        &mut self,
        sent: SentBatch,
        outcomes: &[EventOutcome],
        epoch: u64,
    ) -> bool {
        let mut again = Vec::new();
        for (place, queued) in sent.batch.into_iter().enumerate() {
            let outcome = EventOutcome::at(outcomes, place);
            match drop_reason(outcome) {
                Some(reason) => self.drops.add(reason, 1),
                None if outcome.is_delivered() => self.delivered += 1,
                None => {
                    again.push(queued);
                    continue;
                }
            }
            if !again.is_empty() {
                self.left_early.extend(queued.row);
            }
        }
        self.put_back(again, epoch);
        self.settle_user(sent.carried.as_ref(), outcomes)
    }

    fn settle_user(&mut self, carried: Option<&Carried>, outcomes: &[EventOutcome]) -> bool {
        let Some(Carried { properties, place }) = carried else {
            if outcomes.iter().any(|outcome| outcome.is_delivered()) {
                self.user.delivered(None);
            }
            return false;
        };
        match EventOutcome::at(outcomes, *place) {
            EventOutcome::Delivered => self.user.delivered(Some(properties)),
            // Not their fault: the next request carries them.
            EventOutcome::SendAgain | EventOutcome::Expired | EventOutcome::OverQuota => {}
            EventOutcome::Rejected
            | EventOutcome::TooLarge
            | EventOutcome::WithoutUserProperties => return self.user.refused(true),
        }
        false
    }
}

fn drop_reason(outcome: EventOutcome) -> Option<DropReason> {
    match outcome {
        EventOutcome::Expired => Some(DropReason::Expired),
        EventOutcome::OverQuota => Some(DropReason::OverQuota),
        EventOutcome::Rejected => Some(DropReason::Rejected),
        EventOutcome::TooLarge => Some(DropReason::TooLarge),
        EventOutcome::Delivered | EventOutcome::SendAgain | EventOutcome::WithoutUserProperties => {
            None
        }
    }
}
