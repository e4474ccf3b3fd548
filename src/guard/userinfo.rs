//! Finds the user and password before the host of a URL.

use std::{ops::Range, sync::LazyLock};

use memchr::memmem::Finder;

use super::{cost, kind::IdentifierKind};

/// Precedes the host of a URL, or the user information before it.
const START: &str = "://";

/// Passes the user information of each URL in `text` to `found`.
pub(super) fn user_infos(text: &str, mut found: impl FnMut(Range<usize>)) {
    static STARTS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(START));

    for at in STARTS.find_iter(text.as_bytes()) {
        if let Some(user_info) = user_info_at(text, at + START.len()) {
            found(user_info);
        }
    }
}

/// Returns the user information of the URL whose `://` ends at `start`.
fn user_info_at(text: &str, start: usize) -> Option<Range<usize>> {
    let ends_authority = |c: char| {
        c.is_whitespace()
            || c.is_control()
            || matches!(c, '/' | '?' | '#' | '\\' | '"' | '<' | '>' | '^' | '`' | '|' | '{' | '}')
    };
    // Each `://` ends the authority before it, so no byte is read twice.
    let authority = &text[start..];
    let authority = &authority[..authority.find(ends_authority).unwrap_or(authority.len())];
    cost::add(authority.len() + 1);
    // A password may itself contain an `@`.
    let user_info = &authority[..authority.rfind('@')?];
    (!user_info.is_empty() && !is_redacted(user_info)).then_some(start..start + user_info.len())
}

/// Returns whether `user_info` is a placeholder of the guard.
fn is_redacted(user_info: &str) -> bool {
    let name = user_info.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    name == Some(IdentifierKind::Credentials.name())
}
