//! The user's decision, its confirmation, and the gate that follows from both.

use serde::{Deserialize, Serialize};

use crate::named::named;

/// The user's decision about analytics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Consent {
    /// The user opted out.
    Denied,
    /// The user opted in.
    Granted,
    /// The user has not decided.
    #[default]
    Undecided,
}

named!(Consent { Denied => "denied", Granted => "granted", Undecided => "undecided" });

/// The treatment of events, and the reason for it.
///
/// Serializes as `"open"`, or as an object such as `{"closed":"denied"}` and
/// `{"holding":"settling"}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GateState {
    /// Events are neither taken nor sent.
    Closed(ClosedReason),
    /// Events are taken into bounded memory and not sent.
    Holding(HoldReason),
    /// Events are taken and sent.
    Open,
}

/// The reason why the gate is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClosedReason {
    /// The user opted out, here or on another device.
    Denied,
    /// The user has not decided.
    Undecided,
    /// The user vetoed analytics on this device.
    DeviceVeto,
    /// `DO_NOT_TRACK` is set, or the builder was told to act as if it were.
    DoNotTrack,
    /// The session is over: the app ended it, or the homeserver no longer accepts its token.
    /// If the homeserver rejected the token, this device asks again when something shows that
    /// the session still works.
    SessionEnded,
    /// The account cannot hold a decision because it is a guest's.
    Unavailable,
    /// The homeserver has not answered yet, and this device remembers no decision, or none
    /// about the configured [`policy`](crate::AnalyticsBuilder::policy).
    Unknown,
    /// This device remembers an opt-in, but the homeserver no longer holds a decision:
    /// another client erased or overwrote it.
    DecisionErased,
    /// The account holds an opt-in, but not to the configured
    /// [`policy`](crate::AnalyticsBuilder::policy): the user agreed to another version, to fewer
    /// recipients, or too long ago, or in a client that does not record it.
    /// [`opt_in`](crate::Analytics::opt_in) renews the opt-in under the same ID, and
    /// [`opt_out`](crate::Analytics::opt_out) withdraws it.
    PolicyNotAgreed,
}

named!(ClosedReason {
    Denied => "denied",
    Undecided => "undecided",
    DeviceVeto => "device_veto",
    DoNotTrack => "do_not_track",
    SessionEnded => "session_ended",
    Unavailable => "unavailable",
    Unknown => "unknown",
    DecisionErased => "decision_erased",
    PolicyNotAgreed => "policy_not_agreed",
});

/// The reason why events are held and not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HoldReason {
    /// Another device changed the account data, and the homeserver is being asked for the
    /// current content.
    Rechecking,
    /// The account holds an opt-in but no usable ID.
    MissingId,
    /// A call of [`Analytics::opt_in`](crate::Analytics::opt_in) is in progress.
    OptingIn,
    /// A new ID was written, and another device may be writing its own: after a settle time
    /// the homeserver is asked which one holds.
    Settling,
    /// The session is soft-logged-out and may come back.
    SoftLogout,
    /// This device remembers an opt-in that the homeserver has not confirmed: not since the
    /// process began, or not since it last refused to answer for this user, as it does while
    /// the account is locked.
    Unverified,
}

named!(HoldReason {
    Rechecking => "rechecking",
    MissingId => "missing_id",
    OptingIn => "opting_in",
    Settling => "settling",
    SoftLogout => "soft_logout",
    Unverified => "unverified",
});

/// Whether to ask the user for consent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Prompt {
    /// Ask: the homeserver confirmed that the user has not decided, or has not agreed to the
    /// configured policy ([`ClosedReason::PolicyNotAgreed`]).
    Ask,
    /// Do not ask: the user has decided, or must not be asked on this device. An opt-in that
    /// another client removed from the account ([`ClosedReason::DecisionErased`]) counts as a
    /// decision.
    DontAsk,
    /// Do not ask: the account is a guest's, or the session is over.
    Unavailable,
    /// Do not ask yet: the homeserver has not answered, and the user may have decided long
    /// ago.
    Wait,
}

named!(Prompt {
    Ask => "ask",
    DontAsk => "dont_ask",
    Unavailable => "unavailable",
    Wait => "wait",
});

/// The state of consent.
///
/// A settings page shows [`switch`](Self::switch) and [`note`](Self::note); see
/// `docs/settings.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub struct ConsentState {
    /// The user's decision.
    pub decision: Consent,
    /// Whether the homeserver has confirmed the decision since the process began, and since
    /// the last change that it announced.
    pub confirmed: bool,
    /// The treatment of events, and the reason for it.
    pub gate: GateState,
    /// Whether a withdrawal still has to clean the account's event. The clean-up is retried
    /// until it succeeds, even after a restart.
    pub removal_pending: bool,
    /// Whether a recipient still has to be asked to delete the data of a withdrawal with
    /// [`erase_recipients`](crate::OptOut::erase_recipients), or has not accepted yet.
    /// [`Stats::erasures`](crate::Stats::erasures) says how many.
    pub erasures_pending: bool,
}

impl ConsentState {
    /// Returns whether to ask the user for consent now.
    ///
    /// If the user dismisses the question, the app has to remember that itself.
    #[must_use]
    pub fn prompt(&self) -> Prompt {
        match self.gate {
            GateState::Closed(ClosedReason::SessionEnded | ClosedReason::Unavailable) => {
                Prompt::Unavailable
            }
            GateState::Closed(ClosedReason::Undecided | ClosedReason::PolicyNotAgreed) => {
                Prompt::Ask
            }
            GateState::Closed(ClosedReason::Unknown) => Prompt::Wait,
            GateState::Closed(_) | GateState::Holding(_) | GateState::Open => Prompt::DontAsk,
        }
    }

    /// Returns whether the opt-in is confirmed and events are sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.gate == GateState::Open
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fmt::{Debug, Display},
    };

    use super::*;
    use crate::{
        consent::switch::{Note, Switch},
        history::sent_event::SentOutcome,
        sink::stats::DropReason,
    };

    /// Sees that the name of each variant is the variant's own, in snake case.
    fn check<T: Debug + Display + Serialize>(variants: &[T]) {
        let mut names = BTreeSet::new();
        for variant in variants {
            let name = variant.to_string();
            assert!(!name.starts_with('_') && !name.ends_with('_'), "{name}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            assert_eq!(name.replace('_', ""), format!("{variant:?}").to_lowercase());
            assert_eq!(serde_json::to_value(variant).unwrap(), name);
            assert!(names.insert(name));
        }
    }

    #[test]
    fn every_variant_has_its_own_name_in_snake_case() {
        check(Consent::ALL);
        check(ClosedReason::ALL);
        check(HoldReason::ALL);
        check(Prompt::ALL);
        check(Switch::ALL);
        check(Note::ALL);
        check(DropReason::ALL);
        check(SentOutcome::ALL);
        #[cfg(feature = "health")]
        check(crate::health::state::HealthState::ALL);
    }
}
