//! The meaning of an answer, which has a result for each event.

use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    backend::{
        Batch, DeliveryError, EventOutcome,
        http::{Answer, AnswerBody, HttpError, LONGEST_ANSWER},
    },
    event::OutgoingEvent,
};

/// The body of a success.
#[derive(Deserialize)]
struct Success {
    /// The result of each event by its unique ID. If an ID occurs twice, the last result counts.
    results: Map<String, Value>,
}

/// The body of a failure.
#[derive(Deserialize)]
struct Failure {
    error: String,
}

/// The failures that blame the request rather than an event in it, such as a proxy that removes
/// headers.
const ABOUT_THE_REQUEST: [&str; 4] =
    ["empty_body", "invalid_header_value", "missing_required_headers", "request_decoding_error"];

/// Returns the length up to which an answer for `events` events is read, in bytes. A result
/// takes about a hundred.
pub(in crate::backend::posthog) fn longest_answer(events: usize) -> usize {
    LONGEST_ANSWER.saturating_add(events.saturating_mul(256))
}

/// Returns the meaning of `answer` to a request with `batch`.
///
/// # Errors
///
/// Fails unless PostHog says of each event that it has it.
pub(in crate::backend::posthog) fn verdict(
    answer: &Answer,
    batch: &Batch,
) -> Result<(), DeliveryError> {
    let status = answer.status;
    if status.is_success() {
        return accepted(answer, batch);
    }
    match (status.as_u16(), failure(&answer.body).as_deref()) {
        // Earlier versions answered 429. PostHog does not want these events again.
        (402 | 429, Some("billing_limit_exceeded")) => Err(DeliveryError::PerEvent {
            outcomes: vec![EventOutcome::OverQuota; batch.len()],
            retry_after: None,
        }),
        (400, Some(error)) if ABOUT_THE_REQUEST.contains(&error) => {
            Err(DeliveryError::Misconfigured(HttpError::Status(status).boxed()))
        }
        _ => answer.verdict(),
    }
}

fn accepted(answer: &Answer, batch: &Batch) -> Result<(), DeliveryError> {
    let success = answer.body()?.and_then(|body| serde_json::from_slice(body).ok());
    let Some(Success { results }) = success else {
        return Err(unreadable(answer.status));
    };
    let outcomes: Vec<_> = batch.events().map(|event| outcome(&results, event)).collect();
    if outcomes.iter().all(|outcome| *outcome == EventOutcome::Delivered) {
        return Ok(());
    }
    Err(DeliveryError::PerEvent { outcomes, retry_after: answer.retry_after })
}

/// Returns the error for an answer that does not come from this endpoint.
fn unreadable(status: StatusCode) -> DeliveryError {
    DeliveryError::Misconfigured(HttpError::Unreadable(status).boxed())
}

fn failure(body: &AnswerBody) -> Option<String> {
    let AnswerBody::Whole(bytes) = body else { return None };
    serde_json::from_slice::<Failure>(bytes).ok().map(|failure| failure.error)
}

/// Returns what `results` says of `event`.
fn outcome(results: &Map<String, Value>, event: &OutgoingEvent) -> EventOutcome {
    let mut id = Uuid::encode_buffer();
    let id: &str = event.uuid().hyphenated().encode_lower(&mut id);
    let Some(entry) = results.get(id) else {
        // PostHog answers for every event, so this is not PostHog or not all of its answer.
        return EventOutcome::SendAgain;
    };
    let text = |key| entry.get(key).and_then(Value::as_str).unwrap_or_default();
    match (text("result"), text("details")) {
        ("ok" | "warning", "person_processing_disabled") => EventOutcome::WithoutUserProperties,
        ("ok" | "warning", _) => EventOutcome::Delivered,
        ("retry", _) => EventOutcome::SendAgain,
        ("drop", "event_too_big" | "ai_event_too_big") => EventOutcome::TooLarge,
        ("drop", details) if is_quota(details) => EventOutcome::OverQuota,
        // A result that is not known yet is none that says that PostHog has the event, nor one
        // that asks for it again.
        _ => EventOutcome::Rejected,
    }
}

/// Returns whether `details` name a quota that is used up. There is one for all events, and there
/// are some for events with certain names, such as `exceptions_over_quota`.
fn is_quota(details: &str) -> bool {
    details == "billing_limit_exceeded" || details.ends_with("over_quota")
}
