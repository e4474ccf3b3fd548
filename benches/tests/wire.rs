//! Compares our PostHog backend with posthog-rs, PostHog's official SDK: both send the
//! same events, and their requests differ only as listed in this file.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

#[path = "wire/differences.rs"]
mod differences;

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use matrix_analytics::{Backend as _, OutgoingEvent, PostHog, Properties, testing};
use serde_json::{Map, Value, json};
use tokio::time::timeout;
use wiremock::{Mock, MockServer, Request, ResponseTemplate, matchers::any};

use self::differences::{
    Difference::{self, OnlyOurs, OnlyTheirs, OtherValue},
    differences, listed,
};

const KEY: &str = "phc_4b1d0c";
const ID: &str = "9f1c2d7e-0d5e-4c9b-8a53-b6f1d1f1a0aa";

/// All differences outside the events, by path.
const AROUND_EVENTS: [(&str, Difference); 2] = [
    // We do not import historical events. Without this member, PostHog assumes `false`,
    // which is the value that posthog-rs sends.
    ("historical_migration", OnlyTheirs),
    // PostHog shifts event times by the difference between this and its own clock. We
    // want the time of capture to arrive unchanged, on every attempt and at every
    // backend.
    ("sent_at", OnlyTheirs),
];

/// All differences within an event, by path. Each event has all of them.
const WITHIN_EVENT: [(&str, Difference); 8] = [
    // Without it, PostHog adds the sender's address to the event.
    ("properties.$ip", OnlyOurs),
    // Identifies the SDK that sent the event.
    ("properties.$lib", OtherValue),
    ("properties.$lib_version", OtherValue),
    // The version again, split into its parts.
    ("properties.$lib_version__major", OnlyTheirs),
    ("properties.$lib_version__minor", OnlyTheirs),
    ("properties.$lib_version__patch", OnlyTheirs),
    // We send no information about the device except what the app provides.
    ("properties.$os", OnlyTheirs),
    ("properties.$os_version", OnlyTheirs),
];

/// The content of an event that both SDKs send.
struct Sent {
    name: &'static str,
    time: SystemTime,
    properties: Map<String, Value>,
    set: Map<String, Value>,
    set_once: Map<String, Value>,
}

fn sent() -> [Sent; 3] {
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

fn object(value: Value) -> Map<String, Value> {
    serde_json::from_value(value).unwrap()
}

fn our_event(sent: &Sent) -> OutgoingEvent {
    let properties = |members| Properties::from_serialize(members).unwrap();
    testing::with_user_properties(
        testing::event_at(sent.name, properties(&sent.properties), sent.time),
        properties(&sent.set),
        properties(&sent.set_once),
    )
}

/// Converts `sent` to an event of posthog-rs with the unique ID of `ours`.
fn their_event(sent: &Sent, ours: &OutgoingEvent) -> posthog_rs::Event {
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
async fn send_theirs(endpoint: &str, events: Vec<posthog_rs::Event>) {
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
fn without_proxy() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().no_proxy().build()
}

async fn collector() -> MockServer {
    let collector = MockServer::start().await;
    let answer = ResponseTemplate::new(200).set_body_json(json!({ "status": 1 }));
    Mock::given(any()).respond_with(answer).mount(&collector).await;
    collector
}

/// Returns the only request that `collector` received.
async fn only_request(collector: &MockServer) -> Request {
    let [request] = collector.received_requests().await.unwrap().try_into().unwrap();
    request
}

/// Removes the events from a body and returns them.
fn take_events(body: &mut Value) -> Vec<Value> {
    match body.as_object_mut().unwrap().remove("batch").unwrap() {
        Value::Array(events) => events,
        other => panic!("{other}"),
    }
}

/// Replaces an event's time with milliseconds. posthog-rs writes nanoseconds with 0, 3, 6
/// or 9 digits; we write milliseconds without trailing zeros.
fn take_time_as_instant(event: &mut Value) {
    let time = &mut event["timestamp"];
    let instant = DateTime::parse_from_rfc3339(time.as_str().unwrap()).unwrap();
    assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
    *time = instant.timestamp_millis().into();
}

// posthog-rs blocks its caller while it joins the thread that it started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_body_matches_the_official_sdk_except_for_the_listed_differences() {
    let (our_collector, their_collector) = (collector().await, collector().await);
    let sent = sent();
    let ours: Vec<_> = sent.iter().map(our_event).collect();
    let theirs: Vec<_> =
        sent.iter().zip(&ours).map(|(sent, ours)| their_event(sent, ours)).collect();
    let backend = PostHog::builder(&our_collector.uri(), KEY).gzip(false).build().unwrap();
    timeout(Duration::from_secs(30), async {
        backend.send(&testing::batch(ID, ours)).await.unwrap();
        send_theirs(&their_collector.uri(), theirs).await;
    })
    .await
    .unwrap();

    let ours = only_request(&our_collector).await;
    let theirs = only_request(&their_collector).await;
    assert_eq!(ours.method, theirs.method);
    assert_eq!((ours.url.path(), ours.url.query()), (theirs.url.path(), theirs.url.query()),);
    assert_eq!(ours.headers["content-type"], theirs.headers["content-type"]);

    let (mut ours, mut theirs): (Value, Value) =
        (ours.body_json().unwrap(), theirs.body_json().unwrap());
    let (our_events, their_events) = (take_events(&mut ours), take_events(&mut theirs));
    assert_eq!(ours["api_key"], KEY);
    assert_eq!(differences(&ours, &theirs), listed(&AROUND_EVENTS), "\n{ours}\n{theirs}");
    assert_eq!((our_events.len(), their_events.len()), (sent.len(), sent.len()));
    for (mut ours, mut theirs) in our_events.into_iter().zip(their_events) {
        take_time_as_instant(&mut ours);
        take_time_as_instant(&mut theirs);
        assert_eq!(differences(&ours, &theirs), listed(&WITHIN_EVENT), "\n{ours}\n{theirs}");
    }
}
