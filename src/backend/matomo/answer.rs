//! The meaning of an answer of the bulk tracking API.

use reqwest::StatusCode;
use serde::Deserialize;

use crate::backend::{
    DeliveryError,
    http::{Answer, HttpError},
};

/// The body of an answer.
#[derive(Deserialize)]
struct Counts {
    status: String,
    /// The number of events that were stored. The others were invalid, or lost to a lock in
    /// Matomo's database.
    tracked: usize,
}

/// Returns how many of the `events` events of a request `answer` does not confirm.
///
/// # Errors
///
/// Fails if `answer` confirms none.
pub(super) fn unconfirmed(answer: &Answer, events: usize) -> Result<usize, DeliveryError> {
    let status = answer.status;
    match status {
        StatusCode::OK => {}
        // Matomo has stored nothing, because of one of the events.
        StatusCode::INTERNAL_SERVER_ERROR => {
            return Err(DeliveryError::Rejected(HttpError::Status(status).boxed()));
        }
        // The bulk tracking API has no other success.
        _ if status.is_success() => return Err(unreadable(status)),
        _ => return answer.verdict().map(|()| events),
    }
    let counts = answer.body()?.and_then(|body| serde_json::from_slice(body).ok());
    match counts {
        Some(Counts { status, tracked }) if status == "success" => {
            Ok(events.saturating_sub(tracked))
        }
        _ => Err(unreadable(status)),
    }
}

/// Returns the error for an answer that does not come from the bulk tracking API.
fn unreadable(status: StatusCode) -> DeliveryError {
    DeliveryError::Misconfigured(HttpError::Unreadable(status).boxed())
}

#[cfg(test)]
mod tests;
