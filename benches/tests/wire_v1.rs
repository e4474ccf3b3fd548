//! Compares our requests to PostHog's v1 endpoint with those of posthog-rs, PostHog's official
//! SDK: both send the same events, and their requests differ only as listed in this file.

#![cfg(feature = "posthog-v1")]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::{collections::BTreeSet, time::Duration};

use chrono::DateTime;
use common::{
    Difference::{self, OnlyOurs, OnlyTheirs},
    ID, KEY, differences, listed, only_request, our_event, send_theirs, sent, take_events,
    take_time_as_instant, their_event,
};
use matrix_analytics::{Backend as _, PostHog, testing};
use serde_json::{Map, Value, json};
use tokio::time::timeout;
use wiremock::{Mock, MockServer, Request, ResponseTemplate, matchers::any};

/// All differences within an event, by path. Each event has all of them.
const WITHIN_EVENT: [(&str, Difference); 4] = [
    // PostHog would shift the time of the event by the difference between its clock and
    // `posthog-request-timestamp`. We want the time of capture to arrive unchanged, on every
    // attempt and at every backend.
    ("options.disable_skew_correction", OnlyOurs),
    // Without it, PostHog adds the sender's address to the event.
    ("properties.$ip", OnlyOurs),
    // We send no information about the device except what the app provides.
    ("properties.$os", OnlyTheirs),
    ("properties.$os_version", OnlyTheirs),
];

/// Answers for each event as PostHog does.
async fn collector() -> MockServer {
    let collector = MockServer::start().await;
    let answer = |request: &Request| {
        let body: Value = request.body_json().unwrap();
        let events = body["batch"].as_array().unwrap();
        let ids = events.iter().map(|event| event["uuid"].as_str().unwrap().to_owned());
        let results: Map<_, _> = ids.map(|id| (id, json!({ "result": "ok" }))).collect();
        ResponseTemplate::new(200).set_body_json(json!({ "results": results }))
    };
    Mock::given(any()).respond_with(answer).mount(&collector).await;
    collector
}

fn header<'a>(request: &'a Request, name: &str) -> &'a str {
    request.headers[name].to_str().unwrap()
}

fn names_of_headers(request: &Request) -> BTreeSet<&str> {
    request.headers.keys().map(|name| name.as_str()).collect()
}

// posthog-rs blocks its caller while it joins the thread that it started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_request_matches_the_official_sdk_except_for_the_listed_differences() {
    let (our_collector, their_collector) = (collector().await, collector().await);
    let sent = sent();
    let ours: Vec<_> = sent.iter().map(our_event).collect();
    let theirs: Vec<_> =
        sent.iter().zip(&ours).map(|(sent, ours)| their_event(sent, ours)).collect();
    let builder = PostHog::builder(&our_collector.uri(), KEY).gzip(false).v1(true);
    let backend = builder.build().unwrap();
    timeout(Duration::from_secs(30), async {
        backend.send(&testing::batch(ID, ours)).await.unwrap();
        send_theirs(&their_collector.uri(), theirs).await;
    })
    .await
    .unwrap();

    let ours = only_request(&our_collector).await;
    let theirs = only_request(&their_collector).await;
    assert_eq!(ours.method, theirs.method);
    assert_eq!((ours.url.path(), ours.url.query()), (theirs.url.path(), theirs.url.query()));
    let mut names = names_of_headers(&theirs);
    // Their HTTP client has it if any crate in the build enables decompression.
    names.remove("accept-encoding");
    assert_eq!(names_of_headers(&ours), names);
    for name in ["accept", "authorization", "content-type", "posthog-attempt"] {
        assert_eq!(header(&ours, name), header(&theirs, name), "{name}");
    }
    // Both name the sender, in the same form.
    for name in ["posthog-sdk-info", "user-agent"] {
        assert_eq!(header(&ours, name).split('/').count(), 2);
        assert_eq!(header(&theirs, name).split('/').count(), 2);
    }
    for request in [&ours, &theirs] {
        // An ID of ours is that of an event, and one of theirs is made for the request.
        header(request, "posthog-request-id").parse::<uuid::Uuid>().unwrap();
        DateTime::parse_from_rfc3339(header(request, "posthog-request-timestamp")).unwrap();
    }

    let (mut ours, mut theirs): (Value, Value) =
        (ours.body_json().unwrap(), theirs.body_json().unwrap());
    let (our_events, their_events) = (take_events(&mut ours), take_events(&mut theirs));
    for body in [&mut ours, &mut theirs] {
        let created_at = body["created_at"].take();
        DateTime::parse_from_rfc3339(created_at.as_str().unwrap()).unwrap();
    }
    assert_eq!(ours, theirs, "outside the events");
    assert_eq!((our_events.len(), their_events.len()), (sent.len(), sent.len()));
    for (mut ours, mut theirs) in our_events.into_iter().zip(their_events) {
        take_time_as_instant(&mut ours);
        take_time_as_instant(&mut theirs);
        assert_eq!(differences(&ours, &theirs), listed(&WITHIN_EVENT), "\n{ours}\n{theirs}");
    }
}
