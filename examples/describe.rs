//! Descriptions of the crate's states and errors, for users.

use std::{error::Error, fmt::Write as _};

use matrix_analytics::{ClosedReason, GateState, HoldReason, Note, WithdrawalStep};
use matrix_sdk::{HttpError, ruma::api::error::ErrorBody};

/// Describes whether events are sent, and the reason if they are not.
#[must_use]
pub fn describe_gate(gate: GateState) -> &'static str {
    match gate {
        GateState::Open => "open: events are sent",
        GateState::Holding(reason) => match reason {
            HoldReason::Rechecking => {
                "holding: another device may have changed the decision; asking the homeserver"
            }
            HoldReason::MissingId => "holding: the account has opted in but has no ID",
            HoldReason::OptingIn => "holding: an opt-in is in progress",
            HoldReason::Settling => "holding: waiting for the new ID to settle",
            HoldReason::SoftLogout => "holding: the session must be renewed",
            HoldReason::Unverified => "holding: the homeserver has not confirmed the opt-in yet",
            _ => "holding",
        },
        GateState::Closed(reason) => match reason {
            ClosedReason::Denied => "closed: the user opted out",
            ClosedReason::DeviceVeto => "closed: vetoed on this device",
            ClosedReason::DoNotTrack => "closed: DO_NOT_TRACK is set",
            ClosedReason::SessionEnded => "closed: the session has ended",
            ClosedReason::Unavailable => "closed: this account cannot store a decision",
            ClosedReason::Unknown => "closed: the homeserver has not answered yet",
            ClosedReason::Undecided => "closed: the user has not decided",
            ClosedReason::DecisionErased => "closed: another client removed the decision",
            ClosedReason::PolicyNotAgreed => "closed: the user has not agreed to the policy",
            _ => "closed",
        },
        _ => "unknown",
    }
}

/// Describes the reason why the switch is off on this device, or why nothing is sent although it
/// is on.
#[must_use]
pub fn describe_note(note: Note) -> &'static str {
    match note {
        Note::DoNotTrack => "DO_NOT_TRACK is set, so analytics stay off here.",
        Note::DeviceVeto => "Analytics are off on this device only.",
        Note::OptingIn => "The opt-in is in progress.",
        Note::Settling => "Events leave in a moment, when the new ID has settled.",
        Note::DecisionErased => {
            "Nothing is sent: another client removed the decision. Opting in again renews it."
        }
        Note::PolicyNotAgreed => {
            "Nothing is sent: the privacy policy has changed. Opting in agrees to it."
        }
        Note::MissingId => {
            "Nothing is sent: the account holds no usable ID. Opting in again creates one."
        }
        Note::Unverified => "Nothing is sent until the homeserver confirms the opt-in.",
        Note::SoftLogout => "Nothing is sent until you log in again.",
        Note::RemovalPending => "The account is cleaned as soon as the homeserver can be reached.",
        _ => "",
    }
}

/// Describes the progress of a step of a withdrawal.
#[must_use]
pub fn describe_step<E: Error + 'static>(step: &WithdrawalStep<E>) -> String {
    match step {
        WithdrawalStep::Done => "done".to_owned(),
        WithdrawalStep::Failed(cause) => format!("failed: {}", chain(cause)),
        WithdrawalStep::Pending(Some(cause)) => format!("pending: {}", chain(cause)),
        WithdrawalStep::Pending(None) => "pending".to_owned(),
        _ => "unknown".to_owned(),
    }
}

/// Describes an error and its causes, each of them once.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = message(error);
    let mut cause = next_cause(error);
    while let Some(error) = cause {
        let message = message(error);
        // A transparent error has the same message as its source.
        if !text.ends_with(&message) {
            let _ = write!(text, ": {message}");
        }
        cause = next_cause(error);
    }
    text
}

/// Returns the source of an error, unless the message of the error already includes it.
fn next_cause<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    error.source().filter(|_| http_error(error).is_none())
}

fn message(error: &(dyn Error + 'static)) -> String {
    http_error(error).map_or_else(|| error.to_string(), describe_http)
}

fn http_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e HttpError> {
    match error.downcast_ref() {
        Some(matrix_sdk::Error::Http(error)) => Some(error),
        _ => error.downcast_ref(),
    }
}

/// Describes a failed request by the homeserver's error, or by the innermost cause if the
/// homeserver did not answer.
pub(crate) fn describe_http(error: &HttpError) -> String {
    match error.as_client_api_error().map(|error| (&error.body, error.status_code)) {
        Some((ErrorBody::Standard(body), _)) => {
            format!("{} ({})", body.message.trim_end_matches('.'), body.kind.errcode())
        }
        Some((_, status)) => format!("the server answered with status {status}"),
        None => innermost(error).to_string(),
    }
}

fn innermost<'e>(error: &'e (dyn Error + 'static)) -> &'e (dyn Error + 'static) {
    error.source().map_or(error, innermost)
}
