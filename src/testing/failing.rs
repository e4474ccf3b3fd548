//! A backend that fails on command.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::recording::{Log, ReceivedBatch, ReceivedEvent};
use crate::backend::{Backend, Batch, DeliveryError};

/// A failure that a test asks for: the variants of [`DeliveryError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeliveryFailure {
    /// [`DeliveryError::Misconfigured`].
    Misconfigured,
    /// [`DeliveryError::Rejected`].
    Rejected,
    /// [`DeliveryError::Throttled`].
    Throttled {
        /// How long the backend asks to wait.
        retry_after: Option<Duration>,
    },
    /// [`DeliveryError::TooLarge`].
    TooLarge,
    /// [`DeliveryError::Transient`].
    Transient,
    /// [`DeliveryError::Unauthorized`].
    Unauthorized,
}

/// The cause of the errors of [`FailingBackend`].
#[derive(Debug, thiserror::Error)]
#[error("the test asked for this failure")]
struct Simulated;

impl From<DeliveryFailure> for DeliveryError {
    fn from(failure: DeliveryFailure) -> Self {
        let source = Box::new(Simulated);
        match failure {
            DeliveryFailure::Misconfigured => Self::Misconfigured(source),
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

/// A backend that takes everything and keeps it in memory, until it is told to
/// fail, to stall or to panic.
///
/// Each try first waits while the backend is stalled. Then it does what comes
/// first: what [`fail_next`](Self::fail_next) and
/// [`panic_next`](Self::panic_next) have lined up, what
/// [`fail_always`](Self::fail_always) says, or it takes the batch. A clone is
/// the same backend.
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
    /// Told of every change of `plan`.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Plan {
    next: VecDeque<Mishap>,
    always: Option<DeliveryFailure>,
    stalled: bool,
    attempts: usize,
}

#[derive(Clone, Copy, Debug)]
enum Mishap {
    Failure(DeliveryFailure),
    Panic,
}

impl FailingBackend {
    /// A backend that takes everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets one more try fail, after those that are lined up already.
    pub fn fail_next(&self, failure: DeliveryFailure) {
        self.change(|plan| plan.next.push_back(Mishap::Failure(failure)));
    }

    /// Lets every try fail, once those that are lined up are over.
    pub fn fail_always(&self, failure: DeliveryFailure) {
        self.change(|plan| plan.always = Some(failure));
    }

    /// Lets one more try panic, after those that are lined up already.
    pub fn panic_next(&self) {
        self.change(|plan| plan.next.push_back(Mishap::Panic));
    }

    /// Takes everything again: forgets what is lined up, and ends
    /// [`fail_always`](Self::fail_always) and [`stall`](Self::stall).
    pub fn heal(&self) {
        self.change(|plan| *plan = Plan { attempts: plan.attempts, ..Plan::default() });
    }

    /// Lets every try wait, those under way excepted, until
    /// [`release`](Self::release).
    pub fn stall(&self) {
        self.change(|plan| plan.stalled = true);
    }

    /// Lets the tries that wait go on.
    pub fn release(&self) {
        self.change(|plan| plan.stalled = false);
    }

    /// The batches taken, oldest first.
    #[must_use]
    pub fn accepted(&self) -> Vec<ReceivedBatch> {
        self.shared.accepted.batches().clone()
    }

    /// The events taken, oldest first.
    #[must_use]
    pub fn accepted_events(&self) -> Vec<ReceivedEvent> {
        self.accepted().into_iter().flat_map(|batch| batch.events).collect()
    }

    /// The number of tries so far, those under way included.
    #[must_use]
    pub fn attempts(&self) -> usize {
        self.shared.plan().attempts
    }

    /// Waits until there were at least `count` tries; a try counts when it
    /// begins.
    ///
    /// # Cancel safety
    ///
    /// It changes nothing: it can be dropped and called again.
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
            // Before the look, so that no change after it is missed.
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
    /// If the test asked for it.
    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        self.change(|plan| plan.attempts += 1);
        self.shared.wait_until(|plan| !plan.stalled).await;
        let mishap = {
            let mut plan = self.shared.plan();
            plan.next.pop_front().or(plan.always.map(Mishap::Failure))
        };
        match mishap {
            None => {
                self.shared.accepted.add(batch.into());
                Ok(())
            }
            Some(Mishap::Failure(failure)) => Err(failure.into()),
            Some(Mishap::Panic) => panic!("the test asked for this panic"),
        }
    }
}
