//! Finds Matrix URIs: `matrix:` and `mxc:` URIs, matrix.to links and media download
//! links.
//!
//! A URI ends where the grammar of its identifier ends, because in Markdown, lists and
//! other URLs nearly any text can follow. Percent escapes are not decoded here: every
//! text is also searched in its decoded form.

use std::ops::Range;

use super::{
    boundary::is_name_char,
    cost,
    host::{Servers, server_end},
    matrix::{HASH_CHARS, MAX_BYTES, ends_localpart, is_base64, is_identifier},
};

/// How far after `_matrix/` a link may name a media file, in bytes.
const MAX_PATH_BYTES: usize = 128;
/// The longest query that is treated as part of a URI, in bytes.
const MAX_QUERY_BYTES: usize = 255;

/// Returns the `mxc:` URI at `at`.
pub(super) fn mxc_uri_at(text: &str, at: usize) -> Option<Range<usize>> {
    const SCHEME: usize = "mxc://".len();

    Some(at..media_end(text, at + SCHEME)?)
}

/// Returns the part of a link that names a media file. `at` is the position of `_matrix/`
/// in its path.
pub(super) fn media_link_at(text: &str, at: usize) -> Option<Range<usize>> {
    const PREFIX: usize = "_matrix/".len();

    let is_path =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_');
    let rest = &text.as_bytes()[at + PREFIX..];
    let length = rest.iter().take(MAX_PATH_BYTES).take_while(|byte| is_path(byte)).count();
    cost::add(length);
    let path = &text[at + PREFIX..at + PREFIX + length];
    ["/download/", "/thumbnail/"].into_iter().find_map(|step| {
        let start = at + PREFIX + path.find(step)? + step.len();
        Some(start..media_end(text, start)?)
    })
}

/// Returns the end of the `server/media` at `start`.
fn media_end(text: &str, start: usize) -> Option<usize> {
    let slash = server_end(text, start, Servers::Any)?;
    let media = text.as_bytes()[slash..].strip_prefix(b"/")?;
    let is_media = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let length = media.iter().take(MAX_BYTES).take_while(|byte| is_media(byte)).count();
    cost::add(length);
    Some(slash + 1 + length)
}

/// Returns the `matrix:` URI at `at`, by the grammar of the specification:
/// <https://spec.matrix.org/v1.18/appendices/#matrix-uri-scheme>.
pub(super) fn matrix_uri_at(text: &str, at: usize) -> Option<Range<usize>> {
    const SCHEME: usize = "matrix:".len();

    let bytes = text.as_bytes();
    let mut next = at + SCHEME;
    if bytes[next..].starts_with(b"//") {
        next = server_end(text, next + 2, Servers::Any)?;
    }
    if bytes.get(next) == Some(&b'/') {
        next += 1;
    }
    let (sigil, id) = typed(bytes, next)?;
    let mut end = id_end(text, id, sigil)?;
    if bytes.get(end) == Some(&b'/')
        && let Some((sigil @ '$', id)) = typed(bytes, end + 1)
    {
        end = id_end(text, id, sigil).unwrap_or(end);
    }
    Some(at..query_end(text, end))
}

/// Returns the matrix.to link whose host is at `at`.
pub(super) fn matrix_to_at(text: &str, at: usize) -> Option<Range<usize>> {
    const BASE: usize = "matrix.to/#/".len();

    let bytes = text.as_bytes();
    let sigil = |at: usize| bytes.get(at).map(|byte| char::from(*byte));
    let first = sigil(at + BASE).filter(|sigil| matches!(sigil, '@' | '#' | '!' | '$'))?;
    let mut end = id_end(text, at + BASE + 1, first)?;
    if bytes.get(end) == Some(&b'/')
        && let Some(second @ ('$' | '!' | '#')) = sigil(end + 1)
    {
        end = id_end(text, end + 2, second).unwrap_or(end);
    }
    let before = &bytes[..at];
    let scheme = [&b"https://"[..], b"http://"].into_iter().find(|scheme| {
        before.len() >= scheme.len()
            && before[before.len() - scheme.len()..].eq_ignore_ascii_case(scheme)
    });
    Some(at - scheme.map_or(0, <[u8]>::len)..query_end(text, end))
}

/// Returns the sigil for the type of the segment at `start`, and where the identifier of
/// that type starts.
fn typed(bytes: &[u8], start: usize) -> Option<(char, usize)> {
    const TYPES: [(&[u8], char); 7] = [
        (b"u", '@'),
        (b"user", '@'),
        (b"r", '#'),
        (b"room", '#'),
        (b"roomid", '!'),
        (b"e", '$'),
        (b"event", '$'),
    ];

    let length = bytes[start..].iter().take(7).position(|byte| *byte == b'/')?;
    let segment = &bytes[start..start + length];
    let (_, sigil) = TYPES.iter().find(|(name, _)| segment.eq_ignore_ascii_case(name))?;
    Some((*sigil, start + length + 1))
}

/// Returns the end of the identifier that starts at `start`, after its sigil or type.
/// Because that prefix already identifies it, its server may have any name.
fn id_end(text: &str, start: usize, sigil: char) -> Option<usize> {
    let bytes = &text.as_bytes()[start..];
    let localpart = bytes.iter().take(MAX_BYTES).take_while(|byte| !ends_localpart(**byte)).count();
    cost::add(localpart);
    if localpart > 0
        && bytes.get(localpart) == Some(&b':')
        && let Some(end) = server_end(text, start + localpart + 1, Servers::Any)
    {
        let end = end.min(text.floor_char_boundary(start + MAX_BYTES - 1));
        if is_identifier(&format!("{sigil}{}", &text[start..end])) {
            return Some(end);
        }
    }
    if !matches!(sigil, '!' | '$') {
        return None;
    }
    // Hashes of old room versions contain slashes.
    let hash = bytes.iter().take(MAX_BYTES).take_while(|byte| is_base64(**byte)).count();
    let opaque = bytes[..hash].iter().position(|byte| *byte == b'/').unwrap_or(hash);
    cost::add(hash);
    let length = if sigil == '$' && hash == HASH_CHARS { hash } else { opaque };
    (length > 0).then_some(start + length)
}

/// Returns the end of the query at `start`, excluding characters that can end a sentence
/// or emphasis. Returns `start` if there is no query.
fn query_end(text: &str, start: usize) -> usize {
    let Some(query) = text[start..].strip_prefix('?') else { return start };
    let is_query = |c: char| match c {
        '"' | '#' | '<' | '>' | '?' | '[' | '\\' | ']' | '^' | '`' | '{' | '|' | '}' => false,
        _ if c.is_ascii() => c.is_ascii_graphic(),
        _ => is_name_char(c),
    };
    let query = &query[..query.floor_char_boundary(MAX_QUERY_BYTES)];
    let query = &query[..query.find(|c| !is_query(c)).unwrap_or(query.len())];
    cost::add(query.len());
    let query = query.trim_end_matches(['.', ',', ';', ':', '!', ')', '\'', '*', '~', '_']);
    if query.is_empty() { start } else { start + 1 + query.len() }
}
