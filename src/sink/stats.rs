//! The counters of promise P9: where every captured event is, or why it was dropped.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::{event::InvalidEvent, guard::IdentifierKind, named::named};

/// The reason why an event was dropped.
///
/// Each dropped event has exactly one reason, counted where the event leaves the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// Captured after [`Analytics::shutdown`](crate::Analytics::shutdown), or
    /// after the background task ended.
    AfterShutdown,
    /// The backend panicked each time that the event was sent, at last when it was alone.
    BackendPanicked,
    /// In a request that was cut because the user withdrew. Whether it arrived is unknown.
    CutAtWithdrawal,
    /// Older than the queue's maximum age before a backend took it.
    Expired,
    /// Something personal was found in the event (see
    /// [`GuardPolicy::DropEvent`](crate::GuardPolicy::DropEvent)), a
    /// [`Detector`](crate::Detector) panicked over it, or the
    /// [`TextPolicy`](crate::TextPolicy) refuses its name.
    Guarded,
    /// A name, key or value that no event may have (see
    /// [`InvalidEvent`](crate::InvalidEvent)).
    Invalid,
    /// Held for a confirmation of the opt-in that did not come.
    NotConfirmed,
    /// Refused by the backend because a quota is used up, such as that of the app's plan.
    OverQuota,
    /// Older than the queue's maximum age, while the backend refused this app's
    /// credentials or was not set up to take events
    /// ([`Unauthorized`](crate::DeliveryError::Unauthorized),
    /// [`Misconfigured`](crate::DeliveryError::Misconfigured)).
    Unauthorized,
    /// The queue was full, or the buffer in memory between `capture` and the queue.
    QueueFull,
    /// The backend refused the event itself, when it was alone, or accepted a batch without it,
    /// or refused its batch for good.
    Rejected,
    /// Still undelivered, and in memory only, when
    /// [`Analytics::shutdown`](crate::Analytics::shutdown) ran out of time, or when
    /// the last handle was dropped.
    Shutdown,
    /// Larger than one event can be, here or at the backend, or larger than
    /// [`queue_max_bytes`](crate::Limits::queue_max_bytes).
    TooLarge,
    /// Deleted because the user withdrew, the ID changed or the session ended.
    Withdrawn,
}

named!(DropReason {
    AfterShutdown => "after_shutdown",
    BackendPanicked => "backend_panicked",
    CutAtWithdrawal => "cut_at_withdrawal",
    Expired => "expired",
    Guarded => "guarded",
    Invalid => "invalid",
    NotConfirmed => "not_confirmed",
    OverQuota => "over_quota",
    Unauthorized => "unauthorized",
    QueueFull => "queue_full",
    Rejected => "rejected",
    Shutdown => "shutdown",
    TooLarge => "too_large",
    Withdrawn => "withdrawn",
});

impl From<InvalidEvent> for DropReason {
    fn from(invalid: InvalidEvent) -> Self {
        match invalid {
            InvalidEvent::TooLarge => Self::TooLarge,
            _ => Self::Invalid,
        }
    }
}

/// The counters of every event since the process began, for each backend.
///
/// For each backend `captured + restored = delivered + queued + in_flight + kept +`
/// the sum of `dropped`, at every instant. A call of `capture` at a gate that is closed for
/// consent takes nothing and is not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// One entry per backend, in the order in which they were added.
    pub backends: Vec<BackendStats>,
    /// The counters of the durable queue; all zero without one.
    pub queue: QueueStats,
    /// The number of findings of the guard, by kind. One event may have several.
    ///
    /// Serializes by name: a detector with the name of a built-in kind is counted with it.
    #[serde(serialize_with = "by_name")]
    pub guarded: BTreeMap<IdentifierKind, u64>,
    /// The number of properties and of names of events that the
    /// [`TextPolicy`](crate::TextPolicy) refused.
    pub refused_texts: u64,
}

fn by_name<S: Serializer>(
    guarded: &BTreeMap<IdentifierKind, u64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut found = BTreeMap::<_, u64>::new();
    for (kind, number) in guarded {
        *found.entry(kind.as_str()).or_default() += number;
    }
    found.serialize(serializer)
}

/// The counters of a durable queue since the process began, in addition to those of
/// [`BackendStats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct QueueStats {
    /// Events that could not be written to the file, or whose file broke afterwards. They waited,
    /// or still wait, in memory only.
    pub not_durable: u64,
    /// Rows that were deleted because they belong to another user or event type, or are damaged.
    pub discarded: u64,
    /// Files that could not be read, and were deleted or set aside for a new one.
    pub unreadable_files: u64,
    /// Failed attempts to write the history (`SqliteQueue::keep_history`) to the file. The
    /// entries are in memory, and the next change of the history tries again.
    pub history_failures: u64,
}

/// The counters of the events on their way to one backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BackendStats {
    /// The backend's [`name`](crate::Backend::name).
    pub name: &'static str,
    /// Events taken by `capture` in this process.
    pub captured: u64,
    /// Events found in a durable queue when this process began.
    pub restored: u64,
    /// Events that the backend has accepted.
    pub delivered: u64,
    /// Events that wait, in the queue or in the buffer before it.
    pub queued: u64,
    /// Events in a request whose answer is outstanding.
    pub in_flight: u64,
    /// Events in the durable queue that were left to the next process when delivery ended.
    pub kept: u64,
    /// Events that were dropped, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
}

impl BackendStats {
    /// Returns the number of events that were dropped, for any reason.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Returns whether the sum of promise P9 holds.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.captured + self.restored
            == self.delivered + self.queued + self.in_flight + self.kept + self.dropped_total()
    }
}
