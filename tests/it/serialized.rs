//! The JSON of what an app can show or attach to a report. None of it has the analytics ID.

use matrix_analytics::{
    ClosedReason, Consent, DropReason, GateState, HoldReason, IdentifierKind, Note, Prompt, Switch,
    testing, testing::RecordingBackend,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::support::{ALICE, AnalyticsExt as _, FOREIGN_ID, World, content, eventually};

fn json_of(value: &impl Serialize) -> Value {
    let json = serde_json::to_value(value).unwrap();
    assert!(!json.to_string().contains(FOREIGN_ID), "{json}");
    json
}

#[test]
fn reasons_are_their_names() {
    assert_eq!(json_of(&Consent::Granted), "granted");
    assert_eq!(json_of(&ClosedReason::DecisionErased), "decision_erased");
    assert_eq!(json_of(&HoldReason::OptingIn), "opting_in");
    assert_eq!(json_of(&Prompt::DontAsk), "dont_ask");
    assert_eq!(json_of(&Switch::Pending), "pending");
    assert_eq!(json_of(&Note::RemovalPending), "removal_pending");
    assert_eq!(json_of(&DropReason::QueueFull), "queue_full");
    assert_eq!(json_of(&IdentifierKind::UserId), "user_id");
    assert_eq!(json_of(&IdentifierKind::Custom("project")), "project");
    assert_eq!(IdentifierKind::UserId.to_string(), "user_id");
}

#[test]
fn a_state_is_an_object() {
    let closed = GateState::Closed(ClosedReason::DeviceVeto);
    let mut state = testing::consent_state(Consent::Granted, closed);
    assert_eq!(
        json_of(&state),
        json!({
            "decision": "granted",
            "confirmed": true,
            "gate": {"closed": "device_veto"},
            "removal_pending": false,
            "erasures_pending": false,
        }),
    );
    state.gate = GateState::Holding(HoldReason::SoftLogout);
    assert_eq!(json_of(&state)["gate"], json!({"holding": "soft_logout"}));
    state.gate = GateState::Open;
    assert_eq!(json_of(&state)["gate"], "open");
}

#[tokio::test]
async fn statistics_reports_and_the_receipt_are_objects_without_the_id() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let device = world.device("PHONE").await;
    let builder = device.builder().backend(RecordingBackend::new());
    let analytics = builder.super_properties([("by", ALICE)]).build().await.unwrap();
    analytics.until(matrix_analytics::ConsentState::is_open).await;
    analytics.capture_one("Opened");
    analytics.capture_one("");
    let report = eventually(analytics.flush_all()).await;
    assert_eq!(
        json_of(&report),
        json!({"backends": [
            {"backend": "recording", "delivered": 1, "undelivered": 0, "kept": 0},
        ]}),
    );
    assert_eq!(
        json_of(&analytics.stats()),
        json!({
            "backends": [{
                "name": "recording",
                "captured": 2,
                "restored": 0,
                "delivered": 1,
                "queued": 0,
                "in_flight": 0,
                "kept": 0,
                "dropped": {"invalid": 1},
            }],
            "queue": {
                "not_durable": 0,
                "discarded": 0,
                "history_failures": 0,
                "unreadable_files": 0,
            },
            "guarded": {"user_id": 1},
            "refused_texts": 0,
            "erasures": {
                "pending": 0,
                "tries": 0,
                "done": 0,
                "failed": {},
                "last_cause": null,
            },
        }),
    );
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert_eq!(receipt.analytics_id().unwrap().reveal(), FOREIGN_ID);
    assert_eq!(
        json_of(&receipt),
        json!({
            "requests": "done",
            "queue": "done",
            "record": "done",
            "account": "done",
            "erasures": [],
        }),
    );
}

/// Finds a text by the name of a built-in kind.
struct Intranet;

impl matrix_analytics::Detector for Intranet {
    fn name(&self) -> &'static str {
        "server_name"
    }

    fn find(&self, text: &str) -> Vec<std::ops::Range<usize>> {
        text.match_indices("intranet").map(|(at, found)| at..at + found.len()).collect()
    }
}

// An object with one name twice loses a count in most readers.
#[tokio::test]
async fn each_finding_is_counted_once_under_its_name() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let device = world.device("PHONE").await;
    let builder = device.builder().backend(RecordingBackend::new()).detector(Intranet);
    let analytics = builder.build().await.unwrap();
    analytics.until(matrix_analytics::ConsentState::is_open).await;
    let text = "intranet and example.org";
    analytics.capture_named("Opened", [("at", text)].into());
    eventually(analytics.flush_all()).await;
    let stats = analytics.stats();
    assert_eq!(stats.guarded.values().sum::<u64>(), 2, "{:?}", stats.guarded);
    assert_eq!(json_of(&stats)["guarded"], json!({"server_name": 2}));
}
