//! The record of the user's decisions.

#[cfg(feature = "posthog")]
mod erasures;
mod faults;
mod two_processes;

use std::time::{Duration, SystemTime};

use matrix_analytics::{
    Analytics, Consent, ConsentStatus, DecisionPlace, ELEMENT_EVENT_TYPE, Recipient,
    RecordedDecision,
    testing::{Fault, RecordingBackend},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{
    ALICE, AnalyticsExt as _, Device, FOREIGN_ID, World, content, eventually, id_in,
};

type Entry = (ConsentStatus, DecisionPlace);

fn entries(analytics: &Analytics) -> Vec<Entry> {
    let entry = |decision: &RecordedDecision| (decision.status, decision.place);
    analytics.consent_record().decisions.iter().map(entry).collect()
}

/// Returns the key of the record in the client's store.
fn key() -> Vec<u8> {
    let user: String = Sha256::digest(ALICE).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("matrix-analytics-decisions/{ELEMENT_EVENT_TYPE}/{user}").into_bytes()
}

/// Returns what the client's store has of the record.
async fn stored(device: &Device) -> Option<String> {
    let value = device.client.state_store().get_custom_value(&key()).await.unwrap();
    value.map(|value| String::from_utf8(value).unwrap())
}

/// Stores `decisions` as an earlier process would.
async fn store(device: &Device, decisions: &Value) {
    let json = serde_json::to_vec(decisions).unwrap();
    device.client.state_store().set_custom_value(&key(), json).await.unwrap();
}

/// Returns a stored opt-in at this time in milliseconds since 1970.
fn given_at(at: i64) -> Value {
    json!({
        "status": "given",
        "at": at,
        "place": "this_device",
        "expressed_by": null,
        "policy": null,
        "recipients": [],
        "removed": null,
    })
}

/// Waits until the store holds the record of `analytics`, and nothing else.
async fn until_stored(device: &Device, analytics: &Analytics) {
    eventually(async {
        loop {
            let decisions = serde_json::to_value(&analytics.consent_record().decisions).unwrap();
            let stored = stored(device).await.unwrap_or_else(|| "[]".to_owned());
            if serde_json::from_str::<Value>(&stored).is_ok_and(|stored| stored == decisions) {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn each_decision_is_recorded_with_its_expression_and_what_it_removed() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let recipient = Recipient::new(RecordingBackend::new()).name("Example").purpose("to count");
    let analytics = device.builder().backend(recipient).build().await.unwrap();
    analytics.confirmed().await;
    assert_eq!(entries(&analytics), []);

    eventually(analytics.opt_in().expressed_by("the first dialog")).await.unwrap();
    tokio::time::advance(crate::support::SETTLE).await;
    analytics.until(|state| state.is_open()).await;
    analytics.capture_one("Waiting");
    let opt_out = analytics.opt_out().expressed_by("a switch in the settings");
    assert!(eventually(opt_out.into_future()).await.is_complete());

    let expected = [
        (ConsentStatus::Given, DecisionPlace::ThisDevice),
        (ConsentStatus::Withdrawn, DecisionPlace::ThisDevice),
    ];
    assert_eq!(entries(&analytics), expected);
    let record = analytics.consent_record();
    assert_eq!(record.event_type, ELEMENT_EVENT_TYPE);
    let [given, withdrawn] = &record.decisions[..] else { panic!("{record:?}") };
    assert_eq!(given.expressed_by.as_deref(), Some("the first dialog"));
    assert_eq!(given.recipients[0].name, "Example");
    assert_eq!((&given.policy, &given.removed), (&None, &None));
    assert_eq!(withdrawn.expressed_by.as_deref(), Some("a switch in the settings"));
    let removed = withdrawn.removed.as_ref().unwrap();
    assert_eq!((removed.events, &*removed.queue, &*removed.account), (1, "done", "done"));
    let json = serde_json::to_value(&record).unwrap();
    assert_eq!(json["dpv:hasConsentStatus"][1]["@type"], "dpv:ConsentWithdrawn");
}

#[tokio::test]
async fn it_survives_a_restart_and_holds_no_id() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_opted_in().await;
    let id = id_in(&world.content().unwrap()).unwrap();
    eventually(analytics.opt_out().into_future()).await;
    analytics.opt_in_and_settle().await;
    until_stored(&device, &analytics).await;
    let before = analytics.consent_record();
    assert_eq!(before.decisions.len(), 3);
    drop(analytics);
    let (analytics, _) = device.start_confirmed().await;
    let after = analytics.consent_record();
    assert_eq!(after.decisions.len(), 3, "{after:?}");
    assert_eq!(entries(&analytics)[2], (ConsentStatus::Given, DecisionPlace::ThisDevice));
    let stored = stored(&device).await.unwrap();
    let new_id = id_in(&world.content().unwrap()).unwrap();
    for id in [&id, &new_id] {
        assert!(!stored.contains(&**id) && !format!("{after:?}").contains(&**id));
    }
}

#[tokio::test]
async fn decisions_on_another_device_are_recorded_when_they_are_seen() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_confirmed().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    eventually(analytics.recheck()).await.unwrap();
    world.set_content(&content(Some(false), None));
    eventually(analytics.recheck()).await.unwrap();
    let expected = [
        (ConsentStatus::Given, DecisionPlace::Elsewhere),
        (ConsentStatus::Withdrawn, DecisionPlace::Elsewhere),
    ];
    assert_eq!(entries(&analytics), expected);
    assert_eq!(analytics.consent_record().decisions[1].removed, None);
}

#[tokio::test]
async fn an_opt_in_that_failed_or_was_dropped_is_no_decision() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_confirmed().await;
    world.server.fail_all(Fault::ServerError(500));
    assert!(eventually(analytics.opt_in()).await.is_err());
    drop(analytics.opt_in().expressed_by("never polled"));
    world.server.fail_all(Fault::StallBefore);
    let mut dropped = analytics.opt_in();
    assert!(futures_util::poll!(&mut dropped).is_pending());
    drop(dropped);
    assert_eq!(entries(&analytics), []);
    world.server.heal();
    analytics.opt_in_and_settle().await;
    assert_eq!(entries(&analytics), [(ConsentStatus::Given, DecisionPlace::ThisDevice)]);
}

#[tokio::test]
async fn an_account_that_had_opted_in_before_is_recorded_once() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_confirmed().await;
    let expected = [(ConsentStatus::Given, DecisionPlace::Elsewhere)];
    assert_eq!(entries(&analytics), expected);
    // The end of the session and the next proof are no decisions.
    until_stored(&device, &analytics).await;
    eventually(analytics.end_session()).await;
    drop(analytics);
    let (analytics, _) = device.start_confirmed().await;
    assert!(analytics.is_open());
    assert_eq!(entries(&analytics), expected);
}

#[tokio::test]
async fn a_stored_record_that_cannot_be_read_is_begun_again() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let garbage = b"[{\"status\":".to_vec();
    device.client.state_store().set_custom_value(&key(), garbage).await.unwrap();
    let (analytics, _) = device.start_opted_in().await;
    assert_eq!(entries(&analytics).len(), 1);
    until_stored(&device, &analytics).await;
}

#[tokio::test]
async fn a_decision_under_a_clock_in_the_future_changes_no_later_time() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let in_2100 = 4_102_444_800_000;
    store(&device, &json!([given_at(in_2100)])).await;
    let (analytics, _) = device.start_confirmed().await;
    let before = SystemTime::now();
    eventually(analytics.opt_out().into_future()).await;
    let record = analytics.consent_record();
    let [future, withdrawn] = &record.decisions[..] else { panic!("{record:?}") };
    assert_eq!(future.status, ConsentStatus::Given);
    assert_eq!(withdrawn.status, ConsentStatus::Withdrawn);
    let millisecond = Duration::from_millis(1);
    assert!(before < withdrawn.at + millisecond && withdrawn.at <= SystemTime::now());
    until_stored(&device, &analytics).await;
}

#[tokio::test]
async fn an_entry_or_a_member_of_a_newer_version_is_kept() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let newer = json!({ "status": "suspended", "at": "2030-01-01" });
    let mut known = given_at(1_700_000_000_000);
    known["jurisdiction"] = "EU".into();
    store(&device, &json!([newer, known])).await;
    let (analytics, _) = device.start_confirmed().await;
    eventually(analytics.opt_out().into_future()).await;
    let expected = [
        (ConsentStatus::Given, DecisionPlace::ThisDevice),
        (ConsentStatus::Withdrawn, DecisionPlace::ThisDevice),
    ];
    assert_eq!(entries(&analytics), expected);
    let stored: Value = serde_json::from_str(&stored(&device).await.unwrap()).unwrap();
    assert_eq!((&stored[0], &stored[1]), (&newer, &known));
    assert_eq!(stored[2]["status"], "withdrawn");
}

#[tokio::test]
async fn an_unreadable_record_of_consent_is_no_withdrawal() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    store(&device, &json!([given_at(1_700_000_000_000)])).await;
    device.overwrite_record("garbage").await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let given = [(ConsentStatus::Given, DecisionPlace::ThisDevice)];
    for _ in 0..2 {
        let (analytics, _) = device.start_confirmed().await;
        assert_eq!(analytics.state().decision, Consent::Denied);
        assert_eq!(entries(&analytics), given);
        drop(analytics);
    }
    // The user's own opt-out is one.
    let (analytics, _) = device.start_confirmed().await;
    eventually(analytics.opt_out().into_future()).await;
    let withdrawn = (ConsentStatus::Withdrawn, DecisionPlace::ThisDevice);
    assert_eq!(entries(&analytics), [given[0], withdrawn]);
}
