//! Opting out and ending a session: the steps that are done at once, and the wait for the rest.

use std::{cell::Cell, fmt, future::IntoFuture, pin::Pin, time::SystemTime};

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
    erases_recipients: bool,
    expressed_by: Option<String>,
}

impl fmt::Debug for OptOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OptOut")
            .field("removal", &self.removal)
            .field("erases_recipients", &self.erases_recipients)
            .finish_non_exhaustive()
    }
}

impl OptOut {
    pub(crate) fn new(analytics: Analytics) -> Self {
        Self { analytics, removal: Removal::Id, erases_recipients: false, expressed_by: None }
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

    /// Declares how the user expressed the decision, such as "a switch in the settings", for
    /// [`Analytics::consent_record`]. At most 200 bytes are kept.
    pub fn expressed_by(mut self, expressed_by: impl Into<String>) -> Self {
        self.expressed_by = Some(expressed_by.into());
        self
    }

    /// Asks each recipient that has a [`Recipient::erasure`](crate::Recipient::erasure) to delete
    /// what it holds under the identifier that it knows of the account.
    ///
    /// Nothing else leaves after an opt-out. The requests begin once the account is clean, so that
    /// other devices have stopped sending, or after ten minutes, or at once if the session is over.
    /// A request that fails is sent again until
    /// [`Limits::erasure_max_age`](crate::Limits::erasure_max_age), at intervals that grow to half a
    /// day. With a `SqliteQueue` that has a passphrase, the requests are in its file before the ID
    /// is removed from the account, and outlive the process. Otherwise they are in memory, and are
    /// lost with the last handle.
    /// [`OptOutReceipt::erasures`] says which, and [`Stats::erasures`](crate::Stats::erasures) how
    /// many wait.
    ///
    /// A later opt-in stops none of them: it has another ID. A recipient with an anonymous identity
    /// is not asked, because it knows no lasting identifier.
    ///
    /// Ask for erasures with the opt-out itself. An opt-out without them forgets the ID, so that a
    /// later one fails to erase it unless the account still holds it.
    pub fn erase_recipients(mut self) -> Self {
        self.erases_recipients = true;
        self
    }
}

impl IntoFuture for OptOut {
    type Output = OptOutReceipt;
    type IntoFuture = Pin<Box<dyn Future<Output = OptOutReceipt> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let inner = self.analytics.shared();
            let before = inner.sink.stats().dropped_by_withdrawal();
            let used = Cell::new(Vec::new());
            let withdraw = |machine: &mut Machine, call| {
                if self.erases_recipients {
                    used.set(machine.take_used());
                }
                machine.handle_opt_out(call, self.removal);
            };
            // Once the gate is shut: nothing may delay that.
            let decided = Cell::new(None);
            let removed = self.analytics.begin_then(withdraw, |machine| {
                let at = if self.erases_recipients {
                    inner.erasures.begin(machine, used.take())
                } else {
                    inner.erasures.forget_used();
                    SystemTime::now()
                };
                let number = inner.decisions.opt_out(self.expressed_by.as_deref(), at);
                decided.set(Some((number, at)));
            });
            let events = inner.sink.stats().dropped_by_withdrawal() - before;
            let decision = decided.get().map(|(number, at)| Decided { number, at, events });
            self.analytics.withdraw(removed, decision).await
        })
    }
}

/// The first half of an opt-out.
pub(crate) struct Decided {
    /// The number of the recorded decision.
    number: u64,
    at: SystemTime,
    /// The number of events that were removed.
    events: u64,
}

impl Analytics {
    /// Waits, within a bound, until the sink, this device's store and the consent task have
    /// completed a withdrawal whose first half is done. If it is an opt-out, `decided` is that half.
    pub(crate) async fn withdraw(
        &self,
        removed: Waiting,
        decided: Option<Decided>,
    ) -> OptOutReceipt {
        let record = self.begin(Machine::handle_save_wanted);
        let inner = self.shared();
        let erased_before = inner.erasures.done_ever();
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
            let is_clean = matches!(&account, Ok(Some(Answer { outcome: Outcome::Done, .. })));
            if is_clean {
                // One try for each recipient that answers.
                let _ = timeout(request_timeout, inner.erasures.all_tried()).await;
            }
            let analytics_id = inner.machine().take_removed_id();
            let receipt = OptOutReceipt {
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
                erasures: inner.erasures.report(erased_before).await,
                identifiers: inner.identifiers(analytics_id.as_ref()),
                analytics_id,
            };
            if let Some(Decided { number, at, events }) = decided {
                // The evidence is in the store before the call returns.
                if let Some(written) = inner.decisions.removed(number, at, events, &receipt) {
                    let _ = written.await;
                }
            }
            receipt
        });
        let receipt = done.await.unwrap_or_else(|_| OptOutReceipt::unknown());
        // Not in the task: if the caller has gone away, the next one gets the failures.
        self.inner().erasures.reported(&receipt.erasures);
        receipt
    }
}
