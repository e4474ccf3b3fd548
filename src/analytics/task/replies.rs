//! Answers to the calls of the app, with their errors.

use std::collections::HashMap;

use matrix_sdk::StoreError;
use tokio::sync::{mpsc, oneshot};

use crate::{
    analytics::{
        calls::{Answer, Call, TaskError},
        shared::Shared,
    },
    consent::machine::{CallId, Outcome},
    matrix::account_data::AccountDataError,
};

/// The calls that wait for an answer, and the errors to answer them with.
pub(super) struct Replies {
    calls: mpsc::UnboundedReceiver<Call>,
    waiting: HashMap<CallId, oneshot::Sender<Answer>>,
    /// The first error of the operation in flight.
    pub(super) request_error: Option<AccountDataError>,
    pub(super) save_error: Option<StoreError>,
}

impl Replies {
    pub(super) fn new(calls: mpsc::UnboundedReceiver<Call>) -> Self {
        Self { calls, waiting: HashMap::new(), request_error: None, save_error: None }
    }

    /// Answers every call that has ended.
    pub(super) fn answer_calls(&mut self, shared: &Shared) {
        loop {
            let finished = shared.machine().take_finished();
            // A call is sent here before the machine knows of it. So a call that has ended is
            // in the channel by now, but not necessarily before it was taken above.
            while let Ok(Call { id, reply }) = self.calls.try_recv() {
                self.waiting.insert(id, reply);
            }
            let Some((id, outcome)) = finished else { return };
            let Some(reply) = self.waiting.remove(&id) else { continue };
            let error = match outcome {
                Outcome::Failed | Outcome::Pending => {
                    self.request_error.take().map(TaskError::AccountData)
                }
                Outcome::NotSaved => self.save_error.take().map(TaskError::Store),
                Outcome::Done | Outcome::Withdrawn | Outcome::SessionEnded => None,
            };
            // The caller may have stopped waiting.
            let _ = reply.send(Answer { outcome, error });
        }
    }
}
