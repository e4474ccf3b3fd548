//! Results of the calls of the app.

use std::{convert::Infallible, fmt};

use matrix_sdk::StoreError;
use serde::{Serialize, Serializer};

use crate::{
    analytics_id::AnalyticsId, backend::Identity, matrix::account_data::AccountDataError,
    sink::queue::QueueError,
};

/// The reason why an opt-in did not succeed. The gate is no more open than before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptInError {
    /// The account could not be read or written.
    ///
    /// A write whose answer was lost is read back, and if the homeserver has it, the call
    /// succeeds. If that read fails as well, the state is not `confirmed` until the homeserver is
    /// reached again. If the homeserver has applied the write by then, or does so later, the user
    /// has opted in; unless an opt-out was pending, which then removes the ID again. So tell the
    /// user that the opt-in could not be *confirmed*. The next call creates no second ID;
    /// [`opt_out`](crate::Analytics::opt_out) takes the opt-in back for certain.
    #[error(transparent)]
    AccountData(#[from] AccountDataError),
    /// The session is over.
    #[error("the session is over")]
    SessionEnded,
}

/// The progress of one step of a withdrawal.
#[derive(Debug)]
#[non_exhaustive]
pub enum WithdrawalStep<E> {
    /// The step is done.
    Done,
    /// The step failed. This process retries it; what a later process does is described at
    /// each step of the [`OptOutReceipt`].
    Failed(E),
    /// The step is not done yet and goes on in the background, even after a restart, as long as
    /// there is a session: see [`Analytics::end_session`](crate::Analytics::end_session).
    /// The cause is that of the last try, if there was one.
    Pending(Option<E>),
}

impl<E> WithdrawalStep<E> {
    /// Returns whether the step is done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Returns `done`, `failed` or `pending`, without the cause.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed(_) => "failed",
            Self::Pending(_) => "pending",
        }
    }
}

/// Writes [`WithdrawalStep::as_str`].
impl<E> Serialize for WithdrawalStep<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The identifier under which a recipient knows a person. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct RecipientIdentifier {
    pub(super) recipient: String,
    pub(super) identity: Identity,
    pub(super) identifier: Option<String>,
}

impl RecipientIdentifier {
    /// Returns the name of the recipient: the declared one, or that of the backend.
    #[must_use]
    pub fn recipient(&self) -> &str {
        &self.recipient
    }

    /// Returns the kind of the identifier.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Returns the identifier itself, as the recipient stores it, for an erasure request; never
    /// for a log.
    ///
    /// There is none for an [anonymous](Identity::Anonymous) recipient, which cannot find the
    /// events of a person.
    #[must_use]
    pub fn reveal(&self) -> Option<&str> {
        self.identifier.as_deref()
    }
}

impl fmt::Debug for RecipientIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecipientIdentifier")
            .field("recipient", &self.recipient)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// The progress of a withdrawal.
///
/// Two steps are always done and not listed: the gate was shut and the queue in memory wiped
/// before the future first waited for anything.
///
/// Serializes as the name of each step's progress, without the ID and without the causes,
/// which may quote the homeserver.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct OptOutReceipt {
    /// Cutting the request in flight to a backend, so that no connection holds a part of it.
    ///
    /// Pending if a backend could not confirm that within
    /// [`request_timeout`](crate::AnalyticsBuilder::request_timeout): a connection may have to
    /// wait for a service that does not read before it can close. Bytes that the operating
    /// system had taken before may still leave.
    pub requests: WithdrawalStep<Infallible>,
    /// Deleting the events in the file; done if there is no durable queue. An event that is left
    /// in a file is never sent: the next start deletes it.
    pub queue: WithdrawalStep<QueueError>,
    /// Saving the opt-out on this device. If this failed, the opt-out holds until the process
    /// ends; after that, the device knows only the content on the homeserver.
    pub record: WithdrawalStep<StoreError>,
    /// Cleaning the account: the event was read again after it was written, and this device has
    /// saved that nothing is left to remove.
    ///
    /// The event may still hold an opt-in, if another device wrote it afterwards. This device
    /// follows it, as the state shows. Pending without a cause if the event is clean but this
    /// device could not save that: the removal is then repeated after a restart.
    pub account: WithdrawalStep<AccountDataError>,
    #[serde(skip)]
    pub(super) analytics_id: Option<AnalyticsId>,
    #[serde(skip)]
    pub(super) identifiers: Vec<RecipientIdentifier>,
}

impl OptOutReceipt {
    /// Returns the receipt of a withdrawal that has only shut the gate and wiped the memory.
    pub(crate) fn unknown() -> Self {
        Self {
            requests: WithdrawalStep::Pending(None),
            queue: WithdrawalStep::Pending(None),
            record: WithdrawalStep::Pending(None),
            account: WithdrawalStep::Pending(None),
            analytics_id: None,
            identifiers: Vec::new(),
        }
    }

    /// Returns the ID that the account held. It is kept nowhere else.
    ///
    /// Do not give it to a service that does not have it: such a service could compute the
    /// pseudonyms of others. A request to erase data needs [`identifiers`](Self::identifiers).
    ///
    /// There is none if the account held none, if
    /// [`end_session`](crate::Analytics::end_session) left it alone, or if the account could not
    /// be read. While the `account` is not done, the ID may not be known yet; once the removal
    /// has completed in the background, the receipt of the next call in the same process has it.
    #[must_use]
    pub fn analytics_id(&self) -> Option<&AnalyticsId> {
        self.analytics_id.as_ref()
    }

    /// Returns the identifiers under which the recipients know the person, in the order in which
    /// the recipients were added: an erasure request to one of them must name its own.
    ///
    /// There are none if there is no [`analytics_id`](Self::analytics_id).
    #[must_use]
    pub fn identifiers(&self) -> &[RecipientIdentifier] {
        &self.identifiers
    }

    /// Returns whether every step is done.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.requests.is_done()
            && self.queue.is_done()
            && self.record.is_done()
            && self.account.is_done()
    }
}
