//! Finds IP addresses in a text. Each run of digits, dots and colons is examined once,
//! part by part, because the number of its parts decides whether it can be an address.

use std::ops::Range;

use memchr::memchr2_iter;

use super::{cost, dotted::Dotted, groups::Groups, version::VersionLike};

/// How many positions are examined together. The compiler vectorises this.
const BLOCK: usize = 64;
/// How far beyond a position [`may_be_ip`] looks.
const BEHIND: usize = 5;

/// Passes each IP address in `text` to `found`, in order.
pub(super) fn ip_addresses(
    text: &str,
    version_like: VersionLike,
    mut found: impl FnMut(Range<usize>),
) {
    let bytes = text.as_bytes();
    // Addresses in real use contain a digit. Most texts end the search here.
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

/// Returns whether a dot with a digit is soon followed by another dot, or a colon by
/// another colon.
#[inline(always)]
fn may_be_ip(block: &[u8; BLOCK + BEHIND], at: usize) -> bool {
    let is = |behind: usize, byte: u8| block[at + behind] == byte;
    let v4 = is(0, b'.')
        & (block[at + 1].wrapping_sub(b'0') < 10)
        & (is(2, b'.') | is(3, b'.') | is(4, b'.'));
    let v6 = is(0, b':') & (is(1, b':') | is(2, b':') | is(3, b':') | is(4, b':') | is(5, b':'));
    v4 | v6
}

/// Returns the run of address characters around `at`, from `floor` on.
fn run_around(bytes: &[u8], at: usize, floor: usize) -> Range<usize> {
    let is_part = |byte: &&u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':');
    let start = at - bytes[floor..at].iter().rev().take_while(is_part).count();
    let end = at + bytes[at..].iter().take_while(is_part).count();
    cost::add(end - start);
    start..end
}

/// Returns whether `run` has as many dots and colons as an address. Most times and
/// versions have fewer.
fn may_have_address(run: &[u8]) -> bool {
    let count = |byte: u8| run.iter().filter(|b| **b == byte).count();
    let colons = count(b':');
    count(b'.') >= 3 || colons >= 7 || (colons >= 2 && run.windows(2).any(|pair| pair == b"::"))
}

/// Passes each address in `run` to `found`.
///
/// The parts between colons are groups of an IPv6 address, or dotted numbers. Consecutive
/// groups form at most one address, whose last group may be an IPv4 address.
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
        cost::add(length + 1);
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
                // The numbers belong to the next address: `192.0.2.1::1` is two
                // addresses.
                groups = Groups { range: part.end..part.end, count: 1 };
            }
        }
        start = next;
    }
    groups.end(text, &run, found);
}
