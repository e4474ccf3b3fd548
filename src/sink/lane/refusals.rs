//! How fast a backend may refuse.

use std::time::Duration;

use tokio::time::Instant;

use super::retry;

/// How many refusals cost no time. To find one bad event of a hundred takes eight at
/// most.
const FREE: u32 = 10;
/// How long it takes until one more is free, whatever was delivered meanwhile.
const INTERVAL: Duration = Duration::from_secs(6);

/// Paces refusals: a batch that was halved, an event that was dropped.
///
/// They are paced by time alone, as by a bucket of [`FREE`] tokens, because a backend
/// that refuses every second event has a success after each. If it refuses everything,
/// the pauses also grow.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    streak: u32,
    /// When all are free again.
    all_free_at: Option<Instant>,
}

impl Refusals {
    /// Counts a refusal, and returns how long to leave the backend alone. `jitter` is
    /// at least 0 and below 1.
    pub(super) fn add(&mut self, now: Instant, jitter: f64) -> Option<Duration> {
        self.streak = self.streak.saturating_add(1);
        let all_free_at = self.all_free_at.map_or(now, |time| time.max(now)) + INTERVAL;
        self.all_free_at = Some(all_free_at);
        let owed = (all_free_at - now).saturating_sub(INTERVAL * FREE);
        let row = self.streak.checked_sub(FREE).filter(|more| *more > 0);
        let pause = owed.max(row.map_or(Duration::ZERO, |more| retry::backoff(more, jitter)));
        (!pause.is_zero()).then_some(pause)
    }

    /// Notes that the backend has taken a batch.
    pub(super) fn end_streak(&mut self) {
        self.streak = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_refusals_are_free_and_the_rest_are_paced_whatever_succeeds_between_them() {
        let (mut refusals, mut now) = (Refusals::default(), Instant::now());
        for _ in 0..FREE {
            assert_eq!(refusals.add(now, 0.5), None);
            refusals.end_streak();
        }
        for _ in 0..100 {
            assert_eq!(refusals.add(now, 0.5), Some(INTERVAL));
            refusals.end_streak();
            now += INTERVAL;
        }
        now += INTERVAL * 3;
        assert_eq!([0; 4].map(|_| refusals.add(now, 0.5)), [None, None, None, Some(INTERVAL)]);
    }

    #[test]
    fn a_backend_that_refuses_everything_is_left_alone_for_longer_and_longer() {
        let (mut refusals, mut now) = (Refusals::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..40 {
            let pause = refusals.add(now, 0.5).unwrap_or_default();
            now += pause;
            pauses.push(pause.as_secs());
        }
        assert_eq!(pauses[..10], [0; 10]);
        assert_eq!(pauses[10..16], [6, 6, 6, 6, 12, 24]);
        assert_eq!(pauses[39], 225);
    }
}
