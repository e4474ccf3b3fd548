//! Follows the decisions of the user, and keeps them in the client's store.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

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
    /// Held by each write, so that the newest comes last.
    writing: Arc<tokio::sync::Mutex<()>>,
    request_timeout: Duration,
    /// Whether the log has what earlier processes have left.
    was_read: bool,
}

/// The end of a write. Its wait is bounded, because the write is.
pub(super) type Written = oneshot::Receiver<()>;

impl Decisions {
    /// Reads the decisions that earlier processes have left. If the store cannot be read, this
    /// process adds its own as soon as it can be.
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
        let stored = read(&store, request_timeout).await;
        if stored.is_none() {
            warn!("the record of decisions could not be read");
        }
        let was_read = stored.is_some();
        let log = Log::new(circumstances, stored, seen, SystemTime::now());
        let decisions = Self {
            runtime,
            store,
            log: Arc::new(Mutex::new(log)),
            writing: Arc::default(),
            request_timeout,
            was_read,
        };
        drop(decisions.change(|_, _| {}));
        decisions
    }

    pub(super) fn all(&self) -> Vec<RecordedDecision> {
        self.log().decisions().to_vec()
    }

    /// Follows a transition of `machine`.
    pub(super) fn follow(&self, machine: &Machine) {
        let (seen, may_be_ours) = (machine.state().decision, machine.may_have_opted_in());
        drop(self.change(|log, now| log.handle_seen(seen, may_be_ours, now)));
    }

    pub(super) fn begin_opt_in(&self) {
        self.log().handle_opt_in_begun();
    }

    pub(super) fn end_opt_in(
        &self,
        state: Option<Consent>,
        expressed_by: Option<&str>,
    ) -> Option<Written> {
        self.change(|log, now| log.handle_opt_in_ended(state, expressed_by, now))
    }

    pub(super) fn opt_out(&self, expressed_by: Option<&str>) {
        drop(self.change(|log, now| log.handle_opt_out(expressed_by, now)));
    }

    /// Notes what a withdrawal removed, according to its receipt.
    pub(super) fn removed(&self, events: u64, receipt: &OptOutReceipt) -> Option<Written> {
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
        self.change(|log, _| log.handle_removed(removed, erasures))
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        lock(&self.log)
    }

    /// Changes the log, and writes it in the background if it has changed.
    fn change(&self, change: impl FnOnce(&mut Log, SystemTime)) -> Option<Written> {
        let mut log = self.log();
        change(&mut log, SystemTime::now());
        if !log.take_changed() {
            return None;
        }
        drop(log);
        let (store, log) = (self.store.clone(), self.log.clone());
        let (writing, request_timeout) = (self.writing.clone(), self.request_timeout);
        let was_read = self.was_read;
        Some(spawn(&self.runtime, async move {
            let _writing = writing.lock().await;
            // Another process may have added to it. If this one has read it before, the log in
            // memory counts. Otherwise it must not replace what it does not know.
            let stored = read(&store, request_timeout).await;
            let written = match stored.or_else(|| was_read.then(Vec::new)) {
                Some(stored) => {
                    let decisions = lock(&log).merged_with(stored);
                    let written = store.save_decisions(&decisions);
                    matches!(timeout(request_timeout, written).await, Ok(Ok(())))
                }
                None => false,
            };
            if !written {
                warn!("the record of decisions could not be written");
            }
        }))
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the stored decisions, or `None` if they cannot be read.
async fn read(store: &RecordStore, request_timeout: Duration) -> Option<Vec<RecordedDecision>> {
    timeout(request_timeout, store.load_decisions()).await.ok()?.ok()
}
