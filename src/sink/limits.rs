//! Every limit of the sink, with its reason.

use std::time::Duration;

/// The longest time that an erasure request is tried.
const LONGEST_ERASURE_AGE: Duration = Duration::from_secs(365 * 24 * 3600);

/// Which event is dropped when the queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OverflowPolicy {
    /// The new event is dropped.
    DropNewest,
    /// The oldest event is dropped: the latest events explain most.
    #[default]
    DropOldest,
}

/// How much the sink holds, for how long, and how much it sends at once.
///
/// An event counts in bytes with its name, with its properties and the super properties as
/// JSON, as they were captured, and with 160 bytes for what surrounds them.
///
/// ```
/// use std::time::Duration;
///
/// use matrix_analytics::Limits;
///
/// let limits = Limits::default().queue_max_events(1000).batch_max_age(Duration::from_secs(60));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Limits {
    // PostHog's own SDKs send from 20 to 100 events.
    pub(crate) batch_events: usize,
    // Far below the 20 MB that PostHog accepts.
    pub(crate) batch_bytes: usize,
    // A kill of the process loses the events of this time.
    pub(crate) batch_age: Duration,
    // Holds a whole burst; 3 MB at about 300 bytes per event.
    pub(crate) queue_events: usize,
    // The limit that counts for larger events.
    pub(crate) queue_bytes: usize,
    // Covers a day without a network.
    pub(crate) queue_age: Duration,
    pub(crate) overflow: OverflowPolicy,
    pub(crate) send_time: Duration,
    // A month, in which a controller has to answer a request (GDPR, article 12(3)).
    pub(crate) erasure_age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_events: 100,
            batch_bytes: 1024 * 1024,
            batch_age: Duration::from_secs(10),
            queue_events: 10_000,
            queue_bytes: 8 * 1024 * 1024,
            queue_age: Duration::from_secs(24 * 3600),
            overflow: OverflowPolicy::DropOldest,
            send_time: Duration::from_secs(30),
            erasure_age: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

impl Limits {
    /// Sets how many events one request carries at most; 100 if not set, at least 1.
    pub fn batch_max_events(mut self, events: usize) -> Self {
        self.batch_events = events.max(1);
        self
    }

    /// Sets how many bytes of events one request carries at most; 1 MiB if not set. An event
    /// that is larger has a request of its own.
    pub fn batch_max_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// Sets how long a captured event waits for others to be sent with; 10 s if not set. It is
    /// sent earlier if a full batch is ready, or if the waiting events fill half of
    /// [`queue_max_bytes`](Self::queue_max_bytes).
    ///
    /// Until then the event is in memory only, and is lost if the process is killed.
    pub fn batch_max_age(mut self, age: Duration) -> Self {
        self.batch_age = age;
        self
    }

    /// Sets how many events wait for each backend; 10,000 if not set, at least 1.
    ///
    /// As many again can be on their way from `capture` to the queue. If there is no room for
    /// an event there, that event is dropped, whatever the
    /// [`overflow_policy`](Self::overflow_policy).
    pub fn queue_max_events(mut self, events: usize) -> Self {
        self.queue_events = events.max(1);
        self
    }

    /// Sets how many bytes of events wait for each backend; 8 MiB if not set. As many again
    /// can be on their way from `capture` to the queue.
    ///
    /// An event that is larger than all of this is dropped, counted as
    /// [`TooLarge`](crate::DropReason::TooLarge), and displaces no other event.
    pub fn queue_max_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// Sets how long an event waits for a backend before it is dropped; a day if not set.
    pub fn queue_max_age(mut self, age: Duration) -> Self {
        self.queue_age = age;
        self
    }

    /// Sets which event is dropped when the queue is full; the oldest if not set.
    pub fn overflow_policy(mut self, policy: OverflowPolicy) -> Self {
        self.overflow = policy;
        self
    }

    /// Sets how long a backend may take for one batch, and an erasure for one request; 30 s if
    /// not set.
    pub fn send_timeout(mut self, time: Duration) -> Self {
        self.send_time = time;
        self
    }

    /// Sets how long an erasure request is tried, from the withdrawal on, before it counts as
    /// failed; 30 days if not set, at most a year. A request whose time is over when the app
    /// starts is tried once more.
    pub fn erasure_max_age(mut self, age: Duration) -> Self {
        self.erasure_age = age.min(LONGEST_ERASURE_AGE);
        self
    }
}
