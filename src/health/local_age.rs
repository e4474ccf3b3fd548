//! The age of a message, in steps.

/// The ages in milliseconds: now, a minute, an hour, a day, a week, four weeks and a year.
const STEPS: [i64; 7] =
    [0, 60_000, 3_600_000, 86_400_000, 604_800_000, 2_419_200_000, 31_536_000_000];

/// Rounds the time in milliseconds between the login and a message down to one of [`STEPS`]; −1
/// if the message is older than the login.
///
/// The exact value would tell the recipient when the user logged in, to the millisecond, by which
/// it could join the two IDs of a user who opts out and in again. And the sender of the message
/// could choose it.
pub(super) fn in_steps(millis: i64) -> i64 {
    STEPS.into_iter().rev().find(|step| *step <= millis).unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_rounded_down_to_a_step() {
        for (exact, step) in [
            (i64::MIN, -1),
            (-1, -1),
            (0, 0),
            (59_999, 0),
            (60_000, 60_000),
            (86_399_999, 3_600_000),
            (604_800_000, 604_800_000),
            (i64::MAX, 31_536_000_000),
        ] {
            assert_eq!(in_steps(exact), step, "{exact}");
        }
        assert!(STEPS.is_sorted());
    }
}
