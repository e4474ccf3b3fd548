//! What both comparisons with posthog-rs share: the events, the client, and the differences.

mod differences;

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use matrix_analytics::{OutgoingEvent, Properties, testing};
use serde_json::{Map, Value, json};
use wiremock::{MockServer, Request};

pub(crate) use self::differences::{Difference, differences, listed};

pub(crate) const KEY: &str = "phc_4b1d0c";
pub(crate) const ID: &str = "9f1c2d7e-0d5e-4c9b-8a53-b6f1d1f1a0aa";

/// The content of an event that both SDKs send.
pub(crate) struct Sent {
    name: &'static str,
    time: SystemTime,
    properties: Map<String, Value>,
    set: Map<String, Value>,
    set_once: Map<String, Value>,
}

pub(crate) fn sent() -> [Sent; 3] {
    let midday = SystemTime::UNIX_EPOCH + Duration::from_secs(1_769_860_800);
    [
        Sent {
            name: "Joined \"Room\" – ⌘",
            time: midday + Duration::from_millis(250),
            properties: object(json!({
                "bool": false,
                "float": 0.1,
                "float_large": 1e300,
                "float_negative_zero": -0.0,
                "float_whole": 3.0,
                "integer": -3,
                "integer_max": i64::MAX,
                "integer_min": i64::MIN,
                "unsigned_max": u64::MAX,
                "text": "line\nbreak, \"quotes\", \\, \u{0}, \u{7f}, \u{2028}, é, 🦀",
                "text_empty": "",
                "text_number": "7",
                "key \"with\" $ and é.": "kept",
                "$screen_name": "kept too",
                "$process_person_profile": true,
            })),
            set: object(json!({ "app": "desktop", "rooms": 3, "dark": true, "scale": 1.5 })),
            set_once: object(json!({ "first_app": "mobile", "rooms": u64::MAX })),
        },
        Sent {
            name: "SetOnly",
            // Finer than the milliseconds that we send.
            time: midday + Duration::from_nanos(1_999_999),
            properties: Map::new(),
            set: object(json!({ "app": "desktop" })),
            set_once: Map::new(),
        },
        Sent {
            name: "Plain",
            time: midday,
            properties: Map::new(),
            set: Map::new(),
            set_once: Map::new(),
        },
    ]
}

pub(crate) fn object(value: Value) -> Map<String, Value> {
    serde_json::from_value(value).unwrap()
}

pub(crate) fn our_event(sent: &Sent) -> OutgoingEvent {
    let properties = |members| Properties::from_serialize(members).unwrap();
    testing::with_user_properties(
        testing::event_at(sent.name, properties(&sent.properties), sent.time),
        properties(&sent.set),
        properties(&sent.set_once),
    )
}

/// Converts `sent` to an event of posthog-rs with the unique ID of `ours`.
pub(crate) fn their_event(sent: &Sent, ours: &OutgoingEvent) -> posthog_rs::Event {
    let mut event = posthog_rs::Event::new(sent.name, ID);
    event.set_uuid(ours.uuid());
    event.set_timestamp(DateTime::<Utc>::from(sent.time)).unwrap();
    for (key, value) in &sent.properties {
        event.insert_prop(key, value).unwrap();
    }
    for (key, members) in [("$set", &sent.set), ("$set_once", &sent.set_once)] {
        if !members.is_empty() {
            event.insert_prop(key, members).unwrap();
        }
    }
    event
}

/// Sends `events` with posthog-rs, configured like our backend: on a user's device,
/// without GeoIP lookup.
pub(crate) async fn send_theirs(endpoint: &str, events: Vec<posthog_rs::Event>) {
    let options = posthog_rs::ClientOptionsBuilder::default()
        .host(endpoint)
        .api_key(KEY.to_owned())
        .http_client(without_proxy().unwrap())
        .disable_geoip(true)
        .is_server(false)
        .max_capture_attempts(1)
        .request_timeout_seconds(10)
        .build()
        .unwrap();
    let client = posthog_rs::client(options).await;
    client.capture_batch_immediate(events, false).await.unwrap();
    client.shutdown().await;
}

/// Creates a client that reaches a collector on this machine regardless of the
/// environment.
pub(crate) fn without_proxy() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().no_proxy().build()
}

/// Returns the only request that `collector` received.
pub(crate) async fn only_request(collector: &MockServer) -> Request {
    let [request] = collector.received_requests().await.unwrap().try_into().unwrap();
    request
}

/// Removes the events from a body and returns them.
pub(crate) fn take_events(body: &mut Value) -> Vec<Value> {
    match body.as_object_mut().unwrap().remove("batch").unwrap() {
        Value::Array(events) => events,
        other => panic!("{other}"),
    }
}

/// Replaces an event's time with milliseconds. posthog-rs writes nanoseconds with 0, 3, 6
/// or 9 digits; we write milliseconds without trailing zeros.
pub(crate) fn take_time_as_instant(event: &mut Value) {
    let time = &mut event["timestamp"];
    let instant = DateTime::parse_from_rfc3339(time.as_str().unwrap()).unwrap();
    assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
    *time = instant.timestamp_millis().into();
}
