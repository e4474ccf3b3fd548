//! Every limit of the sink, with its reason.

use std::time::Duration;

/// Which event goes when the queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OverflowPolicy {
    /// The new event is dropped.
    DropNewest,
    /// The oldest event is dropped: what happened last explains most.
    #[default]
    DropOldest,
}

/// What the sink may hold, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Events between `capture` and the queue. A burst of this size is taken
    /// whole; at about 300 bytes each it is 3 MB.
    pub(crate) intake_events: usize,
    /// Bytes between `capture` and the queue, for events that are far larger.
    pub(crate) intake_bytes: usize,
    /// Events of one request: PostHog's own SDKs send from 20 to 100.
    pub(crate) batch_events: usize,
    /// Bytes of one request, far below the 20 MB that PostHog takes.
    pub(crate) batch_bytes: usize,
    /// How long a captured event may wait for company, in memory. What the
    /// process captured in this time is lost if it is killed.
    pub(crate) batch_age: Duration,
    /// Events waiting for each backend.
    pub(crate) queue_events: usize,
    /// Bytes waiting for each backend.
    pub(crate) queue_bytes: usize,
    /// Events older than this are dropped: a day without a network is common, a
    /// week in memory is not.
    pub(crate) queue_age: Duration,
    /// What is dropped when the queue is full.
    pub(crate) overflow: OverflowPolicy,
    /// The longest time a backend may take for one batch.
    pub(crate) send_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            intake_events: 10_000,
            intake_bytes: 8 * 1024 * 1024,
            batch_events: 100,
            batch_bytes: 1024 * 1024,
            batch_age: Duration::from_secs(10),
            queue_events: 10_000,
            queue_bytes: 8 * 1024 * 1024,
            queue_age: Duration::from_secs(24 * 3600),
            overflow: OverflowPolicy::DropOldest,
            send_time: Duration::from_secs(30),
        }
    }
}
