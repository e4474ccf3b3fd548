use serde_json::{Value, json, value::RawValue};

use super::{agreements::Agreements, *};
use crate::{
    analytics_id::AnalyticsId,
    consent::content::{Change, Observed},
};

const DAY: u64 = 24 * 3600 * 1000;

fn id(name: &str) -> AnalyticsId {
    AnalyticsId::from_foreign(name).unwrap()
}

fn agreement(policy: Policy, at: u64) -> Agreement {
    policy.check().unwrap();
    Agreement { policy: Arc::new(policy), at }
}

fn version(version: impl Into<String>, at: u64) -> Agreement {
    agreement(Policy::new(version), at)
}

/// Returns `content` after an opt-in with `agreement`.
fn opted_in(content: Option<&RawValue>, id: &AnalyticsId, agreement: Agreement) -> Box<RawValue> {
    Change::OptIn(id.clone(), Some(agreement)).apply_to(content).unwrap()
}

/// Returns when the user agreed to `policy`, according to `content`.
fn agreed_at(content: &str, policy: &Policy) -> Option<u64> {
    let content = RawValue::from_string(content.to_owned()).unwrap();
    Observed::read(&content, Some(policy), |_| false).agreed
}

#[test]
fn an_invalid_policy_is_refused_with_its_reason() {
    let long = |bytes| "x".repeat(bytes);
    let labels = |count: usize| (0..count).map(|label| label.to_string());
    for (policy, reason) in [
        (Policy::new(""), InvalidPolicy::Empty),
        (Policy::new(" \u{3000}"), InvalidPolicy::Empty),
        (Policy::new("3\n"), InvalidPolicy::ControlCharacter),
        (Policy::new("3\u{85}"), InvalidPolicy::ControlCharacter),
        (Policy::new(long(65)), InvalidPolicy::LongVersion { length: 65 }),
        (Policy::new("3").recipients([""]), InvalidPolicy::Empty),
        (Policy::new("3").recipients(["a\0b"]), InvalidPolicy::ControlCharacter),
        (Policy::new("3").recipients([long(301)]), InvalidPolicy::LongLabel { length: 301 }),
        (Policy::new("3").recipients(labels(17)), InvalidPolicy::ManyRecipients { count: 17 }),
    ] {
        assert_eq!(policy.check(), Err(reason), "{policy:?}");
    }
    assert_eq!(
        InvalidPolicy::LongVersion { length: 65 }.to_string(),
        "the version has 65 bytes, of at most 64"
    );
    for policy in [
        Policy::new("3.0.0"),
        Policy::new(long(64)),
        Policy::new("é 2026").recipients(labels(16)),
        Policy::new("3").recipients([long(300)]),
        Policy::new("3").recipients(Vec::<String>::new()),
    ] {
        assert_eq!(policy.check(), Ok(()), "{policy:?}");
    }
}

#[test]
fn an_agreement_holds_until_it_is_old() {
    let year = Policy::new("3").renew_after(Duration::from_millis(365 * DAY));
    let holds = |policy: &Policy, at, today| policy.holds_for(at, today);
    assert_eq!(holds(&Policy::new("3"), 0, u64::MAX), Some(Duration::MAX));
    assert_eq!(holds(&year, DAY, DAY), Some(Duration::from_millis(365 * DAY)));
    assert_eq!(holds(&year, DAY, 366 * DAY - 1), Some(Duration::from_millis(1)));
    assert_eq!(holds(&year, DAY, 366 * DAY), None);
    // A clock that was a week fast, and one that was a century fast.
    assert_eq!(holds(&year, 8 * DAY, DAY), Some(Duration::from_millis(365 * DAY)));
    assert_eq!(holds(&year, 36_500 * DAY, DAY), None);
    // At least a day.
    let always = Policy::new("3").renew_after(Duration::ZERO);
    assert_eq!(holds(&always, 0, DAY - 1), Some(Duration::from_millis(1)));
    assert_eq!(holds(&Policy::new("3").renew_after(Duration::MAX), 0, u64::MAX), {
        Some(Duration::MAX - Duration::from_millis(u64::MAX))
    });
}

#[test]
fn an_entry_covers_its_version_and_its_recipients() {
    let mut agreements = Agreements::default();
    agreements.add(&agreement(Policy::new("3").recipients(["a", "b"]), 5));
    agreements.add(&version("4", 6));
    let at = |policy: Policy| agreements.agreed_at(&policy);
    assert_eq!(at(Policy::new("3").recipients(["a", "b"])), Some(5));
    assert_eq!(at(Policy::new("3").recipients(["b"])), Some(5));
    assert_eq!(at(Policy::new("3")), Some(5));
    assert_eq!(at(Policy::new("3").recipients(["a", "c"])), None);
    assert_eq!(at(Policy::new("4")), Some(6));
    assert_eq!(at(Policy::new("4").recipients(["a"])), None);
    assert_eq!(at(Policy::new("3.0")), None);
}

#[test]
fn an_opt_in_adds_its_recipients_and_renews_no_others() {
    let (first, second) = (Policy::new("3").recipients(["a"]), Policy::new("3").recipients(["b"]));
    let mut agreements = Agreements::default();
    agreements.add(&agreement(first.clone(), 5));
    agreements.add(&agreement(second.clone(), 7));
    assert_eq!(agreements.agreed_at(&first), Some(5));
    assert_eq!(agreements.agreed_at(&second), Some(7));
    // The oldest agreement counts for both together.
    assert_eq!(agreements.agreed_at(&Policy::new("3").recipients(["a", "b"])), Some(5));
}

#[test]
fn the_newest_versions_and_recipients_are_kept() {
    let mut agreements = Agreements::default();
    for number in 0..12 {
        agreements.add(&version(number.to_string(), number));
    }
    // A renewal makes an entry the newest.
    agreements.add(&version("4", 20));
    agreements.add(&version("12", 21));
    let kept: Vec<_> =
        (0..=12).filter(|n| agreements.agreed_at(&Policy::new(n.to_string())).is_some()).collect();
    assert_eq!(kept, [4, 6, 7, 8, 9, 10, 11, 12]);
    assert!(agreements.is_possible());

    let mut agreements = Agreements::default();
    for label in 0..20 {
        let policy = Policy::new("3").recipients([label.to_string()]);
        agreements.add(&agreement(policy, label));
    }
    let has = |label: u64| {
        agreements.agreed_at(&Policy::new("3").recipients([label.to_string()])).is_some()
    };
    assert_eq!(
        (0..20).filter(|label| has(*label)).collect::<Vec<_>>(),
        (4..20).collect::<Vec<_>>()
    );
}

#[test]
fn an_opt_in_writes_an_entry_that_is_read_as_written() {
    let policy = Policy::new("3.0.0 \"é\"").recipients(["eu.i.posthog.com"]);
    let content = opted_in(None, &id("abc"), agreement(policy.clone(), 1_796_000_000_000));
    let written: Value = serde_json::from_str(content.get()).unwrap();
    let digest = "d293eec2";
    let member = &written["matrix-analytics.policy"];
    assert_eq!(member["id_sha256"].as_str().map(|digest| &digest[..8]), Some(digest));
    assert_eq!(
        member["agreed"],
        json!([{
            "version": "3.0.0 \"é\"",
            "ts": 1_796_000_000_000_u64,
            "recipients": { "eu.i.posthog.com": 1_796_000_000_000_u64 },
        }])
    );
    assert_eq!(agreed_at(content.get(), &policy), Some(1_796_000_000_000));
}

#[test]
fn an_opt_in_removes_no_other_entry_and_an_opt_out_removes_all() {
    let id = id("abc");
    let first = opted_in(None, &id, version("3", 5));
    // An entry of a later version of this crate.
    let first = first.get().replace(r#""ts":5"#, r#""ts":5.0e0,"how":["a" , 1]"#);
    assert_eq!(agreed_at(&first, &Policy::new("3")), None, "a time is an integer");
    let first = first.replace("5.0e0", "5");
    let first = RawValue::from_string(first).unwrap();
    let both = opted_in(Some(&first), &id, version("4", 6));
    assert!(both.get().contains(r#"{"version":"3","ts":5,"how":["a" , 1]}"#), "{both}");
    assert_eq!(agreed_at(both.get(), &Policy::new("3")), Some(5));
    assert_eq!(agreed_at(both.get(), &Policy::new("4")), Some(6));

    let without_policy = Change::OptIn(id.clone(), None).apply_to(Some(&both)).unwrap();
    assert_eq!(agreed_at(without_policy.get(), &Policy::new("3")), Some(5));
    let opted_out = Change::OptOut.apply_to(Some(&both)).unwrap();
    assert_eq!(opted_out.get(), r#"{"pseudonymousAnalyticsOptIn":false}"#);
}

#[test]
fn a_member_that_is_bound_to_another_id_or_malformed_is_no_agreement() {
    let policy = Policy::new("3");
    let good = opted_in(None, &id("abc"), version("3", 5));
    assert_eq!(agreed_at(good.get(), &policy), Some(5));
    let member: Value = serde_json::from_str(good.get()).unwrap();
    let digest = member["matrix-analytics.policy"]["id_sha256"].clone();

    // As Element Web creates another ID: the member is carried along.
    let carried = good.get().replace(r#""id":"abc""#, r#""id":"other""#);
    assert_eq!(agreed_at(&carried, &policy), None);
    let renewed =
        opted_in(Some(&RawValue::from_string(carried).unwrap()), &id("other"), version("4", 6));
    assert_eq!(agreed_at(renewed.get(), &policy), None, "no entry of another ID is kept");

    let entry = json!({ "version": "3", "ts": 5 });
    let large = json!({ "version": "3", "ts": 5, "x": "x".repeat(9000) });
    for malformed in [
        json!(null),
        json!("3"),
        json!([entry]),
        json!({ "agreed": [entry] }),
        json!({ "id_sha256": digest }),
        json!({ "id_sha256": 5, "agreed": [entry] }),
        json!({ "id_sha256": "", "agreed": [entry] }),
        json!({ "id_sha256": digest, "agreed": entry }),
        json!({ "id_sha256": digest, "agreed": ["3"] }),
        json!({ "id_sha256": digest, "agreed": [{ "version": "3" }] }),
        json!({ "id_sha256": digest, "agreed": [{ "version": 3, "ts": 5 }] }),
        json!({ "id_sha256": digest, "agreed": [{ "version": "3", "ts": "5" }] }),
        json!({ "id_sha256": digest, "agreed": [{ "version": "3", "ts": -5 }] }),
        json!({ "id_sha256": digest, "agreed": [{ "version": "3", "ts": 5, "recipients": 1 }] }),
        json!({ "id_sha256": digest, "agreed": [large] }),
    ] {
        let content = json!({
            "id": "abc", "pseudonymousAnalyticsOptIn": true, "matrix-analytics.policy": malformed,
        });
        let content = content.to_string();
        assert_eq!(agreed_at(&content, &policy), None, "{content}");
        let content = RawValue::from_string(content).unwrap();
        let mended = opted_in(Some(&content), &id("abc"), version("3", 7));
        assert_eq!(agreed_at(mended.get(), &policy), Some(7), "{mended}");
    }
    // A malformed entry does not spoil the others.
    let mixed = json!({
        "id": "abc",
        "pseudonymousAnalyticsOptIn": true,
        "matrix-analytics.policy": { "id_sha256": digest, "agreed": [5, entry, { "version": "" }] },
    });
    assert_eq!(agreed_at(&mixed.to_string(), &policy), Some(5));
}

#[test]
fn the_member_stays_small_whatever_was_in_it() {
    let id = id("abc");
    let mut content = opted_in(None, &id, version("0", 0));
    for number in 1..40 {
        let labels = (0..16).map(|label| format!("{number}-{label}-{}", "x".repeat(290)));
        let policy = Policy::new(number.to_string()).recipients(labels);
        content = opted_in(Some(&content), &id, agreement(policy, number));
    }
    let written: Value = serde_json::from_str(content.get()).unwrap();
    let entries = written["matrix-analytics.policy"]["agreed"].as_array().unwrap();
    let versions: Vec<_> = entries.iter().map(|entry| entry["version"].as_str().unwrap()).collect();
    assert_eq!(versions, ["32", "33", "34", "35", "36", "37", "38", "39"]);
    assert!(content.get().len() < 48 * 1024, "{} bytes", content.get().len());
}

#[test]
fn no_output_contains_the_id() {
    let policy = Policy::new("3");
    let content = opted_in(None, &id("the-id"), version("3", 5));
    let observed = Observed::read(&content, Some(&policy), |_| false);
    let change = Change::OptIn(id("the-id"), Some(version("3", 5)));
    assert!(!format!("{policy:?} {observed:?} {change:?}").contains("the-id"));
}
