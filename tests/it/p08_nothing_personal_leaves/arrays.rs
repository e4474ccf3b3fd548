//! Each text of an array is inspected, and counts as a text of its property.

use matrix_analytics::{
    Analytics, AnalyticsEvent, DropReason, GuardPolicy, IdentifierKind, MAX_EVENT_BYTES,
    Properties, PropertyValue, TextPolicy, UserProperties,
    testing::{GuardProbe, RecordingBackend},
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{ROOM, map, opted_in};
use crate::support::{ALICE, AnalyticsExt as _, World, eventually};

/// Has an array with texts, one of whose elements is personal.
#[derive(Serialize)]
struct Filtered {
    filters: Vec<String>,
    sizes: [i32; 3],
    pair: (bool, &'static str),
}

impl AnalyticsEvent for Filtered {
    const NAME: &'static str = "Filtered";
}

fn filtered() -> Filtered {
    let filters = vec!["a, \"b\"".to_owned(), format!("in {ROOM}"), "c".to_owned()];
    Filtered { filters, sizes: [1, -2, 3], pair: (true, "[x]") }
}

fn mixed() -> PropertyValue {
    PropertyValue::Array(vec![1.into(), ALICE.into(), true.into(), "plain".into()])
}

async fn received(analytics: &Analytics, recorder: &RecordingBackend) -> Map<String, Value> {
    assert!(eventually(analytics.flush_all()).await.is_complete());
    recorder.events().pop().unwrap().properties
}

#[tokio::test]
async fn a_finding_is_replaced_in_its_element_and_the_others_stay() {
    let world = World::new().await;
    let (analytics, recorder) = opted_in(&world, GuardPolicy::Redact).await;
    analytics.set_super_properties(Properties::new().with("shared", mixed())).unwrap();
    analytics.set_user_properties(UserProperties::new().set("user", mixed())).unwrap();
    analytics.capture(&filtered());
    let expected = json!({
        "filters": ["a, \"b\"", "in [room_id]", "c"],
        "sizes": [1, -2, 3],
        "pair": [true, "[x]"],
        "shared": [1, "[user_id]", true, "plain"],
    });
    assert_eq!(received(&analytics, &recorder).await, map(&expected));
    assert_eq!(recorder.events()[0].set, map(&json!({"user": [1, "[user_id]", true, "plain"]})));
    let guarded: Vec<_> = analytics.stats().guarded.into_iter().collect();
    assert_eq!(guarded, [(IdentifierKind::RoomId, 1), (IdentifierKind::UserId, 2)]);
}

#[tokio::test]
async fn the_whole_array_is_dropped_under_that_policy() {
    let world = World::new().await;
    let (analytics, recorder) = opted_in(&world, GuardPolicy::DropProperty).await;
    analytics.capture(&filtered());
    let expected = json!({"sizes": [1, -2, 3], "pair": [true, "[x]"]});
    assert_eq!(received(&analytics, &recorder).await, map(&expected));
}

#[tokio::test]
async fn the_event_is_dropped_under_that_policy() {
    let world = World::new().await;
    let (analytics, recorder) = opted_in(&world, GuardPolicy::DropEvent).await;
    analytics.capture(&filtered());
    eventually(analytics.flush_all()).await;
    assert!(recorder.events().is_empty());
    assert_eq!(analytics.stats().backends[0].dropped[&DropReason::Guarded], 1);
}

#[test]
fn the_key_of_an_array_says_what_its_texts_are() {
    let guard = GuardProbe::default();
    let properties = Properties::new()
        .with("password", ["correct7horse", "no"])
        .with("app_version", ["10.20.30.40"])
        .with("hosts", ["10.20.30.40"]);
    let expected = json!({
        "password": ["[credentials]", "no"],
        "app_version": ["10.20.30.40"],
        "hosts": ["[ip_address]"],
    });
    let guarded = guard.properties(properties).unwrap();
    assert_eq!(guarded.deserialize::<Value>().unwrap(), expected);
}

#[test]
fn placeholders_without_room_become_shorter_or_the_array_is_dropped() {
    let guard = GuardProbe::default();
    // Each of these becomes longer.
    let many = |number: usize| {
        let texts: Vec<_> = (0..number).map(|_| "a@b.cc".to_owned()).collect();
        Properties::new().with("many", texts)
    };
    let few = guard.properties(many(100)).unwrap();
    assert_eq!(few.deserialize::<Value>().unwrap()["many"], json!(vec!["[email]"; 100]));
    let full = MAX_EVENT_BYTES / "\"a@b.cc\",".len() - 2;
    assert!(guard.properties(many(full)).unwrap().is_empty());
    // The event is as large as it may be.
    let width = MAX_EVENT_BYTES - r#"{"one":["","y"]}"#.len();
    let one = Properties::new().with("one", [format!("{:>width$}", "a@b.cc"), "y".to_owned()]);
    let guarded = guard.properties(one).unwrap();
    assert_eq!(guarded.to_json(), r#"{"one":["[redacted]","y"]}"#);
}

/// Has arrays of each origin.
#[derive(Serialize)]
struct Origins {
    variants: Vec<Variant>,
    numbers: Vec<f64>,
    booleans: (bool, Option<bool>),
    constants: [&'static str; 1],
    mixed: (Variant, String),
    empty: Vec<String>,
}

#[derive(Serialize)]
enum Variant {
    A,
    B,
}

impl AnalyticsEvent for Origins {
    const NAME: &'static str = "Origins";
}

#[tokio::test]
async fn an_array_with_a_computed_text_is_refused_as_a_whole() {
    let world = World::new().await;
    for (policy, allowed) in [
        (TextPolicy::Refuse, json!({})),
        (TextPolicy::AllowKeys(&["mixed"]), json!({"mixed": ["A", "text"]})),
    ] {
        let recorder = RecordingBackend::new();
        let device = world.device("PHONE").await;
        let builder = device.builder().backend(recorder.clone()).text_policy(policy);
        let analytics = builder.build().await.unwrap();
        analytics.opt_in_and_settle().await;
        analytics.capture(&Origins {
            variants: vec![Variant::A, Variant::B],
            numbers: vec![0.5],
            booleans: (true, None),
            constants: ["constant"],
            mixed: (Variant::A, "text".to_owned()),
            empty: Vec::new(),
        });
        let mut expected = map(&allowed);
        expected.extend(map(&json!({
            "variants": ["A", "B"], "numbers": [0.5], "booleans": [true], "empty": [],
        })));
        assert_eq!(received(&analytics, &recorder).await, expected);

        let named = Properties::new()
            .with("program", ["a", "b"])
            .with("computed", vec!["a".to_owned()])
            .with("partly", PropertyValue::Array(vec!["a".into(), "b".to_owned().into()]))
            .with("numbers", [1, 2]);
        analytics.capture_named("Named", named);
        let expected = json!({"program": ["a", "b"], "numbers": [1, 2]});
        assert_eq!(received(&analytics, &recorder).await, map(&expected));
        let refused = 4 - map(&allowed).len() as u64;
        assert_eq!(analytics.stats().refused_texts, refused);
        analytics.opt_out().await;
    }
}
