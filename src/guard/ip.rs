//! Finds IP addresses in a text. Each run of digits, dots and colons is looked at once,
//! part by part: what may be an address is a question of how many there are.

use std::ops::Range;

use memchr::memchr2_iter;

use super::{dotted::Dotted, groups::Groups, version::VersionLike, work};

/// How many places are looked at together: compilers make vector instructions of it.
const BLOCK: usize = 64;
/// How far behind a place [`may_be_ip`] looks.
const BEHIND: usize = 5;

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
