//! Finds the end of a host and of a server name in a text.

use std::{
    borrow::Cow,
    net::{Ipv4Addr, Ipv6Addr},
};

use super::{
    boundary::{is_foreign, is_name_char},
    work,
};

/// The longest host that is looked at, in bytes.
const MAX_HOST_BYTES: usize = 255;
/// The longest IPv6 address in brackets, with the zone of an interface.
const MAX_LITERAL_BYTES: usize = 72;

/// What stands in for the host of an identifier.
#[derive(Clone, Copy)]
pub(super) enum Servers<'a> {
    /// Any name: what stands before it says that this is a server.
    Any,
    /// Names that servers have. `hover` in `#menu:hover` is a valid name, too. The
    /// name in here is one even if it has no dot.
    Plausible(Option<&'a str>),
}

/// Returns the end of the server name, with or without a port, that starts at
/// `start`. What stands there may go on in the same characters: the longest name that
/// can be one counts.
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

/// Returns the end of the domain with a dot, or of the IP address, at `start`.
pub(super) fn domain_end(text: &str, start: usize) -> Option<usize> {
    if text.as_bytes().get(start) == Some(&b'[') {
        return literal_end(text, start);
    }
    Some(start + domain_length(trimmed(host_run(text, start)))?)
}

/// Returns all that can be of a host at `start`.
pub(super) fn host_run(text: &str, start: usize) -> &str {
    let rest = &text[start..];
    let mut length = 0;
    for (at, c) in rest.char_indices() {
        if at >= MAX_HOST_BYTES || !is_host_char(c) {
            break;
        }
        length = at + c.len_utf8();
    }
    work::looked_at(length + 1);
    &rest[..length]
}

/// Returns whether `c` may be part of a host: internationalised domain names have
/// letters of all scripts, and hosts that are no domain names have underscores.
pub(super) fn is_host_char(c: char) -> bool {
    match c {
        '.' | '-' | '_' => true,
        _ if c.is_ascii() => c.is_ascii_alphanumeric(),
        _ => is_name_char(c) || is_joiner(c),
    }
}

/// Returns whether internationalised domain names have `c` between letters only: the
/// characters of CONTEXTJ and CONTEXTO (RFC 5892, appendix A) that are no letters.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{b7}' | '\u{375}' | '\u{5f3}' | '\u{5f4}' | '\u{200c}' | '\u{200d}' | '\u{30fb}')
}

/// Returns `server` as it can be given to a parser that knows neither
/// internationalised domain names, nor underscores, nor zones.
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

/// Returns the length of the `:8448` that `bytes` begin with, if they do.
pub(super) fn port_length(bytes: &[u8]) -> usize {
    let digits = bytes.iter().skip(1).take(6).take_while(|byte| byte.is_ascii_digit()).count();
    let is_port = bytes.first() == Some(&b':')
        && std::str::from_utf8(&bytes[1..=digits]).is_ok_and(|port| port.parse::<u16>().is_ok());
    if is_port { 1 + digits } else { 0 }
}

/// Returns the end of the IPv6 address in brackets at `start`: `[fe80::1%eth0]`. In
/// e-mail an IPv4 address may be there too, and `IPv6:` before the other.
fn literal_end(text: &str, start: usize) -> Option<usize> {
    let bytes = &text.as_bytes()[start + 1..];
    let length = bytes.iter().take(MAX_LITERAL_BYTES).position(|byte| *byte == b']');
    work::looked_at(length.unwrap_or(MAX_LITERAL_BYTES));
    let inside = text.get(start + 1..start + 1 + length?)?;
    let address = inside.split_once('%').map_or(inside, |(address, _)| address);
    let tag = address.get(..5).filter(|tag| tag.eq_ignore_ascii_case("ipv6:"));
    let address = &address[tag.map_or(0, str::len)..];
    (address.parse::<Ipv6Addr>().is_ok() || address.parse::<Ipv4Addr>().is_ok())
        .then_some(start + inside.len() + 2)
}

/// Returns `run` without what follows a name in a sentence: punctuation, and text
/// without a space in a script that the last label is not of.
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

/// Returns the length of the longest domain with a dot, or of the IPv4 address, that
/// `name` begins with: top-level domains begin with a letter.
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
