//! Finds the end of a host or server name in a text.

use std::{
    borrow::Cow,
    net::{Ipv4Addr, Ipv6Addr},
};

use super::{
    boundary::{is_foreign, is_name_char},
    cost,
};

/// The longest host, in bytes.
const MAX_HOST_BYTES: usize = 255;
/// The longest IPv6 address in brackets, including a zone.
const MAX_LITERAL_BYTES: usize = 72;

/// Which names are accepted as the host of an identifier.
#[derive(Clone, Copy)]
pub(super) enum Servers<'a> {
    /// Any name, because the preceding text shows that this is a server.
    Any,
    /// Only plausible server names: `hover` in `#menu:hover` is a valid name as well. The
    /// given name, if any, is accepted even if it contains no dot.
    Plausible(Option<&'a str>),
}

/// Returns the end of the server name that starts at `start`, including its port. The
/// following text can continue in characters that are valid in a host, so the longest
/// valid name is used.
pub(super) fn server_end(text: &str, start: usize, servers: Servers<'_>) -> Option<usize> {
    let bytes = text.as_bytes();
    if bytes.get(start) == Some(&b'[') {
        let end = literal_end(text, start)?;
        return Some(end + port_length(&bytes[end..]));
    }
    let run = host_run(text, start);
    let port = port_length(&bytes[start + run.len()..]);
    if port > 0 && run.contains(|c: char| is_name_char(c)) {
        let is_server = match servers {
            Servers::Any => true,
            Servers::Plausible(_) => {
                run.contains(char::is_alphabetic) || run.parse::<Ipv4Addr>().is_ok()
            }
        };
        if is_server {
            return Some(start + run.len() + port);
        }
    }
    let name = trimmed(run);
    let length = match servers {
        Servers::Any => name.len(),
        Servers::Plausible(own) => {
            let is_own = own.is_some_and(|own| own.eq_ignore_ascii_case(name));
            let is_local = name.eq_ignore_ascii_case("localhost");
            if is_own || is_local { name.len() } else { domain_length(name)? }
        }
    };
    (length > 0).then_some(start + length)
}

/// Returns the end of the IP address, or of the domain with at least one dot, at `start`.
pub(super) fn domain_end(text: &str, start: usize) -> Option<usize> {
    if text.as_bytes().get(start) == Some(&b'[') {
        return literal_end(text, start);
    }
    Some(start + domain_length(trimmed(host_run(text, start)))?)
}

/// Returns the longest run of host characters at `start`.
pub(super) fn host_run(text: &str, start: usize) -> &str {
    let rest = &text[start..];
    let mut length = 0;
    for (at, c) in rest.char_indices() {
        if at >= MAX_HOST_BYTES || !is_host_char(c) {
            break;
        }
        length = at + c.len_utf8();
    }
    cost::add(length + 1);
    &rest[..length]
}

/// Returns whether `c` can be part of a host. Internationalised domain names contain
/// letters of all scripts, and hosts that are not domain names can contain underscores.
pub(super) fn is_host_char(c: char) -> bool {
    match c {
        '.' | '-' | '_' => true,
        _ if c.is_ascii() => c.is_ascii_alphanumeric(),
        _ => is_name_char(c) || is_joiner(c),
    }
}

/// Returns whether internationalised domain names allow `c` only between letters: the
/// non-letters of CONTEXTJ and CONTEXTO (RFC 5892, appendix A).
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{b7}' | '\u{375}' | '\u{5f3}' | '\u{5f4}' | '\u{200c}' | '\u{200d}' | '\u{30fb}')
}

/// Rewrites `server` for a parser that does not support internationalised domain names,
/// underscores or zones.
pub(super) fn plain(server: &str) -> Cow<'_, str> {
    if let Some((address, rest)) = server.split_once(['%', ']'])
        && server.starts_with('[')
    {
        let after = rest.rsplit_once(']').map_or(rest, |(_, port)| port);
        return Cow::Owned(format!("{address}]{after}"));
    }
    if server.bytes().all(|byte| byte.is_ascii() && byte != b'_') {
        return Cow::Borrowed(server);
    }
    let plain = |c: char| if c.is_ascii() && c != '_' { c } else { 'x' };
    Cow::Owned(server.chars().map(plain).collect())
}

/// Returns the length of a port such as `:8448` at the start of `bytes`, or 0.
pub(super) fn port_length(bytes: &[u8]) -> usize {
    let digits = bytes.iter().skip(1).take(6).take_while(|byte| byte.is_ascii_digit()).count();
    let is_port = bytes.first() == Some(&b':')
        && std::str::from_utf8(&bytes[1..=digits]).is_ok_and(|port| port.parse::<u16>().is_ok());
    if is_port { 1 + digits } else { 0 }
}

/// Returns the end of the IPv6 address in brackets at `start`: `[fe80::1%eth0]`. In an
/// email address, the brackets may also contain an IPv4 address, or `IPv6:` before an
/// IPv6 address.
fn literal_end(text: &str, start: usize) -> Option<usize> {
    let bytes = &text.as_bytes()[start + 1..];
    let length = bytes.iter().take(MAX_LITERAL_BYTES).position(|byte| *byte == b']');
    cost::add(length.unwrap_or(MAX_LITERAL_BYTES));
    let inside = text.get(start + 1..start + 1 + length?)?;
    let address = inside.split_once('%').map_or(inside, |(address, _)| address);
    let tag = address.get(..5).filter(|tag| tag.eq_ignore_ascii_case("ipv6:"));
    let address = &address[tag.map_or(0, str::len)..];
    (address.parse::<Ipv6Addr>().is_ok() || address.parse::<Ipv4Addr>().is_ok())
        .then_some(start + inside.len() + 2)
}

/// Removes from `run` what follows a name in a sentence: punctuation, and text without
/// spaces whose script differs from that of the last label.
fn trimmed(run: &str) -> &str {
    let ends_sentence = |c: char| matches!(c, '.' | '-' | '_') || is_joiner(c);
    let run = run.trim_end_matches(ends_sentence);
    let label = run.rfind('.').map_or(0, |dot| dot + 1);
    let is_ascii = run[label..].starts_with(|c: char| c.is_ascii());
    match run[label..].find(is_foreign) {
        Some(length) if is_ascii => run[..label + length].trim_end_matches(ends_sentence),
        _ => run,
    }
}

/// Returns the length of the IPv4 address, or of the longest domain with at least one
/// dot, at the start of `name`. Top-level domains begin with a letter.
fn domain_length(name: &str) -> Option<usize> {
    let mut domain = name;
    while let Some((rest, top)) = domain.rsplit_once('.') {
        if top.starts_with(char::is_alphabetic) && !rest.is_empty() {
            return Some(domain.len());
        }
        if domain.parse::<Ipv4Addr>().is_ok() {
            return Some(domain.len());
        }
        domain = rest;
    }
    None
}
