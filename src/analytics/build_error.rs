//! The error of [`AnalyticsBuilder::build`](crate::AnalyticsBuilder::build).

use matrix_sdk::StoreError;

use crate::{
    backend::LabelError, consent::policy::InvalidPolicy, event::InvalidEvent,
    matrix::record_store::LoadError, sink::queue::QueueError,
};

/// The reason why an [`Analytics`](crate::Analytics) could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Another [`Analytics`](crate::Analytics) for the same user, event type and store is alive in this
    /// process: clone that one instead.
    #[error("there is an Analytics for this account and event type already")]
    AlreadyBuilt,
    /// The event type is empty, over-long, has white space, a slash or a control
    /// character, or belongs to the Matrix specification (`m.…`).
    #[error("the event type cannot be one for analytics")]
    EventType,
    /// The local record of this device was written by a newer version of this crate.
    #[error("the local record was written by a newer version")]
    NewerRecord,
    /// There is no Tokio runtime to run the background tasks.
    #[error("there is no Tokio runtime")]
    NoRuntime,
    /// The client is not logged in.
    #[error("the client has no session")]
    NoSession,
    /// The [`policy`](crate::AnalyticsBuilder::policy) names recipients, but not this one.
    #[error("the policy does not name the label of the recipient {recipient}")]
    NotInPolicy {
        /// The name of the recipient.
        recipient: String,
    },
    /// The label of a recipient cannot make its identifiers.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// The [`policy`](crate::AnalyticsBuilder::policy) is invalid.
    #[error("the policy is invalid")]
    Policy(#[source] InvalidPolicy),
    /// The durable queue cannot be used.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The local record of this device could not be read. It may hold a withdrawal.
    #[error("the client's store could not be read")]
    Store(#[source] StoreError),
    /// The [`super_properties`](crate::AnalyticsBuilder::super_properties) are invalid.
    #[error("the super properties are invalid")]
    SuperProperties(#[source] InvalidEvent),
    /// The [`user_properties`](crate::AnalyticsBuilder::user_properties) are invalid.
    #[error("the user properties are invalid")]
    UserProperties(#[source] InvalidEvent),
    /// The client's store did not answer in time: the local record could not be read, or an
    /// [`Analytics`](crate::Analytics) that was dropped a moment ago is still writing to the store.
    #[error("the client's store did not answer in time")]
    StoreTimeout,
}

impl From<LoadError> for BuildError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::NewerVersion(_) => Self::NewerRecord,
            LoadError::Store(error) => Self::Store(error),
        }
    }
}
