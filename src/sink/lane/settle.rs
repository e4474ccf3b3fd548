//! Accounts for a batch after an attempt.

use tokio::time::Instant;
use tracing::warn;

use super::{
    Lane, Outcome,
    retry::{self, RetryDecision},
    retry_state::RetryState,
    user::Carried,
};
use crate::{
    backend::{DeliveryError, PartialDelivery},
    gate::{Gate, Pass},
    sink::{limits::Limits, queue::Queued, stats::DropReason},
};

/// The events and user properties of one request.
pub(super) struct SentBatch {
    pub(super) batch: Vec<Queued>,
    /// The user properties that one of the events carried.
    pub(super) carried: Option<Carried>,
}

impl Lane {
    /// Accounts for `sent`, and schedules the next attempt.
    pub(super) fn settle(
        &self,
        outcome: &Outcome,
        sent: SentBatch,
        gate: &Gate,
        pass: &Pass,
        limits: &Limits,
        retries: &mut RetryState,
    ) {
        // Made before the lock is taken, because it logs, and the log subscriber is code of
        // the app.
        let decision = match outcome {
            Outcome::Answered(Err(DeliveryError::Partial(partial))) => {
                if partial.within(sent.batch.len()).dropped() > 0 {
                    self.warn_of_partial_delivery(retries);
                }
                None
            }
            Outcome::Answered(Err(DeliveryError::PerEvent { outcomes, retry_after })) => {
                self.pace(outcomes, *retry_after, sent.batch.len(), limits, retries);
                None
            }
            Outcome::Answered(Err(_)) | Outcome::Panicked => {
                // User properties count as one more event, so that a refused event which
                // carries them is sent again without them.
                let events = sent.batch.len() + usize::from(sent.carried.is_some());
                Some(self.decide(outcome, events, retries))
            }
            Outcome::Answered(Ok(())) | Outcome::Cut | Outcome::Stopped => None,
        };
        let mut gave_up_user = false;
        let mut state = self.lock();
        state.end_flight();
        let SentBatch { batch, carried } = sent;
        match outcome {
            Outcome::Answered(Ok(())) => {
                state.delivered += batch.len() as u64;
                state.user.delivered(carried.as_ref().map(|carried| &carried.properties));
                retries.succeed(batch.len(), limits.batch_events);
            }
            Outcome::Answered(Err(DeliveryError::Partial(partial))) => {
                let PartialDelivery { expired, rejected, too_large } = partial.within(batch.len());
                state.drops.add(DropReason::Expired, expired);
                state.drops.add(DropReason::Rejected, rejected);
                state.drops.add(DropReason::TooLarge, too_large);
                let dropped = expired + rejected + too_large;
                state.delivered += (batch.len() - dropped) as u64;
                // The event that carried the properties may be one of those dropped.
                if dropped == 0 || carried.is_none() {
                    state.user.delivered(carried.as_ref().map(|carried| &carried.properties));
                } else {
                    gave_up_user = state.user.refused(true);
                }
                retries.succeed(batch.len(), limits.batch_events);
                // Such answers may follow each other.
                retries.warned_of_events = dropped > 0;
            }
            Outcome::Answered(Err(DeliveryError::PerEvent { outcomes, .. })) => {
                let sent = SentBatch { batch, carried };
                gave_up_user = state.settle_each(sent, outcomes, gate.epoch());
                if retries.pause.is_some() {
                    state.flush_done = state.flush_asked;
                }
            }
            Outcome::Answered(Err(_)) | Outcome::Panicked => {
                use RetryDecision::{Drop, DropBatch, Halve};

                if matches!(decision, Some(Drop(_) | DropBatch | Halve)) {
                    gave_up_user = state.user.refused(carried.is_some());
                }
                match decision {
                    Some(Drop(reason)) => state.drops.add(reason, batch.len()),
                    Some(DropBatch) => state.drops.add(DropReason::Rejected, batch.len()),
                    _ => state.put_back(batch, gate.epoch()),
                }
                if retries.pause.is_some() {
                    state.flush_done = state.flush_asked;
                }
            }
            // If consent is only being rechecked, keep the batch. If it was withdrawn, drop
            // the batch; whether it arrived is unknown.
            Outcome::Cut if gate.epoch() == pass.epoch => state.queue.put_back(batch),
            Outcome::Cut => state.drops.add(DropReason::CutAtWithdrawal, batch.len()),
            // `Lane::end` drops or keeps the batch.
            Outcome::Stopped => state.put_back(batch, gate.epoch()),
        }
        drop(state);
        self.progressed.notify_waiters();
        if gave_up_user {
            warn!(backend = self.name(), "user properties were refused too often: dropped");
        }
    }

    fn warn_of_partial_delivery(&self, retries: &RetryState) {
        if !retries.warned_of_events {
            warn!(backend = self.name(), "some events are refused");
        }
    }

    /// Decides what to do with a batch of `events` events that was not delivered, and
    /// updates `retries`.
    fn decide(&self, outcome: &Outcome, events: usize, retries: &mut RetryState) -> RetryDecision {
        let now = Instant::now();
        let warned = std::mem::replace(&mut retries.warned, true);
        let decision = match outcome {
            Outcome::Answered(Err(error)) => {
                if !warned {
                    // Without the source, which may quote parts of the batch.
                    warn!(backend = self.name(), "events are not delivered: {error}");
                }
                retry::decide(error, events, retries.fail(now), fastrand::f64())
            }
            _ => {
                if !warned {
                    warn!(backend = self.name(), "events are not delivered: the backend panicked");
                }
                retry::refused(events, DropReason::BackendPanicked)
            }
        };
        match decision {
            RetryDecision::Drop(_) | RetryDecision::Halve => retries.refuse(now, events),
            RetryDecision::DropBatch => retries.refuse_batch(now),
            RetryDecision::Park(wait) => retries.park(now, wait),
            RetryDecision::Wait(wait) => retries.wait(now, wait),
        }
        decision
    }
}
