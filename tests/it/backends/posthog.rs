use std::{
    net::TcpListener,
    time::{Duration, SystemTime},
};

use matrix_analytics::{
    Backend as _, Batch, DeliveryError, PostHog, PostHogBuildError, Properties,
    testing::{
        self, DeliveryFailure, ReceivedEvent,
        contract::{self, BackendHarness, Mode, Promises},
    },
};
use serde_json::{Map, Value, json};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{any, method, path},
};

use super::{object, text, time};
#[cfg(feature = "gzip")]
use crate::support::collector::unzipped;
use crate::support::collector::{Answer, Collector, OK, uncompressed};

pub(super) const KEY: &str = "phc_4b1d0c";
pub(super) const ID: &str = "9f1c2d7e-0d5e-4c9b-8a53-b6f1d1f1a0aa";

pub(super) fn posthog(endpoint: &str) -> PostHog {
    PostHog::new(endpoint, KEY).unwrap()
}

pub(super) fn opened() -> Batch {
    testing::batch(ID, [testing::event("Opened", Properties::new().with("trigger", "Icon"))])
}

fn received(mut event: Value) -> ReceivedEvent {
    let event = event.as_object_mut().unwrap();
    let mut properties = object(event, "properties");
    let id = event.remove("distinct_id").unwrap();
    let received = ReceivedEvent {
        name: text(&event.remove("event").unwrap()),
        uuid: text(&event.remove("uuid").unwrap()).parse().unwrap(),
        distinct_id: text(&id),
        time: time(&event.remove("timestamp").unwrap()),
        set: object(&mut properties, "$set"),
        set_once: object(&mut properties, "$set_once"),
        properties,
    };
    assert!(event.is_empty(), "members that are not documented: {event:?}");
    received
}

struct Harness {
    collector: Collector,
    backend: PostHog,
}

impl BackendHarness for Harness {
    type Backend = PostHog;

    fn promises(&self) -> Promises {
        const MODES: [Mode; 7] = [
            Mode::Refuse(DeliveryFailure::Misconfigured),
            Mode::Refuse(DeliveryFailure::Rejected),
            Mode::Refuse(DeliveryFailure::Throttled { retry_after: Some(Duration::from_secs(7)) }),
            Mode::Refuse(DeliveryFailure::TooLarge),
            Mode::Refuse(DeliveryFailure::Transient),
            Mode::Refuse(DeliveryFailure::Unauthorized),
            Mode::Stall,
        ];
        Promises {
            modes: MODES.to_vec(),
            added_properties: &["$geoip_disable", "$ip", "$lib", "$lib_version"],
            limitations: &[],
            secrets: &[KEY],
        }
    }

    fn backend(&self) -> &PostHog {
        &self.backend
    }

    async fn was_contacted(&self) -> bool {
        self.collector.seen().opened > 0
    }

    async fn received(&self) -> Vec<ReceivedEvent> {
        let mut events = Vec::new();
        for body in self.collector.seen().requests {
            let mut body: Map<String, Value> = serde_json::from_slice(&body).unwrap();
            assert_eq!(body.remove("api_key").unwrap(), KEY);
            let batch = body.remove("batch").unwrap();
            assert!(body.is_empty(), "members that are not documented: {body:?}");
            events.extend(batch.as_array().unwrap().iter().cloned().map(received));
        }
        events
    }

    async fn set_mode(&self, mode: Mode) {
        self.collector.set_answer(match mode {
            Mode::Refuse(failure) => Answer::With(match failure {
                DeliveryFailure::Rejected => "400 Bad Request",
                DeliveryFailure::Throttled { .. } => "429 Too Many\r\nretry-after: 7",
                DeliveryFailure::TooLarge => "413 Content Too Large",
                DeliveryFailure::Transient => "502 Bad Gateway",
                DeliveryFailure::Unauthorized => "401 Unauthorized",
                _ => "404 Not Found",
            }),
            Mode::Stall => Answer::Never,
            _ => OK,
        });
        if mode == Mode::Accept {
            self.collector.wait_until(|seen| seen.ended >= seen.stalled).await;
        }
    }

    async fn stalled(&self) {
        self.collector.wait_until(|seen| seen.stalled > 0).await;
    }
}

#[tokio::test]
async fn posthog_keeps_the_contract() {
    let collector = Collector::start();
    let backend = posthog(&collector.url());
    contract::check(&Harness { collector, backend }).await;
}

#[tokio::test]
async fn the_body_has_exactly_the_documented_members() {
    let server = MockServer::start().await;
    let only = Mock::given(method("POST")).and(path("/prefix/batch/"));
    only.respond_with(ResponseTemplate::new(200)).expect(1).mount(&server).await;
    let plain = testing::event("Opened", Properties::new());
    let full = testing::with_user_properties(
        testing::event("Joined \"Room\"", Properties::new().with("trigger", "In\nvite")),
        Properties::new().with("app", "desktop"),
        Properties::new().with("first_app", "mobile"),
    );
    let uuids = (plain.uuid(), full.uuid());
    let batch = testing::batch(ID, [plain, full]);
    let backend = uncompressed(&format!("{}/prefix", server.uri()), KEY).build().unwrap();
    backend.send(&batch).await.unwrap();

    let request = &server.received_requests().await.unwrap()[0];
    assert_eq!(
        request.body_json::<Value>().unwrap(),
        json!({
            "api_key": KEY,
            "batch": [
                {
                    "event": "Opened",
                    "uuid": uuids.0.to_string(),
                    "timestamp": "2026-01-31T12:00:00.25Z",
                    "distinct_id": ID,
                    "properties": {
                        "$lib": "matrix-analytics",
                        "$lib_version": env!("CARGO_PKG_VERSION"),
                        "$geoip_disable": true,
                        "$ip": "0.0.0.0",
                    },
                },
                {
                    "event": "Joined \"Room\"",
                    "uuid": uuids.1.to_string(),
                    "timestamp": "2026-01-31T12:00:00.25Z",
                    "distinct_id": ID,
                    "properties": {
                        "trigger": "In\nvite",
                        "$lib": "matrix-analytics",
                        "$lib_version": env!("CARGO_PKG_VERSION"),
                        "$geoip_disable": true,
                        "$ip": "0.0.0.0",
                        "$set": { "app": "desktop" },
                        "$set_once": { "first_app": "mobile" },
                    },
                },
            ],
        }),
    );
    let mut headers: Vec<_> = request.headers.keys().map(|name| name.as_str()).collect();
    headers.sort_unstable();
    assert_eq!(headers, ["accept", "content-length", "content-type", "host"]);
    assert_eq!(request.headers["content-type"], "application/json");
}

#[tokio::test]
async fn no_property_of_the_app_replaces_one_of_the_crate() {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    let reserved = [
        "$anon_distinct_id",
        "$cookieless_mode",
        "$device_id",
        "$distinct_id",
        "$geoip_disable",
        "$ignore_sent_at",
        "$ip",
        "$is_identified",
        "$lib",
        "$lib_version",
        "$set",
        "$set_once",
        "$token",
        "$unset",
        "$user_id",
        "alias",
        "api_key",
        "capture_internal",
        "distinct_id",
        "token",
    ];
    let mut properties = Properties::new();
    for key in reserved {
        properties.insert(key, "forged");
    }
    properties.insert("$screen_name", "kept, with \"$set\" in it");
    properties.insert("$process_person_profile", false);
    properties.insert("tokens", u64::MAX);
    let batch = testing::batch(ID, [testing::event("Opened", properties)]);
    uncompressed(&server.uri(), KEY).build().unwrap().send(&batch).await.unwrap();

    let body: Value = server.received_requests().await.unwrap()[0].body_json().unwrap();
    assert_eq!(
        body["batch"][0]["properties"],
        json!({
            "$screen_name": "kept, with \"$set\" in it",
            "$process_person_profile": false,
            "tokens": u64::MAX,
            "$lib": "matrix-analytics",
            "$lib_version": env!("CARGO_PKG_VERSION"),
            "$geoip_disable": true,
            "$ip": "0.0.0.0",
        }),
    );
}

#[cfg(feature = "gzip")]
#[tokio::test]
async fn bodies_are_compressed_unless_the_app_turns_that_off() {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    let batch = opened();
    posthog(&server.uri()).send(&batch).await.unwrap();
    let plain = PostHog::builder(&server.uri(), KEY).gzip(false).build().unwrap();
    plain.send(&batch).await.unwrap();

    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests[0].headers["content-encoding"], "gzip");
    assert_eq!(requests[1].headers.get("content-encoding"), None);
    assert_eq!(unzipped(&requests[0].body), requests[1].body);
}

/// Starts two servers, of which the first redirects to the second with `status`.
async fn redirecting(status: u16) -> (MockServer, MockServer) {
    let (first, second) = (MockServer::start().await, MockServer::start().await);
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&second).await;
    let answer =
        ResponseTemplate::new(status).insert_header("location", format!("{}/batch/", second.uri()));
    Mock::given(any()).respond_with(answer).mount(&first).await;
    (first, second)
}

#[tokio::test]
async fn redirects_are_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let (first, second) = redirecting(status).await;
        let error = posthog(&first.uri()).send(&opened()).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Misconfigured(_)), "{status}: {error:?}");
        assert!(second.received_requests().await.unwrap().is_empty(), "{status}");
    }
}

#[tokio::test]
async fn retry_after_is_read_from_the_answer() {
    let in_an_hour = SystemTime::now() + Duration::from_secs(3600);
    for (status, header, expected) in [
        (429, None, Some(None)),
        (429, Some("30".to_owned()), Some(Some(30))),
        (429, Some("soon".to_owned()), Some(None)),
        (503, Some("30".to_owned()), Some(Some(30))),
        (503, Some("soon".to_owned()), None),
        (503, None, None),
        (500, Some("30".to_owned()), None),
        (429, Some(httpdate::fmt_http_date(in_an_hour)), Some(Some(3600))),
    ] {
        let server = MockServer::start().await;
        let mut answer = ResponseTemplate::new(status);
        if let Some(header) = &header {
            answer = answer.insert_header("retry-after", header.as_str());
        }
        Mock::given(any()).respond_with(answer).mount(&server).await;
        let error = posthog(&server.uri()).send(&opened()).await.unwrap_err();
        match (&error, expected) {
            (DeliveryError::Transient(_), None) => {}
            (DeliveryError::Throttled { retry_after: None, .. }, Some(None)) => {}
            (DeliveryError::Throttled { retry_after: Some(wait), .. }, Some(Some(seconds))) => {
                // The wait until a date is shorter by the time that has passed since.
                let wait = wait.as_secs();
                assert!((seconds.min(3000)..=seconds).contains(&wait), "{header:?}: {wait}");
            }
            _ => panic!("{status}, {header:?}: {error:?}"),
        }
    }
}

#[tokio::test]
async fn an_unreachable_service_is_a_transient_failure() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = posthog(&format!("http://{address}")).send(&opened()).await.unwrap_err();
    assert!(matches!(error, DeliveryError::Transient(_)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_never_answers_is_a_transient_failure() {
    let collector = Collector::start();
    collector.set_answer(Answer::Never);
    let backend = PostHog::builder(&collector.url(), KEY).request_timeout(Duration::from_secs(3));
    let error = backend.build().unwrap().send(&opened()).await.unwrap_err();
    assert!(matches!(error, DeliveryError::Transient(_)), "{error:?}");
}

#[test]
fn a_key_that_is_empty_or_has_control_characters_is_refused() {
    for key in ["", " ", "\t", "phc_\n", "phc_\0key", "phc_\u{85}"] {
        let error = PostHog::new("https://example.org", key).unwrap_err();
        assert!(matches!(error, PostHogBuildError::ApiKey), "{key:?}: {error:?}");
    }
}

#[test]
fn a_key_that_is_not_a_project_key_is_refused() {
    use PostHogBuildError as Error;

    type Check = fn(&Error) -> bool;
    let secret: Check = |error| matches!(error, Error::ApiKeySecret);
    let too_long: Check = |error| matches!(error, Error::ApiKeyTooLong);
    let not_ascii: Check = |error| matches!(error, Error::ApiKeyNotAscii);
    for (key, is_expected) in [
        ("phx_4b1d0c", secret),
        (" phx_4b1d0c", secret),
        ("phs_4b1d0c", secret),
        ("pha_4b1d0c", secret),
        ("phr_4b1d0c", secret),
        (&*format!("phc_{}", "4".repeat(61)), too_long),
        (&*"4".repeat(65), too_long),
        ("phc_4b1d0ç", not_ascii),
        ("🦀", not_ascii),
    ] {
        let error = PostHog::new("https://example.org", key).unwrap_err();
        assert!(is_expected(&error), "{key:?}: {error:?}");
        assert!(!format!("{error} {error:?}").contains("4b1d0"), "{error:?}");
    }
    // Keys of self-hosted instances may have any form.
    for key in ["phc_4b1d0c", "4b1d0c", &*"4".repeat(64)] {
        PostHog::new("https://example.org", key).unwrap();
    }
}

#[test]
fn debug_output_shows_neither_the_key_nor_the_path() {
    let builder = PostHog::builder("https://example.org/hidden", KEY);
    let shown = format!("{builder:?}");
    assert_eq!(shown, "PostHogBuilder { timeout: 10s, .. }");
    let shown = format!("{:?}", builder.build().unwrap());
    assert_eq!(shown, r#"PostHog { endpoint: "https://example.org", .. }"#);
}
