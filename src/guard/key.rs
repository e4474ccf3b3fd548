//! Finds keys and signatures by their shape.

use std::ops::Range;

use matrix_sdk::ruma::DeviceKeyId;

use super::{cost, matrix::is_base64};

/// The length of 32 bytes in base64 without padding.
const KEY_CHARS: usize = 43;
/// The length of 64 bytes in base64 without padding.
const SIGNATURE_CHARS: usize = 86;
/// The shortest ID of a secret storage key that can be distinguished from a word.
const SHORTEST_KEY_ID: usize = 8;

/// Passes each run of 32 or 64 random bytes in base64 to `found`: the public keys of
/// devices and users, session IDs, which are such keys, and signatures.
pub(super) fn keys(text: &str, mut found: impl FnMut(Range<usize>)) {
    let bytes = text.as_bytes();
    let mut start = 0;
    // Each window is searched from its far end, which soon ends the search in ordinary
    // words.
    while let Some(window) = bytes.get(start..start + KEY_CHARS) {
        let run = window.iter().rev().take_while(|byte| is_base64(**byte)).count();
        cost::add(run + 1);
        if run < KEY_CHARS {
            start += KEY_CHARS - run;
            continue;
        }
        let rest = &bytes[start + KEY_CHARS..];
        let end = start + KEY_CHARS + rest.iter().take_while(|byte| is_base64(**byte)).count();
        cost::add(end - start);
        if !is_symbol(&bytes[start..end]) {
            keys_in(bytes, start..end, &mut found);
        }
        start = end + 1;
    }
}

/// Returns whether `run` is the mangled name of a function, `_ZN…` or `_RN…`, which
/// contains base62 hashes.
fn is_symbol(run: &[u8]) -> bool {
    let is_path = |byte: &u8| b"NIMXYC".contains(byte);
    run.starts_with(b"_ZN")
        || (run.len() > KEY_CHARS && run.starts_with(b"_R") && run.get(2).is_some_and(is_path))
}

/// Passes the signatures in a run to `found`, then the keys in the remainder.
fn keys_in(bytes: &[u8], run: Range<usize>, found: &mut impl FnMut(Range<usize>)) {
    let mut left = run.start;
    random_parts(bytes, run.clone(), SIGNATURE_CHARS, &mut |signature: Range<usize>| {
        random_parts(bytes, left..signature.start, KEY_CHARS, found);
        left = signature.end;
        found(signature);
    });
    random_parts(bytes, left..run.end, KEY_CHARS, found);
}

/// Passes each random part of `run` with `length` characters to `found`: the whole run,
/// or a part between characters that also separate words.
fn random_parts(
    bytes: &[u8],
    run: Range<usize>,
    length: usize,
    found: &mut impl FnMut(Range<usize>),
) {
    let parts_words = |at: usize| matches!(bytes[at], b'/' | b'-' | b'_');
    let Some(mut counts) = bytes[run.clone()].get(..length).map(Counts::of) else { return };
    let (mut start, mut may_begin) = (run.start, run.start);
    loop {
        let end = start + length;
        let is_alone =
            (start == run.start || parts_words(start - 1)) && (end == run.end || parts_words(end));
        if is_alone && start >= may_begin && counts.is_random(&bytes[start..end]) {
            found(start..end);
            may_begin = end;
        }
        if end >= run.end {
            return;
        }
        counts.slide(&bytes[start..=end]);
        start += 1;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Digit,
    Capital,
    Small,
    Sign,
}

pub(super) fn class(byte: u8) -> Class {
    match byte {
        b'0'..=b'9' => Class::Digit,
        b'A'..=b'Z' => Class::Capital,
        b'a'..=b'z' => Class::Small,
        _ => Class::Sign,
    }
}

/// Statistics that distinguish random text from words.
struct Counts {
    seen: [usize; 4],
    /// How often the character class changes from one character to the next.
    changes: usize,
}

impl Counts {
    fn of(text: &[u8]) -> Self {
        cost::add(text.len());
        let mut seen = [0; 4];
        for byte in text {
            seen[class(*byte) as usize] += 1;
        }
        let changes = text.windows(2).filter(|pair| class(pair[0]) != class(pair[1])).count();
        Self { seen, changes }
    }

    /// Moves the window by one character. `text` is the current window and the next
    /// character.
    fn slide(&mut self, text: &[u8]) {
        let [first, second, .., last, new] = text else { return };
        cost::add(1);
        self.seen[class(*first) as usize] -= 1;
        self.seen[class(*new) as usize] += 1;
        self.changes -= usize::from(class(*first) != class(*second));
        self.changes += usize::from(class(*last) != class(*new));
    }

    /// Returns whether the window, `text`, is random. The thresholds apply to
    /// [`KEY_CHARS`] characters and scale with the length.
    ///
    /// The class changes 27 times in 43 random characters on average, and 12 to 20 times
    /// in names and paths. Text without a digit must meet a stricter threshold. Of random
    /// keys, 3 in 10,000 are missed.
    fn is_random(&self, text: &[u8]) -> bool {
        let scaled = |count: usize| count * KEY_CHARS / text.len();
        let [digits, capitals, small, _] = self.seen;
        let least = if digits > 0 { 13 } else { 17 };
        let changes_enough = scaled(self.changes) >= least;
        // On average, random text has 18 places where a digit meets a letter or two
        // capitals meet, and half of each path or name consists of words.
        let is_regular = || scaled(irregularities(text)) <= 7 && scaled(in_words(text)) >= 20;
        capitals > 2 && small > 2 && changes_enough && !is_regular()
    }
}

/// Counts the places in `text` where a digit meets a letter, or two capitals meet.
fn irregularities(text: &[u8]) -> usize {
    cost::add(text.len());
    let is_irregular = |pair: &&[u8]| {
        matches!(
            (class(pair[0]), class(pair[1])),
            (Class::Digit, Class::Capital | Class::Small)
                | (Class::Capital | Class::Small, Class::Digit)
                | (Class::Capital, Class::Capital)
        )
    };
    text.windows(2).filter(is_irregular).count()
}

/// Counts the characters of `text` in sequences of at least three lower-case letters.
fn in_words(text: &[u8]) -> usize {
    cost::add(text.len());
    let rows = text.split(|byte| !byte.is_ascii_lowercase()).map(<[u8]>::len);
    rows.filter(|length| *length >= 3).sum()
}

/// Returns the device ID in a key ID whose algorithm is between `at` and `colon`.
pub(super) fn device_of_key_at(text: &str, at: usize, colon: usize) -> Option<Range<usize>> {
    let start = colon + 1;
    let length = text.as_bytes()[start..].iter().take(255).take_while(|b| is_base64(**b)).count();
    cost::add(length);
    (length > 0 && DeviceKeyId::parse(&text[at..start + length]).is_ok())
        .then_some(start..start + length)
}

/// Returns the ID of a secret storage key that starts at `at`.
pub(super) fn stored_key_id_at(text: &str, at: usize) -> Option<Range<usize>> {
    let length = text.as_bytes()[at..].iter().take(255).take_while(|b| is_base64(**b)).count();
    cost::add(length);
    (length >= SHORTEST_KEY_ID).then_some(at..at + length)
}
