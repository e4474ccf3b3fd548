//! Times as nanoseconds since 1970, and as text.

use std::time::{Duration, SystemTime};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

const NANOS_PER_MILLI: i128 = 1_000_000;

/// Returns the nanoseconds from the start of 1970 to `time`.
pub(crate) fn unix_nanos(time: SystemTime) -> i128 {
    // A `Duration` has at most 2^94 of them.
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => after.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    }
}

/// Returns the current time in milliseconds since the start of 1970; 0 before that.
pub(crate) fn unix_millis() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the time that is `nanos` nanoseconds after the start of 1970, or that start where
/// the platform cannot hold such a time.
pub(crate) fn from_unix_nanos(nanos: i64) -> SystemTime {
    let span = Duration::from_nanos(nanos.unsigned_abs());
    let time = if nanos < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(span)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(span)
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Returns `time` in the form of RFC 3339 in UTC, to the millisecond; a time outside the
/// years 0 to 9999, which the form cannot express, becomes the start of 1970.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    rfc3339_of_millis(unix_nanos(time) / NANOS_PER_MILLI)
}

/// Formats the time that is `millis` milliseconds after the start of 1970.
fn rfc3339_of_millis(millis: i128) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(millis * NANOS_PER_MILLI)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first millisecond of the year 0 and that of the year 10000.
    const FIRST: i128 = -62_167_219_200_000;
    const END: i128 = 253_402_300_800_000;

    fn at(milliseconds: i64) -> SystemTime {
        let distance = Duration::from_millis(milliseconds.unsigned_abs());
        if milliseconds < 0 {
            SystemTime::UNIX_EPOCH - distance
        } else {
            SystemTime::UNIX_EPOCH + distance
        }
    }

    #[test]
    fn a_fraction_has_as_few_digits_as_possible() {
        for (milliseconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1, "1970-01-01T00:00:00.001Z"),
            (10, "1970-01-01T00:00:00.01Z"),
            (120, "1970-01-01T00:00:00.12Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789Z"),
        ] {
            assert_eq!(rfc3339(at(milliseconds)), text);
        }
    }

    #[test]
    fn what_is_finer_than_a_millisecond_is_cut_off() {
        let nearly_a_millisecond = Duration::from_nanos(999_999);
        assert_eq!(rfc3339(at(0) + nearly_a_millisecond), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(at(0) - nearly_a_millisecond), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn a_year_that_does_not_have_four_digits_becomes_1970() {
        // Not as `SystemTime`: Windows has none before 1601.
        for millis in [FIRST - 1, END, i128::from(i64::MAX)] {
            assert_eq!(rfc3339_of_millis(millis), "1970-01-01T00:00:00Z", "{millis}");
        }
        assert_eq!(rfc3339_of_millis(END - 1), "9999-12-31T23:59:59.999Z");
        assert_eq!(rfc3339_of_millis(FIRST), "0000-01-01T00:00:00Z");
    }

    #[test]
    fn a_time_survives_the_way_to_nanoseconds_and_back() {
        for nanos in [0, 1, -1, 1_769_860_800_123_456_700, -i64::MAX, i64::MAX] {
            // The clock of Windows counts in steps of 100 ns.
            let nanos = nanos / 100 * 100;
            assert_eq!(unix_nanos(from_unix_nanos(nanos)), i128::from(nanos));
        }
    }
}
