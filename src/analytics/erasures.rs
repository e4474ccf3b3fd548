//! The erasures that are wanted, where they are sent, and the file of a durable queue that keeps
//! them.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::FutureExt as _;
use tokio::{sync::Notify, time::timeout};
use tracing::warn;
use uuid::Uuid;

use crate::{
    analytics_id::AnalyticsId,
    backend::{ErasureError, ErasureRequest, Identity, Recipient, erasure::DynErasure},
    consent::{machine::Machine, record::Removal},
    erasure::{
        ledger::{Address, Ledger, Next, Now, Try, Unrecorded},
        report::{ErasureCause, ErasureReceipt, ErasureStats, ErasureStorage},
    },
    sink::{Sink, limits::Limits, queue::Journal},
};

/// The most IDs of this process that are remembered for a withdrawal.
const MOST_USED: usize = 8;

/// A recipient that supports erasures.
pub(super) struct Target {
    /// The place of the recipient among all.
    lane: usize,
    address: Address,
    erasure: Box<dyn DynErasure>,
}

impl Target {
    /// Takes the erasures of `recipients`. One that knows no lasting identifier is not asked.
    pub(super) fn take_all(recipients: &mut [Recipient]) -> Vec<Self> {
        let ids = Recipient::erasure_ids(recipients);
        let all = recipients.iter_mut().zip(ids).enumerate();
        all.filter_map(|(lane, (recipient, id))| {
            let erasure = recipient.erasure.take()?;
            let is_lasting = recipient.chosen_identity() != Identity::Anonymous;
            let address = Address { id, label: recipient.public_label() };
            is_lasting.then_some(Self { lane, address, erasure })
        })
        .collect()
    }
}

/// The erasures of one account, and where they are sent and kept.
pub(crate) struct Erasures {
    state: Mutex<State>,
    targets: Vec<Target>,
    file: Option<Arc<Journal>>,
    /// How long one try may take.
    try_time: Duration,
    /// Wakes the task.
    wake: Notify,
    /// Notified after each try.
    tried: Notify,
}

struct State {
    ledger: Ledger,
    /// The version of the erasures for the file. That which was found there is 1.
    version: u64,
    /// The IDs that this process could send under since the last withdrawal of this device, the
    /// oldest first. After another device has replaced or withdrawn one, only this process knows
    /// it.
    used: Vec<AnalyticsId>,
    /// The IDs that were found for the search of the ledger.
    found: Vec<AnalyticsId>,
    /// Those of them whose identifiers have yet to be made, with the time of their withdrawal.
    unresolved: Vec<(AnalyticsId, SystemTime)>,
}

impl State {
    /// Notes that `id` was found, unless nothing is searched.
    fn find(&mut self, id: &AnalyticsId, machine: &Machine) {
        if !self.found.contains(id)
            && let Some(withdrawn_at) = self.ledger.handle_found(&machine.fingerprint(id))
        {
            self.found.push(id.clone());
            self.unresolved.push((id.clone(), withdrawn_at));
        }
    }
}

/// Returns the withdrawal of the current epoch of `machine`, which is not saved yet.
fn unrecorded_in(machine: &Machine) -> Unrecorded {
    Unrecorded {
        epochs: machine.epochs_without_withdrawal(),
        erases_event: machine.removal() == Some(Removal::Event),
    }
}

impl Erasures {
    pub(super) fn new(targets: Vec<Target>, limits: &Limits) -> Self {
        Self {
            state: Mutex::new(State {
                ledger: Ledger::new(limits.erasure_age),
                version: 1,
                used: Vec::new(),
                found: Vec::new(),
                unresolved: Vec::new(),
            }),
            targets,
            file: None,
            try_time: limits.send_time,
            wake: Notify::new(),
            tried: Notify::new(),
        }
    }

    /// Keeps the erasures in `file`, which held `found`.
    ///
    /// The file has them before the record of consent has their withdrawal. If the last process
    /// ended between the two, the withdrawal is repeated: the user has made it.
    #[cfg(feature = "sqlite")]
    pub(super) fn keep_in(
        &mut self,
        file: Arc<Journal>,
        found: &crate::sink::queue::FoundErasures,
        machine: &mut Machine,
    ) {
        use crate::{
            consent::{machine::CallId, state::Consent},
            sink::queue::FoundErasures,
        };

        /// No call of the app has this number.
        const NO_CALL: CallId = CallId(u64::MAX);

        self.file = Some(file);
        let now = Now::new();
        let mut state = self.state();
        let is_lost = match found {
            FoundErasures::None => return,
            FoundErasures::Damaged => true,
            FoundErasures::Some(found) => state.ledger.restore(found, now).is_none(),
        };
        if is_lost {
            warn!("the erasure requests in the queue file cannot be read");
            state.ledger.fail_all(self.addresses(), now.wall, ErasureCause::Lost);
        }
        let unrecorded = state.ledger.unrecorded().cloned();
        let is_lacking = unrecorded.as_ref().is_some_and(|of| machine.lacks_withdrawal(&of.epochs));
        if is_lacking || state.ledger.is_searching() && machine.is_unreadable() {
            let erases_event = unrecorded.is_some_and(|of| of.erases_event);
            let removal = if erases_event { Removal::Event } else { Removal::Id };
            // The ledger has those that were used before the withdrawal.
            machine.take_used();
            machine.handle_opt_out(NO_CALL, removal);
            state.ledger.handle_repeated_withdrawal(unrecorded_in(machine), now);
        } else if unrecorded.is_some() && !machine.is_unsaved() {
            // The record has it, or is a new one, which must not lose a later opt-in.
            state.ledger.set_unrecorded(None);
        }
        let consent = machine.state();
        if consent.decision == Consent::Undecided && !consent.removal_pending {
            // A new store knows no digest by which an ID of the account could be recognised.
            state.ledger.end_search(self.addresses(), ErasureCause::Lost);
        }
        self.keep(&mut state);
    }

    /// Notes that the user has withdrawn and wants erasures. Returns the time of the withdrawal.
    /// `used` are the fingerprints of the IDs that this device has used, in whichever process.
    pub(super) fn begin(&self, machine: &Machine, used: Vec<String>) -> SystemTime {
        let now = Now::new();
        let mut state = self.state();
        state.ledger.handle_withdrawal(unrecorded_in(machine), used, now);
        state.found.clear();
        for id in std::mem::take(&mut state.used) {
            state.find(&id, machine);
        }
        self.keep(&mut state);
        now.wall
    }

    /// Notes that the user has withdrawn and wants no erasures: no ID is kept for them.
    pub(super) fn forget_used(&self) {
        self.state().used.clear();
    }

    /// Follows a transition of `machine`: finds the IDs that a withdrawal removes, and learns that
    /// the record has the withdrawal.
    ///
    /// The identifiers of an ID are made by [`resolve`](Self::resolve), because that is code of
    /// the app.
    pub(super) fn follow(&self, machine: &Machine) {
        let mut state = self.state();
        let unrecorded = state.ledger.unrecorded();
        if unrecorded.is_some_and(|of| machine.has_stored_withdrawal(of.epochs.end)) {
            state.ledger.set_unrecorded(None);
        }
        if let Some(id) = machine.id()
            && !self.targets.is_empty()
            && !state.used.contains(id)
        {
            state.used.push(id.clone());
            let excess = state.used.len().saturating_sub(MOST_USED);
            state.used.drain(..excess);
        }
        if !state.ledger.is_searching() {
            return self.keep(&mut state);
        }
        if let Some(id) = machine.withdrawn_id() {
            state.find(id, machine);
        }
        if !machine.state().removal_pending {
            state.found.clear();
            state.ledger.handle_clean_account(self.addresses());
        }
        self.keep(&mut state);
    }

    /// Makes the identifiers of the IDs that were found. No lock may be held.
    pub(super) fn resolve(&self, sink: &Sink) {
        // Removed only once they are made: a second caller must not go on before.
        let unresolved = self.state().unresolved.clone();
        if unresolved.is_empty() {
            return;
        }
        for (id, withdrawn_at) in unresolved {
            let mut stored = sink.stored_identifiers(&id);
            let (mut identifiers, mut panicked) = (Vec::new(), Vec::new());
            for Target { lane, address, .. } in &self.targets {
                match stored.get_mut(*lane).and_then(|(_, identifier)| identifier.take()) {
                    Some(identifier) => identifiers.push((address.clone(), identifier)),
                    None => panicked.push(address),
                }
            }
            let mut state = self.state();
            let State { ledger, unresolved, .. } = &mut *state;
            let Some(place) = unresolved.iter().position(|(other, _)| *other == id) else {
                continue;
            };
            unresolved.remove(place);
            ledger.fail_all(panicked, withdrawn_at, ErasureCause::Panicked);
            ledger.handle_identifiers(identifiers, withdrawn_at, Now::new(), Uuid::new_v4);
            self.keep(&mut state);
        }
        self.wake.notify_one();
    }

    fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.targets.iter().map(|target| &target.address)
    }

    fn find(&self, address: &Address) -> Option<&dyn DynErasure> {
        let found = self.targets.iter().find(|target| target.address == *address);
        found.map(|target| &*target.erasure)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the ledger, and gives it to the file if that has to hold something else now.
    fn change<R>(&self, change: impl FnOnce(&mut Ledger) -> R) -> R {
        let mut state = self.state();
        let result = change(&mut state.ledger);
        self.keep(&mut state);
        result
    }

    fn keep(&self, state: &mut State) {
        if state.ledger.take_changed()
            && let Some(file) = &self.file
        {
            state.version += 1;
            file.keep_erasures(state.version, state.ledger.to_bytes(Now::new()));
        }
    }

    /// Waits until the file has the erasures that are wanted now, or cannot have them. The wait is
    /// bounded.
    pub(super) async fn tried_to_keep(&self) {
        let version = self.state().version;
        if let (Some(file), true) = (&self.file, version > 1) {
            file.tried_erasures(version).await;
        }
    }

    /// Returns where the erasures are that wait.
    fn kept_in(&self) -> ErasureStorage {
        let version = self.state().version;
        match &self.file {
            Some(file) if file.has_erasures(version) => ErasureStorage::File,
            _ => ErasureStorage::Memory,
        }
    }

    pub(super) fn done_ever(&self) -> u64 {
        self.state().ledger.done_ever()
    }

    /// Waits until each erasure whose recipient is known has been tried.
    pub(super) async fn all_tried(&self) {
        loop {
            let tried = self.tried.notified();
            if !self.state().ledger.has_untried(|to| self.find(to).is_some()) {
                return;
            }
            tried.await;
        }
    }

    /// Returns what a receipt says, once the file has been tried. `done_before` is the number of
    /// erasures that were done before the call.
    pub(super) async fn report(&self, done_before: u64) -> Vec<ErasureReceipt> {
        // An answer during the wait may change what the file has to hold.
        const MOST_ROUNDS: usize = 3;

        for _ in 0..MOST_ROUNDS {
            let version = self.state().version;
            self.tried_to_keep().await;
            if self.state().version == version {
                break;
            }
        }
        let kept_in = self.kept_in();
        self.state().ledger.report(done_before, kept_in, self.addresses())
    }

    /// Notes that the app has `report`.
    pub(super) fn reported(&self, report: &[ErasureReceipt]) {
        self.change(|ledger| ledger.handle_reported(report));
    }

    /// Returns whether an erasure waits, or a withdrawal whose ID is not known yet.
    pub(super) fn are_pending(&self) -> bool {
        self.state().ledger.pending() > 0
    }

    pub(super) fn stats(&self) -> ErasureStats {
        self.state().ledger.stats()
    }

    /// Logs that erasures are lost, if some wait and no file has them.
    pub(super) fn warn_of_loss(&self) {
        let erasures = self.state().ledger.pending();
        if erasures == 0 || self.kept_in() == ErasureStorage::File {
            return;
        }
        if self.file.is_none() {
            warn!(erasures, "erasure requests are lost: they were in memory only");
        } else {
            warn!(erasures, "erasure requests are lost unless the queue file still gets them");
        }
    }

    /// Returns whether no erasure can ever be sent.
    pub(super) fn can_send_nothing(&self) -> bool {
        self.targets.is_empty() && self.state().ledger.is_empty()
    }

    /// Returns what the task has to do next. `is_removing` says whether the account is still being
    /// cleaned.
    pub(super) fn poll(&self, is_removing: bool) -> Next {
        let recipients: Vec<_> = self.addresses().collect();
        self.change(|ledger| ledger.poll(Now::new(), is_removing, &recipients))
    }

    /// Waits until there may be something new to do.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Notes the outcome of the try with `key`.
    pub(super) fn answered(&self, key: Uuid, answer: Result<(), (ErasureCause, Option<Duration>)>) {
        let now = Now::new().instant;
        self.change(|ledger| ledger.handle_answer(key, answer, now, fastrand::f64()));
        self.tried.notify_waiters();
    }

    /// Sends `wanted`, and returns the outcome.
    pub(super) async fn send(
        &self,
        Try { key, to, identifier }: Try,
    ) -> Result<(), (ErasureCause, Option<Duration>)> {
        let Some(erasure) = self.find(&to) else { return Err((ErasureCause::NoEndpoint, None)) };
        let request = ErasureRequest::new(key, to.label, identifier);
        let sending = AssertUnwindSafe(async { erasure.erase(&request).await }).catch_unwind();
        match timeout(self.try_time, sending).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => {
                let requested = match &error {
                    ErasureError::Throttled { retry_after, .. } => *retry_after,
                    _ => None,
                };
                Err((ErasureCause::from(&error), requested))
            }
            Ok(Err(_panic)) => Err((ErasureCause::Panicked, None)),
            Err(_elapsed) => Err((ErasureCause::Unreachable, None)),
        }
    }
}
