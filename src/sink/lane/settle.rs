//! What becomes of a batch once its try is over.

use tokio::time::Instant;
use tracing::warn;

use super::{
    Lane, Outcome,
    retry::{self, RetryDecision},
    retry_state::RetryState,
};
use crate::{
    event::UserProperties,
    gate::{Gate, Pass},
    sink::{limits::Limits, queue::Queued, stats::DropReason},
};

/// What one request took to the backend.
pub(super) struct Load {
    pub(super) batch: Vec<Queued>,
    /// What one of the events said about the user.
    pub(super) carried: Option<UserProperties>,
}

impl Lane {
    /// Accounts for `load`, and decides what comes next.
    pub(super) fn settle(
        &self,
        outcome: &Outcome,
        load: Load,
        gate: &Gate,
        pass: &Pass,
        limits: &Limits,
        retries: &mut RetryState,
    ) {
        let Load { batch, carried } = load;
        // Before the lock: a subscriber of the app is told, and what it does is its own.
        let decision = match outcome {
            Outcome::Answered(Err(_)) | Outcome::Panicked => {
                // User properties count like an event: a backend that refuses an event
                // which carries them is tried once more without.
                let events = batch.len() + usize::from(carried.is_some());
                Some(self.decide(outcome, events, retries))
            }
            Outcome::Answered(Ok(())) | Outcome::Cut | Outcome::Stopped => None,
        };
        let mut forgets = false;
        let mut state = self.lock();
        state.landed();
        match outcome {
            Outcome::Answered(Ok(())) => {
                state.delivered += batch.len() as u64;
                state.user.delivered(carried.as_ref());
                retries.succeed(batch.len(), limits.batch_events);
            }
            Outcome::Answered(Err(_)) | Outcome::Panicked => {
                if matches!(decision, Some(RetryDecision::Drop(_) | RetryDecision::Halve)) {
                    forgets = state.user.refused(carried.is_some());
                }
                match decision {
                    Some(RetryDecision::Drop(reason)) => state.drops.add(reason, batch.len()),
                    _ => state.put_back(batch, gate.epoch()),
                }
                if retries.pause.is_some() {
                    state.flush_done = state.flush_asked;
                }
            }
            // In doubt, the events wait for what the homeserver says; withdrawn,
            // they are gone, and whether they arrived is unknown.
            Outcome::Cut if gate.epoch() == pass.epoch => state.queue.put_back(batch),
            Outcome::Cut => state.drops.add(DropReason::CutAtWithdrawal, batch.len()),
            // What ends the lane knows what becomes of it.
            Outcome::Stopped => state.put_back(batch, gate.epoch()),
        }
        drop(state);
        self.progressed.notify_waiters();
        if forgets {
            warn!(backend = self.name(), "user properties were refused too often: forgotten");
        }
    }

    /// Decides what to do with a batch of `events` events that was not delivered, and
    /// sets the retries.
    fn decide(&self, outcome: &Outcome, events: usize, retries: &mut RetryState) -> RetryDecision {
        let now = Instant::now();
        let warned = std::mem::replace(&mut retries.warned, true);
        let decision = match outcome {
            Outcome::Answered(Err(error)) => {
                if !warned {
                    // The class only: a cause may quote what was sent.
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
            RetryDecision::Park(wait) => retries.park(now, wait),
            RetryDecision::Wait(wait) => retries.wait(now, wait),
        }
        decision
    }
}
