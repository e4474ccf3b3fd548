//! Reads JSON members without braces back: as `flat` wrote them, or as a parser would.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json;

/// One member that `flat` wrote: its key with quotes, as it is spelled, and the
/// whole of it.
pub(super) struct Member<'a> {
    pub(super) key: &'a str,
    pub(super) text: &'a str,
}

/// The members that `flat` wrote, in order, repeats included; `None` for
/// anything else. Each key has one spelling, so that spellings can be compared.
pub(super) fn split(members: &str) -> Option<Vec<Member<'_>>> {
    // A member is rarely shorter than that.
    let mut found = Vec::with_capacity(members.len() / 16 + 1);
    let mut rest = members;
    while !rest.is_empty() {
        let key = &rest[..string_length(rest.as_bytes())?];
        let value = rest[key.len()..].strip_prefix(':')?;
        let value_length = if value.starts_with('"') {
            string_length(value.as_bytes())?
        } else {
            value.find(',').unwrap_or(value.len())
        };
        if value_length == 0 {
            return None;
        }
        let (text, after) = rest.split_at(key.len() + 1 + value_length);
        found.push(Member { key, text });
        rest = match after.strip_prefix(',') {
            None if after.is_empty() => after,
            Some(next) if !next.is_empty() => next,
            _ => return None,
        };
    }
    Some(found)
}

/// The length of the JSON string that `text` begins with, quotes included.
fn string_length(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    if text.first() != Some(&b'"') {
        return None;
    }
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The members of the JSON object `json`, in order, repeats included.
pub(super) fn parse(json: &str) -> serde_json::Result<Vec<(Key<'_>, &RawValue)>> {
    json::members(json)
}

/// A key, which is borrowed where nothing in it is escaped.
#[derive(Deserialize)]
pub(super) struct Key<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);
