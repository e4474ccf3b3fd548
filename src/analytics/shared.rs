//! What the handle, the tasks and the event handler share.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
};

use matrix_sdk::Client;
use tokio::{runtime::Handle as Runtime, sync::Notify};
use tracing::warn;

use crate::{
    consent::{machine::Machine, state::GateState},
    gate::Phase,
    matrix::{account_data::AccountData, record_store::RecordStore},
    sink::{Sink, counted::Untold},
};

/// What the tasks share with the handle. They hold it weakly: it has the `Client`.
pub(crate) struct Shared {
    /// Where the tasks run, for calls that come from elsewhere.
    pub(crate) runtime: Runtime,
    pub(super) client: Client,
    machine: Mutex<Machine>,
    pub(crate) account_data: AccountData,
    pub(crate) record_store: RecordStore,
    /// Held while the record is written: the newest is written last.
    pub(crate) saving: Arc<tokio::sync::Mutex<()>>,
    pub(crate) sink: Arc<Sink>,
    /// Tells the consent task that there may be something to do.
    pub(super) wake: Arc<Notify>,
    /// Tells the readers of the states of every transition, and of the end of this.
    pub(crate) transitions: Arc<Notify>,
    pub(super) next_call: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        runtime: Runtime,
        client: Client,
        machine: Machine,
        account_data: AccountData,
        record_store: RecordStore,
        sink: Sink,
    ) -> Self {
        Self {
            runtime,
            client,
            machine: Mutex::new(machine),
            account_data,
            record_store,
            saving: Arc::default(),
            sink: Arc::new(sink),
            wake: Arc::default(),
            transitions: Arc::default(),
            next_call: AtomicU64::default(),
        }
    }

    pub(crate) fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a transition, and lets the gate, the queue and everybody who watches
    /// follow it before this returns. Wakes the consent task.
    pub(crate) fn apply<R>(&self, transition: impl FnOnce(&mut Machine) -> R) -> R {
        let (result, untold) = self.transition(transition);
        self.wake.notify_one();
        self.tell(untold);
        result
    }

    /// Does the same for the consent task itself, which needs no waking.
    pub(crate) fn apply_unnoticed<R>(&self, transition: impl FnOnce(&mut Machine) -> R) -> R {
        let (result, untold) = self.transition(transition);
        self.tell(untold);
        result
    }

    fn transition<R>(&self, transition: impl FnOnce(&mut Machine) -> R) -> (R, Untold<'_>) {
        let mut machine = self.machine();
        let result = transition(&mut machine);
        let phase = match machine.gate() {
            GateState::Closed(_) => Phase::Closed,
            GateState::Holding(_) => Phase::Holding,
            GateState::Open => Phase::Open,
        };
        let wipe = machine.take_wipe();
        let untold = self.sink.set_gate(phase, machine.epoch(), machine.id().cloned(), wipe);
        (result, untold)
    }

    /// Wakes the readers of drops and of states, while no lock is held: their wakers are code
    /// of the app. One that panics must end neither the consent task nor a call.
    fn tell(&self, untold: Untold<'_>) {
        drop(untold);
        self.wake_readers();
    }

    fn wake_readers(&self) {
        let wake = AssertUnwindSafe(|| self.transitions.notify_waiters());
        if catch_unwind(wake).is_err() {
            warn!("a reader of the states panicked when it was woken");
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Readers of the states see that there are no more.
        self.wake_readers();
    }
}
