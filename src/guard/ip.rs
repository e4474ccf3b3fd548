//! Finds IP addresses in a text. Each run of digits, dots and colons is looked at once,
//! part by part: what may be an address is a question of how many there are.

use std::ops::Range;

use memchr::memchr2_iter;

use super::{host::port_length, version::Quad, work};

/// How many places are looked at together: compilers make vector instructions of it.
const BLOCK: usize = 64;
/// How far behind a place [`may_be_ip`] looks.
const BEHIND: usize = 5;
/// The lowest port that is read behind a fifth dot, as in `192.0.2.1.443`: versions and
/// object identifiers have small numbers there.
const LOWEST_DOTTED_PORT: u16 = 10;

/// What to take four numbers for that could be a version too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum VersionLike {
    Address,
    Version,
}

/// Passes on every IP address in `text`, in order.
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
                let run = run_around(bytes, start + at, from);
                from = run.end;
                if may_have_address(&bytes[run.clone()]) {
                    addresses_in(text, run, version_like, &mut found);
                }
            }
        }
    }
}

/// Returns whether there is a dot with a digit and soon another dot behind it, or a
/// colon with soon another colon behind it.
#[inline(always)]
fn may_be_ip(block: &[u8; BLOCK + BEHIND], at: usize) -> bool {
    let is = |behind: usize, byte: u8| block[at + behind] == byte;
    let v4 = is(0, b'.')
        & (block[at + 1].wrapping_sub(b'0') < 10)
        & (is(2, b'.') | is(3, b'.') | is(4, b'.'));
    let v6 = is(0, b':') & (is(1, b':') | is(2, b':') | is(3, b':') | is(4, b':') | is(5, b':'));
    v4 | v6
}

/// Returns all around `at`, from `floor` on, that addresses consist of.
fn run_around(bytes: &[u8], at: usize, floor: usize) -> Range<usize> {
    let is_part = |byte: &&u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':');
    let start = at - bytes[floor..at].iter().rev().take_while(is_part).count();
    let end = at + bytes[at..].iter().take_while(is_part).count();
    work::looked_at(end - start);
    start..end
}

/// Returns whether `run` has as many dots and colons as an address: most times and
/// versions have fewer.
fn may_have_address(run: &[u8]) -> bool {
    let count = |byte: u8| run.iter().filter(|b| **b == byte).count();
    let colons = count(b':');
    count(b'.') >= 3 || colons >= 7 || (colons >= 2 && run.windows(2).any(|pair| pair == b"::"))
}

/// Passes on the addresses in the run `run`.
///
/// Between its colons are groups of an IPv6 address, or numbers with dots between them.
/// Groups in a row are one address or none; an IPv4 address may be the last of them.
fn addresses_in(
    text: &str,
    run: Range<usize>,
    version_like: VersionLike,
    found: &mut impl FnMut(Range<usize>),
) {
    let bytes = text.as_bytes();
    // A dot at the end ends a sentence.
    let run = run.start..run.start + text[run].trim_end_matches('.').len();
    let mut groups = Groups::from(run.start);
    let mut start = run.start;
    while start <= run.end {
        let length = bytes[start..run.end].iter().take_while(|byte| **byte != b':').count();
        work::looked_at(length + 1);
        let part = start..start + length;
        let mut next = part.end + 1;
        if !bytes[part.clone()].contains(&b'.') {
            if length <= 4 {
                groups.push(part.clone());
            } else {
                groups.end(text, &run, found);
                groups = Groups::from(next);
            }
        } else {
            let numbers = Dotted { text, version_like, run: &run };
            next = numbers.addresses(part.clone(), &groups, found);
            groups = Groups::from(next);
            if bytes[part.end..run.end].starts_with(b"::") && next == part.end + 1 {
                // They belong to what follows: `192.0.2.1::1` are two addresses.
                groups = Groups { range: part.end..part.end, count: 1 };
            }
        }
        start = next;
    }
    groups.end(text, &run, found);
}

/// Groups of an IPv6 address with nothing but colons between them.
struct Groups {
    range: Range<usize>,
    count: usize,
}

impl Groups {
    fn from(start: usize) -> Self {
        Self { range: start..start, count: 0 }
    }

    fn push(&mut self, group: Range<usize>) {
        self.count += 1;
        self.range.end = group.end;
    }

    /// Passes on the address that these are.
    fn end(&self, text: &str, run: &Range<usize>, found: &mut impl FnMut(Range<usize>)) {
        found_if(self.address(text, run, self.range.end), found);
    }

    /// Returns the address that these groups are with what follows up to `end`, which
    /// is nothing or an IPv4 address.
    fn address(&self, text: &str, run: &Range<usize>, end: usize) -> Option<Range<usize>> {
        // Eight groups, a label or the colons of a sentence before and after, a port.
        if self.count < 2 || self.count > 12 {
            return None;
        }
        let bytes = text.as_bytes();
        let has_quad = end > self.range.end;
        let mut range = self.range.start..end;
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let before = bytes[..range.start].last();
        // `line:fe80::1`: a label, of which the last letters may be digits in base 16.
        if range.start == run.start && before.is_some_and(is_word) {
            range.start += text[range.clone()].find(':')? + 1;
        }
        let is_double = |at: usize| bytes.get(at..at + 2) == Some(b"::");
        if bytes.get(range.start) == Some(&b':') && !is_double(range.start) {
            range.start += 1;
        }
        let ends_with_one = |end: usize| {
            end > range.start && bytes[end - 1] == b':' && !bytes[range.start..end].ends_with(b"::")
        };
        if ends_with_one(range.end) {
            range.end -= 1;
        }
        let after = bytes.get(range.end);
        if after.is_some_and(is_word) {
            return None;
        }
        let address = text.get(range.clone())?;
        if !is_ipv6(without_port(address), has_quad, after) {
            return None;
        }
        if bytes[..range.start].last() == Some(&b'[') && after == Some(&b']') {
            range.start -= 1;
            range.end += 1;
            range.end += port_length(&bytes[range.end..]);
        }
        Some(range)
    }
}

fn found_if(address: Option<Range<usize>>, found: &mut impl FnMut(Range<usize>)) {
    if let Some(address) = address {
        found(address);
    }
}

/// Returns `address` without a port behind eight groups.
fn without_port(address: &str) -> &str {
    match address.rsplit_once(':') {
        Some((address, port))
            if !address.contains("::")
                && address.split(':').count() == 8
                && address.split(':').any(|group| group.len() > 2)
                && port.parse::<u16>().is_ok() =>
        {
            address
        }
        _ => address,
    }
}

/// Returns whether the groups of `address` are an IPv6 address in use. The last of them
/// may be an IPv4 address, which was looked at, and then counts twice.
fn is_ipv6(address: &str, has_quad: bool, after: Option<&u8>) -> bool {
    let first = address.split(':').next().unwrap_or_default();
    // `1::2`, `x: 5::3`: a short address in use begins with a group of three digits or
    // more, or with `::`.
    if matches!(first.len(), 1 | 2) && address.contains("::") {
        let prefix = "64:ff9b::";
        if !address.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)) {
            return false;
        }
    }
    let groups = address.split(':').count() + usize::from(has_quad);
    let is_complete = match address.match_indices("::").count() {
        0 => groups == 8,
        // At an end of the address it makes an empty group of its own.
        1 => groups <= 8 + usize::from(address.starts_with("::") || address.ends_with("::")),
        _ => false,
    };
    // `a::b` is a path as often as an address: no address in use has no digit.
    let has_digit = address.bytes().any(|byte| byte.is_ascii_digit());
    // The types of Rust: `f32::MAX`, `f32::<_`.
    let is_path = address.ends_with("::")
        && (matches!(first, "f16" | "f32" | "f64" | "f128")
            || matches!(after, Some(b'<' | b'{' | b'*')));
    is_complete && has_digit && !is_path && !address.contains(":::")
}

/// Looks at numbers with dots between them.
struct Dotted<'a> {
    text: &'a str,
    version_like: VersionLike,
    run: &'a Range<usize>,
}

impl Dotted<'_> {
    /// Passes on the IPv4 addresses in `part`, with their ports, and the IPv6 address
    /// that the first of them ends, with the `groups` before it. Returns where to go on.
    fn addresses(
        &self,
        part: Range<usize>,
        groups: &Groups,
        found: &mut impl FnMut(Range<usize>),
    ) -> usize {
        let bytes = self.text.as_bytes();
        let mut next = part.end + 1;
        let mut start = part.start;
        let mut is_first = true;
        while start < part.end {
            // Two dots are no part of an address, and one at the end ends a sentence.
            let length = bytes[start..part.end]
                .windows(2)
                .position(|pair| pair == b"..")
                .unwrap_or(part.end - start);
            work::looked_at(length);
            let numbers = start..start + length;
            let leading = usize::from(bytes.get(start) == Some(&b'.'));
            let trailing = usize::from(length > 1 && bytes[numbers.end - 1] == b'.');
            let numbers = numbers.start + leading..(numbers.end - trailing).max(start + leading);
            if is_first && leading == 0 {
                let v6 = self.embedded(&numbers, groups);
                if v6.is_some() {
                    found_if(v6, found);
                    return next;
                }
                groups.end(self.text, self.run, found);
            }
            if let Some(range) = self.address(numbers) {
                next = next.max(range.end + 1);
                found(range);
            }
            is_first = false;
            start += length + 1;
        }
        next
    }

    /// Returns the IPv6 address that `groups` are with the IPv4 address `numbers`.
    fn embedded(&self, numbers: &Range<usize>, groups: &Groups) -> Option<Range<usize>> {
        let (_, end) = self.quad(numbers)?;
        if groups.count == 0 || groups.range.end + 1 != numbers.start {
            return None;
        }
        groups.address(self.text, self.run, end)
    }

    /// Returns the IPv4 address, with its port, that `numbers` are.
    fn address(&self, numbers: Range<usize>) -> Option<Range<usize>> {
        let bytes = self.text.as_bytes();
        let (octets, quad_end) = self.quad(&numbers)?;
        let mut end = numbers.end;
        let mut has_port = quad_end < end;
        if has_port && is_object_id(octets) && self.version_like == VersionLike::Version {
            return None;
        }
        if !has_port {
            let port = port_length(&bytes[end..]);
            let after = &bytes[end + port..];
            // What goes on with a dot is the next address, not the port of this one.
            let goes_on = matches!(after, [b'.', byte, ..] if byte.is_ascii_digit());
            has_port = port > 0 && !goes_on;
            end += if has_port { port } else { 0 };
        }
        let quad = Quad {
            octets,
            before: &bytes[..numbers.start],
            after: &bytes[numbers.end..],
            has_port,
        };
        let is_version = self.version_like == VersionLike::Version && quad.is_version();
        (!is_version).then_some(numbers.start..end)
    }

    /// Returns the four numbers that `numbers` begin with, and where they end, if there
    /// are no more of them, or a port behind them.
    fn quad(&self, numbers: &Range<usize>) -> Option<([u8; 4], usize)> {
        let mut octets = [0; 4];
        let mut parts = self.text.get(numbers.clone())?.split('.');
        let mut end = numbers.start;
        for octet in &mut octets {
            let part = parts.next()?;
            let is_number =
                (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
            // Zeros may lead: `081` is 81 in a log, whatever it is in C.
            *octet = part.parse().ok().filter(|_| is_number)?;
            end += part.len() + 1;
        }
        let end = end - 1;
        let port = parts.next().map(|port| port.parse::<u16>());
        let is_port = |port: u16| port >= LOWEST_DOTTED_PORT;
        let is_address = match port {
            None => true,
            Some(port) => port.is_ok_and(is_port) && parts.next().is_none(),
        };
        is_address.then_some((octets, end))
    }
}

/// Returns whether an object identifier begins so, if it has more than four numbers:
/// those of ISO, ITU and countries.
fn is_object_id(octets: [u8; 4]) -> bool {
    matches!(octets, [1, 2 | 3, ..] | [2, 5 | 16 | 23, ..] | [0, ..])
}
