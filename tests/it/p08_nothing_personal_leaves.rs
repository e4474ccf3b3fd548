//! P8: no identifier leaves, whatever the app captures.

mod arrays;
mod closed_vocabulary;
mod corpus;
mod sweep;

use std::{ops::Range, time::Duration};

use matrix_analytics::{
    Analytics, AnalyticsEvent, Detector, DropReason, GuardPolicy, IdentifierKind, Properties,
    UserProperties, testing::RecordingBackend,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::support::{ALICE, AnalyticsExt as _, BOUND, World, eventually};

const ROOM: &str = "!abcdefghij:example.net";

async fn opted_in(world: &World, policy: GuardPolicy) -> (Analytics, RecordingBackend) {
    let recorder = RecordingBackend::new();
    let device = world.device("QZXJKVBWPL").await;
    let builder = device.builder().backend(recorder.clone()).guard_policy(policy);
    let analytics = builder.detector(Marks).build().await.unwrap();
    analytics.opt_in_and_settle().await;
    (analytics, recorder)
}

/// Reports `<mark>` as an identifier, and panics on `<panic>`.
struct Marks;

impl Detector for Marks {
    fn name(&self) -> &'static str {
        "mark"
    }

    fn find(&self, text: &str) -> Vec<Range<usize>> {
        assert!(!text.contains("<panic>"), "the test asked for this panic");
        text.match_indices("<mark>").map(|(at, mark)| at..at + mark.len()).collect()
    }
}

fn map(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[tokio::test]
async fn names_keys_and_texts_are_redacted_and_counted_by_kind() {
    let world = World::new().await;
    let (analytics, recorder) = opted_in(&world, GuardPolicy::Redact).await;
    analytics.set_super_properties(Properties::new().with("by", ALICE)).unwrap();
    analytics.set_user_properties(UserProperties::new().set("mail", "a.b@example.net")).unwrap();
    let properties = Properties::new().with(ROOM, 1).with("where", format!("in {ROOM} <mark>"));
    analytics.capture_named(format!("Joined {ROOM}"), properties);
    assert!(eventually(analytics.flush_all()).await.is_complete());

    let event = &recorder.events()[0];
    assert_eq!(event.name, "Joined [room_id]");
    let expected = json!({"by": "[user_id]", "[room_id]": 1, "where": "in [room_id] [mark]"});
    assert_eq!(event.properties, map(&expected));
    assert_eq!(event.set, map(&json!({"mail": "[email]"})));
    let guarded: Vec<_> = analytics.stats().guarded.into_iter().collect();
    let expected = [
        (IdentifierKind::Custom("mark"), 1),
        (IdentifierKind::Email, 1),
        (IdentifierKind::RoomId, 3),
        (IdentifierKind::UserId, 1),
    ];
    assert_eq!(guarded, expected);
}

#[tokio::test]
async fn a_property_is_dropped_under_that_policy() {
    let world = World::new().await;
    let (analytics, recorder) = opted_in(&world, GuardPolicy::DropProperty).await;
    let properties = Properties::new().with(ROOM, 1).with("where", ROOM).with("count", 2);
    analytics.capture_named(format!("Joined {ROOM}"), properties);
    assert!(eventually(analytics.flush_all()).await.is_complete());
    assert_eq!(recorder.names(), ["Joined [room_id]"]);
    assert_eq!(recorder.events()[0].properties, map(&json!({"count": 2})));
}

#[tokio::test]
async fn an_event_is_dropped_and_counted_under_that_policy_and_user_properties_are_kept() {
    let world = World::new().await;
    let (analytics, recorder) = opted_in(&world, GuardPolicy::DropEvent).await;
    let user = UserProperties::new().set("rooms", 5).set("mail", "a.b@example.net");
    analytics.set_user_properties(user).unwrap();
    for name in ["Joined", ROOM] {
        analytics.capture_named(name, Properties::new().with("where", ROOM));
    }
    analytics.capture_named("Clean", Properties::new().with("where", "here"));
    assert!(eventually(analytics.flush_all()).await.is_complete());
    assert_eq!(recorder.names(), ["Clean"]);
    assert_eq!(recorder.events()[0].set, map(&json!({"rooms": 5})));
    let stats = analytics.stats();
    assert_eq!(stats.backends[0].dropped[&DropReason::Guarded], 2);
    assert!(stats.backends[0].is_balanced());
}

#[tokio::test]
async fn an_event_that_makes_a_detector_panic_is_dropped_and_the_sink_continues() {
    let world = World::new().await;
    let (analytics, recorder) = opted_in(&world, GuardPolicy::Redact).await;
    analytics.capture_named("Bad", Properties::new().with("text", "<panic>"));
    analytics.capture_named("Bad <panic>", Properties::new());
    analytics.capture_named("Good", Properties::new().with("text", "fine"));
    assert!(eventually(analytics.flush_all()).await.is_complete());
    assert_eq!(recorder.names(), ["Good"]);
    assert_eq!(analytics.stats().backends[0].dropped[&DropReason::Guarded], 2);
}

#[derive(Serialize)]
struct Typed {
    /// Would be taken for an IP address if it were searched.
    kind: Kind,
    count: u32,
    ratio: f64,
    note: Option<&'static str>,
}

#[derive(Serialize)]
enum Kind {
    #[serde(rename = "203.0.113.5")]
    Five,
}

impl AnalyticsEvent for Typed {
    const NAME: &'static str = "Typed";
}

#[tokio::test]
async fn a_typed_event_is_searched_only_if_it_contains_free_text() {
    let world = World::new().await;
    let (analytics, recorder) = opted_in(&world, GuardPolicy::Redact).await;
    analytics.capture(&Typed { kind: Kind::Five, count: 1, ratio: 0.5, note: None });
    analytics.capture(&Typed { kind: Kind::Five, count: 1, ratio: 0.5, note: Some(ROOM) });
    assert!(eventually(analytics.flush_all()).await.is_complete());
    let events = recorder.events();
    assert_eq!(events[0].properties["kind"], "203.0.113.5");
    assert_eq!(events[1].properties["kind"], "[ip_address]");
    assert_eq!(events[1].properties["note"], "[room_id]");
}

#[tokio::test]
async fn keys_that_become_equal_are_merged_and_redacted_keys_keep_the_length_limit() {
    let world = World::new().await;
    let (analytics, recorder) = opted_in(&world, GuardPolicy::Redact).await;
    let long = "::1 ".repeat(50);
    let properties =
        Properties::new().with("!a:b.org", 1).with("!c:d.org", 2).with(long.trim().to_owned(), 3);
    analytics.capture_named("Keys", properties);
    assert!(eventually(analytics.flush_all()).await.is_complete());
    let expected = json!({"[room_id]": 2, "[redacted]": 3});
    assert_eq!(recorder.events()[0].properties, map(&expected));
}

#[tokio::test]
async fn a_refreshed_token_is_redacted_at_once() {
    let world = World::new().await;
    let login = world.server.add_device_with_refresh(ALICE, "QZXJKVBWPL");
    let device = world.device_of(login.clone()).await;
    let (analytics, recorder) = device.start_opted_in().await;
    eventually(device.client.refresh_access_token()).await.unwrap();
    let tokens = device.client.session_tokens().unwrap();
    assert_ne!(tokens.access_token, login.access_token);
    for token in [&login.access_token, &tokens.access_token, &tokens.refresh_token.unwrap()] {
        analytics.capture_named("Token", Properties::new().with("text", format!("<{token}>")));
    }
    assert!(
        eventually(tokio::time::timeout(BOUND, analytics.flush_all())).await.unwrap().is_complete()
    );
    let found = analytics.stats().guarded;
    // The first token was replaced before any text was searched for it.
    assert!(found[&IdentifierKind::Token] >= 2, "{found:?}");
    for event in &recorder.events()[1..] {
        assert_eq!(event.properties["text"], "<[token]>");
    }
    assert!(analytics.shutdown(Duration::from_secs(1)).await.is_complete());
}

#[tokio::test]
async fn only_a_version_key_exempts_a_text_that_looks_like_an_ip_address() {
    let world = World::new().await;
    let (analytics, recorder) = opted_in(&world, GuardPolicy::Redact).await;
    let address = "10.20.30.40";
    let properties =
        Properties::new().with("appVersion", address).with("v", address).with("server", address);
    analytics.capture_named("Versions", properties);
    assert!(eventually(analytics.flush_all()).await.is_complete());
    let expected = json!({"appVersion": address, "v": "[ip_address]", "server": "[ip_address]"});
    assert_eq!(recorder.events()[0].properties, map(&expected));
}
