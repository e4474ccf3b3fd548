//! The time before which a clock is known to be wrong.

use std::time::{Duration, SystemTime};

/// The beginning of 2026, in milliseconds since 1970. No release of this crate is older, so a clock
/// that shows an earlier time is wrong, as it is at the boot of a device whose clock has no battery.
pub(crate) const EARLIEST_TIME: u64 = 1_767_225_600_000;

/// Returns whether a clock that shows `time` may be right.
pub(crate) fn is_set(time: SystemTime) -> bool {
    time >= SystemTime::UNIX_EPOCH + Duration::from_millis(EARLIEST_TIME)
}
