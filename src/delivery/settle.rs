//! What becomes of a batch once its try is over.

use tokio::time::Instant;
use tracing::warn;

use super::{
    Lane, Outcome,
    course::Course,
    retry::{self, RetryDecision},
};
use crate::{
    gate::{Gate, Pass},
    limits::Limits,
    queue::Queued,
    stats::DropReason,
};

impl Lane {
    /// Accounts for `batch`, and decides what comes next.
    pub(super) fn settle(
        &self,
        outcome: &Outcome,
        batch: Vec<Queued>,
        gate: &Gate,
        pass: &Pass,
        limits: &Limits,
        course: &mut Course,
    ) {
        let mut state = self.lock();
        state.landed();
        match outcome {
            Outcome::Answered(Ok(())) => {
                state.delivered += batch.len() as u64;
                course.succeed(batch.len(), limits.batch_events);
            }
            Outcome::Answered(Err(_)) | Outcome::Panicked => {
                match self.decide(outcome, batch.len(), course) {
                    RetryDecision::Drop(reason) => state.drops.add(reason, batch.len()),
                    _ => state.put_back(batch, gate.epoch()),
                }
                if course.pause.is_some() {
                    state.flush_done = state.flush_asked;
                }
            }
            // In doubt, the events wait for what the homeserver says; withdrawn,
            // they are gone, and whether they arrived nobody can tell.
            Outcome::Cut if gate.epoch() == pass.epoch => state.queue.put_back(batch),
            Outcome::Cut => state.drops.add(DropReason::CutAtWithdrawal, batch.len()),
            // What ends the lane knows what becomes of it.
            Outcome::Stopped => state.put_back(batch, gate.epoch()),
        }
        drop(state);
        self.progressed.notify_waiters();
    }

    /// Decides what to do with a batch of `events` events that was not delivered, and
    /// sets the course.
    fn decide(&self, outcome: &Outcome, events: usize, course: &mut Course) -> RetryDecision {
        let now = Instant::now();
        let warned = std::mem::replace(&mut course.warned, true);
        let decision = match outcome {
            Outcome::Answered(Err(error)) => {
                if !warned {
                    // The class only: a cause may quote what was sent.
                    warn!(backend = self.name(), "events are not delivered: {error}");
                }
                retry::decide(error, events, course.fail(now), fastrand::f64())
            }
            _ => {
                if !warned {
                    warn!(backend = self.name(), "events are not delivered: the backend panicked");
                }
                retry::refused(events, DropReason::BackendPanicked)
            }
        };
        match decision {
            RetryDecision::Drop(_) | RetryDecision::Halve => course.refuse(now, events),
            RetryDecision::Park(wait) => course.park(now, wait),
            RetryDecision::Wait(wait) => course.wait(now, wait),
        }
        decision
    }
}
