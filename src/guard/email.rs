//! Finds e-mail addresses in a text: candidates by their `@`, which a parser then
//! confirms.

use std::ops::Range;

use email_address::{EmailAddress, Options};

use super::{matrix::is_domain, work};

/// The longest address that mail servers take, in bytes.
const MAX_EMAIL_BYTES: usize = 254;

/// The e-mail address whose `@` is at `at`, if it starts at `floor` or later.
pub(super) fn email_at(text: &str, at: usize, floor: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    // Of the characters that the grammar allows, those that stand in addresses: the
    // others stand before one more often than in it.
    let is_local = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'.' | b'_' | b'+' | b'-' | b'%' | b'\'')
            || *byte >= 0x80
    };
    let local = bytes[floor..at].iter().rev().take(MAX_EMAIL_BYTES).take_while(|b| is_local(b));
    let start = at - local.count();
    let is_host =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-') || *byte >= 0x80;
    let host = bytes[at + 1..].iter().take(MAX_EMAIL_BYTES).take_while(|b| is_host(b));
    let end = at + 1 + host.count();
    work::looked_at(end - start);
    let host = text.get(at + 1..end)?.trim_end_matches(['.', '-']);
    let end = at + 1 + host.len();
    if start == at || !is_domain(host) || is_version_or_density(host) {
        return None;
    }
    let local = text.get(start..at)?;
    let start = at - local.trim_start_matches(['.', '\'', '-', '%']).len();
    let options =
        Options::default().with_required_tld().without_display_text().without_domain_literal();
    (end - start <= MAX_EMAIL_BYTES
        && EmailAddress::parse_with_options(&text[start..end], options).is_ok())
    .then_some(start..end)
}

/// Whether what follows an `@` is a version (`react@19.0.0-rc.next`) or the density
/// of an image (`logo@2x.png`).
fn is_version_or_density(host: &str) -> bool {
    let mut labels = host.split('.');
    let (Some(first), Some(second)) = (labels.next(), labels.next()) else { return false };
    let is_number =
        |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit());
    let is_density =
        first.strip_suffix(['x', 'X']).is_some_and(is_number) && labels.next().is_none();
    let is_version = is_number(first.strip_prefix('v').unwrap_or(first)) && is_number(second);
    is_density || is_version
}
