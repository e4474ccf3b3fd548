//! Messages that could not be sent.

use matrix_sdk::{Error, HttpError, QueueWedgeError, ruma::api::error::ErrorKind};
use serde::Serialize;

use super::seen::Seen;

/// The number of newest failures of which each is reported once.
const MOST_SEEN: usize = 1024;

/// A closed list of reasons. The text of an error is never looked at: it may name a room, a
/// user or a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum SendErrorCode {
    #[serde(rename = "M_FORBIDDEN")]
    Forbidden,
    #[serde(rename = "M_GUEST_ACCESS_FORBIDDEN")]
    GuestAccessForbidden,
    #[serde(rename = "M_LIMIT_EXCEEDED")]
    LimitExceeded,
    #[serde(rename = "M_MISSING_TOKEN")]
    MissingToken,
    #[serde(rename = "M_NOT_FOUND")]
    NotFound,
    #[serde(rename = "M_RESOURCE_LIMIT_EXCEEDED")]
    ResourceLimitExceeded,
    #[serde(rename = "M_TOO_LARGE")]
    TooLarge,
    #[serde(rename = "M_UNKNOWN")]
    Unknown,
    #[serde(rename = "M_UNKNOWN_TOKEN")]
    UnknownToken,
    #[serde(rename = "M_UNRECOGNIZED")]
    Unrecognized,
    #[serde(rename = "M_USER_DEACTIVATED")]
    UserDeactivated,
    #[serde(rename = "M_USER_LOCKED")]
    UserLocked,
    #[serde(rename = "M_USER_SUSPENDED")]
    UserSuspended,
    /// Any other code of Matrix.
    OtherCode,
    /// A status of 500 or above without a code of Matrix.
    ServerError,
    /// Any other answer without a code of Matrix.
    OtherAnswer,
    /// There was no answer.
    NoAnswer,
    /// A verified user has a device that the user has not signed.
    InsecureDevices,
    /// The identity of a verified user has changed.
    IdentityViolations,
    /// This device is not verified.
    OwnVerificationRequired,
    /// The file to send is gone.
    MissingMediaContent,
    /// The file to send has an unusable type.
    InvalidMimeType,
    /// Encryption failed for another reason.
    EncryptionFailed,
    /// Any other failure on this device.
    Other,
}

impl SendErrorCode {
    pub(crate) fn of(error: &Error) -> Self {
        if let Error::Http(error) = error {
            return Self::of_http(error);
        }
        match QueueWedgeError::from(error) {
            QueueWedgeError::InsecureDevices { .. } => Self::InsecureDevices,
            QueueWedgeError::IdentityViolations { .. } => Self::IdentityViolations,
            QueueWedgeError::CrossVerificationRequired => Self::OwnVerificationRequired,
            QueueWedgeError::MissingMediaContent => Self::MissingMediaContent,
            QueueWedgeError::InvalidMimeType { .. } => Self::InvalidMimeType,
            QueueWedgeError::GenericApiError { .. } => match error {
                Error::OlmError(_) | Error::MegolmError(_) | Error::NoOlmMachine => {
                    Self::EncryptionFailed
                }
                _ => Self::Other,
            },
        }
    }

    fn of_http(error: &HttpError) -> Self {
        let Some(answer) = error.as_client_api_error() else {
            return match error {
                HttpError::Reqwest(_) => Self::NoAnswer,
                HttpError::Cached(error) => Self::of_http(error),
                HttpError::Api(_) => Self::OtherAnswer,
                _ => Self::Other,
            };
        };
        match answer.error_kind() {
            Some(kind) => Self::of_kind(kind),
            None if answer.status_code.is_server_error() => Self::ServerError,
            None => Self::OtherAnswer,
        }
    }

    fn of_kind(kind: &ErrorKind) -> Self {
        match kind {
            ErrorKind::Forbidden => Self::Forbidden,
            ErrorKind::GuestAccessForbidden => Self::GuestAccessForbidden,
            ErrorKind::LimitExceeded(_) => Self::LimitExceeded,
            ErrorKind::MissingToken => Self::MissingToken,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::ResourceLimitExceeded(_) => Self::ResourceLimitExceeded,
            ErrorKind::TooLarge => Self::TooLarge,
            ErrorKind::Unknown => Self::Unknown,
            ErrorKind::UnknownToken(_) => Self::UnknownToken,
            ErrorKind::Unrecognized => Self::Unrecognized,
            ErrorKind::UserDeactivated => Self::UserDeactivated,
            ErrorKind::UserLocked => Self::UserLocked,
            ErrorKind::UserSuspended => Self::UserSuspended,
            _ => Self::OtherCode,
        }
    }
}

/// The failures that were reported.
#[derive(Debug)]
pub(crate) struct SendFailures {
    seen: Seen,
}

impl SendFailures {
    pub(crate) fn new() -> Self {
        Self { seen: Seen::new(MOST_SEEN) }
    }

    /// Handles a failure. Returns whether it is to be reported: a message whose retries fail for
    /// the same reason counts once.
    pub(crate) fn handle_failure(&mut self, transaction: &str, code: SendErrorCode) -> bool {
        // A transaction ID has no control character.
        let digest = self.seen.digest(&format!("{transaction}\0{code:?}"));
        self.seen.insert(digest)
    }

    pub(crate) fn forget(&mut self) {
        self.seen.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use matrix_sdk::ruma::{
        api::{EndpointError as _, error::FromHttpResponseError},
        user_id,
    };

    use super::*;

    /// Returns the error for an answer of a homeserver.
    fn answer(status: u16, body: &str) -> Error {
        let answer = http::Response::builder().status(status).body(body.as_bytes()).unwrap();
        let error = matrix_sdk::RumaApiError::from_http_response(answer);
        HttpError::from(FromHttpResponseError::Server(error)).into()
    }

    fn code(status: u16, errcode: &str) -> SendErrorCode {
        let body =
            format!(r#"{{"errcode":"{errcode}","error":"@alice:example.org is not in !room"}}"#);
        SendErrorCode::of(&answer(status, &body))
    }

    #[test]
    fn an_answer_has_the_code_of_matrix_or_that_of_its_kind() {
        for (status, errcode, expected) in [
            (403, "M_FORBIDDEN", SendErrorCode::Forbidden),
            (413, "M_TOO_LARGE", SendErrorCode::TooLarge),
            (429, "M_LIMIT_EXCEEDED", SendErrorCode::LimitExceeded),
            (401, "M_UNKNOWN_TOKEN", SendErrorCode::UnknownToken),
            (403, "M_USER_SUSPENDED", SendErrorCode::UserSuspended),
            (500, "M_UNKNOWN", SendErrorCode::Unknown),
            (400, "M_BAD_JSON", SendErrorCode::OtherCode),
            (400, "ORG_EXAMPLE_CODE", SendErrorCode::OtherCode),
        ] {
            assert_eq!(code(status, errcode), expected, "{errcode}");
        }
        assert_eq!(SendErrorCode::of(&answer(502, "<html>")), SendErrorCode::ServerError);
        assert_eq!(SendErrorCode::of(&answer(404, "<html>")), SendErrorCode::OtherAnswer);
    }

    #[test]
    fn a_failure_on_this_device_has_a_code_of_its_own() {
        let users = vec![user_id!("@bob:example.org").to_owned()];
        let wedged = [
            (
                QueueWedgeError::InsecureDevices { user_device_map: BTreeMap::new() },
                SendErrorCode::InsecureDevices,
            ),
            (QueueWedgeError::IdentityViolations { users }, SendErrorCode::IdentityViolations),
            (QueueWedgeError::CrossVerificationRequired, SendErrorCode::OwnVerificationRequired),
            (QueueWedgeError::MissingMediaContent, SendErrorCode::MissingMediaContent),
            (
                QueueWedgeError::InvalidMimeType { mime_type: String::new() },
                SendErrorCode::InvalidMimeType,
            ),
            (QueueWedgeError::GenericApiError { msg: String::new() }, SendErrorCode::Other),
        ];
        for (error, expected) in wedged {
            assert_eq!(SendErrorCode::of(&error.into()), expected);
        }
        assert_eq!(SendErrorCode::of(&Error::NoOlmMachine), SendErrorCode::EncryptionFailed);
        assert_eq!(SendErrorCode::of(&Error::Timeout), SendErrorCode::Other);
    }

    #[test]
    fn a_message_that_fails_again_for_the_same_reason_counts_once() {
        let mut failures = SendFailures::new();
        assert!(failures.handle_failure("txn1", SendErrorCode::LimitExceeded));
        assert!(!failures.handle_failure("txn1", SendErrorCode::LimitExceeded));
        assert!(failures.handle_failure("txn1", SendErrorCode::Forbidden));
        assert!(failures.handle_failure("txn2", SendErrorCode::LimitExceeded));
        failures.forget();
        assert!(failures.handle_failure("txn1", SendErrorCode::LimitExceeded));
    }
}
