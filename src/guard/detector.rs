//! The app's own extension of the guard.

use std::ops::Range;

/// Finds personal data that only the app can recognise, such as phone numbers, paths that
/// contain a user's name, or the app's own secrets.
///
/// The guard runs a detector on the name of each event, and on each key and text that was
/// not fixed at compile time. It then runs the detector again on each of them with its
/// escapes decoded, such as those of URLs and JSON. Findings of a detector are treated
/// like those of the guard.
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
/// Register a detector with
/// [`AnalyticsBuilder::detector`](crate::AnalyticsBuilder::detector).
pub trait Detector: Send + Sync + 'static {
    /// Returns a short name, such as `phone_number`. In a redacted text, this name in
    /// brackets replaces the finding. If [`find`](Detector::find) matches the placeholder
    /// itself, the whole text is redacted.
    fn name(&self) -> &'static str;

    /// Returns the byte ranges of `text` that must not leave the device.
    ///
    /// Called in the background task. If it panics, the event is dropped, because it was
    /// not fully checked.
    fn find(&self, text: &str) -> Vec<Range<usize>>;
}
