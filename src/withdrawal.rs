//! Opting out, and ending a session: what is done at once, and the receipt for
//! the rest.

use std::{convert::Infallible, fmt, future::IntoFuture, pin::Pin};

use matrix_sdk::StoreError;
use tokio::time::timeout;

use crate::{
    analytics::{
        Analytics,
        calls::{Answer, TaskError, Waiting, saved},
    },
    analytics_id::AnalyticsId,
    consent::{
        machine::{Machine, Outcome},
        record::Removal,
    },
    matrix::account_data::AccountDataError,
    sink::queue::QueueError,
};

/// How far one step of a withdrawal has come.
#[derive(Debug)]
#[non_exhaustive]
pub enum Step<E> {
    /// It is done.
    Done,
    /// It could not be done. It is tried again, but not after a restart.
    Failed(E),
    /// It is not done yet and goes on by itself, after a restart too, for as long as
    /// there is a session: see [`Analytics::end_session`]. The cause is that of the last
    /// try, if there was one.
    Pending(Option<E>),
}

impl<E> Step<E> {
    /// Whether it is done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }
}

/// Which steps of a withdrawal are done.
///
/// Two steps are not in it because they are always done: the gate was shut and
/// the queue in memory wiped before the future first waited for anything.
#[derive(Debug)]
#[non_exhaustive]
pub struct OptOutReceipt {
    /// The request that was out to a backend is cut, and no connection holds a part of
    /// it any more.
    ///
    /// Pending if a backend could not say so within
    /// [`request_timeout`](crate::AnalyticsBuilder::request_timeout): a connection may
    /// have to wait for a service that does not read before it can close. What the
    /// operating system had taken before may still leave.
    pub requests: Step<Infallible>,
    /// No file holds an event any more; done if there is no durable queue. What is
    /// left in a file is never sent: the next start deletes it.
    pub queue: Step<QueueError>,
    /// This device remembers the no. If this failed, the no holds until the
    /// process ends; after that only what the homeserver holds is known.
    pub record: Step<StoreError>,
    /// The account's event is clean: it was read again after it was written, and this
    /// device remembers that nothing is left to remove.
    pub account: Step<AccountDataError>,
    /// The ID that the account held: what a request to a service to erase what it has
    /// must name. It is told once, and kept nowhere else.
    ///
    /// None if there was none, if [`end_session`](Analytics::end_session) leaves it
    /// alone, or if the account could not be read. While the `account` is not done, none
    /// means that it is not known; once the removal has gone on by itself, the receipt of
    /// the next call tells it, in the same process.
    pub analytics_id: Option<AnalyticsId>,
}

impl OptOutReceipt {
    /// Nothing is known but what is done before anything is awaited.
    pub(crate) fn unknown() -> Self {
        Self {
            requests: Step::Pending(None),
            queue: Step::Pending(None),
            record: Step::Pending(None),
            account: Step::Pending(None),
            analytics_id: None,
        }
    }

    /// Whether every step is done.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.requests.is_done()
            && self.queue.is_done()
            && self.record.is_done()
            && self.account.is_done()
    }
}

/// The future of [`Analytics::opt_out`].
#[must_use = "nothing is withdrawn until this is awaited"]
#[derive(Clone)]
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

    /// Removes the whole event, members of other clients included, rather than
    /// its ID alone.
    ///
    /// An event is removed by writing `{}`, which a homeserver with MSC3391 then deletes,
    /// and any other keeps. Other devices find no decision: one that remembers none may
    /// ask the user again; one that remembers a yes closes, stays
    /// [`Granted`](crate::Consent::Granted) with
    /// [`Closed(Unproven)`](crate::ClosedReason::Unproven), and does not ask. So tell a
    /// user who wants *all* devices to stop showing a yes to opt out without this.
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
    /// Waits, within a bound, for what the sink, this device's store and the
    /// consent task do for a withdrawal whose first half is done.
    pub(crate) async fn withdraw(&self, removed: Waiting) -> OptOutReceipt {
        let record = self.begin(Machine::handle_save_wanted);
        let inner = self.shared();
        // In a task of its own: the caller may have no runtime, and may go away.
        let done = self.inner().runtime.spawn(async move {
            let bound = inner.account_data.bound();
            let requests = timeout(bound, inner.sink.disconnected());
            // Two reads and a write, the request that may be out before them, and what is
            // saved between them.
            let account = timeout(6 * bound, removed.wait());
            // A save, and the one that may be under way before it.
            let record = timeout(4 * bound, record.wait());
            let queue = timeout(bound, inner.sink.wiped());
            let (requests, queue, record, account) = tokio::join!(requests, queue, record, account);
            OptOutReceipt {
                requests: requests.map_or(Step::Pending(None), |()| Step::Done),
                queue: match queue {
                    Ok(Ok(())) => Step::Done,
                    Ok(Err(error)) => Step::Pending(Some(error)),
                    Err(_) => Step::Pending(None),
                },
                record: match record {
                    Ok(answer) => saved(answer).map_or_else(Step::Failed, |()| Step::Done),
                    Err(_) => Step::Pending(None),
                },
                account: match account {
                    Ok(Some(Answer { outcome: Outcome::Done, .. })) => Step::Done,
                    Ok(Some(Answer { error: Some(TaskError::AccountData(error)), .. })) => {
                        Step::Pending(Some(error))
                    }
                    Ok(_) | Err(_) => Step::Pending(None),
                },
                analytics_id: inner.machine().take_removed_id(),
            }
        });
        done.await.unwrap_or_else(|_| OptOutReceipt::unknown())
    }
}
