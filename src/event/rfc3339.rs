//! Formats times in RFC 3339.

use std::time::SystemTime;

const DAY: i64 = 24 * 60 * 60 * 1000;
/// The first millisecond of the year 0, and that of the year 10000.
const FIRST: i64 = -719_528 * DAY;
const END: i64 = 2_932_897 * DAY;

/// Formats `time` in RFC 3339, in UTC, to the millisecond and without trailing zeros. A
/// time that the format cannot represent (a year past 9999) becomes the Unix epoch.
pub(super) fn format(time: SystemTime) -> String {
    let since_epoch = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).ok(),
        Err(before) => i64::try_from(before.duration().as_millis()).ok().map(|before| -before),
    };
    let milliseconds = since_epoch.filter(|time| (FIRST..END).contains(time)).unwrap_or(0);
    let (year, month, day) = date(milliseconds.div_euclid(DAY));
    let in_day = milliseconds.rem_euclid(DAY);

    let mut out = String::with_capacity("2026-01-31T12:00:00.250Z".len());
    push_digits(&mut out, year, 1000);
    for (mark, number) in [
        ('-', month),
        ('-', day),
        ('T', in_day / 3_600_000),
        (':', in_day / 60_000 % 60),
        (':', in_day / 1000 % 60),
    ] {
        out.push(mark);
        push_digits(&mut out, number, 10);
    }
    match in_day % 1000 {
        0 => {}
        fraction => {
            out.push('.');
            push_digits(&mut out, fraction, 100);
            out.truncate(out.trim_end_matches('0').len());
        }
    }
    out.push('Z');
    out
}

/// Appends the digits of `number`, beginning with that of `unit`.
fn push_digits(out: &mut String, number: i64, unit: i64) {
    let mut unit = unit;
    while unit > 0 {
        // A single digit, 0 to 9.
        out.push(char::from(b'0' + (number / unit % 10) as u8));
        unit /= 10;
    }
}

/// Converts a day since the Unix epoch to year, month and day in the Gregorian calendar.
fn date(days: i64) -> (i64, i64, i64) {
    // Count from 1 March of the year 0, so that the leap day is the last day of a year.
    // Every period of 400 years has the same number of days.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // From March on, the lengths of months repeat: 31, 30, 31, 30, 31.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    (era * 400 + year, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use time::{OffsetDateTime, format_description::well_known::Rfc3339};

    use super::*;

    /// Formats the time with the `time` crate.
    fn reference(milliseconds: i64) -> String {
        let nanoseconds = i128::from(milliseconds) * 1_000_000;
        OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).unwrap().format(&Rfc3339).unwrap()
    }

    fn at(milliseconds: i64) -> SystemTime {
        let distance = Duration::from_millis(milliseconds.unsigned_abs());
        if milliseconds < 0 {
            SystemTime::UNIX_EPOCH - distance
        } else {
            SystemTime::UNIX_EPOCH + distance
        }
    }

    #[test]
    fn days_from_year_0_to_9999_match_the_reference() {
        // A step of 13 days covers every day of every year within 400 years.
        for day in (FIRST / DAY..END / DAY).step_by(13) {
            let milliseconds = day * DAY + day.rem_euclid(DAY);
            assert_eq!(format(at(milliseconds)), reference(milliseconds));
        }
    }

    #[test]
    fn a_fraction_has_no_trailing_zeros() {
        for (milliseconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1, "1970-01-01T00:00:00.001Z"),
            (10, "1970-01-01T00:00:00.01Z"),
            (120, "1970-01-01T00:00:00.12Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789Z"),
        ] {
            assert_eq!(format(at(milliseconds)), text);
            assert_eq!(reference(milliseconds), text);
        }
    }

    #[test]
    fn a_year_without_four_digits_becomes_the_epoch() {
        for milliseconds in [FIRST - 1, END, i64::MAX] {
            assert_eq!(format(at(milliseconds)), "1970-01-01T00:00:00Z", "{milliseconds}");
        }
        assert_eq!(format(at(END - 1)), "9999-12-31T23:59:59.999Z");
        assert_eq!(format(at(FIRST)), "0000-01-01T00:00:00Z");
    }
}
