//! Finds Matrix identifiers in a text: candidates by their sigil or scheme, which
//! ruma's parsers then confirm.

use std::{net::Ipv4Addr, ops::Range};

use matrix_sdk::ruma::{
    EventId, MatrixToUri, MatrixUri, MxcUri, RoomAliasId, RoomId, ServerName, UserId,
};

use super::{kind::IdentifierKind, work};

/// The longest identifier that Matrix allows, in bytes.
const MAX_BYTES: usize = 255;
/// The longest URI that is given to a parser, in bytes.
const MAX_URI_BYTES: usize = 512;
/// 32 bytes in base64 without padding: the IDs that are hashes.
const HASH_CHARS: usize = 43;

/// Walks from sigil to sigil, and remembers enough to look at no byte twice.
pub(super) struct Sigils<'a> {
    text: &'a str,
    own_server: Option<&'a str>,
    /// Where the last identifier ended.
    resume: usize,
    /// The first colon or delimiter after the last sigil.
    stop: Option<usize>,
    /// The colon whose server name was looked at last, and where that ends.
    server: Option<(usize, Option<usize>)>,
}

impl<'a> Sigils<'a> {
    /// `own_server` is believed to be a server name even if it has no dot.
    pub(super) fn new(text: &'a str, own_server: Option<&'a str>) -> Self {
        Self { text, own_server, resume: 0, stop: None, server: None }
    }

    /// The identifier whose sigil is at `at`. Positions must grow.
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

    /// The end of the identifier at `at`, if it has a server part.
    fn with_server(&mut self, at: usize) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let stop = match self.stop {
            Some(stop) if stop > at => stop,
            _ => {
                let localpart = bytes[at + 1..].iter().take_while(|byte| !ends_localpart(**byte));
                let stop = at + 1 + localpart.count();
                work::looked_at(stop - at);
                stop
            }
        };
        self.stop = Some(stop);
        if bytes.get(stop) != Some(&b':') || stop == at + 1 {
            return None;
        }
        let end = match self.server {
            Some((colon, end)) if colon == stop => end,
            _ => self.server_end(stop + 1),
        };
        self.server = Some((stop, end));
        end.filter(|end| end - at <= MAX_BYTES)
    }

    fn server_end(&self, start: usize) -> Option<usize> {
        let end = server_end(self.text, start)?;
        is_plausible_server(&self.text[start..end], self.own_server).then_some(end)
    }
}

/// Whether the whole of `text` is an identifier, whatever its localpart has in it.
pub(super) fn whole(text: &str, own_server: Option<&str>) -> Option<IdentifierKind> {
    let text = text.trim();
    if !text.starts_with(['@', '#', '!', '$']) || text.len() > MAX_BYTES || !is_identifier(text) {
        return None;
    }
    let (_, server) = text.split_once(':')?;
    is_plausible_server(server, own_server).then(|| match text.as_bytes()[0] {
        b'@' => IdentifierKind::UserId,
        b'#' => IdentifierKind::RoomAlias,
        b'!' => IdentifierKind::RoomId,
        _ => IdentifierKind::EventId,
    })
}

/// Whether ruma takes `text` for an identifier with the sigil that it has.
fn is_identifier(text: &str) -> bool {
    match text.as_bytes().first() {
        Some(b'@') => <&UserId>::try_from(text).is_ok(),
        Some(b'#') => <&RoomAliasId>::try_from(text).is_ok(),
        Some(b'!') => <&RoomId>::try_from(text).is_ok(),
        Some(b'$') => <&EventId>::try_from(text).is_ok(),
        _ => false,
    }
}

/// What no localpart in the middle of a text has. The grammar of historical ones
/// allows the visible ones among these; then only [`whole`] sees all of it.
fn ends_localpart(byte: u8) -> bool {
    matches!(byte, 0..=b' ' | 0x7f | b':' | b'"' | b'<' | b'>' | b',' | b'`')
}

/// The end of the server name with or without a port that starts at `start`.
fn server_end(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let host_end = if bytes.get(start) == Some(&b'[') {
        // The longest IPv6 address has 45 characters.
        let closing = bytes[start..].iter().take(48).position(|byte| *byte == b']')?;
        start + closing + 1
    } else {
        let run = bytes[start..].iter().take(MAX_BYTES).take_while(|byte| is_host_byte(**byte));
        start + run.count()
    };
    work::looked_at(host_end - start);
    let with_port = host_end + port_length(&bytes[host_end..]);
    let mut end = with_port;
    if end == host_end {
        // The end of a sentence is no part of a name.
        let host = text.get(start..host_end)?.trim_end_matches(['.', '-']);
        end = start + host.len();
    }
    <&ServerName>::try_from(text.get(start..end)?).ok().map(|_| end)
}

/// The length of the `:8448` that `bytes` begin with, if they do.
pub(super) fn port_length(bytes: &[u8]) -> usize {
    let digits = bytes.iter().skip(1).take(6).take_while(|byte| byte.is_ascii_digit()).count();
    let is_port = bytes.first() == Some(&b':')
        && std::str::from_utf8(&bytes[1..=digits]).is_ok_and(|port| port.parse::<u16>().is_ok());
    if is_port { 1 + digits } else { 0 }
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-')
}

/// Whether a valid server name is one that exists: `hover` in `#menu:hover` and
/// `1.5em` in `$size:1.5em` are valid too.
fn is_plausible_server(server: &str, own_server: Option<&str>) -> bool {
    let Ok(name) = <&ServerName>::try_from(server) else { return false };
    let host = name.host();
    host.starts_with('[')
        || host.parse::<Ipv4Addr>().is_ok()
        || is_domain(host)
        || host.eq_ignore_ascii_case("localhost")
        || (name.port().is_some() && host.bytes().any(|byte| byte.is_ascii_alphabetic()))
        || own_server.is_some_and(|own| server.eq_ignore_ascii_case(own))
}

/// Whether `host` has a dot and ends in what can be a top-level domain.
pub(super) fn is_domain(host: &str) -> bool {
    host.rsplit_once('.').is_some_and(|(rest, top)| {
        !rest.is_empty() && top.len() >= 2 && top.starts_with(|c: char| c.is_alphabetic())
    })
}

/// The end of a hash in base64 of either alphabet that starts at `start`.
fn hash_end(bytes: &[u8], start: usize) -> Option<usize> {
    let length = bytes[start..].iter().take_while(|byte| is_base64(**byte)).count();
    work::looked_at(length);
    (length >= HASH_CHARS).then_some(start + length)
}

/// Whether `byte` is of one of the two alphabets of base64.
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

/// The `mxc:` URI at `at`.
pub(super) fn mxc_uri_at(text: &str, at: usize) -> Option<Range<usize>> {
    const SCHEME: usize = "mxc://".len();

    let (server, media) = server_and_media(&text[at + SCHEME..])?;
    Some(at..at + SCHEME + server + 1 + media)
}

/// Where the link at `at`, which is at the `_matrix/` of its path, names a media
/// file.
pub(super) fn media_link_at(text: &str, at: usize) -> Option<Range<usize>> {
    let run = uri_run(text, at);
    ["/download/", "/thumbnail/"].into_iter().find_map(|step| {
        let start = run.find(step)? + step.len();
        let (server, media) = server_and_media(&run[start..])?;
        Some(at + start..at + start + server + 1 + media)
    })
}

/// The lengths of the `server/media` that `text` begins with.
fn server_and_media(text: &str) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let server = bytes.iter().take(MAX_BYTES).position(|byte| *byte == b'/')?;
    let is_media = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let media = bytes[server + 1..].iter().take(MAX_BYTES).take_while(|b| is_media(b)).count();
    work::looked_at(server + media);
    let uri = format!("mxc://{}", text.get(..server + 1 + media)?);
    // The parser panics at some that are longer.
    (uri.len() <= MAX_BYTES && <&MxcUri>::from(uri.as_str()).is_valid()).then_some((server, media))
}

/// The `matrix:` URI at `at`.
pub(super) fn matrix_uri_at(text: &str, at: usize) -> Option<Range<usize>> {
    const SCHEME: usize = "matrix:".len();

    if !matches!(text.as_bytes().get(at + SCHEME), Some(b'r' | b'R' | b'u' | b'U')) {
        return None;
    }
    confirmed(uri_run(text, at), |uri| MatrixUri::parse(uri).is_ok()).map(|end| at..at + end)
}

/// The link of matrix.to whose host is at `at`.
pub(super) fn matrix_to_at(text: &str, at: usize) -> Option<Range<usize>> {
    const BASE: &str = "matrix.to/#/";

    let run = uri_run(text, at);
    let end = confirmed(run, |uri| {
        let id = uri.get(BASE.len()..).filter(|_| uri[..BASE.len()].eq_ignore_ascii_case(BASE));
        // The parser panics at an empty part.
        let id = id.filter(|id| !id.contains("//"));
        id.is_some_and(|id| MatrixToUri::parse(&format!("https://{BASE}{id}")).is_ok())
    })?;
    let before = &text.as_bytes()[..at];
    let scheme = [&b"https://"[..], b"http://"].into_iter().find(|scheme| {
        before.len() >= scheme.len()
            && before[before.len() - scheme.len()..].eq_ignore_ascii_case(scheme)
    });
    Some(at - scheme.map_or(0, <[u8]>::len)..at + end)
}

/// The length of `run` that is a URI, by what `is_uri` says of it without its
/// query and without what may be the end of a sentence.
fn confirmed(run: &str, is_uri: impl Fn(&str) -> bool) -> Option<usize> {
    let sentence = run.trim_end_matches(['.', ',', ';', ':', '!', '?', ')', '\'', ']', '}']);
    [sentence, run].into_iter().find_map(|run| {
        let path = run.split_once('?').map_or(run, |(path, _)| path);
        is_uri(path).then_some(run.len())
    })
}

/// What of the URI at `at` is looked at.
fn uri_run(text: &str, at: usize) -> &str {
    let length = text.as_bytes()[at..]
        .iter()
        .take(MAX_URI_BYTES)
        .take_while(|byte| {
            !matches!(byte, 0..=b' ' | 0x7f | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'|')
        })
        .count();
    work::looked_at(length);
    let mut end = at + length;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[at..end]
}
