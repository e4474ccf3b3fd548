//! Distinguishes versions and object identifiers from IPv4 addresses by their context.

use super::cost;

/// How to treat four numbers that could also be a version.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum VersionLike {
    Address,
    Version,
}

/// The numbers of an IPv4 address and their context.
#[derive(Clone, Copy)]
pub(super) struct Quad<'a> {
    pub(super) octets: [u8; 4],
    pub(super) before: &'a [u8],
    pub(super) after: &'a [u8],
    pub(super) has_port: bool,
}

impl Quad<'_> {
    /// Returns whether the numbers are a version rather than an address.
    pub(super) fn is_version(self) -> bool {
        let octets = self.octets;
        let is_host = self.has_port || self.before.ends_with(b"//") || self.before.ends_with(b"@");
        // `1.2.3.4-beta`, `1.2.3.4_2`, `1.2.3.4b1`.
        let goes_on = match self.after {
            [byte, ..] if byte.is_ascii_alphabetic() || *byte == b'_' => true,
            [b'-' | b'+', byte, ..] => byte.is_ascii_alphabetic(),
            _ => false,
        };
        // One in 650,000 addresses has four single digits; most versions do.
        let single_digits = octets.iter().all(|octet| *octet < 10);
        // Not the address of a host: `0.x.x.x` is this network, `x.0.0.0` a whole
        // network.
        let no_host = octets[0] == 0 || octets[1..] == [0, 0, 0];
        // X.509 attributes and extensions are below the first two; the others are X25519
        // to Ed448 (RFC 8410).
        let is_object_id = matches!(octets, [2, 5, 4 | 29, _] | [1, 3, 101, 110..=113]);
        goes_on
            || no_host
            || (!is_host && (single_digits || is_object_id || self.follows_product()))
            || self.follows_version()
    }

    /// Returns whether the numbers follow a product name of a user agent:
    /// `UCBrowser8.4.0.159`, `OPR/99.0.88.12`. Hosts are written in lower case:
    /// `localhost/127.0.0.1`.
    fn follows_product(self) -> bool {
        let before = self.before.strip_suffix(b"/").unwrap_or(self.before);
        let is_glued = before.len() == self.before.len();
        let product = word_at_end(before);
        match product.first() {
            None => false,
            Some(first) => {
                is_glued
                    || (first.is_ascii_uppercase()
                        && !before_word(before, product)
                            .is_some_and(|byte| byte == b'/' || byte == b'.'))
            }
        }
    }

    /// Returns whether the numbers follow a word for a version, with at most a separator
    /// in between: `v`, `version: `, `app_version=`, `"appVersion":"`.
    fn follows_version(self) -> bool {
        let is_separator = |byte: &u8| {
            matches!(byte, b' ' | b'=' | b':' | b'"' | b'\'' | b'/' | b'\\' | b'-' | b'_')
        };
        let separator = self.before.iter().rev().take(6).take_while(|byte| is_separator(byte));
        let before = &self.before[..self.before.len() - separator.count()];
        let word = word_at_end(before);
        let is_word = |other: &[u8]| word.eq_ignore_ascii_case(other);
        is_word(b"v") || is_word(b"ver") || is_word(b"rv") || ends_with_version(word)
    }
}

/// Returns the letters at the end of `before`.
fn word_at_end(before: &[u8]) -> &[u8] {
    let length = before.iter().rev().take(32).take_while(|byte| byte.is_ascii_alphabetic()).count();
    cost::add(length);
    &before[before.len() - length..]
}

fn before_word(before: &[u8], word: &[u8]) -> Option<u8> {
    before[..before.len() - word.len()].last().copied()
}

/// Returns whether the last word of `letters` is `version`: true for `appVersion`, false
/// for `conversion`.
fn ends_with_version(letters: &[u8]) -> bool {
    letters.len().checked_sub(VERSION.len()).is_some_and(|start| is_version_at(letters, start))
}

const VERSION: &[u8] = b"version";

/// Returns whether `version` is a word in `key`: true for `app_version`, `appVersion` and
/// `versionName`, false for `conversion`.
pub(super) fn is_named_version(key: &str) -> bool {
    (0..key.len()).any(|at| is_version_at(key.as_bytes(), at))
}

/// Returns whether the word at `at` in `bytes` is `version` or `versions`.
fn is_version_at(bytes: &[u8], at: usize) -> bool {
    let (before, rest) = bytes.split_at(at);
    let Some((word, after)) = rest.split_at_checked(VERSION.len()) else { return false };
    if !word.eq_ignore_ascii_case(VERSION) {
        return false;
    }
    // In camelCase, a word ends where a lower-case letter precedes a capital.
    let ends = |last: Option<&u8>, next: Option<&u8>| match (last, next) {
        (Some(last), Some(next)) => {
            !last.is_ascii_alphabetic()
                || !next.is_ascii_alphabetic()
                || (last.is_ascii_lowercase() && next.is_ascii_uppercase())
        }
        _ => true,
    };
    let plural = after.strip_prefix(b"s").or_else(|| after.strip_prefix(b"S"));
    ends(before.last(), word.first())
        && (ends(word.last(), after.first())
            || plural.is_some_and(|after| ends(Some(&b's'), after.first())))
}
