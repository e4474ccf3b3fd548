//! Back-off of operations and saves, and the timer of regular re-checks.

use std::time::Duration;

use tokio::time::Instant;

/// The longest wait after the first failure. Jitter takes off up to half.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// The factor from each wait to the next.
const GROWTH: u32 = 3;
/// The longest wait that is chosen here. Jitter takes off up to half.
const LONGEST_WAIT: Duration = Duration::from_secs(30 * 60);
/// The longest wait that a homeserver can ask for.
const LONGEST_REQUESTED_WAIT: Duration = Duration::from_secs(3600);
/// The shortest time between two nudges that shorten a wait.
const NUDGE_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// The consecutive failures of an operation, and the time of its next try.
///
/// An operation has up to three requests. With the waits above and all nudges there are
/// at most 13 tries in any hour, so at most 39 requests.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(super) struct Backoff {
    failures: u32,
    retry_at: Option<Instant>,
    /// The end of the wait that the homeserver asked for. Only a call of the app ends it
    /// earlier.
    requested: Option<Instant>,
    /// The earliest time of the next nudge.
    next_nudge: Option<Instant>,
}

impl Backoff {
    /// Notes a failure. `jitter` is at least 0 and below 1.
    pub(super) fn failed(&mut self, now: Instant, jitter: f64) {
        self.retry_at = Some(now + wait_after(self.failures, jitter));
        self.failures = self.failures.saturating_add(1);
    }

    /// Notes that the homeserver asked to wait for `wait`.
    pub(super) fn requested(&mut self, now: Instant, wait: Duration) {
        self.requested = self.requested.max(Some(now + wait.min(LONGEST_REQUESTED_WAIT)));
    }

    /// Notes that the whole operation succeeded.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Shortens the wait, because something shows that the network works.
    pub(super) fn nudge(&mut self, now: Instant) {
        let nudged_at = self.next_nudge.unwrap_or(now).max(now);
        if self.retry_at > Some(nudged_at) {
            self.retry_at = Some(nudged_at);
            self.next_nudge = Some(nudged_at + NUDGE_INTERVAL);
        }
    }

    /// Ends the wait, because the app made a call.
    pub(super) fn end_wait(&mut self) {
        self.retry_at = None;
        self.requested = None;
    }

    /// Returns the end of the wait, if it is later than `now`.
    pub(super) fn waits_until(&self, now: Instant) -> Option<Instant> {
        self.retry_at.max(self.requested).filter(|until| *until > now)
    }
}

/// Returns the wait after a failure that follows `failures` others. `jitter` is at least 0
/// and below 1.
fn wait_after(failures: u32, jitter: f64) -> Duration {
    let full = FIRST_WAIT.saturating_mul(GROWTH.saturating_pow(failures)).min(LONGEST_WAIT);
    full.mul_f64(0.5 + jitter / 2.0)
}

/// The timer of the regular GET. An answer, or account data in sync, restarts it.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(super) struct RecheckTimer {
    interval: Duration,
    pub(super) due: Option<Instant>,
}

impl RecheckTimer {
    /// Creates a timer of 6 to 12 hours, so that the clients of one server spread out.
    /// `jitter` is at least 0 and below 1.
    pub(super) fn new(jitter: f64) -> Self {
        const LONGEST: Duration = Duration::from_secs(12 * 3600);

        Self { interval: LONGEST.mul_f64(0.5 + jitter / 2.0), due: None }
    }

    /// Restarts the interval at `now`.
    pub(super) fn restart(&mut self, now: Instant) {
        self.due = Some(now + self.interval);
    }
}

/// Methods for the model check, in which waits end only on demand.
#[cfg(test)]
impl Backoff {
    pub(super) fn is_waiting_to_retry(&self) -> bool {
        self.retry_at.is_some()
    }

    pub(super) fn is_asked_to_wait(&self) -> bool {
        self.requested.is_some()
    }

    pub(super) fn end_retry_wait(&mut self) {
        self.retry_at = None;
    }

    pub(super) fn end_requested_wait(&mut self) {
        self.requested = None;
    }

    /// Makes waits equal that differ only in their length.
    pub(super) fn normalise(&mut self, now: Instant) {
        let at = |time: Option<Instant>, seconds| {
            time.filter(|time| *time > now).map(|_| now + Duration::from_secs(seconds))
        };
        self.failures = 0;
        self.retry_at = at(self.retry_at, 1);
        self.next_nudge = at(self.next_nudge, 2);
        self.requested = at(self.requested, 3);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts the tries in the hour from `start` on if each one fails. With `nudges`, the
    /// network seems to work all the time.
    fn tries(backoff: &mut Backoff, start: Instant, nudges: bool) -> usize {
        let mut tries = 0;
        for second in 0..3600 {
            let now = start + Duration::from_secs(second);
            loop {
                if nudges {
                    backoff.nudge(now);
                }
                if backoff.waits_until(now).is_some() {
                    break;
                }
                backoff.failed(now, 0.0);
                tries += 1;
            }
        }
        tries
    }

    #[tokio::test]
    async fn an_operation_of_three_requests_makes_at_most_forty_in_an_hour_and_fewer_later() {
        for nudges in [false, true] {
            let (mut backoff, start) = (Backoff::default(), Instant::now());
            let first = tries(&mut backoff, start, nudges);
            let second = tries(&mut backoff, start + Duration::from_secs(3600), nudges);
            assert!(3 * first <= 40, "{first} tries");
            assert!(second < first, "{second} tries after {first}");
        }
    }

    #[tokio::test]
    async fn a_nudge_does_not_shorten_a_wait_that_the_homeserver_asked_for() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        backoff.failed(now, 0.0);
        backoff.requested(now, Duration::from_secs(300));
        backoff.nudge(now);
        assert_eq!(backoff.waits_until(now), Some(now + Duration::from_secs(300)));
    }

    #[tokio::test]
    async fn a_homeserver_can_ask_for_an_hour_and_no_more() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        backoff.requested(now, Duration::MAX);
        assert_eq!(backoff.waits_until(now), Some(now + LONGEST_REQUESTED_WAIT));
    }
}
