//! Reads JSON members without braces, in the form that `flat` writes or in any form.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json;

/// A member written by `flat`: its key as spelled, with quotes, and the complete member.
pub(super) struct Member<'a> {
    pub(super) key: &'a str,
    pub(super) text: &'a str,
}

/// Returns the members that `flat` wrote, in order and including duplicates. Returns
/// `None` for any other text. Each key has exactly one spelling, so spellings can be
/// compared.
pub(super) fn split(members: &str) -> Option<Vec<Member<'_>>> {
    // Members are rarely shorter than that.
    let mut found = Vec::with_capacity(members.len() / 16 + 1);
    let mut rest = members;
    while !rest.is_empty() {
        let (member, after) = split_first(rest)?;
        found.push(member);
        rest = after;
    }
    Some(found)
}

/// Returns the first member that `flat` wrote, and the members after it. Returns `None` for any
/// other text.
pub(super) fn split_first(members: &str) -> Option<(Member<'_>, &str)> {
    let key = &members[..string_length(members.as_bytes())?];
    let value = members[key.len()..].strip_prefix(':')?;
    let value_length = match value.as_bytes().first() {
        Some(b'"') => string_length(value.as_bytes())?,
        Some(b'[') => array_length(value.as_bytes())?,
        _ => value.find(',').unwrap_or(value.len()),
    };
    if value_length == 0 {
        return None;
    }
    let (text, after) = members.split_at(key.len() + 1 + value_length);
    let after = match after.strip_prefix(',') {
        None if after.is_empty() => after,
        Some(next) if !next.is_empty() => next,
        _ => return None,
    };
    Some((Member { key, text }, after))
}

/// Returns the length of the JSON string at the start of `text`, including its quotes.
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

/// Returns the length of the JSON array at the start of `text`, including its brackets. It
/// holds no array and no object.
fn array_length(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b']' => return Some(at + 1),
            b'[' | b'{' => return None,
            b'"' => at += string_length(&text[at..])?,
            _ => at += 1,
        }
    }
}

/// Parses the members of the JSON object `json`, in order and including duplicates.
pub(super) fn parse(json: &str) -> serde_json::Result<Vec<(Key<'_>, &RawValue)>> {
    json::members(json)
}

/// A key, borrowed unless it has escapes.
#[derive(Deserialize)]
pub(super) struct Key<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);
