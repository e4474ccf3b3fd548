//! The body of a request to `/batch/`.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use super::ApiKey;
use crate::{
    backend::{Batch, Identity},
    event::{OutgoingEvent, Properties},
};

/// JSON members that are the same in every event.
const CONSTANTS: &str = concat!(
    r#""$lib":"matrix-analytics","$lib_version":""#,
    env!("CARGO_PKG_VERSION"),
    r#"","$geoip_disable":true,"$ip":"0.0.0.0""#,
);

/// Property keys that name the person an event is about, or that control how PostHog
/// processes it, in alphabetical order.
const RESERVED_KEYS: [&str; 20] = [
    "$anon_distinct_id",
    "$cookieless_mode",
    "$device_id",
    "$distinct_id",
    "$geoip_disable",
    "$ignore_sent_at",
    "$ip",
    "$is_identified",
    "$lib",
    "$lib_version",
    "$set",
    "$set_once",
    "$token",
    "$unset",
    "$user_id",
    "alias",
    "api_key",
    "capture_internal",
    "distinct_id",
    "token",
];

/// Whether PostHog keeps a profile of the person, which is a property of each event.
pub(super) const PROFILE: &str = "$process_person_profile";

pub(super) fn request_body(key: &ApiKey, batch: &Batch) -> serde_json::Result<Vec<u8>> {
    let id = serde_json::to_string(batch.distinct_id())?;
    let has_profile = batch.identity() != Identity::Anonymous;
    let size: usize = batch.events().map(|event| event.bytes() + id.len() + 160).sum();
    let mut out = Vec::with_capacity(size + 64);
    out.extend_from_slice(br#"{"api_key":"#);
    serde_json::to_writer(&mut out, &key.0)?;
    out.extend_from_slice(br#","batch":["#);
    for (index, event) in batch.events().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_event(&mut out, &id, has_profile, event)?;
    }
    out.extend_from_slice(b"]}");
    Ok(out)
}

fn push_event(
    out: &mut Vec<u8>,
    id: &str,
    has_profile: bool,
    event: &OutgoingEvent,
) -> serde_json::Result<()> {
    out.extend_from_slice(br#"{"event":"#);
    serde_json::to_writer(&mut *out, event.name())?;
    out.extend_from_slice(br#","uuid":""#);
    let mut uuid = uuid::Uuid::encode_buffer();
    out.extend_from_slice(event.uuid().hyphenated().encode_lower(&mut uuid).as_bytes());
    out.extend_from_slice(br#"","timestamp":""#);
    out.extend_from_slice(event.rfc3339_time().as_bytes());
    out.extend_from_slice(br#"","distinct_id":"#);
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(br#","properties":{"#);
    if !has_profile {
        let is_ours = |key: &str| RESERVED_KEYS.contains(&key) || key == PROFILE;
        push_members(out, &event.properties().without(is_ours));
        out.extend_from_slice(br#""$process_person_profile":false,"#);
    } else if may_have_reserved_key(event.properties().members()) {
        push_members(out, &event.properties().without(|key| RESERVED_KEYS.contains(&key)));
    } else {
        push_members(out, event.properties());
    }
    out.extend_from_slice(CONSTANTS.as_bytes());
    for (key, properties) in [
        (&br#","$set":{"#[..], event.user_properties().values()),
        (br#","$set_once":{"#, event.user_properties().initial_values()),
    ] {
        if !properties.is_empty() {
            out.extend_from_slice(key);
            out.extend_from_slice(properties.members().as_bytes());
            out.push(b'}');
        }
    }
    out.extend_from_slice(b"}}");
    Ok(())
}

/// Appends the members of `properties`, followed by a comma.
fn push_members(out: &mut Vec<u8>, properties: &Properties) {
    if !properties.is_empty() {
        out.extend_from_slice(properties.members().as_bytes());
        out.push(b',');
    }
}

/// Returns whether `members` may contain a reserved key.
///
/// The only false positives are strings that equal such a key, and keys or texts with
/// Unicode escapes. This saves parsing nearly every event.
fn may_have_reserved_key(members: &str) -> bool {
    static QUOTED_KEYS: LazyLock<Option<AhoCorasick>> =
        LazyLock::new(|| AhoCorasick::new(RESERVED_KEYS.map(|key| format!(r#""{key}""#))).ok());
    // A key may be spelled with escapes, which only a parser can resolve.
    members.contains(r"\u") || QUOTED_KEYS.as_ref().is_none_or(|keys| keys.is_match(members))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_check_finds_every_reserved_key() {
        for key in RESERVED_KEYS {
            assert!(may_have_reserved_key(&format!(r#""{key}":1"#)), "{key} alone");
            assert!(may_have_reserved_key(&format!(r#""a":"b","{key}":"c""#)), "{key} later");
            let escaped = format!(r#""\u{:04x}{}":1"#, u32::from(key.as_bytes()[0]), &key[1..]);
            assert!(may_have_reserved_key(&escaped), "{escaped}");
        }
        assert!(RESERVED_KEYS.is_sorted());
    }

    #[test]
    fn the_quick_check_ignores_other_keys() {
        for members in [
            "",
            r#""trigger":"Invite","is_dm":true,"members":3"#,
            r#""$screen_name":"Home","$process_person_profile":false"#,
            r#""tokens":1,"my_token":2,"aliases":3,"$settings":4,"$ips":5"#,
            r#""text":"distinct_id and $set""#,
        ] {
            assert!(!may_have_reserved_key(members), "{members}");
        }
    }
}
