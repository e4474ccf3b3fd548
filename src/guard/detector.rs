//! What an app adds to the guard.

use std::ops::Range;

/// Finds what only the app knows to be personal: phone numbers, paths with a
/// user's name in them, secrets of its own.
///
/// It is asked for the name of each event, and each key and text that was not
/// fixed when the app was compiled; then again for each of them with its escapes
/// undone, such as those of URLs and of JSON. What it finds is treated as every other finding.
///
/// ```
/// use std::ops::Range;
///
/// use matrix_analytics::Detector;
///
/// /// Finds phone numbers in the international form, such as `+44 20 7946 0958`.
/// struct PhoneNumbers;
///
/// impl Detector for PhoneNumbers {
///     fn name(&self) -> &'static str {
///         "phone_number"
///     }
///
///     fn find(&self, text: &str) -> Vec<Range<usize>> {
///         let mut found = Vec::new();
///         let mut from = 0;
///         while let Some(plus) = text[from..].find('+').map(|at| from + at) {
///             let (mut end, mut digits) = (plus + 1, 0);
///             for (at, c) in text[plus + 1..].char_indices() {
///                 match c {
///                     '0'..='9' => (end, digits) = (plus + 1 + at + 1, digits + 1),
///                     ' ' | '-' | '(' | ')' => {}
///                     _ => break,
///                 }
///             }
///             // The shortest in use has 7 digits; E.164 allows at most 15.
///             if (7..=15).contains(&digits) {
///                 found.push(plus..end);
///             }
///             from = end;
///         }
///         found
///     }
/// }
///
/// let text = "Call +44 20 7946 0958, or 1 + 1 = 2";
/// assert_eq!(PhoneNumbers.find(text), [5..21]);
/// assert!(PhoneNumbers.find("Call [phone_number], or 1 + 1 = 2").is_empty());
/// ```
///
/// Give it to [`AnalyticsBuilder::detector`](crate::AnalyticsBuilder::detector).
pub trait Detector: Send + Sync + 'static {
    /// A short name, such as `phone_number`: in brackets it is what a redacted
    /// text has in the place of a finding. [`find`](Detector::find) should not
    /// find it, or a text that has it is redacted as a whole.
    fn name(&self) -> &'static str;

    /// Where in `text` there is something to keep back, in bytes.
    ///
    /// It is called in the background task. If it panics, the event is dropped, for
    /// nobody has looked at it to the end.
    fn find(&self, text: &str) -> Vec<Range<usize>>;
}
