//! What the homeserver was last seen to hold.

use crate::{analytics_id::AnalyticsId, consent::content::Observed};

/// What is known of the event on the homeserver.
#[derive(Clone, Debug, Default)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(super) struct Server {
    pub(super) answer: LastAnswer,
    pub(super) generation: Generation,
    /// What it was last known to hold.
    pub(super) on_server: Option<Observed>,
    /// What sync last showed that differed from that.
    pub(super) sync_hint: Option<Observed>,
    /// What it will hold once the write in flight is applied.
    pub(super) write_in_flight: Option<Observed>,
    /// The ID that the account loses, or lost, by an opt-out, until a receipt has told.
    pub(super) removed_id: Option<AnalyticsId>,
}

/// What the last answer said that counts as proof.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) enum LastAnswer {
    /// There was none in this process, or what followed has made it worthless.
    #[default]
    None,
    /// Something has changed since.
    Stale,
    NoDecision,
    Denied,
    NoId,
    /// Granted under an ID that may be sent under.
    Granted(AnalyticsId),
}

/// Generation counters. A response proves nothing if either has advanced since its
/// request was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Generation {
    /// Local calls and signs of withdrawal.
    pub(super) closing: u64,
    /// Any sign of change that sync showed.
    pub(super) change: u64,
}
