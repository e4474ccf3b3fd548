//! Calls of the app to the consent task, and their answers.

use matrix_sdk::StoreError;
use tokio::{sync::oneshot, time::Instant};

use super::shared::Shared;
use crate::{
    consent::machine::{CallId, Outcome},
    matrix::account_data::AccountDataError,
};

/// A call of the app, with the channel for its answer.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) id: CallId,
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// The outcome of a call, with its error if it failed.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    pub(crate) error: Option<TaskError>,
}

impl Answer {
    /// The answer if the task has ended with its runtime.
    pub(crate) const GONE: Self = Self { outcome: Outcome::SessionEnded, error: None };
}

#[derive(Debug)]
pub(crate) enum TaskError {
    AccountData(AccountDataError),
    Store(StoreError),
}

/// A call that has started.
pub(crate) struct Waiting {
    pub(super) id: CallId,
    pub(super) answer: oneshot::Receiver<Answer>,
}

impl Waiting {
    /// Waits for the answer. Returns `None` if the task has ended with its runtime.
    pub(crate) async fn wait(self) -> Option<Answer> {
        self.answer.await.ok()
    }
}

/// Converts the answer to a call that waited for a save.
pub(crate) fn saved(answer: Option<Answer>) -> Result<(), StoreError> {
    match answer {
        Some(Answer { outcome: Outcome::Done, .. }) => Ok(()),
        Some(Answer { error: Some(TaskError::Store(error)), .. }) => Err(error),
        _ => Err(StoreError::Backend(Box::new(NotSaved))),
    }
}

/// Tells the machine, when dropped, that the caller of `opt_in()` stopped waiting.
pub(super) struct DroppedOptIn<'a> {
    pub(super) inner: &'a Shared,
    pub(super) id: CallId,
}

impl Drop for DroppedOptIn<'_> {
    fn drop(&mut self) {
        self.inner.apply(|machine| machine.handle_opt_in_dropped(self.id, Instant::now()));
    }
}

/// The record could not be saved, and another call has received the error of the store.
#[derive(Debug, thiserror::Error)]
#[error("the local record could not be written")]
struct NotSaved;
