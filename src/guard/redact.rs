//! Replaces findings until a search finds nothing more.

use super::{
    context::Context,
    kind::{IdentifierKind, REDACTED},
    scanner::Scanner,
};
use crate::event::MAX_EVENT_BYTES;

/// How often a text is searched. The remainder of one identifier can form another one
/// with its neighbours, but hardly ever twice.
const MAX_ROUNDS: usize = 4;

/// A text whose findings have been replaced.
#[derive(Debug)]
pub(super) struct Redacted {
    pub(super) text: String,
    pub(super) kinds: Vec<IdentifierKind>,
}

/// Replaces each finding in `text` with a placeholder. Returns `None` if there is no
/// finding.
///
/// A search of the returned text finds nothing. The text is not longer than an event may
/// be, unless `text` is.
pub(super) fn redact(scanner: &mut Scanner, text: &str, context: Context) -> Option<Redacted> {
    let max_bytes = text.len().max(MAX_EVENT_BYTES);
    let mut redacted: Option<Redacted> = None;
    for _ in 0..MAX_ROUNDS {
        let text = redacted.as_ref().map_or(text, |redacted| &redacted.text);
        let found = scanner.scan(text, context);
        if found.is_empty() {
            return redacted;
        }
        let mut clean = String::with_capacity(text.len());
        let mut copied = 0;
        for finding in &found {
            clean.push_str(&text[copied..finding.range.start]);
            clean.push('[');
            clean.push_str(finding.kind.name());
            clean.push(']');
            copied = finding.range.end;
        }
        clean.push_str(&text[copied..]);
        let mut kinds = redacted.map(|redacted| redacted.kinds).unwrap_or_default();
        kinds.extend(found.iter().map(|finding| finding.kind));
        if clean.len() > max_bytes {
            return Some(Redacted { text: REDACTED.to_owned(), kinds });
        }
        redacted = Some(Redacted { text: clean, kinds });
    }
    let text = redacted.as_ref().map_or(text, |redacted| &redacted.text);
    if !scanner.scan(text, context).is_empty() {
        redacted.get_or_insert_with(|| Redacted { text: String::new(), kinds: Vec::new() }).text =
            REDACTED.to_owned();
    }
    redacted
}
