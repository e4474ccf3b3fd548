//! Finds tokens and keys in a text, by the shape that they have.

use std::ops::Range;

use matrix_sdk::ruma::DeviceKeyId;

use super::{matrix::is_base64, work};

/// 32 bytes in base64 without padding.
const KEY_CHARS: usize = 43;
/// The shortest value that is taken for a token behind a word that says so.
const SHORTEST_TOKEN: usize = 16;

/// Every run that is 32 random bytes in base64: the public keys of devices and
/// users, and the IDs of sessions, which are such keys.
pub(super) fn keys(text: &str, mut found: impl FnMut(Range<usize>)) {
    let bytes = text.as_bytes();
    let mut start = 0;
    // From the far end of each window: in a text of words that is soon over.
    while let Some(window) = bytes.get(start..start + KEY_CHARS) {
        let run = window.iter().rev().take_while(|byte| is_base64(**byte)).count();
        work::looked_at(run + 1);
        if run < KEY_CHARS {
            start += KEY_CHARS - run;
            continue;
        }
        let rest = &bytes[start + KEY_CHARS..];
        let end = start + KEY_CHARS + rest.iter().take_while(|byte| is_base64(**byte)).count();
        work::looked_at(end - start);
        keys_in(bytes, start..end, &mut found);
        start = end + 1;
    }
}

/// The keys in a run: all of it, or what stands between such of its characters as
/// also part words.
fn keys_in(bytes: &[u8], run: Range<usize>, found: &mut impl FnMut(Range<usize>)) {
    let parts_words = |at: usize| matches!(bytes[at], b'/' | b'-' | b'_');
    let mut start = run.start;
    while start + KEY_CHARS <= run.end {
        let end = start + KEY_CHARS;
        let is_alone =
            (start == run.start || parts_words(start - 1)) && (end == run.end || parts_words(end));
        if is_alone && is_random(&bytes[start..end]) {
            found(start..end);
            start = end;
        } else {
            start += 1;
        }
    }
}

/// Whether `text` changes between capitals, small letters, digits and signs as often
/// as only random text does: about 27 times in 43 characters, and never less than
/// 14. Paths and names do so at their word breaks.
fn is_random(text: &[u8]) -> bool {
    work::looked_at(text.len());
    let class = |byte: &u8| match byte {
        b'0'..=b'9' => 0,
        b'A'..=b'Z' => 1,
        b'a'..=b'z' => 2,
        _ => 3,
    };
    let mut seen = [0; 4];
    for byte in text {
        seen[class(byte)] += 1;
    }
    let changes = text.windows(2).filter(|pair| class(&pair[0]) != class(&pair[1])).count();
    seen[0] > 0 && seen[1] > 2 && seen[2] > 2 && changes >= 14
}

/// The token at `at`, where one of the prefixes is that homeservers give to theirs:
/// `syt_` and `syr_` (Synapse), `mat_`, `mar_`, `mct_`, `mcr_` and `mpt_` (Matrix
/// Authentication Service). All end in random letters and a checksum of six.
pub(super) fn prefixed_token_at(text: &str, at: usize) -> Option<Range<usize>> {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'=');
    let length = text.as_bytes()[at..].iter().take(512).take_while(|b| is_token(b)).count();
    work::looked_at(length);
    let token = &text[at..at + length];
    let mut parts = token.rsplit('_');
    let (checksum, random) = (parts.next()?, parts.next()?);
    let is_alphanumeric = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let is_token = checksum.len() >= 6
        && random.len() >= 20
        && is_alphanumeric(random)
        && random.bytes().any(|byte| byte.is_ascii_uppercase())
        && parts.next().is_some();
    is_token.then_some(at..at + length)
}

/// The value behind the `access_token`, `refresh_token` or `bearer ` that ends at
/// `at`.
pub(super) fn named_token_after(text: &str, at: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let is_separator = |byte: &u8| matches!(byte, b' ' | b'=' | b':' | b'"' | b'\'' | b'\\');
    let start = at + bytes[at..].iter().take(8).take_while(|byte| is_separator(byte)).count();
    let is_token = |byte: &u8| is_base64(*byte) || matches!(byte, b'.' | b'~' | b'=');
    let end = start + bytes[start..].iter().take(512).take_while(|b| is_token(b)).count();
    work::looked_at(end - at);
    let has_digit = bytes[start..end].iter().any(u8::is_ascii_digit);
    (end - start >= SHORTEST_TOKEN && has_digit).then_some(start..end)
}

/// The device's name behind the algorithm of a key ID, which is from `at` to
/// `colon`.
pub(super) fn device_of_key_at(text: &str, at: usize, colon: usize) -> Option<Range<usize>> {
    let start = colon + 1;
    let length = text.as_bytes()[start..].iter().take(255).take_while(|b| is_base64(**b)).count();
    work::looked_at(length);
    (length > 0 && DeviceKeyId::parse(&text[at..start + length]).is_ok())
        .then_some(start..start + length)
}
