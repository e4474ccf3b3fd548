//! Recognises IPv6 addresses in colon-separated groups.

use std::ops::Range;

use super::{cost, host::port_length};

/// Groups of an IPv6 address, separated only by colons.
pub(super) struct Groups {
    pub(super) range: Range<usize>,
    pub(super) count: usize,
}

impl Groups {
    pub(super) fn from(start: usize) -> Self {
        Self { range: start..start, count: 0 }
    }

    pub(super) fn push(&mut self, group: Range<usize>) {
        self.count += 1;
        self.range.end = group.end;
    }

    /// Passes the address that the groups form, if any, to `found`.
    pub(super) fn end(&self, text: &str, run: &Range<usize>, found: &mut impl FnMut(Range<usize>)) {
        found_if(self.address(text, run, self.range.end), found);
    }

    /// Returns the address that the groups form with the text that follows up to `end`,
    /// which is empty or an IPv4 address.
    pub(super) fn address(
        &self,
        text: &str,
        run: &Range<usize>,
        end: usize,
    ) -> Option<Range<usize>> {
        // At most eight groups, a label, the colons of a sentence before and after, and a
        // port.
        if self.count < 2 || self.count > 12 {
            return None;
        }
        let bytes = text.as_bytes();
        let has_quad = end > self.range.end;
        let mut range = self.range.start..end;
        // In `peer_2001:db8::1_443` the address is between other parts of a name. Words
        // such as `is_fade::b1_c` are paths.
        let group = bytes[range.clone()].iter().take_while(|byte| **byte != b':');
        let is_number = group.clone().any(u8::is_ascii_digit);
        cost::add(group.count());
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || (*byte == b'_' && !is_number);
        let before = bytes[..range.start].last();
        // In `line:fe80::1` the last letters of the label may be hexadecimal digits.
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

/// Removes a port after eight groups from `address`.
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

/// Returns whether the groups of `address` form an IPv6 address in real use. The last
/// group may be an IPv4 address that was already checked and counts as two groups.
fn is_ipv6(address: &str, has_quad: bool, after: Option<&u8>) -> bool {
    let first = address.split(':').next().unwrap_or_default();
    // `1::2` and `x: 5::3` are not addresses: a short address in real use begins with
    // `::` or with a group of at least three digits.
    if matches!(first.len(), 1 | 2) && address.contains("::") {
        let prefix = "64:ff9b::";
        if !address.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)) {
            return false;
        }
    }
    let groups = address.split(':').count() + usize::from(has_quad);
    let is_complete = match address.match_indices("::").count() {
        0 => groups == 8,
        // At either end of the address, `::` produces one more empty group.
        1 => groups <= 8 + usize::from(address.starts_with("::") || address.ends_with("::")),
        _ => false,
    };
    // `a::b` is as likely a path as an address, and every address in real use has a
    // digit.
    let has_digit = address.bytes().any(|byte| byte.is_ascii_digit());
    // Paths of Rust types: `f32::MAX`, `f32::<_`.
    let is_path = address.ends_with("::")
        && (matches!(first, "f16" | "f32" | "f64" | "f128")
            || (address.find(':') == Some(address.len() - 2)
                && matches!(after, Some(b'<' | b'{' | b'*'))));
    is_complete && has_digit && !is_path && !address.contains(":::")
}
