//! The wait between two tries of an erasure.

use std::time::Duration;

/// The longest wait after the first failure. Jitter takes off up to half, here and below.
const FIRST_WAIT: Duration = Duration::from_secs(60);
/// The factor from each wait to the next.
const GROWTH: u32 = 3;
/// The longest wait that is chosen here.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(12 * 3600);
/// The longest wait that a recipient can ask for.
pub(super) const LONGEST_REQUESTED_WAIT: Duration = Duration::from_secs(24 * 3600);

/// Returns the wait after `failures` failed tries, of which there is at least one, if the
/// recipient asked for `requested`. `jitter` is at least 0 and below 1.
pub(super) fn wait_after(failures: u32, requested: Option<Duration>, jitter: f64) -> Duration {
    let growth = GROWTH.saturating_pow(failures.saturating_sub(1));
    let full = FIRST_WAIT.saturating_mul(growth).min(LONGEST_WAIT);
    let chosen = full.mul_f64(0.5 + jitter / 2.0);
    chosen.max(requested.unwrap_or_default().min(LONGEST_REQUESTED_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_half_a_day_and_a_requested_wait_is_obeyed_for_a_day() {
        let longest: Vec<_> =
            (1..9).map(|failures| wait_after(failures, None, 1.0).as_secs()).collect();
        assert_eq!(longest, [60, 180, 540, 1620, 4860, 14_580, 43_200, 43_200]);
        assert_eq!(wait_after(1, None, 0.0).as_secs(), 30);
        assert_eq!(wait_after(u32::MAX, None, 1.0), LONGEST_WAIT);
        for (requested, waited) in [(7, 60), (3600, 3600), (1_000_000, 86_400)] {
            let requested = Some(Duration::from_secs(requested));
            assert_eq!(wait_after(1, requested, 1.0).as_secs(), waited);
        }
    }
}
