//! The counters of promise P9: where every captured event is, or why it is gone.

use std::{collections::BTreeMap, fmt};

use crate::{event::InvalidEvent, guard::IdentifierKind};

/// Why an event left the pipeline without being delivered.
///
/// Every way out has exactly one reason, counted at the place where the event
/// leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// Captured after [`Analytics::shutdown`](crate::Analytics::shutdown), or
    /// after the background task ended.
    AfterShutdown,
    /// The backend panicked over the event, each time that it was sent and at last
    /// when it was alone.
    BackendPanicked,
    /// In a request that was cut because the user withdrew: whether it arrived
    /// is unknown.
    CutAtWithdrawal,
    /// Older than the queue's maximum age before a backend took it.
    Expired,
    /// Something personal was found in the event (see
    /// [`GuardPolicy::DropEvent`](crate::GuardPolicy::DropEvent)), or a
    /// [`Detector`](crate::Detector) panicked over it.
    Guarded,
    /// The buffer in memory that `capture` fills was full.
    IntakeFull,
    /// A name, key or value that no event may have (see
    /// [`InvalidEvent`](crate::InvalidEvent)).
    Invalid,
    /// Held for a proof of consent that did not come.
    NotConfirmed,
    /// Older than the queue's maximum age, while the backend refused this app's
    /// credentials or was not set up to take events
    /// ([`Unauthorized`](crate::DeliveryError::Unauthorized),
    /// [`Misconfigured`](crate::DeliveryError::Misconfigured)).
    Unauthorized,
    /// The queue was full.
    QueueFull,
    /// The backend refused the event itself, when it was alone.
    Rejected,
    /// Still undelivered, and in memory only, when
    /// [`Analytics::shutdown`](crate::Analytics::shutdown) ran out of time, or when
    /// the last handle was dropped.
    Shutdown,
    /// Larger than one event may be, here or at the backend; or than all that
    /// [`queue_max_bytes`](crate::AnalyticsBuilder::queue_max_bytes) allows.
    TooLarge,
    /// Taken back because the user withdrew, the ID changed or the session
    /// ended.
    Withdrawn,
}

impl DropReason {
    /// A short name, such as `queue_full`, for logs and metrics. It stays the same from
    /// one version to the next.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AfterShutdown => "after_shutdown",
            Self::BackendPanicked => "backend_panicked",
            Self::CutAtWithdrawal => "cut_at_withdrawal",
            Self::Expired => "expired",
            Self::Guarded => "guarded",
            Self::IntakeFull => "intake_full",
            Self::Invalid => "invalid",
            Self::NotConfirmed => "not_confirmed",
            Self::Unauthorized => "unauthorized",
            Self::QueueFull => "queue_full",
            Self::Rejected => "rejected",
            Self::Shutdown => "shutdown",
            Self::TooLarge => "too_large",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// As [`DropReason::as_str`].
impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<InvalidEvent> for DropReason {
    fn from(invalid: InvalidEvent) -> Self {
        match invalid {
            InvalidEvent::TooLarge => Self::TooLarge,
            _ => Self::Invalid,
        }
    }
}

/// What happened to every event since this process began, for each backend.
///
/// For each backend `captured + restored = delivered + queued + in_flight + kept +`
/// the sum of `dropped`, at every instant. A call of `capture` at a gate that
/// is closed for consent takes nothing, so it is not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// One entry a backend, in the order in which they were added.
    pub backends: Vec<BackendStats>,
    /// How the durable queue fares; all zero without one.
    pub queue: QueueStats,
    /// How much of each kind the guard has kept back. One event may have had
    /// several.
    pub guarded: BTreeMap<IdentifierKind, u64>,
}

/// What a durable queue met since this process began, beside the events that
/// [`BackendStats`] counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// Events that could not be written down when they left the intake, or whose
    /// file broke afterwards: they waited, or still wait, in memory only.
    pub not_durable: u64,
    /// Rows that were deleted unsent because they are of another user or event
    /// type, or damaged.
    pub discarded: u64,
    /// Files that could not be read, and were deleted or set aside for a new one.
    pub unreadable_files: u64,
}

/// What happened to every event on its way to one backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// Events waiting, in the intake or in the queue.
    pub queued: u64,
    /// Events in a request whose answer is outstanding.
    pub in_flight: u64,
    /// Events in the durable queue that were left to the next process, after the
    /// end of delivery.
    pub kept: u64,
    /// Events that left undelivered, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
}

impl BackendStats {
    /// The number of events that left undelivered, for any reason.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Whether the sum of promise P9 holds.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.captured + self.restored
            == self.delivered + self.queued + self.in_flight + self.kept + self.dropped_total()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const REASONS: [DropReason; 14] = [
        DropReason::AfterShutdown,
        DropReason::BackendPanicked,
        DropReason::CutAtWithdrawal,
        DropReason::Expired,
        DropReason::Guarded,
        DropReason::IntakeFull,
        DropReason::Invalid,
        DropReason::NotConfirmed,
        DropReason::Unauthorized,
        DropReason::QueueFull,
        DropReason::Rejected,
        DropReason::Shutdown,
        DropReason::TooLarge,
        DropReason::Withdrawn,
    ];

    #[test]
    fn every_reason_has_a_name_of_its_own_in_snake_case() {
        assert_eq!(REASONS.map(|reason| reason as usize), std::array::from_fn(|number| number));
        for reason in REASONS {
            let name = reason.as_str();
            assert!(!name.starts_with('_') && !name.ends_with('_'), "{name}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            assert_eq!(name.replace('_', ""), format!("{reason:?}").to_lowercase());
            assert_eq!(reason.to_string(), name);
        }
        assert_eq!(REASONS.map(DropReason::as_str).iter().collect::<BTreeSet<_>>().len(), 14);
    }
}
