//! Follows the decisions of the user, and keeps them in the client's store.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt as _, future::Shared};
use tokio::{runtime::Handle, sync::oneshot, time::timeout};
use tracing::warn;

use super::outcome::OptOutReceipt;
use crate::{
    consent::{machine::Machine, state::Consent},
    consent_record::{
        AgreedPolicy, RecordedDecision, RecordedRecipient, RemovedData,
        log::{Circumstances, Log},
    },
    disclosure::DisclosedRecipient,
    erasure::report::ErasureReceipt,
    matrix::record_store::RecordStore,
    spawn::spawn,
};

/// The log of decisions, and where it is kept.
pub(crate) struct Decisions {
    runtime: Handle,
    store: RecordStore,
    log: Arc<Mutex<Log>>,
    /// Held by each write until it ends, so that the newest comes last.
    writing: Arc<tokio::sync::Mutex<()>>,
    /// The write that has not begun, if there is one. It will have every change until it begins, so
    /// there is never a second one.
    next: Arc<Mutex<Option<Written>>>,
    request_timeout: Duration,
}

/// The end of a write, or of the longest wait for it.
pub(super) type Written = Shared<oneshot::Receiver<()>>;

impl Decisions {
    /// Reads the decisions that earlier processes have left. If the store cannot be read, they are
    /// merged by the first write that can read it.
    pub(super) async fn load(
        runtime: Handle,
        store: RecordStore,
        recipients: &[DisclosedRecipient],
        policy: Option<AgreedPolicy>,
        seen: Consent,
        request_timeout: Duration,
    ) -> Self {
        let recipients = recipients.iter().map(|recipient| RecordedRecipient {
            name: recipient.name.clone(),
            purpose: recipient.purpose.clone(),
        });
        let circumstances = Circumstances { policy, recipients: recipients.collect() };
        let stored = match timeout(request_timeout, store.load_decisions()).await {
            Ok(Ok(stored)) => stored,
            Ok(Err(_)) | Err(_) => {
                warn!("the record of decisions could not be read");
                Vec::new()
            }
        };
        let log = Log::new(circumstances, stored, seen, SystemTime::now());
        let decisions = Self {
            runtime,
            store,
            log: Arc::new(Mutex::new(log)),
            writing: Arc::default(),
            next: Arc::default(),
            request_timeout,
        };
        drop(decisions.change(|_, _| {}).1);
        decisions
    }

    pub(super) fn all(&self) -> Vec<RecordedDecision> {
        self.log().decisions()
    }

    /// Follows a transition of `machine`.
    pub(super) fn follow(&self, machine: &Machine) {
        let (seen, may_be_ours) = (machine.known_decision(), machine.may_have_opted_in());
        drop(self.change(|log, now| log.handle_seen(seen, may_be_ours, now)).1);
    }

    pub(super) fn begin_opt_in(&self) {
        self.log().handle_opt_in_begun();
    }

    /// Notes the end of a call of `opt_in()`. Whether the opt-in holds is what
    /// [`follow`](Self::follow) has seen last: a state that the caller reads may be older.
    pub(super) fn end_opt_in(&self, is_done: bool, expressed_by: Option<&str>) -> Option<Written> {
        self.change(|log, now| log.handle_opt_in_ended(is_done, expressed_by, now)).1
    }

    /// Notes an opt-out on this device, and returns the number of its decision.
    pub(super) fn opt_out(&self, expressed_by: Option<&str>, at: SystemTime) -> u64 {
        self.change(|log, _| log.handle_opt_out(expressed_by, at)).0
    }

    /// Notes what the withdrawal at `withdrawn_at`, whose decision has this number, removed
    /// according to its receipt.
    pub(super) fn removed(
        &self,
        number: u64,
        withdrawn_at: SystemTime,
        events: u64,
        receipt: &OptOutReceipt,
    ) -> Option<Written> {
        let erasure = |erasure: &ErasureReceipt| {
            let state = erasure.state.as_str().to_owned();
            (erasure.withdrawn_at, erasure.recipient.clone(), state)
        };
        let erasures = receipt.erasures.iter().map(erasure).collect();
        let removed = RemovedData {
            events,
            requests: receipt.requests.as_str().to_owned(),
            queue: receipt.queue.as_str().to_owned(),
            account: receipt.account.as_str().to_owned(),
            erasures: Vec::new(),
        };
        self.change(|log, _| log.handle_removed(number, withdrawn_at, removed, erasures)).1
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        lock(&self.log)
    }

    /// Changes the log, and writes it in the background if it has changed.
    fn change<R>(&self, change: impl FnOnce(&mut Log, SystemTime) -> R) -> (R, Option<Written>) {
        let mut log = self.log();
        let result = change(&mut log, SystemTime::now());
        let is_changed = log.take_changed();
        drop(log);
        (result, is_changed.then(|| self.write()))
    }

    /// Writes the log in the background.
    fn write(&self) -> Written {
        let mut next = lock(&self.next);
        if let Some(next) = &*next {
            return next.clone();
        }
        let (store, log) = (self.store.clone(), self.log.clone());
        let (writing, begun) = (self.writing.clone(), self.next.clone());
        let write = spawn(&self.runtime, async move {
            let _writing = writing.lock().await;
            *lock(&begun) = None;
            store.update_decisions(|stored| lock(&log).merge(stored)).await.is_ok()
        });
        // This one and the one before read and write. If the store is slower, they go on.
        let longest = 4 * self.request_timeout;
        let written = spawn(&self.runtime, async move {
            if !matches!(timeout(longest, write).await, Ok(Ok(true))) {
                warn!("the record of decisions could not be written");
            }
        });
        next.insert(written.shared()).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
