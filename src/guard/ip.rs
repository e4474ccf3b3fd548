//! Finds IP addresses in a text: candidates by their digits, which a parser then
//! confirms.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use memchr::memchr2_iter;

use super::{host::port_length, work};

/// How many places are looked at together: compilers make vector instructions of it.
const BLOCK: usize = 64;
/// How far behind a place [`may_be_ip`] looks.
const BEHIND: usize = 5;

/// What to take four numbers for that could be a version too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum VersionLike {
    Address,
    Version,
}

/// Every IP address in `text`.
pub(super) fn ip_addresses(
    text: &str,
    version_like: VersionLike,
    mut found: impl FnMut(Range<usize>),
) {
    let bytes = text.as_bytes();
    // An address without a digit is not in use: most texts are done here.
    if !bytes.iter().fold(false, |any, byte| any | byte.is_ascii_digit()) {
        return;
    }
    let mut from = 0;
    for start in (0..bytes.len()).step_by(BLOCK) {
        let mut tail = [0; BLOCK + BEHIND];
        let block = bytes.get(start..start + BLOCK + BEHIND).unwrap_or_else(|| {
            tail[..bytes.len() - start].copy_from_slice(&bytes[start..]);
            &tail
        });
        let Some(block) = block.first_chunk() else { return };
        if !(0..BLOCK).fold(false, |any, at| any | may_be_ip(block, at)) {
            continue;
        }
        for at in memchr2_iter(b'.', b':', &block[..BLOCK]) {
            if start + at >= from && may_be_ip(block, at) {
                let (address, next) = ip_at(text, start + at, from, version_like);
                from = next.max(start + at + 1);
                if let Some(address) = address {
                    found(address);
                }
            }
        }
    }
}

/// Whether there is a dot with a digit and soon another dot behind it, or a colon
/// with soon another colon behind it.
#[inline(always)]
fn may_be_ip(block: &[u8; BLOCK + BEHIND], at: usize) -> bool {
    let is = |behind: usize, byte: u8| block[at + behind] == byte;
    let v4 = is(0, b'.')
        & (block[at + 1].wrapping_sub(b'0') < 10)
        & (is(2, b'.') | is(3, b'.') | is(4, b'.'));
    let v6 = is(0, b':') & (is(1, b':') | is(2, b':') | is(3, b':') | is(4, b':') | is(5, b':'));
    v4 | v6
}

/// The IP address around the dot or colon at `at`, if it starts at `floor` or later;
/// and where to go on.
fn ip_at(
    text: &str,
    at: usize,
    floor: usize,
    version_like: VersionLike,
) -> (Option<Range<usize>>, usize) {
    let bytes = text.as_bytes();
    let is_part = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':');
    let start = at - bytes[floor..at].iter().rev().take_while(|b| is_part(b)).count();
    let end = at + bytes[at..].iter().take_while(|b| is_part(b)).count();
    work::looked_at(end - start);
    let run = &bytes[start..end];
    let count = |byte: u8| run.iter().filter(|b| **b == byte).count();
    let (dots, colons) = (count(b'.'), count(b':'));
    let may_be_v6 = colons >= 7 || (colons >= 2 && run.windows(2).any(|pair| pair == b"::"));
    let v6 = if may_be_v6 { ipv6_in(text, start, end) } else { None };
    let found =
        v6.or_else(|| if dots >= 3 { ipv4_in(text, start, end, version_like) } else { None });
    let next = found.as_ref().map_or(end, |found| found.end);
    (found, next)
}

/// The first IPv4 address in the run `start..end`.
fn ipv4_in(
    text: &str,
    start: usize,
    end: usize,
    version_like: VersionLike,
) -> Option<Range<usize>> {
    let mut from = 0;
    text[start..end].match_indices('.').find_map(|(dot, _)| {
        if dot < from {
            return None;
        }
        let (found, next) = ipv4_at(text, start + dot, version_like);
        from = next - start;
        found
    })
}

/// The IPv6 address that is the whole of `start..end`, but for a port or the end
/// of a sentence.
fn ipv6_in(text: &str, start: usize, end: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    // A label or the end of a sentence may stand before or after: `line:fe80::1.`
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let mut start = start;
    if bytes[..start].last().is_some_and(is_word) {
        start += text[start..end].find(':')? + 1;
    }
    if text[start..end].starts_with(':') && !text[start..end].starts_with("::") {
        start += 1;
    }
    let run = text[start..end].trim_end_matches('.');
    let run = match run.strip_suffix(':') {
        Some(shorter) if !shorter.ends_with(':') => shorter,
        _ => run,
    };
    let end = start + run.len();
    if run.len() > 45
        || bytes.get(end).is_some_and(is_word)
        // `a::b` is a path as often as an address: no address in use has no digit.
        || !run.bytes().any(|byte| byte.is_ascii_digit())
        || run.parse::<Ipv6Addr>().is_err()
    {
        return None;
    }
    // `1::2`, `x: 5::3`: an address in use begins with a group of three digits or
    // more, or with `::`.
    let first = run.split(':').next().unwrap_or_default();
    if !first.is_empty() && first.len() < 3 && run.contains("::") && !run.starts_with("64:ff9b::") {
        return None;
    }
    if bytes[..start].last() == Some(&b'[') && bytes.get(end) == Some(&b']') {
        return Some(start - 1..end + 1 + port_length(&bytes[end + 1..]));
    }
    Some(start..end)
}

/// The IPv4 address whose first dot is at `dot`, or where to go on.
fn ipv4_at(text: &str, dot: usize, version_like: VersionLike) -> (Option<Range<usize>>, usize) {
    let bytes = text.as_bytes();
    let is_part = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    let digits = bytes[..dot].iter().rev().take(4).take_while(|byte| byte.is_ascii_digit());
    let start = dot - digits.count();
    let run = bytes[start..].iter().take_while(|byte| is_part(byte)).count();
    work::looked_at(run);
    let next = start + run.max(1);
    // The end of a sentence is no part of an address.
    let quad = text[start..start + run].trim_end_matches('.');
    let start = start + quad.len() - quad.trim_start_matches('.').len();
    let quad = quad.trim_start_matches('.');
    let end = start + quad.len();
    let Ok(address) = quad.parse::<Ipv4Addr>() else { return (None, next) };
    let port = port_length(&bytes[end..]);
    if version_like == VersionLike::Version && is_version(bytes, start, end, address, port > 0) {
        return (None, next);
    }
    (Some(start..end + port), next.max(end + port))
}

/// Whether four numbers with dots between them are a version rather than an
/// address.
fn is_version(bytes: &[u8], start: usize, end: usize, address: Ipv4Addr, has_port: bool) -> bool {
    let octets = address.octets();
    let before = &bytes[..start];
    // `1.2.3.4-beta`, `1.2.3.4_2`, `1.2.3.4b1`.
    let goes_on = match (bytes.get(end), bytes.get(end + 1)) {
        (Some(byte), _) if byte.is_ascii_alphabetic() || *byte == b'_' => true,
        (Some(b'-' | b'+'), Some(byte)) => byte.is_ascii_alphabetic(),
        _ => false,
    };
    let is_host = has_port || before.ends_with(b"//") || before.ends_with(b"@");
    // Of all addresses, one in 650,000 has four single digits; of versions, most.
    let single_digits = octets.iter().all(|octet| *octet < 10) && !is_host;
    // No host has such an address: `0.x.x.x` is this network, `x.0.0.0` a whole one.
    let no_host = octets[0] == 0 || octets[1..] == [0, 0, 0];
    goes_on || single_digits || no_host || follows_version(before)
}

/// Whether `before` ends with a word for a version, and no more than a separator:
/// `v`, `version: `, `app_version=`, `"appVersion":"`.
pub(super) fn follows_version(before: &[u8]) -> bool {
    let is_separator =
        |byte: &u8| matches!(byte, b' ' | b'=' | b':' | b'"' | b'\'' | b'/' | b'\\' | b'-' | b'_');
    let separator = before.iter().rev().take(6).take_while(|byte| is_separator(byte)).count();
    let before = &before[..before.len() - separator];
    let word = before.iter().rev().take(32).take_while(|byte| byte.is_ascii_alphabetic()).count();
    let word = &before[before.len() - word..];
    work::looked_at(separator + word.len());
    let ends_with = |suffix: &[u8]| {
        word.len() >= suffix.len() && word[word.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
    };
    word.eq_ignore_ascii_case(b"v") || word.eq_ignore_ascii_case(b"ver") || ends_with(b"version")
}
