//! A backend that fails on command.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::recording::{Log, ReceivedBatch, ReceivedEvent};
use crate::backend::{Backend, Batch, DeliveryError, EventOutcome, PartialDelivery};

/// A failure to simulate: one for each variant of [`DeliveryError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeliveryFailure {
    /// [`DeliveryError::Misconfigured`].
    Misconfigured,
    /// [`DeliveryError::Partial`].
    Partial(PartialDelivery),
    /// [`DeliveryError::PerEvent`] with this outcome for each event that has one.
    PerEvent(EventOutcome),
    /// [`DeliveryError::Refused`].
    Refused {
        /// The status of the answer.
        status: u16,
    },
    /// [`DeliveryError::Rejected`].
    Rejected,
    /// [`DeliveryError::Throttled`].
    Throttled {
        /// The wait that the backend asks for.
        retry_after: Option<Duration>,
    },
    /// [`DeliveryError::TooLarge`].
    TooLarge,
    /// [`DeliveryError::Transient`].
    Transient,
    /// [`DeliveryError::Unauthorized`].
    Unauthorized,
}

/// The source of the errors of [`FailingBackend`].
#[derive(Debug, thiserror::Error)]
#[error("the test asked for this failure")]
struct Simulated;

impl From<DeliveryFailure> for DeliveryError {
    fn from(failure: DeliveryFailure) -> Self {
        let source = Box::new(Simulated);
        match failure {
            DeliveryFailure::Misconfigured => Self::Misconfigured(source),
            DeliveryFailure::Partial(partial) => Self::Partial(partial),
            DeliveryFailure::PerEvent(outcome) => per_event(outcome, 1),
            DeliveryFailure::Refused { status } => Self::Refused { status, source },
            DeliveryFailure::Rejected => Self::Rejected(source),
            DeliveryFailure::Throttled { retry_after } => Self::Throttled { retry_after, source },
            DeliveryFailure::TooLarge => Self::TooLarge(source),
            DeliveryFailure::Transient => Self::Transient(source),
            DeliveryFailure::Unauthorized => Self::Unauthorized(source),
        }
    }
}

impl From<&DeliveryError> for DeliveryFailure {
    fn from(error: &DeliveryError) -> Self {
        match error {
            DeliveryError::Misconfigured(_) => Self::Misconfigured,
            DeliveryError::Partial(partial) => Self::Partial(*partial),
            DeliveryError::PerEvent { outcomes, .. } => {
                Self::PerEvent(EventOutcome::at(outcomes, 0))
            }
            DeliveryError::Refused { status, .. } => Self::Refused { status: *status },
            DeliveryError::Rejected(_) => Self::Rejected,
            DeliveryError::Throttled { retry_after, .. } => {
                Self::Throttled { retry_after: *retry_after }
            }
            DeliveryError::TooLarge(_) => Self::TooLarge,
            DeliveryError::Transient(_) => Self::Transient,
            DeliveryError::Unauthorized(_) => Self::Unauthorized,
        }
    }
}

fn per_event(outcome: EventOutcome, events: usize) -> DeliveryError {
    DeliveryError::PerEvent { outcomes: vec![outcome; events], retry_after: None }
}

/// A backend that accepts every batch and keeps it in memory, until it is told to fail,
/// stall or panic.
///
/// Each attempt first waits while the backend is stalled. It then takes the first of
/// these actions that applies: the next one queued by [`fail_next`](Self::fail_next) and
/// [`panic_next`](Self::panic_next), the failure set by
/// [`fail_always`](Self::fail_always), or accepting the batch. Clones share their state.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use matrix_analytics::{Backend, Properties, testing};
///
/// let backend = testing::FailingBackend::new();
/// let batch = testing::batch("id", [testing::event("Opened", Properties::new())]);
/// backend.fail_next(testing::DeliveryFailure::Transient);
/// assert!(backend.send(&batch).await.is_err());
/// assert!(backend.send(&batch).await.is_ok());
/// assert_eq!(backend.attempts(), 2);
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct FailingBackend {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    accepted: Log,
    plan: Mutex<Plan>,
    /// Notified of every change to `plan`.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Plan {
    next: VecDeque<QueuedAction>,
    always: Option<DeliveryFailure>,
    stalled: bool,
    attempts: usize,
}

#[derive(Clone, Copy, Debug)]
enum QueuedAction {
    Failure(DeliveryFailure),
    Panic,
}

impl FailingBackend {
    /// Creates a backend that accepts every batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Queues a failure for one attempt, after the actions already queued.
    pub fn fail_next(&self, failure: DeliveryFailure) {
        self.change(|plan| plan.next.push_back(QueuedAction::Failure(failure)));
    }

    /// Makes every attempt fail once the queued actions are used up.
    pub fn fail_always(&self, failure: DeliveryFailure) {
        self.change(|plan| plan.always = Some(failure));
    }

    /// Queues a panic for one attempt, after the actions already queued.
    pub fn panic_next(&self) {
        self.change(|plan| plan.next.push_back(QueuedAction::Panic));
    }

    /// Accepts every batch again: discards the queued actions and ends
    /// [`fail_always`](Self::fail_always) and [`stall`](Self::stall).
    pub fn heal(&self) {
        self.change(|plan| *plan = Plan { attempts: plan.attempts, ..Plan::default() });
    }

    /// Makes every new attempt wait until [`release`](Self::release). Attempts under way
    /// are not affected.
    pub fn stall(&self) {
        self.change(|plan| plan.stalled = true);
    }

    /// Resumes the stalled attempts.
    pub fn release(&self) {
        self.change(|plan| plan.stalled = false);
    }

    /// Returns the accepted batches, oldest first.
    #[must_use]
    pub fn accepted(&self) -> Vec<ReceivedBatch> {
        self.shared.accepted.batches().clone()
    }

    /// Returns the accepted events, oldest first.
    #[must_use]
    pub fn accepted_events(&self) -> Vec<ReceivedEvent> {
        self.accepted().into_iter().flat_map(|batch| batch.events).collect()
    }

    /// Returns the number of attempts so far, including those under way.
    #[must_use]
    pub fn attempts(&self) -> usize {
        self.shared.plan().attempts
    }

    /// Waits until there have been at least `count` attempts. An attempt counts as soon
    /// as it begins.
    ///
    /// # Cancel safety
    ///
    /// This method only waits. It can be dropped and called again.
    pub async fn wait_for_attempts(&self, count: usize) {
        self.shared.wait_until(|plan| plan.attempts >= count).await;
    }

    fn change(&self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.shared.plan());
        self.shared.changed.notify_waiters();
    }
}

impl Shared {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn wait_until(&self, met: impl Fn(&Plan) -> bool) {
        loop {
            // Create the future before the check, so that no change after the check is
            // missed.
            let changed = self.changed.notified();
            if met(&self.plan()) {
                return;
            }
            changed.await;
        }
    }
}

impl Backend for FailingBackend {
    fn name(&self) -> &'static str {
        "failing"
    }

    /// # Panics
    ///
    /// Panics if the test asked for it.
    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        self.change(|plan| plan.attempts += 1);
        self.shared.wait_until(|plan| !plan.stalled).await;
        let action = {
            let mut plan = self.shared.plan();
            plan.next.pop_front().or(plan.always.map(QueuedAction::Failure))
        };
        match action {
            None => {
                self.shared.accepted.add(batch.into());
                Ok(())
            }
            Some(QueuedAction::Failure(DeliveryFailure::PerEvent(outcome))) => {
                Err(per_event(outcome, batch.len()))
            }
            Some(QueuedAction::Failure(failure)) => Err(failure.into()),
            Some(QueuedAction::Panic) => panic!("the test asked for this panic"),
        }
    }
}
