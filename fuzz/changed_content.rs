//! Changes of arbitrary content, and what has to hold after each.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::{
    analytics_id::AnalyticsId,
    consent::{
        content::{Change, Observed, ObservedId},
        policy::{Agreement, Policy},
    },
    json,
};

/// The members that a change may touch.
const OURS: [&str; 3] = ["id", "pseudonymousAnalyticsOptIn", "matrix-analytics.policy"];

/// The SHA-256 of `matrix-analytics.policy`, a zero byte and `abc`.
const DIGEST: &str = "d293eec26183bf6bffea313354a3c3c9a82d51b713fa16c948cab37bfef2e8ec";

/// Makes each change to the content `text`, and to contents that have `text` as the member with
/// the agreements, or as their list.
///
/// # Panics
///
/// If the result does not read as it was written, or a member of another client has changed.
pub fn change_content(text: &str) {
    let opt_in = r#""id":"abc","pseudonymousAnalyticsOptIn":true"#;
    let member = format!(r#"{{{opt_in},"matrix-analytics.policy":{text}}}"#);
    let list = format!(
        r#"{{{opt_in},"matrix-analytics.policy":{{"id_sha256":"{DIGEST}","agreed":{text}}}}}"#
    );
    for content in [text.to_owned(), member, list] {
        if let Ok(content) = RawValue::from_string(content) {
            change(&content);
        }
    }
}

fn change(content: &RawValue) {
    let id = AnalyticsId::from_foreign("abc").expect("it is usable");
    let policy = Arc::new(Policy::new("3").recipients(["a.example"]));
    let agreement = Agreement { policy: policy.clone(), at: 5 };
    let read = |content: &RawValue| Observed::read(content, Some(&policy), |_| false);
    read(content);
    for change in
        [Change::OptIn(id.clone(), Some(agreement)), Change::OptIn(id, None), Change::OptOut]
    {
        let Ok(changed) = change.apply_to(Some(content)) else {
            assert!(json::members::<&RawValue>(content.get()).is_err(), "{content}");
            return;
        };
        let (seen, outcome) = (read(&changed), change.outcome());
        assert_eq!((seen.flag, &seen.id), (outcome.flag, &outcome.id), "{content}");
        if matches!(change, Change::OptIn(_, None)) {
            assert!(members_with_agreements(&changed).all(|value| is_bound(&value)), "{content}");
        } else {
            // A time that is later than ours stays.
            assert!(seen.agreed >= outcome.agreed, "{content}");
            assert_eq!(seen.agreed.is_some(), outcome.agreed.is_some(), "{content}");
            assert_eq!(seen.has_leftovers, outcome.has_leftovers, "{content}");
            assert!(changed.get().len() < content.get().len() + 1024, "{content}");
        }
        assert_eq!(others(content), others(&changed), "{content}");
        let again = change.apply_to(Some(&changed)).expect("it is an object");
        assert_eq!(again.get(), changed.get(), "a second time changes nothing");
        assert_ne!(seen.id, ObservedId::Unusable);
    }
}

/// Returns whether a member with agreements has the digest of `abc`, which may be escaped.
fn is_bound(member: &str) -> bool {
    let members = json::members::<&RawValue>(member).expect("it is an object");
    members.iter().any(|(_, value)| {
        serde_json::from_str::<String>(value.get()).is_ok_and(|value| value == DIGEST)
    })
}

/// Returns the values of the member with the agreements.
fn members_with_agreements(content: &RawValue) -> impl Iterator<Item = String> {
    let members: Vec<(&RawValue, &RawValue)> =
        json::members(content.get()).expect("it is an object");
    let ours = members.into_iter().filter(|(key, _)| {
        serde_json::from_str::<String>(key.get()).is_ok_and(|key| key == OURS[2])
    });
    let values: Vec<_> = ours.map(|(_, value)| value.get().to_owned()).collect();
    values.into_iter()
}

/// Returns the members of other clients.
fn others(content: &RawValue) -> Vec<(String, String)> {
    let members: Vec<(&RawValue, _)> = json::members(content.get()).expect("it is an object");
    let others = members.into_iter().filter(|(key, _)| {
        !serde_json::from_str::<String>(key.get()).is_ok_and(|key| OURS.contains(&key.as_str()))
    });
    others.map(|(key, value)| (key.get().to_owned(), value.get().to_owned())).collect()
}
