//! Finds IPv4 addresses in dotted numbers.

use std::ops::Range;

use super::{
    cost,
    groups::{Groups, found_if},
    host::port_length,
    version::{Quad, VersionLike},
};

/// The lowest port recognised after a fifth dot, as in `192.0.2.1.443`. Versions and
/// object identifiers have small numbers there.
const LOWEST_DOTTED_PORT: u16 = 10;

/// The search for addresses in numbers that are separated by dots.
pub(super) struct Dotted<'a> {
    pub(super) text: &'a str,
    pub(super) version_like: VersionLike,
    pub(super) run: &'a Range<usize>,
}

impl Dotted<'_> {
    /// Passes each IPv4 address in `part`, with its port, to `found`. If the first
    /// address is the end of an IPv6 address that starts with `groups`, passes that one
    /// instead. Returns where to continue.
    pub(super) fn addresses(
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
            // An address cannot contain two dots in a row, and a dot at the end ends a
            // sentence.
            let length = bytes[start..part.end]
                .windows(2)
                .position(|pair| pair == b"..")
                .unwrap_or(part.end - start);
            cost::add(length);
            let numbers = start..start + length;
            let leading = usize::from(bytes.get(start) == Some(&b'.'));
            let trailing = usize::from(length > 1 && bytes[numbers.end - 1] == b'.');
            let numbers = numbers.start + leading..(numbers.end - trailing).max(start + leading);
            let numbers = without_words(bytes, numbers);
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

    /// Returns the IPv6 address that `groups` form with the IPv4 address `numbers`.
    fn embedded(&self, numbers: &Range<usize>, groups: &Groups) -> Option<Range<usize>> {
        let (_, end) = self.quad(numbers)?;
        if groups.count == 0 || groups.range.end + 1 != numbers.start {
            return None;
        }
        groups.address(self.text, self.run, end)
    }

    /// Returns the range of the IPv4 address in `numbers`, with its port.
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
            // A further dot means that the number belongs to the next address and is not
            // a port.
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

    /// Returns the first four numbers in `numbers` and where they end. Returns `None` if
    /// more numbers follow, unless the next one is a port.
    fn quad(&self, numbers: &Range<usize>) -> Option<([u8; 4], usize)> {
        let mut octets = [0; 4];
        let mut parts = self.text.get(numbers.clone())?.split('.');
        let mut end = numbers.start;
        for octet in &mut octets {
            let part = parts.next()?;
            let is_number =
                (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
            // Leading zeros are decimal: logs write `081` for 81, even though C would
            // read octal.
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

/// Removes words before and after `numbers` whose letters are hexadecimal digits:
/// `node.192.0.2.1`, `192.0.2.1.backup`.
fn without_words(bytes: &[u8], numbers: Range<usize>) -> Range<usize> {
    let is_number = |label: &[u8]| label.iter().all(u8::is_ascii_digit);
    let mut range = numbers;
    cost::add(range.len());
    while let Some(length) = bytes[range.clone()].iter().position(|byte| *byte == b'.')
        && !is_number(&bytes[range.start..range.start + length])
    {
        range.start += length + 1;
    }
    while let Some(dot) = bytes[range.clone()].iter().rposition(|byte| *byte == b'.')
        && !is_number(&bytes[range.start + dot + 1..range.end])
    {
        range.end = range.start + dot;
    }
    range
}

/// Returns whether an object identifier of more than four numbers can begin like this:
/// those of ISO, ITU and countries.
fn is_object_id(octets: [u8; 4]) -> bool {
    matches!(octets, [1, 2 | 3, ..] | [2, 5 | 16 | 23, ..] | [0, ..])
}
