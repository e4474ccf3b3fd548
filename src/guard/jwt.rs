//! Finds JSON Web Tokens (RFC 7519).

use std::{ops::Range, sync::LazyLock};

use memchr::memmem::Finder;

use super::{runs::Runs, token::is_base64url};

/// The start of every header: JSON in base64, which begins with `{"`.
const START: &str = "eyJ";
/// The shortest header and payload.
const HEADER_CHARS: usize = 12;
const PAYLOAD_CHARS: usize = 8;

/// Passes each JSON Web Token in `text` to `found`. A signed token has three parts
/// separated by dots, an encrypted one has five.
pub(super) fn json_web_tokens(text: &str, mut found: impl FnMut(Range<usize>)) {
    static STARTS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(START));

    let bytes = text.as_bytes();
    let (mut headers, mut payloads) = (Runs::of(is_base64url), Runs::of(is_base64url));
    let mut from = 0;
    for at in STARTS.find_iter(bytes) {
        if at < from {
            continue;
        }
        let header = headers.end(bytes, at);
        let payload = payloads.end(bytes, header + 1);
        let is_dot = |at: usize| bytes.get(at) == Some(&b'.');
        let is_token = header - at >= HEADER_CHARS
            && is_dot(header)
            && is_dot(payload)
            && payload - header > PAYLOAD_CHARS;
        if is_token {
            let is_part = |byte: u8| is_base64url(byte) || matches!(byte, b'.' | b'=');
            let end = Runs::of(is_part).end(bytes, payload);
            from = payload + text[payload..end].trim_end_matches('.').len();
            found(at..from);
        }
    }
}
