//! Compares our PostHog backend with posthog-rs, PostHog's official SDK: both send the
//! same events, and their requests differ only as listed in this file.
//!
//! posthog-rs has either the client for `/batch/` or that of `wire_v1`.

#![cfg(not(feature = "posthog-v1"))]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::time::Duration;

use common::{
    Difference::{self, OnlyOurs, OnlyTheirs, OtherValue},
    ID, KEY, differences, listed, only_request, our_event, send_theirs, sent, take_events,
    take_time_as_instant, their_event,
};
use matrix_analytics::{Backend as _, PostHog, testing};
use serde_json::{Value, json};
use tokio::time::timeout;
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

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

async fn collector() -> MockServer {
    let collector = MockServer::start().await;
    let answer = ResponseTemplate::new(200).set_body_json(json!({ "status": 1 }));
    Mock::given(any()).respond_with(answer).mount(&collector).await;
    collector
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
