//! The one task that reads and writes the account and the record: it does what the
//! consent machine says is next, and hands the results back.

use std::{
    collections::HashMap,
    future::pending,
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use matrix_sdk::{SessionChange, StoreError, ruma::api::error::ErrorKind};
use serde_json::value::RawValue;
use tokio::{
    sync::{
        Mutex, Notify,
        broadcast::{self, error::RecvError},
        mpsc, oneshot,
    },
    time::{Instant, sleep_until, timeout},
};
use tracing::debug;

use crate::{
    account_data::{
        AccountDataError,
        content::{Change, MergeError},
    },
    analytics::Inner,
    analytics_id::AnalyticsId,
    claim::{Hold, Unsaved},
    consent::machine::{Action, CallId, Failure, FailureKind, Outcome, Random, Session},
    local_record::Record,
    record_store::RecordStore,
    stop::Stop,
};

/// A call of the app, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) id: CallId,
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// How a call ended, and the error that it met.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    pub(crate) error: Option<TaskError>,
}

impl Answer {
    /// The task is gone with its runtime.
    pub(crate) const GONE: Self = Self { outcome: Outcome::SessionEnded, error: None };
}

#[derive(Debug)]
pub(crate) enum TaskError {
    AccountData(AccountDataError),
    Store(StoreError),
}

type Running<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// What is under way, and what the machine does not look at.
struct Driver {
    inner: Weak<Inner>,
    calls: mpsc::UnboundedReceiver<Call>,
    replies: HashMap<CallId, oneshot::Sender<Answer>>,
    get: Running<Result<Option<Box<RawValue>>, AccountDataError>>,
    put: Running<Result<(), AccountDataError>>,
    save: Running<Result<Record, StoreError>>,
    /// What the last read returned: what the next write is merged into.
    content: Option<Box<RawValue>>,
    /// The first error of the operation in flight.
    request_error: Option<AccountDataError>,
    save_error: Option<StoreError>,
}

/// Runs until `stop`, or until the last handle is gone.
pub(crate) async fn run(
    inner: Weak<Inner>,
    calls: mpsc::UnboundedReceiver<Call>,
    mut session_changes: broadcast::Receiver<SessionChange>,
    wake: Arc<Notify>,
    stop: Arc<Stop>,
) {
    let mut driver = Driver {
        inner,
        calls,
        replies: HashMap::new(),
        get: None,
        put: None,
        save: None,
        content: None,
        request_error: None,
        save_error: None,
    };
    loop {
        let Some(until) = driver.act() else { return };
        let Driver { get, put, save, .. } = &mut driver;
        let is_live = tokio::select! {
            biased;
            () = stop.stopped() => return,
            change = session_changes.recv() => match change {
                // The client is gone, and nothing is left to be done with it.
                Err(RecvError::Closed) => return,
                Err(RecvError::Lagged(_)) => driver.missed_session_changes(),
                Ok(change) => driver.session_changed(&change),
            },
            saved = finished(save) => driver.saved(saved),
            answer = finished(get) => driver.got(answer),
            answer = finished(put) => driver.wrote(answer),
            () = wake.notified() => Some(()),
            () = sleep(until) => Some(()),
        };
        if is_live.is_none() {
            return;
        }
    }
}

/// Waits for what runs, and forgets it.
async fn finished<T>(running: &mut Running<T>) -> T {
    let Some(future) = running else { return pending().await };
    let result = future.await;
    *running = None;
    result
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => pending().await,
    }
}

impl Driver {
    /// Begins all that is to be done now. Returns when to look again; nothing if the last
    /// handle is gone.
    fn act(&mut self) -> Option<Option<Instant>> {
        let inner = self.inner.upgrade()?;
        loop {
            let action = inner.apply_unnoticed(|machine| machine.poll(Instant::now()));
            // Before the next operation meets an error of its own.
            self.answer_calls(&inner);
            match action {
                Action::Save(record) => {
                    let (store, lock) = (inner.record_store.clone(), inner.saving.clone());
                    let bound = inner.account_data.bound();
                    self.save = Some(Box::pin(save(store, lock, record, bound)));
                }
                Action::Get => {
                    self.request_error = None;
                    self.get(&inner);
                }
                Action::GetAgain => self.get(&inner),
                Action::Put(change) => self.put(&inner, change),
                Action::Wait(until) => return Some(until),
            }
        }
    }

    fn get(&mut self, inner: &Inner) {
        let account_data = inner.account_data.clone();
        self.put = None;
        self.get = Some(Box::pin(async move {
            let turn = account_data.turn().await?;
            account_data.fetch(turn).await.map(|(_, content)| content)
        }));
    }

    fn put(&mut self, inner: &Inner, change: Change) {
        let (account_data, content) = (inner.account_data.clone(), self.content.take());
        self.put = Some(Box::pin(async move {
            let merged = change.apply_to(content.as_deref())?;
            let turn = account_data.turn().await?;
            account_data.put(turn, merged).await.map(drop)
        }));
    }

    fn got(&mut self, answer: Result<Option<Box<RawValue>>, AccountDataError>) -> Option<()> {
        let inner = self.inner.upgrade()?;
        let answer = match answer {
            Ok(content) => {
                let seen = inner.account_data.observe(content.as_deref());
                self.content = content;
                Ok(seen)
            }
            Err(error) => Err(self.keep(error)),
        };
        inner.apply(|machine| machine.handle_got(answer, Instant::now(), &random()));
        Some(())
    }

    fn wrote(&mut self, answer: Result<(), AccountDataError>) -> Option<()> {
        let answer = answer.map_err(|error| self.keep(error));
        let inner = self.inner.upgrade()?;
        inner.apply(|machine| machine.handle_put(answer, Instant::now(), &random()));
        Some(())
    }

    fn saved(&mut self, saved: Result<Record, StoreError>) -> Option<()> {
        let saved = saved.map_err(|error| {
            debug!("the local record could not be written");
            self.save_error = Some(error);
        });
        let inner = self.inner.upgrade()?;
        inner.apply(|machine| machine.handle_saved(saved, Instant::now(), &random()));
        Some(())
    }

    fn keep(&mut self, error: AccountDataError) -> Failure {
        let failure = failure(&error);
        self.request_error.get_or_insert(error);
        failure
    }

    fn session_changed(&self, change: &SessionChange) -> Option<()> {
        let session = match change {
            SessionChange::TokensRefreshed => Session::Live,
            SessionChange::UnknownToken(data) if data.soft_logout => Session::SoftLogout,
            SessionChange::UnknownToken(_) => Session::Lost,
        };
        self.inner.upgrade()?.apply(|machine| machine.handle_session(session, Instant::now()));
        Some(())
    }

    fn missed_session_changes(&self) -> Option<()> {
        self.inner.upgrade()?.apply(|machine| machine.handle_missed_session_changes());
        Some(())
    }

    fn answer_calls(&mut self, inner: &Inner) {
        while let Ok(Call { id, reply }) = self.calls.try_recv() {
            self.replies.insert(id, reply);
        }
        while let Some((id, outcome)) = inner.machine().take_finished() {
            let Some(reply) = self.replies.remove(&id) else { continue };
            let error = match outcome {
                Outcome::Failed | Outcome::Pending => {
                    self.request_error.take().map(TaskError::AccountData)
                }
                Outcome::NotSaved => self.save_error.take().map(TaskError::Store),
                Outcome::Done | Outcome::Withdrawn | Outcome::SessionEnded => None,
            };
            // The caller may have gone away.
            let _ = reply.send(Answer { outcome, error });
        }
    }
}

/// Brings `record` together with what is stored, writes it, and returns what the store holds
/// then. `saving` has what the store was last known to hold.
async fn save(
    store: RecordStore,
    saving: Arc<Mutex<Record>>,
    record: Record,
    bound: Duration,
) -> Result<Record, StoreError> {
    let too_slow = || StoreError::Backend(Box::new(StoreTooSlow));
    let mut known = timeout(bound, saving.lock_owned()).await.map_err(|_| too_slow())?;
    // In a task of its own, which holds the lock: a write that is no longer waited for
    // may still land, and must not land after a newer one.
    let write = tokio::spawn(async move {
        let saved = store.save(&known, &record).await;
        if let Ok(stored) = &saved {
            known.clone_from(stored);
        }
        saved
    });
    match timeout(bound, write).await {
        Ok(Ok(saved)) => saved,
        Ok(Err(gone)) => Err(StoreError::Backend(Box::new(gone))),
        Err(_) => Err(too_slow()),
    }
}

/// Saves what the last handle left unsaved, and lets the next `Analytics` of the record
/// begin; it learns what could not be saved.
pub(crate) async fn save_and_leave(
    store: RecordStore,
    saving: Arc<Mutex<Record>>,
    record: Record,
    bound: Duration,
    hold: Hold,
) {
    const MOST_TRIES: usize = 3;

    // A write that is out has to land first, however long it takes.
    drop(saving.lock().await);
    for _ in 0..MOST_TRIES {
        if save(store.clone(), saving.clone(), record.clone(), bound).await.is_ok() {
            return;
        }
    }
    let base = saving.lock().await.clone();
    hold.leave(Unsaved { base, record });
}

/// The record could not be saved, and another call was told why.
#[derive(Debug, thiserror::Error)]
#[error("the local record could not be written")]
pub(crate) struct NotSaved;

/// The client's store took longer than a request may.
#[derive(Debug, thiserror::Error)]
#[error("the client's store did not answer in time")]
struct StoreTooSlow;

fn random() -> Random {
    Random { id: AnalyticsId::random(), jitter: fastrand::f64() }
}

/// What the machine has to know of an error.
fn failure(error: &AccountDataError) -> Failure {
    let (kind, retry_after) = match error {
        AccountDataError::Timeout | AccountDataError::Http(_) | AccountDataError::EmptyAnswer => {
            (FailureKind::Unanswered, None)
        }
        AccountDataError::Forbidden(source) => {
            let is_guest = source.client_api_error_kind() == Some(&ErrorKind::GuestAccessForbidden);
            (if is_guest { FailureKind::Guest } else { FailureKind::Locked }, None)
        }
        AccountDataError::RateLimited { retry_after, .. } => (FailureKind::Refused, *retry_after),
        AccountDataError::SessionLost(_) if error.is_user_locked() => (FailureKind::Locked, None),
        AccountDataError::SessionLost(_) | AccountDataError::NotAnObject => {
            (FailureKind::Refused, None)
        }
    };
    Failure { kind, retry_after }
}

impl From<MergeError> for AccountDataError {
    fn from(MergeError: MergeError) -> Self {
        Self::NotAnObject
    }
}
