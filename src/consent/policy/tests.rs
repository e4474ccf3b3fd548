use serde_json::{Value, json, value::RawValue};

use super::{agreements::Agreements, *};
use crate::{
    analytics_id::AnalyticsId,
    consent::content::{Change, Observed},
};

const DAY: u64 = 24 * 3600 * 1000;
const A_DAY: Duration = Duration::from_millis(DAY);
/// The first day of the release.
const FIRST: u64 = EARLIEST_TIME;

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
        // A homeserver may escape each quote, each \u{e9} and each half of an emoji.
        (Policy::new("\"".repeat(33)), InvalidPolicy::LongVersion { length: 66 }),
        (Policy::new("é".repeat(11)), InvalidPolicy::LongVersion { length: 66 }),
        (Policy::new("3").recipients(["\\".repeat(151)]), InvalidPolicy::LongLabel { length: 302 }),
        (Policy::new("3").recipients(["😀".repeat(26)]), InvalidPolicy::LongLabel { length: 312 }),
    ] {
        assert_eq!(policy.check(), Err(reason), "{policy:?}");
    }
    assert_eq!(
        InvalidPolicy::LongVersion { length: 65 }.to_string(),
        "the version has 65 bytes in JSON, of at most 64"
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
    assert_eq!(holds(&year, FIRST, FIRST), Some(Duration::from_millis(365 * DAY)));
    assert_eq!(holds(&year, FIRST, FIRST + 365 * DAY - 1), Some(Duration::from_millis(1)));
    assert_eq!(holds(&year, FIRST, FIRST + 365 * DAY), None);
    // A clock that was a week fast, and one that was a century fast.
    assert_eq!(holds(&year, FIRST + 8 * DAY, FIRST), Some(Duration::from_millis(365 * DAY)));
    assert_eq!(holds(&year, FIRST + 36_500 * DAY, FIRST), None);
    // The clock of a device that has just booted, and the last wrong time.
    for today in [0, FIRST - 1] {
        assert_eq!(holds(&year, FIRST + 400 * DAY, today), Some(Duration::from_millis(365 * DAY)));
    }
    // At least a day.
    let always = Policy::new("3").renew_after(Duration::ZERO);
    assert_eq!(holds(&always, FIRST, FIRST + DAY - 1), Some(Duration::from_millis(1)));
    assert_eq!(holds(&Policy::new("3").renew_after(Duration::MAX), 0, u64::MAX), {
        Some(Duration::MAX - Duration::from_millis(u64::MAX))
    });
}

#[test]
fn a_slow_clock_makes_no_agreement_older() {
    let month = |at| agreement(Policy::new("3").recipients(["a"]).renew_after(30 * A_DAY), at);
    let policy = month(0).policy;
    let mut agreements = Agreements::default();
    for (at, agreed_at) in [
        (FIRST + 9 * DAY, FIRST + 9 * DAY),
        (FIRST + 2 * DAY, FIRST + 9 * DAY),
        (FIRST + 10 * DAY, FIRST + 10 * DAY),
        // A clock that was a month fast.
        (FIRST + 50 * DAY, FIRST + 50 * DAY),
        (FIRST + 20 * DAY + 1, FIRST + 50 * DAY),
        (FIRST + 20 * DAY, FIRST + 20 * DAY),
    ] {
        agreements.add(&month(at));
        assert_eq!(agreements.agreed_at(&policy), Some(agreed_at), "{at}");
        assert_eq!(agreements.newest(), Some(agreed_at), "{at}");
    }
    // One that does not become old may lie at any time.
    let mut agreements = Agreements::default();
    agreements.add(&version("3", u64::MAX));
    agreements.add(&version("3", FIRST));
    assert_eq!(agreements.agreed_at(&Policy::new("3")), Some(u64::MAX));
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

    // Those of two processes are not more.
    let of = |labels: std::ops::Range<u64>| {
        let mut agreements = Agreements::default();
        let policy = Policy::new("3").recipients(labels.clone().map(|label| label.to_string()));
        agreements.add(&agreement(policy, labels.start));
        agreements
    };
    let mut joined = of(0..10);
    joined.join(&of(10..20));
    let agreed = |label: u64| joined.agreed_at(&Policy::new("3").recipients([label.to_string()]));
    let count = |labels: std::ops::Range<u64>| labels.filter_map(agreed).count();
    assert_eq!((count(0..10), count(10..20)), (6, 10));

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
    let renewed = opted_in(Some(&first), &id, version("3", 6));
    assert!(renewed.get().contains(r#"[{"version":"3","ts":6,"how":["a" , 1]}]"#), "{renewed}");
    let both = opted_in(Some(&first), &id, version("4", 6));
    assert!(both.get().contains(r#"{"version":"3","ts":5,"how":["a" , 1]}"#), "{both}");
    assert_eq!(agreed_at(both.get(), &Policy::new("3")), Some(5));
    assert_eq!(agreed_at(both.get(), &Policy::new("4")), Some(6));

    let without_policy = Change::OptIn(id.clone(), None).apply_to(Some(&both)).unwrap();
    assert_eq!(agreed_at(without_policy.get(), &Policy::new("3")), Some(5));
    // Those under an ID that was withdrawn are of no use to another one.
    let other = AnalyticsId::from_foreign("other").unwrap();
    let new_id = Change::OptIn(other, None).apply_to(Some(&both)).unwrap();
    assert_eq!(new_id.get(), r#"{"id":"other","pseudonymousAnalyticsOptIn":true}"#);
    let opted_out = Change::OptOut.apply_to(Some(&both)).unwrap();
    assert_eq!(opted_out.get(), r#"{"pseudonymousAnalyticsOptIn":false}"#);
}

#[test]
fn what_this_version_cannot_read_in_a_bound_member_is_kept_byte_for_byte() {
    let id = id("abc");
    let first = opted_in(None, &id, version("3", 5));
    let entry = r#"{"version":"3","ts":5}"#;
    let unreadable = r#"{"form" : 2,"version":["3"]}, 1.0"#;
    let unknown = r#""\ud800":[1.0 , 2],"form":{"of" : 2}"#;
    let later = |unreadable: &str, unknown: &str| {
        let later = first.get().replace(entry, &format!("{unreadable},{entry}"));
        let later = later.replace(r#""id_sha256""#, &format!(r#"{unknown},"id_sha256""#));
        RawValue::from_string(later).unwrap()
    };
    let kept = opted_in(Some(&later(unreadable, unknown)), &id, version("3", 6));
    let list = r#"[{"form" : 2,"version":["3"]},1.0,{"version":"3","ts":6}]"#;
    assert!(kept.get().contains(&format!(r#""agreed":{list},{unknown}}}"#)), "{kept}");
    assert_eq!(agreed_at(kept.get(), &Policy::new("3")), Some(6));

    // As far as there is room for it.
    let long = format!(r#""{}""#, "x".repeat(8190));
    let longest = opted_in(Some(&later(&long, r#""a":1"#)), &id, version("3", 6));
    assert!(longest.get().contains(&long));
    for (unreadable, unknown) in [
        (format!(r#""x{}""#, "x".repeat(8190)), r#""a":1"#.to_owned()),
        (long, format!(r#""a":"x{}""#, "x".repeat(8186))),
    ] {
        let cut = opted_in(Some(&later(&unreadable, &unknown)), &id, version("3", 6));
        assert!(!cut.get().contains("xx") || !cut.get().contains(r#""a""#), "{cut}");
        assert_eq!(agreed_at(cut.get(), &Policy::new("3")), Some(6));
    }
}

#[test]
fn the_longest_entry_is_read_however_it_is_escaped() {
    let id = id("abc");
    for c in ['x', '"', 'é', '😀'] {
        let escaped = length_in_json(&c.to_string());
        let labels = (0..16).map(|label| {
            let label = label.to_string();
            format!("{label}{}", c.to_string().repeat((300 - label.len()) / escaped))
        });
        let policy = Policy::new(c.to_string().repeat(64 / escaped)).recipients(labels);
        let content = opted_in(None, &id, agreement(policy.clone(), u64::MAX));
        let ascii: String = content
            .get()
            .chars()
            .flat_map(|c| match c.is_ascii() {
                true => vec![c.to_string()],
                false => {
                    let units = c.encode_utf16(&mut [0; 2]).to_vec();
                    units.iter().map(|unit| format!("\\u{unit:04x}")).collect()
                }
            })
            .collect();
        assert_eq!(agreed_at(&ascii, &policy), Some(u64::MAX), "{c}");
    }
}

#[test]
fn a_label_that_no_policy_can_have_is_not_taken_over() {
    let id = id("abc");
    let first = opted_in(None, &id, agreement(Policy::new("3").recipients(["a"]), 5));
    let long = "x".repeat(301);
    let held = first.get().replace(r#""a":5"#, &format!(r#""a":5,"{long}":5"#));
    let held = RawValue::from_string(held).unwrap();
    let renewed = opted_in(Some(&held), &id, agreement(Policy::new("3").recipients(["b"]), 6));
    assert!(!renewed.get().contains(&long));
    assert!(renewed.get().contains(r#""recipients":{"a":5,"b":6}"#), "{renewed}");
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
