//! The recorded account-data requests.

/// The method of an account-data request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AccountDataMethod {
    /// `DELETE` at the unstable path of MSC3391.
    Delete,
    /// `GET`.
    Get,
    /// `PUT`.
    Put,
}

/// How an account-data request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It was answered with this HTTP status.
    Answered(u16),
    /// The connection was dropped without an answer.
    Reset,
    /// It will never be answered.
    Stalled,
}

/// An account-data request that reached the
/// [`AccountDataServer`](super::AccountDataServer).
///
/// Its `Debug` output contains the body, which is useful in a failing test.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccountDataRequest {
    /// The method.
    pub method: AccountDataMethod,
    /// The user who owns the data, from the path.
    pub user_id: String,
    /// The event type, from the path.
    pub event_type: String,
    /// The device that sent it, or `None` if the access token is missing or unknown.
    pub device_id: Option<String>,
    /// The received body. Bytes that are not UTF-8 are replaced with U+FFFD.
    pub body: String,
    /// Whether the server applied the request, regardless of the answer to the client.
    pub applied: bool,
    /// How the request ended.
    pub outcome: Outcome,
}

impl AccountDataRequest {
    /// Returns the HTTP status of the answer, or `None` if the request was never
    /// answered.
    pub fn status(&self) -> Option<u16> {
        match self.outcome {
            Outcome::Answered(status) => Some(status),
            Outcome::Reset | Outcome::Stalled => None,
        }
    }
}
