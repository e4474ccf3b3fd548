//! What the user said, whether that is proven, and what the sink therefore does.

use serde::{Deserialize, Serialize};

/// What the user said about analytics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Consent {
    /// No.
    Denied,
    /// Yes.
    Granted,
    /// Nothing yet.
    #[default]
    Undecided,
}

/// What the sink does with events, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GateState {
    /// Events are neither taken nor sent.
    Closed(ClosedReason),
    /// Events are taken into bounded memory, and none is sent.
    Holding(HoldReason),
    /// Events are taken and sent.
    Open,
}

/// Why the gate is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClosedReason {
    /// The user said no, here or on another device.
    Denied,
    /// The user said no on this device.
    DeviceVeto,
    /// `DO_NOT_TRACK` is set, or the builder was told to act as if it were.
    DoNotTrack,
    /// The session is over: the app ended it, or the homeserver no longer accepts its
    /// token. Unless the app ended it, evidence that the session works after all leads to
    /// a new question to the homeserver, and the answer decides.
    SessionEnded,
    /// The account cannot hold a decision: it is a guest's.
    Unavailable,
    /// The homeserver has not answered yet, and this device remembers nothing.
    Unknown,
    /// The user has not decided.
    Undecided,
    /// This device remembers an opt-in, but the homeserver no longer holds a decision:
    /// another client erased or overwrote it.
    DecisionErased,
}

/// Why events wait, and are not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HoldReason {
    /// Another device changed the account data, and the homeserver is being
    /// asked what holds now.
    Rechecking,
    /// The account says yes and holds no usable ID yet.
    MissingId,
    /// A call of [`Analytics::opt_in`](crate::Analytics::opt_in) is in progress.
    OptingIn,
    /// A new ID was written, and another device may be writing its own: after a
    /// settle time the homeserver says which one holds.
    Settling,
    /// The session is soft-logged-out and may come back.
    SoftLogout,
    /// This device remembers an opt-in, and the homeserver has not confirmed it yet, or not
    /// since it last refused to say anything of this user, as it does for a locked one.
    Unverified,
}

/// Whether to ask the user for consent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Prompt {
    /// The homeserver says that the user has not decided: ask.
    Ask,
    /// The user has decided, or must not be asked on this device. An opt-in that
    /// another client removed from the account ([`ClosedReason::DecisionErased`]) is a decision too.
    DontAsk,
    /// There is no account that could hold a decision: a guest, or no session.
    Unavailable,
    /// The homeserver has not answered yet: asking now might ask a user who has
    /// decided long ago.
    Wait,
}

/// All there is to know about consent, as one value.
///
/// A settings page needs nothing else: see `docs/settings.md` for what to show when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ConsentState {
    /// What the user said.
    pub decision: Consent,
    /// Whether the homeserver has confirmed it since the process began, and since the last
    /// change that it announced.
    pub confirmed: bool,
    /// What the sink does, and why.
    pub gate: GateState,
    /// Whether a withdrawal has still to clean the account's event. It is tried
    /// again until it succeeds, after a restart too.
    pub removal_pending: bool,
}

impl ConsentState {
    /// Whether to ask the user for consent now.
    ///
    /// That a user dismissed the question is the app's to remember.
    #[must_use]
    pub fn prompt(&self) -> Prompt {
        match self.gate {
            GateState::Closed(ClosedReason::SessionEnded | ClosedReason::Unavailable) => {
                Prompt::Unavailable
            }
            GateState::Closed(ClosedReason::Undecided) => Prompt::Ask,
            GateState::Closed(ClosedReason::Unknown) => Prompt::Wait,
            GateState::Closed(_) | GateState::Holding(_) | GateState::Open => Prompt::DontAsk,
        }
    }

    /// Whether consent is given and proven, so that events are sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.gate == GateState::Open
    }
}
