//! Opting out and ending a session: the steps that are done at once, and the wait for the rest.

use std::{fmt, future::IntoFuture, pin::Pin};

use tokio::time::timeout;

use super::{
    Analytics,
    calls::{Answer, TaskError, Waiting, saved},
    outcome::{OptOutReceipt, WithdrawalStep},
};
use crate::{
    consent::{
        machine::{Machine, Outcome},
        record::Removal,
    },
    spawn::spawn,
};

/// The future of [`Analytics::opt_out`].
#[must_use = "nothing is withdrawn until this is awaited"]
pub struct OptOut {
    analytics: Analytics,
    removal: Removal,
}

impl fmt::Debug for OptOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OptOut").field("removal", &self.removal).finish_non_exhaustive()
    }
}

impl OptOut {
    pub(crate) fn new(analytics: Analytics) -> Self {
        Self { analytics, removal: Removal::Id }
    }

    /// Removes the whole event, with the members of other clients, instead of only its ID.
    ///
    /// The event is removed by writing `{}`, which a homeserver with MSC3391 then deletes and any
    /// other keeps. Other devices then find no decision. A device that remembers none may ask the
    /// user again. A device that remembers an opt-in closes, stays
    /// [`Granted`](crate::Consent::Granted) with
    /// [`Closed(DecisionErased)`](crate::ClosedReason::DecisionErased), and does not ask. A user
    /// who wants *all* devices to show an opt-out must opt out without this.
    pub fn erase_event(mut self) -> Self {
        self.removal = Removal::Event;
        self
    }
}

impl IntoFuture for OptOut {
    type Output = OptOutReceipt;
    type IntoFuture = Pin<Box<dyn Future<Output = OptOutReceipt> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let removed =
                self.analytics.begin(|machine, call| machine.handle_opt_out(call, self.removal));
            self.analytics.withdraw(removed).await
        })
    }
}

impl Analytics {
    /// Waits, within a bound, until the sink, this device's store and the consent task have
    /// completed a withdrawal whose first half is done.
    pub(crate) async fn withdraw(&self, removed: Waiting) -> OptOutReceipt {
        let record = self.begin(Machine::handle_save_wanted);
        let inner = self.shared();
        // In a task of its own: the caller may have no runtime, and may go away.
        let done = spawn(&self.inner().runtime, async move {
            let request_timeout = inner.account_data.request_timeout();
            let requests = timeout(request_timeout, inner.sink.disconnected());
            // Two reads and a write, the request that may be out before them, and what is
            // saved between them.
            let account = timeout(6 * request_timeout, removed.wait());
            // A save, and the one that may be under way before it.
            let record = timeout(4 * request_timeout, record.wait());
            let queue = timeout(request_timeout, inner.sink.wiped());
            let (requests, queue, record, account) = tokio::join!(requests, queue, record, account);
            let analytics_id = inner.machine().take_removed_id();
            OptOutReceipt {
                requests: requests.map_or(WithdrawalStep::Pending(None), |()| WithdrawalStep::Done),
                queue: match queue {
                    Ok(Ok(())) => WithdrawalStep::Done,
                    Ok(Err(error)) => WithdrawalStep::Pending(Some(error)),
                    Err(_) => WithdrawalStep::Pending(None),
                },
                record: match record {
                    Ok(answer) => {
                        saved(answer).map_or_else(WithdrawalStep::Failed, |()| WithdrawalStep::Done)
                    }
                    Err(_) => WithdrawalStep::Pending(None),
                },
                account: match account {
                    Ok(Some(Answer { outcome: Outcome::Done, .. })) => WithdrawalStep::Done,
                    Ok(Some(Answer { error: Some(TaskError::AccountData(error)), .. })) => {
                        WithdrawalStep::Pending(Some(error))
                    }
                    Ok(_) | Err(_) => WithdrawalStep::Pending(None),
                },
                identifiers: inner.identifiers(analytics_id.as_ref()),
                analytics_id,
            }
        });
        done.await.unwrap_or_else(|_| OptOutReceipt::unknown())
    }
}
