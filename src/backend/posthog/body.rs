//! The body of a request.

use std::{borrow::Cow, sync::LazyLock, time::SystemTime};

use aho_corasick::AhoCorasick;

use super::{ApiKey, lifted::Lifted};
use crate::{
    backend::{Batch, Identity},
    event::{OutgoingEvent, Properties, unix_time},
};

/// Properties that name the sender. The v1 endpoint takes them from a header.
const SENDER: &str =
    concat!(r#""$lib":"matrix-analytics","$lib_version":""#, env!("CARGO_PKG_VERSION"), r#"","#);

/// Properties that are the same in every event.
const CONSTANTS: &str = r#""$geoip_disable":true,"$ip":"0.0.0.0""#;

/// The form of a body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Batch,
    V1,
}

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

/// Returns the body of a request to `/batch/`.
pub(super) fn batch_body(key: &ApiKey, batch: &Batch) -> serde_json::Result<Vec<u8>> {
    let mut head = br#"{"api_key":"#.to_vec();
    serde_json::to_writer(&mut head, &key.0)?;
    body(Form::Batch, head, batch)
}

/// Returns the body of a request to the v1 endpoint, made at `created_at`.
pub(super) fn v1_body(created_at: SystemTime, batch: &Batch) -> serde_json::Result<Vec<u8>> {
    let created_at = unix_time::rfc3339(created_at);
    body(Form::V1, format!(r#"{{"created_at":"{created_at}""#).into_bytes(), batch)
}

/// Returns the body that begins with `head`.
fn body(form: Form, head: Vec<u8>, batch: &Batch) -> serde_json::Result<Vec<u8>> {
    let id = serde_json::to_string(batch.distinct_id())?;
    let has_profile = batch.identity() != Identity::Anonymous;
    let size: usize = batch.events().map(|event| event.bytes() + id.len() + 160).sum();
    let mut out = head;
    out.reserve(size + 64);
    out.extend_from_slice(br#","batch":["#);
    for (index, event) in batch.events().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_event(&mut out, form, &id, has_profile, event)?;
    }
    out.extend_from_slice(b"]}");
    Ok(out)
}

fn push_event(
    out: &mut Vec<u8>,
    form: Form,
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
    let properties = properties_of(event, has_profile);
    let lifted = match form {
        Form::Batch => Lifted::default(),
        Form::V1 => {
            let lifted = Lifted::of(&properties);
            lifted.push(out);
            lifted
        }
    };
    out.extend_from_slice(br#","properties":{"#);
    if lifted.is_empty() {
        push_members(out, &properties);
    } else {
        push_members(out, &properties.without(|key| lifted.has(key)));
    }
    if form == Form::Batch {
        out.extend_from_slice(SENDER.as_bytes());
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

/// Returns the properties of `event` without those whose keys are reserved, and with our
/// [`PROFILE`] if PostHog must not keep one.
fn properties_of(event: &OutgoingEvent, has_profile: bool) -> Cow<'_, Properties> {
    let properties = event.properties();
    if !has_profile {
        let is_ours = |key: &str| RESERVED_KEYS.contains(&key) || key == PROFILE;
        Cow::Owned(properties.without(is_ours).with(PROFILE, false))
    } else if may_have_reserved_key(properties.members()) {
        Cow::Owned(properties.without(|key| RESERVED_KEYS.contains(&key)))
    } else {
        Cow::Borrowed(properties)
    }
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
