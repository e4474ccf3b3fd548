//! The member of the account's event that holds the user's agreements.
//!
//! It is bound to the ID of the same event by a digest, because other clients carry members
//! along that they do not know: Element Web keeps them when it creates another ID.

use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::{
    Agreement,
    agreements::{Agreements, Entry, MAX_ENTRIES},
};
use crate::{
    analytics_id::AnalyticsId,
    consent::hex::hex,
    json::{self, name_of},
};

/// The name of the member.
pub(crate) const POLICY: &str = "matrix-analytics.policy";
/// The member of it that binds it to an ID.
const BOUND_TO: &str = "id_sha256";
/// The member of it that is the list of entries.
const AGREED: &str = "agreed";

/// The longest entry that is read or kept, in bytes. The longest of this crate has two thirds of
/// that, even if a homeserver escapes every character that is not ASCII.
const MAX_ENTRY_BYTES: usize = 8192;
/// The most bytes of unknown members that are kept.
const MAX_UNKNOWN_BYTES: usize = 8192;

/// A member that is bound to the ID of its event.
#[derive(Default)]
struct Member<'a> {
    agreed: Vec<&'a RawValue>,
    /// The members that a later version of this crate may have added.
    unknown: Vec<(&'a RawValue, &'a RawValue)>,
}

impl<'a> Member<'a> {
    fn bound_to(id: &AnalyticsId, member: &'a RawValue) -> Option<Self> {
        let mut bound_to = None;
        let mut found = Self::default();
        for (key, value) in json::members(member.get()).ok()? {
            match name_of(key).as_deref() {
                Some(BOUND_TO) => bound_to = serde_json::from_str::<String>(value.get()).ok(),
                Some(AGREED) => {
                    found.agreed = serde_json::from_str(value.get()).unwrap_or_default();
                }
                _ => found.unknown.push((key, value)),
            }
        }
        (bound_to? == digest(id)).then_some(found)
    }

    /// Returns the unknown members, or none if they are too long.
    fn unknown(&self) -> Vec<String> {
        let members = self.unknown.iter();
        let members: Vec<_> =
            members.map(|(key, value)| format!("{}:{}", key.get(), value.get())).collect();
        let length: usize = members.iter().map(String::len).sum();
        if length <= MAX_UNKNOWN_BYTES { members } else { Vec::new() }
    }
}

/// Returns whether `member` is bound to `id`.
pub(crate) fn is_bound(member: &RawValue, id: &AnalyticsId) -> bool {
    Member::bound_to(id, member).is_some()
}

/// Returns the agreements in the `member` of an event with this `id`. A malformed member, or
/// one that is bound to another ID, has none, and malformed entries do not count.
pub(crate) fn read(member: &RawValue, id: &AnalyticsId) -> Agreements {
    let mut agreements = Agreements::default();
    let entries = Member::bound_to(id, member).unwrap_or_default().agreed;
    for entry in entries.into_iter().filter_map(entry) {
        agreements.push(entry);
    }
    agreements
}

/// Returns the `member` of an event with this `id` after `agreement` was added. Everything else
/// in a bound member is kept byte for byte, even what this version of the crate cannot read, except
/// for labels that no policy can have. If there are too many entries, the oldest are left out.
pub(crate) fn with(
    member: Option<&RawValue>,
    id: &AnalyticsId,
    agreement: &Agreement,
) -> serde_json::Result<String> {
    let version = &agreement.policy.version;
    let found = member.and_then(|member| Member::bound_to(id, member)).unwrap_or_default();
    let mut own = Entry::new(version.clone());
    let mut unknown = Vec::new();
    let mut others = Vec::new();
    for json in &found.agreed {
        match entry(json) {
            // Of a repeated version, the last entry counts.
            Some(entry) if entry.version == *version => {
                own = entry;
                unknown = unknown_of_entry(json);
            }
            _ if json.get().len() <= MAX_ENTRY_BYTES => others.push(json.get()),
            _ => {}
        }
    }
    own.agree(agreement);
    let first = (others.len() + 1).saturating_sub(MAX_ENTRIES);
    let others = others[first..].iter().map(|json| (*json).to_owned());
    let mut own = serde_json::to_string(&own)?;
    let unknown: String = unknown.iter().map(|member| format!(",{member}")).collect();
    if own.len() + unknown.len() <= MAX_ENTRY_BYTES {
        own.insert_str(own.len() - 1, &unknown);
    }
    let agreed: Vec<_> = others.chain([own]).collect();
    let mut members = vec![
        format!(r#""{BOUND_TO}":"{}""#, digest(id)),
        format!(r#""{AGREED}":[{}]"#, agreed.join(",")),
    ];
    members.extend(found.unknown());
    Ok(format!("{{{}}}", members.join(",")))
}

/// Reads an entry of the list, or returns `None` if it does not count.
fn entry(json: &RawValue) -> Option<Entry> {
    let json = Some(json.get()).filter(|json| json.len() <= MAX_ENTRY_BYTES)?;
    serde_json::from_str::<Entry>(json).ok()?.checked()
}

/// Returns the members of an entry that a later version of this crate may have added.
fn unknown_of_entry(json: &RawValue) -> Vec<String> {
    let members = json::members::<&RawValue>(json.get()).unwrap_or_default().into_iter();
    let unknown = members.filter(|(key, _)| {
        !matches!(name_of(key).as_deref(), Some("version" | "ts" | "recipients"))
    });
    unknown.map(|(key, value)| format!("{}:{}", key.get(), value.get())).collect()
}

fn digest(id: &AnalyticsId) -> String {
    let mut hash = Sha256::new();
    hash.update(POLICY.as_bytes());
    hash.update([0]);
    hash.update(id.reveal().as_bytes());
    hex(&hash.finalize())
}
