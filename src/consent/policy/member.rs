//! The member of the account's event that holds the user's agreements.
//!
//! It is bound to the ID of the same event by a digest, because other clients carry members
//! along that they do not know: Element Web keeps them when it creates another ID.

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::{
    Agreement, MAX_VERSION_BYTES,
    agreements::{Agreements, Entry, MAX_ENTRIES},
    check_text,
};
use crate::{analytics_id::AnalyticsId, consent::hex::hex};

/// The name of the member.
pub(crate) const POLICY: &str = "matrix-analytics.policy";

/// The longest entry that is read, in bytes. The longest of this crate has two thirds of that.
const MAX_ENTRY_BYTES: usize = 8192;

#[derive(Deserialize)]
struct Member<'a> {
    id_sha256: String,
    #[serde(borrow)]
    agreed: Vec<&'a RawValue>,
}

/// Returns the agreements in the `member` of an event with this `id`. A malformed member, or
/// one that is bound to another ID, has none, and malformed entries do not count.
pub(crate) fn read(member: &RawValue, id: &AnalyticsId) -> Agreements {
    let mut agreements = Agreements::default();
    for (entry, _) in entries(member, id) {
        agreements.push(entry);
    }
    agreements
}

/// Returns the `member` of an event with this `id` after `agreement` was added. Other entries
/// are kept byte for byte, except the oldest if there are too many.
pub(crate) fn with(
    member: Option<&RawValue>,
    id: &AnalyticsId,
    agreement: &Agreement,
) -> serde_json::Result<String> {
    let version = &agreement.policy.version;
    let found = member.map(|member| entries(member, id)).unwrap_or_default();
    let (own, others): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|(entry, _)| entry.version == *version);
    let mut own = own.into_iter().next_back().map(|(entry, _)| entry);
    let own = own.get_or_insert_with(|| Entry::new(version.clone()));
    own.agree(agreement);
    let first = (others.len() + 1).saturating_sub(MAX_ENTRIES);
    let others = others[first..].iter().map(|(_, json)| (*json).to_owned());
    let agreed: Vec<_> = others.chain([serde_json::to_string(own)?]).collect();
    Ok(format!(r#"{{"id_sha256":"{}","agreed":[{}]}}"#, digest(id), agreed.join(",")))
}

/// Returns the entries that count, each with its text, oldest first.
fn entries<'a>(member: &'a RawValue, id: &AnalyticsId) -> Vec<(Entry, &'a str)> {
    let Ok(Member { id_sha256, agreed }) = serde_json::from_str(member.get()) else {
        return Vec::new();
    };
    if id_sha256 != digest(id) {
        return Vec::new();
    }
    let counting = agreed.into_iter().filter_map(|json| {
        let json = json.get();
        let entry = (json.len() <= MAX_ENTRY_BYTES).then(|| serde_json::from_str::<Entry>(json))?;
        let entry = entry.ok()?;
        let is_version =
            entry.version.len() <= MAX_VERSION_BYTES && check_text(&entry.version).is_ok();
        is_version.then_some((entry, json))
    });
    counting.collect()
}

fn digest(id: &AnalyticsId) -> String {
    let mut hash = Sha256::new();
    hash.update(POLICY.as_bytes());
    hash.update([0]);
    hash.update(id.reveal().as_bytes());
    hex(&hash.finalize())
}
