//! Writes a key or value as JSON.

use std::fmt::Display;

use serde::{Serialize, ser};

use crate::event::{InvalidEvent, MAX_EVENT_BYTES, MAX_KEY_BYTES};

/// Why a value cannot be part of an event, as a serialiser's error.
#[derive(Debug)]
pub(super) struct FlatError(pub(super) InvalidEvent);

impl Display for FlatError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for FlatError {}

impl ser::Error for FlatError {
    /// Discards the message, because a type can put a value into it.
    fn custom<T: Display>(_message: T) -> Self {
        Self(InvalidEvent::Serialize)
    }
}

/// Returns whether `text` is printable ASCII without quotes and backslashes, so that it needs
/// no escapes. That is true of most text.
pub(super) fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    // The last bytes may be looked at twice, because a step of eight is faster than one of one.
    if let Some(last) = bytes.last_chunk() {
        let (chunks, _) = bytes.as_chunks();
        return chunks.iter().all(|chunk| are_plain(*chunk)) && are_plain(*last);
    }
    if let (Some([a, b, c, d]), Some([e, f, g, h])) = (bytes.first_chunk(), bytes.last_chunk()) {
        return are_plain([*a, *b, *c, *d, *e, *f, *g, *h]);
    }
    bytes.iter().all(|byte| are_plain([*byte; 8]))
}

/// Does for eight bytes at once what [`is_plain`] does for a text.
fn are_plain(bytes: [u8; 8]) -> bool {
    const fn each(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }

    let word = u64::from_ne_bytes(bytes);
    // The highest bit of a byte becomes 1 if the byte is what it is compared with. It may also
    // become 1 above such a byte, which does not change the result.
    let is_zero = |word: u64| word.wrapping_sub(each(1));
    let not_ascii = word;
    let control = word.wrapping_sub(each(b' '));
    let delete = word.wrapping_add(each(1));
    let quote = is_zero(word ^ each(b'"'));
    let backslash = is_zero(word ^ each(b'\\'));
    (not_ascii | control | delete | quote | backslash) & each(0x80) == 0
}

pub(super) fn push_key(out: &mut String, key: &str) -> Result<(), FlatError> {
    if key.len() > MAX_KEY_BYTES {
        return Err(FlatError(InvalidEvent::KeyTooLong));
    }
    let plain = is_plain(key);
    if key.is_empty() || (!plain && key.chars().any(char::is_control)) {
        return Err(FlatError(InvalidEvent::Key));
    }
    match (out.len(), plain) {
        (0, true) => push_framed(out, "\"", key, "\":"),
        (_, true) => push_framed(out, ",\"", key, "\":"),
        (0, false) => push_framed(out, "", &escaped(key)?, ":"),
        (_, false) => push_framed(out, ",", &escaped(key)?, ":"),
    }
    check_size(out)
}

/// Adds `before`, `text` and `after` after one check of the capacity.
fn push_framed(out: &mut String, before: &str, text: &str, after: &str) {
    out.reserve(before.len() + text.len() + after.len());
    out.push_str(before);
    out.push_str(text);
    out.push_str(after);
}

pub(super) fn push_text(out: &mut String, text: &str) -> Result<(), FlatError> {
    // Checked before copying, so that a text of a gigabyte is not copied.
    if text.len() > MAX_EVENT_BYTES {
        return Err(FlatError(InvalidEvent::TooLarge));
    }
    if is_plain(text) {
        push_framed(out, "\"", text, "\"");
    } else {
        out.push_str(&escaped(text)?);
    }
    check_size(out)
}

fn escaped(text: &str) -> Result<String, FlatError> {
    serde_json::to_string(text).map_err(|_| FlatError(InvalidEvent::Serialize))
}

pub(super) fn push_bool(out: &mut String, value: bool) -> Result<(), FlatError> {
    if value {
        out.push_str("true");
    } else {
        out.push_str("false");
    }
    check_size(out)
}

pub(super) fn push_float<T: Serialize>(
    out: &mut String,
    value: T,
    is_finite: bool,
) -> Result<(), FlatError> {
    if is_finite { push_number(out, &value) } else { Err(FlatError(InvalidEvent::NotFinite)) }
}

pub(super) fn push_number<T: Serialize>(out: &mut String, value: &T) -> Result<(), FlatError> {
    const LONGEST: usize = 32;

    let mut digits = [0; LONGEST];
    let mut rest = &mut digits[..];
    serde_json::to_writer(&mut rest, value).map_err(|_| FlatError(InvalidEvent::Serialize))?;
    let length = LONGEST - rest.len();
    let digits = str::from_utf8(&digits[..length]);
    out.push_str(digits.map_err(|_| FlatError(InvalidEvent::Serialize))?);
    check_size(out)
}

pub(super) fn close_array(out: &mut String) -> Result<(), FlatError> {
    out.push(']');
    check_size(out)
}

fn check_size(out: &str) -> Result<(), FlatError> {
    if out.len() > MAX_EVENT_BYTES { Err(FlatError(InvalidEvent::TooLarge)) } else { Ok(()) }
}
