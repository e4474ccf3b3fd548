//! Words for what the crate says in types.

use std::{error::Error, fmt::Write as _};

use matrix_analytics::{ClosedReason, GateState, HoldReason, Step};

/// What is done with events now, and why.
#[must_use]
pub fn describe_gate(gate: GateState) -> &'static str {
    match gate {
        GateState::Open => "open: events are sent",
        GateState::Holding(reason) => match reason {
            HoldReason::Doubt => "holding: another device changed something, asking what holds",
            HoldReason::NoId => "holding: the account says yes and has no ID yet",
            HoldReason::OptingIn => "holding: an opt-in is in progress",
            HoldReason::Settling => "holding: the new ID settles",
            HoldReason::SoftLogout => "holding: the session has to be renewed",
            HoldReason::Unconfirmed => "holding: the homeserver has not confirmed the yes yet",
            _ => "holding",
        },
        GateState::Closed(reason) => match reason {
            ClosedReason::Denied => "closed: the user said no",
            ClosedReason::DeviceVeto => "closed: denied on this device",
            ClosedReason::DoNotTrack => "closed: DO_NOT_TRACK is set",
            ClosedReason::SessionEnded => "closed: the session is over",
            ClosedReason::Unavailable => "closed: this account cannot hold a decision",
            ClosedReason::Unconfirmed => "closed: the homeserver has not answered yet",
            ClosedReason::Undecided => "closed: the user has not decided",
            ClosedReason::Unproven => "closed: the homeserver holds no decision any more",
            _ => "closed",
        },
        _ => "unknown",
    }
}

/// How far a step of a withdrawal has come.
#[must_use]
pub fn describe_step<E: Error>(step: &Step<E>) -> String {
    match step {
        Step::Done => "done".to_owned(),
        Step::Failed(cause) => format!("failed: {}", chain(cause)),
        Step::Pending(Some(cause)) => format!("still to do: {}", chain(cause)),
        Step::Pending(None) => "still to do".to_owned(),
        _ => "unknown".to_owned(),
    }
}

/// An error with its causes, each said once.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // A transparent error says what its cause says.
        if !text.ends_with(&message) {
            let _ = write!(text, ": {message}");
        }
        cause = error.source();
    }
    text
}
