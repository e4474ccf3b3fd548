//! The record of what clients asked.

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

/// What became of an account-data request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It was answered with this HTTP status.
    Answered(u16),
    /// The connection was dropped without an answer.
    Reset,
    /// No answer will come.
    Stalled,
}

/// One account-data request that reached the [`AccountDataServer`](super::AccountDataServer).
///
/// Its `Debug` output shows the body, which in a test is what one wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccountDataRequest {
    /// The method.
    pub method: AccountDataMethod,
    /// The user whose data it is about, from the path.
    pub user_id: String,
    /// The event type, from the path.
    pub event_type: String,
    /// The device that sent it; `None` if the access token is missing or unknown.
    pub device_id: Option<String>,
    /// The body as it came; bytes that are not UTF-8 are replaced by U+FFFD.
    pub body: String,
    /// Whether the server did what was asked, whatever the client got to hear of it.
    pub applied: bool,
    /// What became of it.
    pub outcome: Outcome,
}

impl AccountDataRequest {
    /// The HTTP status it was answered with; `None` if it was never answered.
    pub fn status(&self) -> Option<u16> {
        match self.outcome {
            Outcome::Answered(status) => Some(status),
            Outcome::Reset | Outcome::Stalled => None,
        }
    }
}
