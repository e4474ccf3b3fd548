//! The task that reads and writes the account and the record. It carries out the actions of
//! the consent machine and returns the results to it.

mod failure;
mod replies;

use std::{
    future::pending,
    pin::Pin,
    sync::{Arc, Weak},
};

use matrix_sdk::{SessionChange, StoreError};
use serde_json::value::RawValue;
use tokio::{
    sync::{
        Notify,
        broadcast::{self, error::RecvError},
        mpsc,
    },
    time::{Instant, sleep_until},
};

use self::{failure::failure, replies::Replies};
use super::{calls::Call, saving::save, shared::Shared};
use crate::{
    analytics_id::AnalyticsId,
    consent::{
        content::Change,
        machine::{Action, Failure, Machine, Random, Session},
        record::Record,
    },
    event::unix_time::unix_millis,
    matrix::account_data::AccountDataError,
    stop::Stop,
};

type Running<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// The futures in progress, and the data that the machine does not need.
struct Driver {
    shared: Weak<Shared>,
    request: Running<Answer>,
    save: Running<Result<Record, StoreError>>,
    /// The content of the last read, which the next write is merged into.
    content: Option<Box<RawValue>>,
    replies: Replies,
}

enum Answer {
    Got(Result<Option<Box<RawValue>>, AccountDataError>),
    Wrote(Result<(), AccountDataError>),
}

/// Runs until `stop` is given or the last handle is dropped.
pub(crate) async fn run(
    shared: Weak<Shared>,
    calls: mpsc::UnboundedReceiver<Call>,
    mut session_changes: broadcast::Receiver<SessionChange>,
    wake: Arc<Notify>,
    stop: Arc<Stop>,
) {
    let replies = Replies::new(calls);
    let mut driver = Driver { shared, request: None, save: None, content: None, replies };
    while let Some(until) = driver.act() {
        tokio::select! {
            biased;
            () = stop.stopped() => return,
            change = session_changes.recv() => match change {
                Ok(change) => driver.session_changed(&change),
                Err(RecvError::Lagged(_)) => driver.tell(Machine::handle_missed_session_changes),
                // The client was dropped.
                Err(RecvError::Closed) => return,
            },
            saved = finished(&mut driver.save) => driver.saved(saved),
            answer = finished(&mut driver.request) => driver.answered(answer),
            () = wake.notified() => {}
            () = sleep(until) => {}
        }
    }
}

/// Waits for the end of a future, if there is one, and clears it.
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
    /// Starts all actions that are due. Returns the time of the next call, if one is set, or
    /// an outer `None` if the last handle was dropped.
    fn act(&mut self) -> Option<Option<Instant>> {
        let shared = self.shared.upgrade()?;
        loop {
            let action = shared.apply_unnoticed(|machine| {
                machine.handle_time(unix_millis());
                machine.poll(Instant::now())
            });
            // This comes first, because the next operation may replace the error.
            self.replies.answer_calls(&shared);
            match action {
                Action::Save(wanted) => {
                    let (store, save_lock) =
                        (shared.record_store.clone(), shared.save_lock.clone());
                    let request_timeout = shared.account_data.request_timeout();
                    let kept = shared.erasures_kept();
                    self.save = Some(Box::pin(async move {
                        kept.await;
                        save(store, save_lock, *wanted, request_timeout).await
                    }));
                }
                Action::Get => {
                    self.replies.request_error = None;
                    self.get(&shared);
                }
                Action::GetAgain => self.get(&shared),
                Action::Put(change) => self.put(&shared, change),
                Action::Wait(until) => return Some(until),
            }
        }
    }

    fn get(&mut self, shared: &Shared) {
        let account_data = shared.account_data.clone();
        let got = async move {
            let permit = account_data.acquire().await?;
            account_data.fetch(permit).await.map(|(_, content)| content)
        };
        self.request = Some(Box::pin(async move { Answer::Got(got.await) }));
    }

    fn put(&mut self, shared: &Shared, change: Change) {
        let (account_data, content) = (shared.account_data.clone(), self.content.take());
        let kept = shared.erasures_kept();
        let wrote = async move {
            // Other devices rely on an opt-in to be written in time after its read.
            let account = account_data.after(kept, matches!(change, Change::OptIn(..))).await?;
            let merged = change.apply_to(content.as_deref())?;
            let permit = account.acquire().await?;
            account.put(permit, merged).await.map(drop)
        };
        self.request = Some(Box::pin(async move { Answer::Wrote(wrote.await) }));
    }

    fn answered(&mut self, answer: Answer) {
        let Some(shared) = self.shared.upgrade() else { return };
        let (now, random) = (Instant::now(), random());
        // The device may have been suspended since the last poll.
        shared.apply_unnoticed(|machine| machine.handle_time(unix_millis()));
        match answer {
            Answer::Got(answer) => {
                let seen = answer.map_err(|error| self.failed(error)).map(|content| {
                    let seen = shared.account_data.observe(content.as_deref());
                    self.content = content;
                    seen
                });
                shared.apply(|machine| machine.handle_got(seen, now, &random));
            }
            Answer::Wrote(answer) => {
                let answer = answer.map_err(|error| self.failed(error));
                shared.apply(|machine| machine.handle_put(answer, now, &random));
            }
        }
    }

    /// Keeps the first error of a call for its caller.
    fn failed(&mut self, error: AccountDataError) -> Failure {
        let failure = failure(&error);
        self.replies.request_error.get_or_insert(error);
        failure
    }

    fn saved(&mut self, saved: Result<Record, StoreError>) {
        let saved = saved.map_err(|error| self.replies.save_error = Some(error));
        self.tell(|machine| machine.handle_saved(saved, Instant::now(), &random()));
    }

    fn session_changed(&self, change: &SessionChange) {
        let session = match change {
            SessionChange::TokensRefreshed => Session::Live,
            SessionChange::UnknownToken(data) if data.soft_logout => Session::SoftLogout,
            SessionChange::UnknownToken(_) => Session::Lost,
        };
        self.tell(|machine| machine.handle_session(session, Instant::now()));
    }

    fn tell(&self, input: impl FnOnce(&mut Machine)) {
        if let Some(shared) = self.shared.upgrade() {
            shared.apply(input);
        }
    }
}

fn random() -> Random {
    Random { id: AnalyticsId::random(), jitter: fastrand::f64() }
}
