//! Bad endpoints are build errors, bad answers are counted, and no property is lost to a name of
//! ours.

use std::collections::{BTreeMap, BTreeSet};

use matrix_analytics::{
    Backend as _, BackendStats, DropReason, EndpointError, Matomo, MatomoBuildError, Otlp,
    OtlpBuildError, PostHog, PostHogBuildError, Properties, testing,
};
use serde_json::{Map, Value};

use super::{
    hostile::{Answer, Hostile},
    posthog::{ID, KEY},
    text,
};
use crate::support::{AnalyticsExt as _, World, eventually};

const SECRET: &str = "7c0a93";

/// Returns why each HTTP backend cannot be built with `endpoint`.
fn endpoint_errors(endpoint: &str) -> [(&'static str, Option<EndpointError>); 3] {
    let posthog = match PostHog::new(endpoint, KEY) {
        Ok(_) => None,
        Err(PostHogBuildError::Endpoint(error)) => Some(error),
        Err(error) => panic!("{endpoint}: {error:?}"),
    };
    let otlp = match Otlp::new(endpoint, "example-client") {
        Ok(_) => None,
        Err(OtlpBuildError::Endpoint(error)) => Some(error),
        Err(error) => panic!("{endpoint}: {error:?}"),
    };
    let matomo = match Matomo::new(endpoint, 1) {
        Ok(_) => None,
        Err(MatomoBuildError::Endpoint(error)) => Some(error),
        Err(error) => panic!("{endpoint}: {error:?}"),
    };
    [("posthog", posthog), ("otlp", otlp), ("matomo", matomo)]
}

fn kind(error: Option<&EndpointError>) -> &'static str {
    match error {
        None => "none",
        Some(EndpointError::Credentials) => "credentials",
        Some(EndpointError::Path) => "path",
        Some(EndpointError::Query) => "query",
        Some(EndpointError::Scheme) => "scheme",
        Some(EndpointError::Url(_)) => "url",
        Some(error) => panic!("{error:?}"),
    }
}

#[test]
fn an_endpoint_that_cannot_be_right_is_a_build_error_of_every_backend() {
    for (endpoint, expected) in [
        ("https://example.org", "none"),
        ("https://example.org/", "none"),
        ("http://127.0.0.1:8080/a/b/", "none"),
        ("HTTPS://[::1]:8443/a", "none"),
        ("https://user@example.org", "credentials"),
        ("https://user:7c0a93@example.org", "credentials"),
        ("https://:7c0a93@example.org", "credentials"),
        ("https://example.org?key=7c0a93", "query"),
        ("https://example.org/?", "query"),
        ("https://example.org/a#7c0a93", "query"),
        ("ftp://example.org", "scheme"),
        ("file:///tmp/7c0a93", "scheme"),
        ("data:text/plain,7c0a93", "scheme"),
        ("grpc://example.org:4317", "scheme"),
        ("localhost:8000", "scheme"),
        ("", "url"),
        ("example.org", "url"),
        ("//example.org", "url"),
        ("http://", "url"),
        ("https:///", "url"),
        ("https://exa mple.org", "url"),
        ("https://example.org:99999", "url"),
    ] {
        for (name, error) in endpoint_errors(endpoint) {
            assert_eq!(kind(error.as_ref()), expected, "{name}: {endpoint:?}");
            let shown = format!("{error:?} {:?}", error.as_ref().map(ToString::to_string));
            assert!(!shown.contains(SECRET), "{name}: {shown}");
        }
    }
}

#[test]
fn the_path_of_an_interface_is_a_build_error_of_the_backend_that_appends_it() {
    for (path, wrong_for) in [
        ("/batch", "posthog"),
        ("/batch/", "posthog"),
        ("/proxy/capture/", "posthog"),
        ("/i/v0/e/", "posthog"),
        ("/i/v1/analytics/events", "posthog"),
        ("/v1/logs", "otlp"),
        ("/v1/logs/", "otlp"),
        ("/otlp/v1/traces", "otlp"),
        ("/v1/metrics", "otlp"),
        ("/matomo.php", "matomo"),
        ("/stats/piwik.php", "matomo"),
        ("/index.php", "matomo"),
    ] {
        for (name, error) in endpoint_errors(&format!("https://example.org{path}")) {
            let expected = if name == wrong_for { "path" } else { "none" };
            assert_eq!(kind(error.as_ref()), expected, "{name}: {path}");
        }
    }
}

#[test]
fn a_site_or_a_dimension_out_of_range_is_a_build_error() {
    let build = |site, dimension| {
        Matomo::builder("https://example.org", site).dimension(dimension, "key").build()
    };
    for (site, dimension) in [(1, 1), (u32::MAX, 999)] {
        assert!(build(site, dimension).is_ok(), "{site} {dimension}");
    }
    assert!(matches!(build(0, 1), Err(MatomoBuildError::SiteId)));
    for number in [0, 1000, u16::MAX] {
        let error = build(1, number).unwrap_err();
        assert!(matches!(error, MatomoBuildError::Dimension { number: n } if n == number));
    }
}

/// The number of events that are sent to a service with a bad answer.
const EVENTS: u64 = 4;

/// Returns what became of all events: delivered, waiting, or the reason why they were dropped.
fn fate(stats: &BackendStats) -> &'static str {
    assert!(stats.is_balanced(), "{stats:?}");
    let dropped = |reason| stats.dropped.get(&reason).copied().unwrap_or_default();
    let fates = [
        ("delivered", stats.delivered),
        ("waiting", stats.queued),
        ("rejected", dropped(DropReason::Rejected)),
        ("too large", dropped(DropReason::TooLarge)),
    ];
    let all = fates.into_iter().find(|(_, events)| *events == EVENTS);
    all.unwrap_or_else(|| panic!("events with different fates: {stats:?}")).0
}

fn answer(status: &str, body: &str) -> Answer {
    let length = body.len();
    Answer::Exactly(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}"))
}

/// Checks what becomes of four events, and how many requests that takes, for PostHog, its v1
/// endpoint, OTLP and Matomo.
async fn check(answer: Answer, expected: [(&str, usize); 4]) {
    let mut services = Vec::new();
    for _ in expected {
        services.push(Hostile::start(answer.clone()).await);
    }
    let world = World::new().await;
    let builder = world.device("PHONE").await.builder();
    let analytics = builder
        .backend(PostHog::new(&services[0].url(), KEY).unwrap())
        .backend(PostHog::builder(&services[1].url(), KEY).v1(true).build().unwrap())
        .backend(Otlp::new(&services[2].url(), "example-client").unwrap())
        .backend(Matomo::new(&services[3].url(), 1).unwrap())
        .build()
        .await
        .unwrap();
    analytics.opt_in_and_settle().await;
    for _ in 0..EVENTS {
        analytics.capture_one("Opened");
    }
    eventually(analytics.flush_all()).await;
    let stats = analytics.stats();
    for ((stats, service), expected) in stats.backends.iter().zip(&services).zip(expected) {
        let found = (fate(stats), service.seen().answered);
        assert_eq!(found, expected, "{}: {stats:?}", stats.name);
    }
}

#[tokio::test]
async fn a_success_that_is_not_of_the_protocol_is_counted() {
    for body in ["<!DOCTYPE html><title>Log in</title>", "\0\u{1}\u{fffd}", "{", "null"] {
        let expected = [("delivered", 1), ("waiting", 1), ("rejected", 1), ("waiting", 1)];
        check(answer("200 OK", body), expected).await;
    }
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_halved_until_each_event_is_counted() {
    check(answer("413 Content Too Large", ""), [("too large", 6); 4]).await;
}

#[tokio::test]
async fn a_refusal_is_counted_or_its_events_wait() {
    for (status, expected) in [
        (
            "307 Redirect\r\nlocation: http://127.0.0.1:1/",
            ["waiting", "waiting", "rejected", "waiting"],
        ),
        ("401 Unauthorized", ["waiting", "waiting", "rejected", "waiting"]),
        ("404 Not Found", ["waiting", "waiting", "rejected", "waiting"]),
        ("429 Too Many Requests", ["waiting"; 4]),
        ("502 Bad Gateway", ["waiting"; 4]),
    ] {
        check(answer(status, "<html>"), expected.map(|fate| (fate, 1))).await;
    }
}

#[tokio::test]
async fn a_400_and_a_500_are_counted_as_each_protocol_means_them() {
    let expected = [("rejected", 6), ("rejected", 6), ("rejected", 1), ("rejected", 6)];
    check(answer("400 Bad Request", ""), expected).await;
    let expected = [("waiting", 1), ("waiting", 1), ("rejected", 1), ("rejected", 6)];
    check(answer("500 Internal Server Error", ""), expected).await;
}

#[tokio::test]
async fn the_events_of_a_connection_that_closes_wait() {
    check(Answer::ThenCloses(""), [("waiting", 1); 4]).await;
}

/// Generates keys that are, resemble or contain names of ours.
fn key(random: &mut fastrand::Rng, parts: &[&str]) -> String {
    let count = random.usize(1..=3);
    let mut key: String = (0..count).map(|_| parts[random.usize(..parts.len())]).collect();
    if random.bool() {
        key.truncate(key.len() - random.usize(0..key.len().min(3)));
    }
    key
}

fn properties(random: &mut fastrand::Rng, parts: &[&str]) -> BTreeMap<String, i64> {
    (0..random.i64(0..8)).map(|value| (key(random, parts), value)).collect()
}

fn given(members: &BTreeMap<String, i64>) -> Properties {
    members.iter().map(|(key, value)| (key.clone(), *value)).collect()
}

#[test]
fn no_property_is_lost_to_an_attribute_of_otlp() {
    const PARTS: [&str; 7] = [
        "property.",
        "user_property.",
        "initial_user_property.",
        "log.record.uid",
        "enduser.pseudo.id",
        "app",
        ".",
    ];
    let otlp = Otlp::new("http://127.0.0.1:1", "example-client").unwrap();
    let mut random = fastrand::Rng::with_seed(17);
    let (mut renamed, mut names) = (0, BTreeMap::new());
    for _ in 0..5_000 {
        let [own, set, set_once] = [0; 3].map(|_| properties(&mut random, &PARTS));
        let event = testing::with_user_properties(
            testing::event("Opened", given(&own)),
            given(&set),
            given(&set_once),
        );
        let uuid = event.uuid().to_string();
        let shown = otlp.render(&testing::batch(ID, [event])).unwrap();
        let request: Value = serde_json::from_str(&shown).unwrap();
        let record = &request["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
        let mut attributes = BTreeMap::new();
        for attribute in record["attributes"].as_array().unwrap() {
            let is_new = attributes.insert(text(&attribute["key"]), attribute["value"].clone());
            assert_eq!(is_new, None, "two attributes have the key {}", attribute["key"]);
        }

        assert_eq!(attributes.remove("log.record.uid").unwrap()["stringValue"], uuid);
        assert_eq!(attributes.remove("enduser.pseudo.id").unwrap()["stringValue"], ID);
        for (prefix, members) in [("user_property.", &set), ("initial_user_property.", &set_once)] {
            for (key, value) in members {
                let attribute = attributes.remove(&format!("{prefix}{key}"));
                assert_eq!(attribute.unwrap()["intValue"], value.to_string(), "{prefix}{key}");
            }
        }
        for (key, value) in &own {
            let spelled = value.to_string();
            let kept = [key.clone(), format!("property.{key}")]
                .into_iter()
                .find(|name| attributes.get(name).is_some_and(|a| a["intValue"] == *spelled));
            let name = kept.unwrap_or_else(|| panic!("{key} is not in {attributes:?}"));
            attributes.remove(&name);
            renamed += usize::from(name != *key);
            // A reader can tell the properties of an event apart in all of its events.
            let before = names.insert(name.clone(), key.clone());
            assert!(before.is_none_or(|before| before == *key), "{name} is two properties");
        }
        assert!(attributes.is_empty(), "{attributes:?}");
    }
    assert!(renamed > 1_000, "{renamed}");
}

#[test]
fn every_property_that_posthog_does_not_reserve_arrives_beside_ours() {
    const PARTS: [&str; 8] = ["$", "ip", "$lib", "_version", "$set", "_once", "distinct_id", "app"];
    const OURS: [&str; 4] = ["$geoip_disable", "$ip", "$lib", "$lib_version"];
    const RESERVED: [&str; 7] =
        ["$distinct_id", "$ip", "$lib", "$lib_version", "$set", "$set_once", "distinct_id"];
    let posthog = PostHog::new("http://127.0.0.1:1", KEY).unwrap();
    let mut random = fastrand::Rng::with_seed(17);
    let mut reserved = 0;
    for _ in 0..5_000 {
        let own = properties(&mut random, &PARTS);
        let event = testing::event("Opened", given(&own));
        let text = posthog.render(&testing::batch(ID, [event])).unwrap();
        let request: Value = serde_json::from_str(&text).unwrap();
        let sent = &request["batch"][0];
        assert_eq!(sent["distinct_id"], ID);
        let sent: &Map<String, Value> = sent["properties"].as_object().unwrap();
        let (lost, kept): (BTreeSet<_>, BTreeSet<_>) =
            own.keys().map(String::as_str).partition(|key| RESERVED.contains(key));
        reserved += lost.len();
        let expected: BTreeSet<_> = kept.iter().copied().chain(OURS).collect();
        assert_eq!(sent.keys().map(String::as_str).collect::<BTreeSet<_>>(), expected);
        for key in kept {
            assert_eq!(sent[key], own[key], "{key}");
        }
        assert_eq!(sent["$ip"], "0.0.0.0");
        assert_eq!(sent["$lib"], "matrix-analytics");
    }
    assert!(reserved > 1_000, "{reserved}");
}
