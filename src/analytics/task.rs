//! The one task that reads and writes the account and the record: it does what the
//! consent machine says is next, and hands the results back.

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
        machine::{Action, Machine, Random, Session},
        record::Record,
    },
    matrix::account_data::AccountDataError,
    stop::Stop,
};

type Running<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// What is under way, and what the machine does not look at.
struct Driver {
    inner: Weak<Shared>,
    request: Running<Answer>,
    save: Running<Result<Record, StoreError>>,
    /// What the last read returned: what the next write is merged into.
    content: Option<Box<RawValue>>,
    replies: Replies,
}

enum Answer {
    Got(Result<Option<Box<RawValue>>, AccountDataError>),
    Wrote(Result<(), AccountDataError>),
}

/// Runs until `stop`, or until the last handle is gone.
pub(crate) async fn run(
    inner: Weak<Shared>,
    calls: mpsc::UnboundedReceiver<Call>,
    mut session_changes: broadcast::Receiver<SessionChange>,
    wake: Arc<Notify>,
    stop: Arc<Stop>,
) {
    let replies = Replies::new(calls);
    let mut driver = Driver { inner, request: None, save: None, content: None, replies };
    while let Some(until) = driver.act() {
        tokio::select! {
            biased;
            () = stop.stopped() => return,
            change = session_changes.recv() => match change {
                Ok(change) => driver.session_changed(&change),
                Err(RecvError::Lagged(_)) => driver.tell(Machine::handle_missed_session_changes),
                // The client is gone, and nothing is left to be done with it.
                Err(RecvError::Closed) => return,
            },
            saved = finished(&mut driver.save) => driver.saved(saved),
            answer = finished(&mut driver.request) => driver.answered(answer),
            () = wake.notified() => {}
            () = sleep(until) => {}
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
            self.replies.answer_calls(&inner);
            match action {
                Action::Save(wanted) => {
                    let (store, saving) = (inner.record_store.clone(), inner.saving.clone());
                    let request_timeout = inner.account_data.request_timeout();
                    self.save = Some(Box::pin(save(store, saving, *wanted, request_timeout)));
                }
                Action::Get => {
                    self.replies.request_error = None;
                    self.get(&inner);
                }
                Action::GetAgain => self.get(&inner),
                Action::Put(change) => self.put(&inner, change),
                Action::Wait(until) => return Some(until),
            }
        }
    }

    fn get(&mut self, inner: &Shared) {
        let account_data = inner.account_data.clone();
        let got = async move {
            let turn = account_data.turn().await?;
            account_data.fetch(turn).await.map(|(_, content)| content)
        };
        self.request = Some(Box::pin(async move { Answer::Got(got.await) }));
    }

    fn put(&mut self, inner: &Shared, change: Change) {
        let (account_data, content) = (inner.account_data.clone(), self.content.take());
        let wrote = async move {
            let merged = change.apply_to(content.as_deref())?;
            let turn = account_data.turn().await?;
            account_data.put(turn, merged).await.map(drop)
        };
        self.request = Some(Box::pin(async move { Answer::Wrote(wrote.await) }));
    }

    fn answered(&mut self, answer: Answer) {
        let Some(inner) = self.inner.upgrade() else { return };
        let (now, random) = (Instant::now(), random());
        match answer {
            Answer::Got(Ok(content)) => {
                let seen = inner.account_data.observe(content.as_deref());
                self.content = content;
                inner.apply(|machine| machine.handle_got(Ok(seen), now, &random));
            }
            Answer::Wrote(Ok(())) => {
                inner.apply(|machine| machine.handle_put(Ok(()), now, &random));
            }
            Answer::Got(Err(error)) => {
                let failure = failure(&error);
                self.replies.request_error.get_or_insert(error);
                inner.apply(|machine| machine.handle_got(Err(failure), now, &random));
            }
            Answer::Wrote(Err(error)) => {
                let failure = failure(&error);
                self.replies.request_error.get_or_insert(error);
                inner.apply(|machine| machine.handle_put(Err(failure), now, &random));
            }
        }
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
        if let Some(inner) = self.inner.upgrade() {
            inner.apply(input);
        }
    }
}

fn random() -> Random {
    Random { id: AnalyticsId::random(), jitter: fastrand::f64() }
}
