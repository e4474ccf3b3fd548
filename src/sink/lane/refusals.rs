//! Limits the rate of requests that a backend refuses.

use std::time::Duration;

use tokio::time::Instant;

use super::retry;

/// The number of refusals that cause no pause. Finding one bad event among a hundred takes
/// at most eight.
const FREE: u32 = 10;
/// The time after which one more refusal is free.
const INTERVAL: Duration = Duration::from_secs(6);

/// The rate limit of refusals, each of which halves a batch or drops an event.
///
/// This is a token bucket of [`FREE`] tokens. Successes do not refill it, because a backend
/// that refuses every second event succeeds after each refusal. If a backend refuses
/// everything, the pauses also grow.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    streak: u32,
    /// The time at which all [`FREE`] refusals are free again.
    all_free_at: Option<Instant>,
}

impl Refusals {
    /// Counts a refusal, and returns the pause that must follow it, if any. `jitter` is at
    /// least 0 and below 1.
    pub(super) fn add(&mut self, now: Instant, jitter: f64) -> Option<Duration> {
        self.streak = self.streak.saturating_add(1);
        let all_free_at = self.all_free_at.map_or(now, |time| time.max(now)) + INTERVAL;
        self.all_free_at = Some(all_free_at);
        let owed = (all_free_at - now).saturating_sub(INTERVAL * FREE);
        let row = self.streak.checked_sub(FREE).filter(|more| *more > 0);
        let pause = owed.max(row.map_or(Duration::ZERO, |more| retry::backoff(more, jitter)));
        (!pause.is_zero()).then_some(pause)
    }

    /// Notes that the backend has accepted a batch.
    pub(super) fn end_streak(&mut self) {
        self.streak = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_refusals_are_free_and_further_ones_are_paced_even_between_successes() {
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
    fn the_pauses_of_a_backend_that_refuses_everything_grow() {
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
