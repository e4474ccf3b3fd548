//! State shared by the handle, the tasks and the event handler.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
};

use matrix_sdk::Client;
use tokio::{runtime::Handle as Runtime, sync::Notify};
use tracing::warn;

use super::{consent_record::Decisions, erasures::Erasures, outcome::RecipientIdentifier};
use crate::{
    analytics_id::AnalyticsId,
    consent::{
        machine::Machine,
        state::{ConsentState, GateState},
    },
    disclosure::Configuration,
    gate::Phase,
    history::History,
    matrix::{account_data::AccountData, record_store::RecordStore},
    sink::{Sink, counted::PendingSignal},
};
#[cfg(feature = "rageshake")]
use crate::{consent::state::ClosedReason, recent_logs::RecentLogs};

/// The state behind an `Analytics`. Tasks hold it weakly, because it owns the `Client`.
pub(crate) struct Shared {
    /// The runtime of the tasks, for calls from threads without one.
    pub(crate) runtime: Runtime,
    pub(super) client: Client,
    machine: Mutex<Machine>,
    pub(crate) account_data: AccountData,
    pub(crate) record_store: RecordStore,
    /// The lock that each save of the record holds, so that the newest is written last.
    pub(crate) save_lock: Arc<tokio::sync::Mutex<()>>,
    pub(crate) sink: Arc<Sink>,
    pub(super) configuration: Configuration,
    pub(super) history: Option<Arc<History>>,
    pub(super) erasures: Arc<Erasures>,
    pub(super) decisions: Decisions,
    #[cfg(feature = "rageshake")]
    recent_logs: Option<RecentLogs>,
    /// Wakes the consent task.
    pub(super) wake: Arc<Notify>,
    /// Wakes the state streams after every transition, and when this is dropped.
    pub(crate) transitions: Arc<Notify>,
    pub(super) next_call: AtomicU64,
}

/// The parts of a [`Shared`], except the machine.
pub(super) struct Parts {
    pub(super) runtime: Runtime,
    pub(super) client: Client,
    pub(super) account_data: AccountData,
    pub(super) record_store: RecordStore,
    pub(super) sink: Sink,
    pub(super) configuration: Configuration,
    pub(super) history: Option<Arc<History>>,
    pub(super) erasures: Erasures,
    pub(super) decisions: Decisions,
    #[cfg(feature = "rageshake")]
    pub(super) recent_logs: Option<RecentLogs>,
}

impl Shared {
    pub(super) fn new(machine: Machine, parts: Parts) -> Self {
        Self {
            runtime: parts.runtime,
            client: parts.client,
            machine: Mutex::new(machine),
            account_data: parts.account_data,
            record_store: parts.record_store,
            save_lock: Arc::default(),
            sink: Arc::new(parts.sink),
            configuration: parts.configuration,
            history: parts.history,
            erasures: Arc::new(parts.erasures),
            decisions: parts.decisions,
            #[cfg(feature = "rageshake")]
            recent_logs: parts.recent_logs,
            wake: Arc::default(),
            transitions: Arc::default(),
            next_call: AtomicU64::default(),
        }
    }

    pub(crate) fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the state of consent now.
    pub(super) fn state(&self) -> ConsentState {
        self.state_and_epoch().0
    }

    /// Returns the state now, and the epoch of the ID that it is about.
    pub(crate) fn state_and_epoch(&self) -> (ConsentState, u64) {
        let machine = self.machine();
        let erasures_pending = self.erasures.are_pending();
        (ConsentState { erasures_pending, ..machine.state() }, machine.epoch())
    }

    /// Makes a transition. Updates the gate, wipes if required, and wakes the consent task
    /// and all readers before it returns.
    pub(crate) fn apply<R>(&self, transition: impl FnOnce(&mut Machine) -> R) -> R {
        self.apply_then(transition, |_| {})
    }

    /// Makes a transition as [`apply`](Self::apply) does, and calls `then` once the gate has
    /// followed it.
    pub(super) fn apply_then<R>(
        &self,
        transition: impl FnOnce(&mut Machine) -> R,
        then: impl FnOnce(&Machine),
    ) -> R {
        let (result, signal) = self.transition(transition, then);
        self.wake.notify_one();
        self.notify_readers(signal);
        result
    }

    /// Makes a transition of the consent task itself, which needs no wake-up.
    pub(crate) fn apply_unnoticed<R>(&self, transition: impl FnOnce(&mut Machine) -> R) -> R {
        let (result, signal) = self.transition(transition, |_| {});
        self.notify_readers(signal);
        result
    }

    fn transition<R>(
        &self,
        transition: impl FnOnce(&mut Machine) -> R,
        then: impl FnOnce(&Machine),
    ) -> (R, PendingSignal<'_>) {
        let mut machine = self.machine();
        let result = transition(&mut machine);
        let phase = match machine.gate() {
            GateState::Closed(_) => Phase::Closed,
            GateState::Holding(_) => Phase::Holding,
            GateState::Open => Phase::Open,
        };
        let wipe = machine.take_wipe();
        let is_wiped = wipe.is_some();
        let signal = self.sink.set_gate(phase, machine.epoch(), machine.id().cloned(), wipe);
        // After the gate is shut: nothing may delay that.
        if let (true, Some(history)) = (is_wiped, &self.history) {
            history.wipe(machine.epoch());
        }
        then(&machine);
        self.erasures.follow(&machine);
        self.decisions.follow(&machine);
        #[cfg(feature = "rageshake")]
        if let (true, Some(logs)) = (is_wiped, &self.recent_logs)
            && machine.gate() == GateState::Closed(ClosedReason::SessionEnded)
        {
            logs.clear();
        }
        (result, signal)
    }

    /// Wakes the readers of drops and states while no lock is held, because their wakers are
    /// code of the app. A waker that panics must end neither the consent task nor a call.
    fn notify_readers(&self, signal: PendingSignal<'_>) {
        drop(signal);
        self.erasures.resolve(&self.sink);
        if let Some(history) = &self.history {
            history.wake_after_wipe();
        }
        self.wake_readers();
    }

    /// Returns a future that waits until a file has the erasures that are wanted, or cannot have
    /// them. Neither the record of consent nor the account holds the withdrawal before that.
    pub(super) fn erasures_kept(&self) -> impl Future<Output = ()> + Send + use<> {
        self.erasures.resolve(&self.sink);
        let erasures = self.erasures.clone();
        async move { erasures.tried_to_keep().await }
    }

    /// Returns the identifiers under which the recipients know `account`.
    pub(super) fn identifiers(&self, account: Option<&AnalyticsId>) -> Vec<RecipientIdentifier> {
        let stored = account.map(|account| self.sink.stored_identifiers(account));
        self.configuration
            .recipients
            .iter()
            .zip(stored.into_iter().flatten())
            .map(|(recipient, (identity, identifier))| RecipientIdentifier {
                recipient: recipient.name.clone(),
                identity,
                identifier,
            })
            .collect()
    }

    pub(crate) fn wake_readers(&self) {
        let wake = AssertUnwindSafe(|| self.transitions.notify_waiters());
        if catch_unwind(wake).is_err() {
            warn!("a reader of the consent states panicked when it was woken");
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Lets the state streams end.
        self.wake_readers();
    }
}
