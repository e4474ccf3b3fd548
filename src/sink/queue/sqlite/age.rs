//! How old an event is that another process wrote down: by the wall clock, which may
//! have been set meanwhile.

use std::time::{Duration, SystemTime};

use crate::event::unix_time::unix_nanos;

/// Milliseconds since 1970.
pub(super) type WallMillis = i64;

/// The wall clock's `time`.
pub(super) fn wall_millis(time: SystemTime) -> WallMillis {
    let millis = unix_nanos(time) / 1_000_000;
    millis.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// How long an event has waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    Waited(Duration),
    /// For longer than an event may.
    Expired,
    /// It was written at a time that is still to come. It counts as written now, and
    /// says so from here on: else it would be kept for as long as the clock is behind.
    FromTheFuture,
}

/// The age at `now` of what was written at `since` and may wait for `longest`.
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
    fn a_clock_that_jumped_ahead_expires_and_one_that_was_set_back_starts_anew() {
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
