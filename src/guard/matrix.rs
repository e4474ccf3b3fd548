//! Finds Matrix identifiers: candidates by their sigil, confirmed by ruma's parsers.

use std::{borrow::Cow, ops::Range};

use matrix_sdk::ruma::{EventId, RoomAliasId, RoomId, UserId};

use super::{
    cost,
    host::{Servers, plain, server_end},
    kind::IdentifierKind,
};

/// The maximum length of a Matrix identifier, in bytes.
pub(super) const MAX_BYTES: usize = 255;
/// The length of 32 bytes in base64 without padding, as in IDs that are hashes.
pub(super) const HASH_CHARS: usize = 43;

/// The walk from sigil to sigil. It remembers what it has read, so that it reads no byte
/// twice.
pub(super) struct Sigils<'a> {
    text: &'a str,
    own_server: Option<&'a str>,
    /// The end of the previous identifier.
    resume: usize,
    /// The first colon or delimiter after the last sigil.
    stop: Option<usize>,
    /// The last colon after which a server name was searched for, and the end of that
    /// name.
    server: Option<(usize, Option<usize>)>,
}

impl<'a> Sigils<'a> {
    /// Accepts `own_server` as a server name even if it contains no dot.
    pub(super) fn new(text: &'a str, own_server: Option<&'a str>) -> Self {
        Self { text, own_server, resume: 0, stop: None, server: None }
    }

    /// Returns the identifier whose sigil is at `at`. Calls must be in ascending order of
    /// `at`.
    pub(super) fn identifier_at(&mut self, at: usize) -> Option<(Range<usize>, IdentifierKind)> {
        let bytes = self.text.as_bytes();
        if at < self.resume {
            return None;
        }
        let (end, kind) = match bytes[at] {
            b'@' => (self.with_server(at)?, IdentifierKind::UserId),
            b'#' => (self.with_server(at)?, IdentifierKind::RoomAlias),
            sigil => {
                let kind =
                    if sigil == b'!' { IdentifierKind::RoomId } else { IdentifierKind::EventId };
                (self.with_server(at).or_else(|| hash_end(bytes, at + 1))?, kind)
            }
        };
        if !is_identifier(&self.text[at..end]) {
            return None;
        }
        self.resume = end;
        Some((at..end, kind))
    }

    /// Returns the end of the identifier at `at`, if it has a server part.
    fn with_server(&mut self, at: usize) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let stop = match self.stop {
            Some(stop) if stop > at => stop,
            _ => {
                let localpart = bytes[at + 1..].iter().take_while(|byte| !ends_localpart(**byte));
                let stop = at + 1 + localpart.count();
                cost::add(stop - at);
                stop
            }
        };
        self.stop = Some(stop);
        if bytes.get(stop) != Some(&b':') || stop == at + 1 {
            return None;
        }
        let end = match self.server {
            Some((colon, end)) if colon == stop => end,
            _ => server_end(self.text, stop + 1, Servers::Plausible(self.own_server)),
        };
        self.server = Some((stop, end));
        // Following letters may look like part of the server name.
        let longest = self.text.floor_char_boundary(at + MAX_BYTES);
        end.map(|end| end.min(longest)).filter(|end| *end > stop + 1)
    }
}

/// Returns the kind of identifier that all of `text` is, whatever its localpart contains.
pub(super) fn whole(text: &str, own_server: Option<&str>) -> Option<IdentifierKind> {
    let text = text.trim();
    if !text.starts_with(['@', '#', '!', '$']) || text.len() > MAX_BYTES || !is_identifier(text) {
        return None;
    }
    let server = text.find(':')? + 1;
    let is_whole = server_end(text, server, Servers::Plausible(own_server)) == Some(text.len());
    is_whole.then(|| match text.as_bytes()[0] {
        b'@' => IdentifierKind::UserId,
        b'#' => IdentifierKind::RoomAlias,
        b'!' => IdentifierKind::RoomId,
        _ => IdentifierKind::EventId,
    })
}

/// Returns whether ruma accepts `text` as an identifier of its sigil's kind.
pub(super) fn is_identifier(text: &str) -> bool {
    let text = match text.split_once(':') {
        Some((localpart, server)) => match plain(server) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(server) => Cow::Owned(format!("{localpart}:{server}")),
        },
        None => Cow::Borrowed(text),
    };
    let text: &str = &text;
    match text.as_bytes().first() {
        Some(b'@') => <&UserId>::try_from(text).is_ok(),
        Some(b'#') => <&RoomAliasId>::try_from(text).is_ok(),
        Some(b'!') => <&RoomId>::try_from(text).is_ok(),
        Some(b'$') => <&EventId>::try_from(text).is_ok(),
        _ => false,
    }
}

/// Returns whether `byte` ends a localpart within a longer text. The grammar of
/// historical localparts allows the visible ones of these bytes; only [`whole`]
/// recognises those.
pub(super) fn ends_localpart(byte: u8) -> bool {
    matches!(byte, 0..=b' ' | 0x7f | b':' | b'"' | b'<' | b'>' | b',' | b'`')
}

/// Returns the end of the hash at `start`, in either base64 alphabet.
fn hash_end(bytes: &[u8], start: usize) -> Option<usize> {
    let length = bytes[start..].iter().take_while(|byte| is_base64(**byte)).count();
    cost::add(length);
    (length >= HASH_CHARS).then_some(start + length)
}

/// Returns whether `byte` belongs to one of the two base64 alphabets.
pub(super) fn is_base64(byte: u8) -> bool {
    static IS_BASE64: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0_u8;
        while byte < 128 {
            table[byte as usize] =
                byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_');
            byte += 1;
        }
        table
    };
    IS_BASE64[usize::from(byte)]
}
