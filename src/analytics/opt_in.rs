//! Opting in: the named future.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use super::{
    Analytics,
    calls::{Answer, DroppedOptIn, TaskError},
    consent_record::Written,
    outcome::OptInError,
};
use crate::{
    consent::{
        machine::{Machine, Outcome},
        state::ConsentState,
    },
    matrix::account_data::AccountDataError,
};

type Running = Pin<Box<dyn Future<Output = Result<ConsentState, OptInError>> + Send>>;

/// The future of [`Analytics::opt_in`].
#[must_use = "nothing is granted until this is awaited"]
pub struct OptIn {
    analytics: Analytics,
    expressed_by: Option<String>,
    running: Option<Running>,
}

impl fmt::Debug for OptIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OptIn").finish_non_exhaustive()
    }
}

impl OptIn {
    pub(super) fn new(analytics: Analytics) -> Self {
        Self { analytics, expressed_by: None, running: None }
    }

    /// Declares how the user expressed the decision, such as "a button in the first dialog", for
    /// [`Analytics::consent_record`]. At most 200 bytes are kept. No effect after the first poll.
    pub fn expressed_by(mut self, expressed_by: impl Into<String>) -> Self {
        self.expressed_by = Some(expressed_by.into());
        self
    }
}

impl Future for OptIn {
    type Output = Result<ConsentState, OptInError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { analytics, expressed_by, running } = &mut *self;
        let running =
            running.get_or_insert_with(|| Box::pin(opt_in(analytics.clone(), expressed_by.take())));
        running.as_mut().poll(cx)
    }
}

async fn opt_in(
    analytics: Analytics,
    expressed_by: Option<String>,
) -> Result<ConsentState, OptInError> {
    let mut noted = Noted { analytics: &analytics, expressed_by, is_ended: false };
    analytics.inner().decisions.begin_opt_in();
    let answer = analytics.begin(Machine::handle_opt_in);
    let call = DroppedOptIn { inner: analytics.inner(), id: answer.id };
    let Answer { outcome, error } = answer.wait().await.unwrap_or(Answer::GONE);
    std::mem::forget(call);
    match (outcome, error) {
        // An opt-out that overtakes the call is not an error: the state says what holds.
        (Outcome::Done | Outcome::Withdrawn, _) => {}
        (Outcome::SessionEnded, _) => return Err(OptInError::SessionEnded),
        (_, Some(TaskError::AccountData(error))) => return Err(error.into()),
        (Outcome::Failed | Outcome::Pending | Outcome::NotSaved, _) => {
            return Err(AccountDataError::Timeout.into());
        }
    }
    // The evidence is in the store before the call returns.
    if let Some(written) = noted.end(outcome == Outcome::Done) {
        let _ = written.await;
    }
    Ok(analytics.state())
}

/// Tells the record of decisions how a call has ended, even if its future is dropped.
struct Noted<'a> {
    analytics: &'a Analytics,
    expressed_by: Option<String>,
    is_ended: bool,
}

impl Noted<'_> {
    fn end(&mut self, is_done: bool) -> Option<Written> {
        if std::mem::replace(&mut self.is_ended, true) {
            return None;
        }
        self.analytics.inner().decisions.end_opt_in(is_done, self.expressed_by.as_deref())
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        drop(self.end(false));
    }
}
