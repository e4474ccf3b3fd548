//! What Matomo accepts, as far as it can be checked before an event is sent.
//!
//! A text that is too long for its column makes Matomo answer 500 and store nothing of the
//! whole request.

use std::time::Duration;

/// The age from which Matomo refuses an event that comes without a token
/// (`tracking_requests_require_authentication_when_custom_timestamp_newer_than`), less a minute
/// for the way.
pub(super) const OLDEST: Duration = Duration::from_secs(24 * 60 * 60 - 60);

/// The longest category, action, name and URL, in characters as stored. The column has room for
/// 4096.
pub(super) const LONGEST_TEXT: usize = 4000;

/// The longest value of a custom dimension, in characters as stored. Matomo cuts longer ones.
pub(super) const LONGEST_DIMENSION: usize = 250;

/// Returns the number of characters that `text` has in Matomo's database, which stores it with
/// HTML's escapes.
pub(super) fn stored_length(text: &str) -> usize {
    text.chars()
        .map(|char| match char {
            '&' => "&amp;".len(),
            '<' | '>' => "&lt;".len(),
            '"' => "&quot;".len(),
            '\'' => "&#039;".len(),
            _ => 1,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_as_long_as_it_is_with_escapes() {
        for (text, length) in [("", 0), ("abc", 3), ("\u{1f980}ü", 2), ("a&b", 7), ("<>\"'", 20)] {
            assert_eq!(stored_length(text), length, "{text}");
        }
    }
}
