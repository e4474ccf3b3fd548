//! The age of an event that another process wrote, by a wall clock that may have been set
//! since.

use std::time::{Duration, SystemTime};

use crate::event::unix_time::unix_nanos;

/// Milliseconds since 1970.
pub(super) type WallMillis = i64;

/// Converts `time` to milliseconds since 1970.
pub(super) fn wall_millis(time: SystemTime) -> WallMillis {
    let millis = unix_nanos(time) / 1_000_000;
    millis.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// The age of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    Waited(Duration),
    /// The event has waited for longer than allowed.
    Expired,
    /// The event was written in the future. It is rewritten as written now, because it
    /// would otherwise be kept for as long as the clock is behind.
    FromTheFuture,
}

/// Returns the age at `now` of an event that was written at `since` and may wait for
/// `longest`.
pub(super) fn age(since: WallMillis, now: WallMillis, longest: Duration) -> Age {
    match u64::try_from(now.saturating_sub(since)).map(Duration::from_millis) {
        Err(_) => Age::FromTheFuture,
        Ok(waited) if waited > longest => Age::Expired,
        Ok(waited) => Age::Waited(waited),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_expire_after_a_clock_jumped_ahead_and_count_as_new_after_it_was_set_back() {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        const YEAR: i64 = 365 * 24 * 3_600_000;

        let now = 1_800_000_000_000;
        for (since, expected) in [
            (now, Age::Waited(Duration::ZERO)),
            (now - 5, Age::Waited(Duration::from_millis(5))),
            (now - 24 * 3_600_000, Age::Waited(DAY)),
            (now - 24 * 3_600_000 - 1, Age::Expired),
            (now - YEAR, Age::Expired),
            (now + 1, Age::FromTheFuture),
            (now + YEAR, Age::FromTheFuture),
            (i64::MAX, Age::FromTheFuture),
            (i64::MIN, Age::Expired),
        ] {
            assert_eq!(age(since, now, DAY), expected, "{since}");
        }
    }

    #[test]
    fn a_time_before_1970_has_its_milliseconds_too() {
        let second = Duration::from_secs(1);
        assert_eq!(wall_millis(SystemTime::UNIX_EPOCH - second), -1000);
        assert_eq!(wall_millis(SystemTime::UNIX_EPOCH + second), 1000);
    }
}
