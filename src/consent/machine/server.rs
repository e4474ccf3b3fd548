//! Knowledge about the event on the homeserver.

use crate::{analytics_id::AnalyticsId, consent::content::Observed};

/// The knowledge of this process about the event on the homeserver.
#[derive(Clone, Debug, Default)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(super) struct Server {
    pub(super) answer: LastAnswer,
    pub(super) generation: Generation,
    /// The content last known to be on the homeserver.
    pub(super) on_server: Option<Observed>,
    /// The content, other than a `false`, that sync has shown since the last GET.
    pub(super) sync_hint: Option<Observed>,
    /// The content after the write in flight is applied.
    pub(super) write_in_flight: Option<Observed>,
    /// The ID that an opt-out removes or has removed, until a receipt reports it.
    pub(super) removed_id: Option<AnalyticsId>,
}

/// The last answer that counts as proof.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) enum LastAnswer {
    /// There was none in this process, or a later event has made it worthless.
    #[default]
    None,
    /// The account may have changed since it held an opt-in or no decision.
    Stale,
    NoDecision,
    Denied,
    NoId,
    /// An opt-in with an ID that events may be sent under.
    Granted(AnalyticsId),
}

/// Generation counters. A response proves nothing if either has advanced since its
/// request was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Generation {
    /// Local calls and signs of withdrawal.
    pub(super) closing: u64,
    /// Signs in sync of any other change.
    pub(super) change: u64,
}
