//! Finds who logs in by a URL: the user and the password before its host.

use std::ops::Range;

use super::{kind::IdentifierKind, work};

/// Returns the user information of the URL whose `://` ends at `start`.
pub(super) fn user_info_at(text: &str, start: usize) -> Option<Range<usize>> {
    let ends_authority = |c: char| {
        c.is_whitespace()
            || c.is_control()
            || matches!(c, '/' | '?' | '#' | '\\' | '"' | '<' | '>' | '^' | '`' | '|' | '{' | '}')
    };
    // Each of these slashes ends the one before: no byte is looked at twice.
    let authority = &text[start..];
    let authority = &authority[..authority.find(ends_authority).unwrap_or(authority.len())];
    work::looked_at(authority.len() + 1);
    // A password may have an `@` itself.
    let user_info = &authority[..authority.rfind('@')?];
    (!user_info.is_empty() && !is_redacted(user_info)).then_some(start..start + user_info.len())
}

/// Returns whether this is what the guard writes.
fn is_redacted(user_info: &str) -> bool {
    let name = user_info.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    name == Some(IdentifierKind::Credentials.name())
}
