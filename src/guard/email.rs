//! Finds email addresses by their `@`.

use std::{net::Ipv4Addr, ops::Range};

use super::{
    boundary::is_name_char,
    cost,
    host::{domain_end, host_run},
};

/// The maximum distance of an address from its `@`, in bytes. Mail servers reject longer
/// addresses.
const MAX_EMAIL_BYTES: usize = 254;
/// The longest quoted local part.
const MAX_QUOTED_BYTES: usize = 66;

/// Returns the email address whose `@` is at `at`, if it starts at `floor` or later.
///
/// The longest match wins: `a&b@example.org` is one address, although `b@example.org` is
/// one as well.
pub(super) fn email_at(text: &str, at: usize, floor: usize) -> Option<Range<usize>> {
    let start = quoted_start(text, at, floor).or_else(|| local_start(text, at, floor))?;
    let end = domain_end(text, at + 1)?;
    (!is_version_or_image(&text[at + 1..end], host_run(text, at + 1))).then_some(start..end)
}

/// Returns the start of the local part that ends at `at`. Servers accept more than the
/// grammar allows, such as two consecutive dots.
fn local_start(text: &str, at: usize, floor: usize) -> Option<usize> {
    let before = &text[text.ceil_char_boundary(floor.max(at.saturating_sub(MAX_EMAIL_BYTES)))..at];
    let (mut start, mut follows_sign, mut is_padding) = (at, false, true);
    for (index, c) in before.char_indices().rev() {
        let is_sign = is_sign(c);
        if !(is_usual(c) || (is_sign && !follows_sign)) {
            break;
        }
        // Base64 padding and empty path segments, as in `YWxpY2U==@example.org`.
        is_padding &= matches!(c, '=' | '/');
        follows_sign = is_sign && !is_padding;
        start = at - before.len() + index;
    }
    cost::add(at - start + 1);
    // Quotation marks and similar signs more often precede an address than belong to it.
    let local = &text[start..at];
    let local = local.trim_start_matches(|c| is_sign(c) || matches!(c, '.' | '\'' | '-' | '%'));
    local.contains(|c: char| is_usual(c) && c != '.').then_some(at - local.len())
}

/// Returns the start of the quoted local part that ends at `at`: `"al ice"@example.org`.
fn quoted_start(text: &str, at: usize, floor: usize) -> Option<usize> {
    let closing = at.checked_sub(1).filter(|closing| text.as_bytes()[*closing] == b'"')?;
    let before = text.as_bytes()[floor.max(at.saturating_sub(MAX_QUOTED_BYTES))..closing].iter();
    let length = before.rev().position(|byte| *byte == b'"').filter(|length| *length > 0);
    cost::add(length.unwrap_or(MAX_QUOTED_BYTES));
    Some(closing - length? - 1)
}

/// Returns whether `c` is common in a local part.
fn is_usual(c: char) -> bool {
    match c {
        '.' | '_' | '+' | '-' | '%' | '\'' => true,
        _ if c.is_ascii() => c.is_ascii_alphanumeric(),
        _ => is_name_char(c),
    }
}

/// Returns whether `c` is allowed in a local part (`atext` of RFC 5322) but rarely used.
/// Two in a row are treated as markup or as separators of a URL, unless they are padding
/// at its end.
fn is_sign(c: char) -> bool {
    matches!(c, '!' | '#' | '$' | '&' | '*' | '/' | '=' | '?' | '^' | '`' | '{' | '|' | '}' | '~')
}

/// Returns whether the text after an `@` is a version (`react@19.0.0-rc.next`), the
/// density of an image (`logo@2x.png`) or the variant of a locale (`sr_RS@latin.UTF-8`).
fn is_version_or_image(host: &str, run: &str) -> bool {
    let number = |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit());
    let is_density = || {
        let image = host.rsplit_once('.').filter(|(_, extension)| is_of_image(extension));
        let density = image.and_then(|(density, _)| density.strip_suffix(['x', 'X']));
        density.is_some_and(|density| density.split('.').all(number))
    };
    let is_version = || {
        let mut labels = run.split('.');
        let first = labels.next().unwrap_or_default();
        number(first.strip_prefix('v').unwrap_or(first))
            && labels.next().is_some_and(number)
            && host.parse::<Ipv4Addr>().is_err()
    };
    let is_locale = || {
        let variant = host.split_once('.');
        variant.is_some_and(|(_, charset)| {
            charset.eq_ignore_ascii_case("utf8") || charset.eq_ignore_ascii_case("utf-8")
        })
    };
    is_version() || is_density() || is_locale()
}

/// Returns whether `extension` is that of an image file or image set.
fn is_of_image(extension: &str) -> bool {
    const EXTENSIONS: [&str; 14] = [
        "appiconset",
        "avif",
        "bmp",
        "gif",
        "heic",
        "ico",
        "imageset",
        "jpeg",
        "jpg",
        "pdf",
        "png",
        "svg",
        "tiff",
        "webp",
    ];

    EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
}
