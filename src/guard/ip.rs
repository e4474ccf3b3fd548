//! Finds IP addresses in a text. Each run of digits, dots and colons is looked at once,
//! part by part: what may be an address is a question of how many there are.

use std::ops::Range;

use memchr::memchr2_iter;

use super::{dotted::Dotted, host::port_length, work};

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
pub(super) struct Groups {
    pub(super) range: Range<usize>,
    pub(super) count: usize,
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
    pub(super) fn end(&self, text: &str, run: &Range<usize>, found: &mut impl FnMut(Range<usize>)) {
        found_if(self.address(text, run, self.range.end), found);
    }

    /// Returns the address that these groups are with what follows up to `end`, which
    /// is nothing or an IPv4 address.
    pub(super) fn address(
        &self,
        text: &str,
        run: &Range<usize>,
        end: usize,
    ) -> Option<Range<usize>> {
        // Eight groups, a label or the colons of a sentence before and after, a port.
        if self.count < 2 || self.count > 12 {
            return None;
        }
        let bytes = text.as_bytes();
        let has_quad = end > self.range.end;
        let mut range = self.range.start..end;
        // In `peer_2001:db8::1_443` an address stands between other parts of a name; words
        // such as `is_fade::b1_c` are paths.
        let group = bytes[range.clone()].iter().take_while(|byte| **byte != b':');
        let is_number = group.clone().any(u8::is_ascii_digit);
        work::looked_at(group.count());
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || (*byte == b'_' && !is_number);
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

pub(super) fn found_if(address: Option<Range<usize>>, found: &mut impl FnMut(Range<usize>)) {
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
            || (address.find(':') == Some(address.len() - 2)
                && matches!(after, Some(b'<' | b'{' | b'*'))));
    is_complete && has_digit && !is_path && !address.contains(":::")
}
