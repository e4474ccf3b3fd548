//! The events that Element's catalogue does not have.

use serde::Serialize;

use super::send_failure::SendErrorCode;
use crate::event::AnalyticsEvent;

/// The send queue could not send a message.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SendFailure {
    /// Whether a retry can succeed.
    pub(crate) is_recoverable: bool,
    pub(crate) error_code: SendErrorCode,
}

impl AnalyticsEvent for SendFailure {
    const NAME: &'static str = "SendFailure";
}

/// The homeserver refused a one-time key because it has another one of the same ID.
#[derive(Serialize)]
pub(crate) struct KeyUploadClash {}

impl AnalyticsEvent for KeyUploadClash {
    const NAME: &'static str = "KeyUploadClash";
}

/// The session came back after a soft logout.
#[derive(Serialize)]
pub(crate) struct SessionRenewed {}

impl AnalyticsEvent for SessionRenewed {
    const NAME: &'static str = "SessionRenewed";
}

/// More messages could not be decrypted than can be followed.
#[derive(Serialize)]
pub(crate) struct UndecryptableOverflow {
    /// The number of messages that have no event of their own.
    pub(crate) messages: u64,
}

impl AnalyticsEvent for UndecryptableOverflow {
    const NAME: &'static str = "UndecryptableOverflow";
}
