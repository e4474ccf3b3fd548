//! What the calls of the app return.

use std::convert::Infallible;

use matrix_sdk::StoreError;

use crate::{
    analytics_id::AnalyticsId, matrix::account_data::AccountDataError, sink::queue::QueueError,
};

/// Why an opt-in did not succeed. What was closed before is still closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptInError {
    /// The account could not be read or written.
    ///
    /// A write whose answer was lost is read back, and if the homeserver has it, the
    /// call has succeeded. If that cannot be read either, the state says `Unconfirmed`
    /// until the homeserver is reached again. If it has applied the write by then, or does so
    /// later, the user has opted in; unless an opt-out was pending, which then removes the
    /// ID again. So tell the user that it could not be *confirmed*. The next call makes no second
    /// ID; [`opt_out`](crate::Analytics::opt_out) takes it back for certain.
    #[error(transparent)]
    AccountData(#[from] AccountDataError),
    /// The session is over.
    #[error("the session is over")]
    SessionEnded,
    /// An opt-out came after this call, which is no error to show: the user moved the
    /// switch twice.
    #[error("the user opted out meanwhile")]
    Withdrawn,
}

/// How far one step of a withdrawal has come.
#[derive(Debug)]
#[non_exhaustive]
pub enum WithdrawalStep<E> {
    /// It is done.
    Done,
    /// It could not be done. It is tried again, but not after a restart.
    Failed(E),
    /// It is not done yet and goes on by itself, after a restart too, for as long as
    /// there is a session: see [`Analytics::end_session`](crate::Analytics::end_session).
    /// The cause is that of the last try, if there was one.
    Pending(Option<E>),
}

impl<E> WithdrawalStep<E> {
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
    pub requests: WithdrawalStep<Infallible>,
    /// No file holds an event any more; done if there is no durable queue. What is
    /// left in a file is never sent: the next start deletes it.
    pub queue: WithdrawalStep<QueueError>,
    /// This device remembers the opt-out. If this failed, the opt-out holds until the
    /// process ends; after that, the device knows only what the homeserver holds.
    pub record: WithdrawalStep<StoreError>,
    /// The account has lost what this call was to remove: the event was read again after it
    /// was written, and this device has saved that nothing is left to remove.
    ///
    /// The event may hold an opt-in all the same, if another device made it after the write.
    /// This device follows it, as the state tells. Pending without a cause also if the event
    /// is clean and this device could not save that: after a restart it is removed again.
    pub account: WithdrawalStep<AccountDataError>,
    /// The ID that the account held: what a request to a service to erase what it has
    /// must name. It is told once, and kept nowhere else.
    ///
    /// None if there was none, if [`end_session`](crate::Analytics::end_session) leaves it
    /// alone, or if the account could not be read. While the `account` is not done, none
    /// means that it is not known; once the removal has gone on by itself, the receipt of
    /// the next call tells it, in the same process.
    pub analytics_id: Option<AnalyticsId>,
}

impl OptOutReceipt {
    /// Nothing is known but what is done before anything is awaited.
    pub(crate) fn unknown() -> Self {
        Self {
            requests: WithdrawalStep::Pending(None),
            queue: WithdrawalStep::Pending(None),
            record: WithdrawalStep::Pending(None),
            account: WithdrawalStep::Pending(None),
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
