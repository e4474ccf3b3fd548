//! PostHog's endpoint that answers for each event.

use std::time::Duration;

use matrix_analytics::{
    Backend as _, Batch, DeliveryError, DropReason, EventOutcome, OutgoingEvent, PostHog,
    Properties, SentOutcome, UserProperties,
    testing::{
        self, DeliveryFailure, ReceivedEvent,
        contract::{self, BackendHarness, Mode, Promises},
    },
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    object,
    posthog::{ID, KEY},
    text, time,
};
use crate::support::{
    AnalyticsExt as _, World,
    collector::{Answer, Collector, uncompressed},
    eventually,
    posthog_v1::{PostHogV1, Project},
};

const TAKEN: Answer = Answer::Each(r#"{"result":"ok"}"#);

fn posthog(endpoint: &str) -> PostHog {
    PostHog::builder(endpoint, KEY).v1(true).build().unwrap()
}

fn event(name: &str) -> OutgoingEvent {
    testing::event(name, Properties::new().with("trigger", "Icon"))
}

fn batch(names: &[&str]) -> Batch {
    testing::batch(ID, names.iter().map(|name| event(name)))
}

fn received(mut event: Value) -> ReceivedEvent {
    let event = event.as_object_mut().unwrap();
    let mut properties = object(event, "properties");
    let options = object(event, "options");
    assert_eq!(Value::Object(options), json!({ "disable_skew_correction": true }));
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
        const MODES: [Mode; 11] = [
            Mode::Refuse(DeliveryFailure::Misconfigured),
            Mode::Refuse(DeliveryFailure::PerEvent(EventOutcome::OverQuota)),
            Mode::Refuse(DeliveryFailure::PerEvent(EventOutcome::Rejected)),
            Mode::Refuse(DeliveryFailure::PerEvent(EventOutcome::SendAgain)),
            Mode::Refuse(DeliveryFailure::PerEvent(EventOutcome::TooLarge)),
            Mode::Refuse(DeliveryFailure::Rejected),
            Mode::Refuse(DeliveryFailure::Throttled { retry_after: Some(Duration::from_secs(7)) }),
            Mode::Refuse(DeliveryFailure::TooLarge),
            Mode::Refuse(DeliveryFailure::Transient),
            Mode::Refuse(DeliveryFailure::Unauthorized),
            Mode::Stall,
        ];
        Promises {
            modes: MODES.to_vec(),
            added_properties: &["$geoip_disable", "$ip"],
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
            time(&body.remove("created_at").unwrap());
            let batch = body.remove("batch").unwrap();
            assert!(body.is_empty(), "members that are not documented: {body:?}");
            events.extend(batch.as_array().unwrap().iter().cloned().map(received));
        }
        events
    }

    async fn set_mode(&self, mode: Mode) {
        let with = |status| Answer::With(status);
        self.collector.set_answer(match mode {
            Mode::Refuse(DeliveryFailure::PerEvent(outcome)) => Answer::Each(match outcome {
                EventOutcome::OverQuota => r#"{"result":"drop","details":"exceptions_over_quota"}"#,
                EventOutcome::SendAgain => r#"{"result":"retry","details":"not_persisted"}"#,
                EventOutcome::TooLarge => r#"{"result":"drop","details":"event_too_big"}"#,
                _ => r#"{"result":"drop","details":"event_restriction_drop"}"#,
            }),
            Mode::Refuse(failure) => with(match failure {
                DeliveryFailure::Rejected => "400 Bad Request",
                DeliveryFailure::Throttled { .. } => "429 Too Many\r\nretry-after: 7",
                DeliveryFailure::TooLarge => "413 Content Too Large",
                DeliveryFailure::Transient => "504 Gateway Timeout",
                DeliveryFailure::Unauthorized => "401 Unauthorized",
                _ => "404 Not Found",
            }),
            Mode::Stall => Answer::Never,
            _ => TAKEN,
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
async fn posthogs_v1_endpoint_keeps_the_contract() {
    let collector = Collector::start();
    collector.set_answer(TAKEN);
    let backend = posthog(&collector.url());
    contract::check(&Harness { collector, backend }).await;
}

#[tokio::test]
async fn the_request_has_exactly_the_documented_members_and_headers() {
    let double = PostHogV1::start(Project::default()).await;
    let full = testing::with_user_properties(
        testing::event(
            "Joined \"Room\"",
            Properties::new()
                .with("trigger", "In\nvite")
                .with("$session_id", "s-1")
                .with("$process_person_profile", true)
                .with("token", "forged")
                .with("$lib", "forged"),
        ),
        Properties::new().with("app", "desktop"),
        Properties::new().with("first_app", "mobile"),
    );
    let uuid = full.uuid();
    let backend = uncompressed(&double.url(), KEY).v1(true).build().unwrap();
    backend.send(&testing::batch(ID, [full])).await.unwrap();

    let request = &double.requests().await[0];
    let mut body: Value = request.body_json().unwrap();
    let created_at = body["created_at"].take();
    assert_eq!(
        body,
        json!({
            "created_at": null,
            "batch": [{
                "event": "Joined \"Room\"",
                "uuid": uuid.to_string(),
                "timestamp": "2026-01-31T12:00:00.25Z",
                "distinct_id": ID,
                "options": { "disable_skew_correction": true, "process_person_profile": true },
                "session_id": "s-1",
                "properties": {
                    "trigger": "In\nvite",
                    "$geoip_disable": true,
                    "$ip": "0.0.0.0",
                    "$set": { "app": "desktop" },
                    "$set_once": { "first_app": "mobile" },
                },
            }],
        }),
    );
    let mut headers: Vec<_> = request.headers.keys().map(|name| name.as_str()).collect();
    headers.sort_unstable();
    assert_eq!(
        headers,
        [
            "accept",
            "authorization",
            "content-length",
            "content-type",
            "host",
            "posthog-attempt",
            "posthog-request-id",
            "posthog-request-timestamp",
            "posthog-sdk-info",
            "user-agent",
        ]
    );
    let sender = format!("matrix-analytics/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(request.headers["posthog-sdk-info"], sender);
    assert_eq!(request.headers["user-agent"], sender);
    assert_eq!(request.headers["authorization"], format!("Bearer {KEY}"));
    // To the second, so that they do not show by how much the device's clock is wrong.
    let asked_at = request.headers["posthog-request-timestamp"].to_str().unwrap();
    for time in [asked_at, created_at.as_str().unwrap()] {
        assert_eq!(time.len(), "2026-01-31T12:00:00Z".len(), "{time}");
    }
    // What PostHog stores names the sender, as in a request to `/batch/`.
    let stored = &double.project().stored[0]["properties"];
    assert_eq!(stored["$lib"], "matrix-analytics");
    assert_eq!(stored["$lib_version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(stored["$session_id"], "s-1");
    assert_eq!(stored["$process_person_profile"], true);
}

fn outcomes(result: Result<(), DeliveryError>) -> Vec<EventOutcome> {
    match result {
        Err(DeliveryError::PerEvent { outcomes, .. }) => outcomes,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_double_answers_for_each_event_as_posthog_does() {
    let project = Project {
        is_over_quota_of_exceptions: true,
        restricted: vec!["Restricted"],
        not_persisted: vec!["NotPersisted"],
        ..Project::default()
    };
    let double = PostHogV1::start(project).await;
    let backend = posthog(&double.url());
    let sent = batch(&["$exception", "Taken", "Restricted", "NotPersisted", "Taken"]);
    use EventOutcome::{Delivered, OverQuota, Rejected, SendAgain};
    let result = backend.send(&sent).await;
    let asked = match &result {
        Err(DeliveryError::PerEvent { retry_after, .. }) => *retry_after,
        other => panic!("{other:?}"),
    };
    assert_eq!(asked, Some(Duration::from_secs(1)));
    assert_eq!(outcomes(result), [OverQuota, Delivered, Rejected, SendAgain, Delivered]);
    assert_eq!(double.project().stored.len(), 2);
    // PostHog answers 402 if there is nothing else in the request.
    assert_eq!(outcomes(backend.send(&batch(&["$exception"; 2])).await), [OverQuota; 2]);
    double.project().is_over_quota = true;
    assert_eq!(outcomes(backend.send(&batch(&["Taken"; 3])).await), [OverQuota; 3]);

    // An ID that is longer than PostHog takes, and one that it takes for a mistake.
    double.project().is_over_quota = false;
    for (id, outcome) in
        [(&*"i".repeat(201), Rejected), ("anonymous", EventOutcome::WithoutUserProperties)]
    {
        let sent = testing::batch(id, [event("Taken")]);
        assert_eq!(outcomes(backend.send(&sent).await), [outcome], "{id}");
    }
    backend.send(&testing::batch(&"i".repeat(200), [event("Taken")])).await.unwrap();
}

#[tokio::test]
async fn an_attempt_has_the_id_of_the_first_one_and_its_own_number() {
    let double = PostHogV1::start(Project::default()).await;
    let backend = posthog(&double.url());
    let (first, second) = (batch(&["A", "B"]), batch(&["C"]));
    double.project().not_persisted = vec!["A", "B"];
    for _ in 0..3 {
        assert_eq!(outcomes(backend.send(&first).await), [EventOutcome::SendAgain; 2]);
    }
    backend.send(&second).await.unwrap();
    // Nothing that could be recognised is kept for the next account.
    backend.close();
    backend.send(&second).await.unwrap();
    let id = |batch: &Batch| -> Uuid { batch.events().next().unwrap().uuid() };
    let (first, second) = (id(&first), id(&second));
    assert_eq!(
        double.project().attempts,
        [(1, first), (2, first), (3, first), (1, second), (1, second)]
    );
}

#[tokio::test]
async fn a_posthog_without_the_endpoint_loses_no_event() {
    // A self-hosted one answers 404, or sends the page for people to log in.
    for answer in [Answer::With("404 Not Found"), Answer::With("200 OK"), Answer::Long(9_000)] {
        let collector = Collector::start();
        collector.set_answer(answer.clone());
        let error = posthog(&collector.url()).send(&batch(&["Opened"])).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Misconfigured(_)), "{answer:?}: {error:?}");
    }
}

#[tokio::test]
async fn an_answer_for_many_events_is_read_to_its_end() {
    let collector = Collector::start();
    collector
        .set_answer(Answer::Each(r#"{"result":"drop","details":"survey_responses_over_quota"}"#));
    let events = testing::batch(ID, (0..2_000).map(|_| event("Opened")));
    let result = posthog(&collector.url()).send(&events).await;
    assert_eq!(outcomes(result), [EventOutcome::OverQuota; 2_000]);
}

#[tokio::test]
async fn delivered_is_what_posthog_says_that_it_has() {
    let project = Project {
        is_over_quota_of_exceptions: true,
        restricted: vec!["Restricted"],
        not_persisted: vec!["Later"],
        ..Project::default()
    };
    let double = PostHogV1::start(project).await;
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let builder = device.builder().backend(posthog(&double.url())).history(10);
    let analytics = builder.build().await.unwrap();
    analytics.opt_in_and_settle().await;
    for name in ["Taken", "$exception", "Later", "Restricted", "Taken"] {
        analytics.capture_one(name);
    }
    eventually(analytics.flush_all()).await;
    let stored = |double: &PostHogV1| -> Vec<String> {
        double.project().stored.iter().map(|event| text(&event["event"])).collect()
    };
    let counted = analytics.stats().backends[0].clone();
    assert!(counted.is_balanced(), "{counted:?}");
    assert_eq!((counted.delivered, counted.queued), (2, 1));
    assert_eq!(counted.dropped[&DropReason::OverQuota], 1);
    assert_eq!(counted.dropped[&DropReason::Rejected], 1);
    assert_eq!(stored(&double), ["Taken", "Taken"]);
    let history = analytics.history();
    for sent in &history {
        let expected = match sent.event().name() {
            "Taken" => SentOutcome::Delivered,
            "Later" => SentOutcome::Unconfirmed,
            _ => SentOutcome::Refused,
        };
        assert_eq!(sent.outcome(), expected, "{sent:?}");
    }
    assert_eq!(history.len(), 5);

    // The one that is left goes with the next, once PostHog's wait is over.
    double.project().not_persisted.clear();
    analytics.capture_one("Next");
    eventually(analytics.flush_all()).await;
    assert_eq!(stored(&double).len(), 2, "there was no wait");
    tokio::time::advance(Duration::from_secs(1)).await;
    eventually(analytics.flush_all()).await;
    assert_eq!(stored(&double), ["Taken", "Taken", "Later", "Next"]);
    assert_eq!(analytics.stats().backends[0].delivered, 4);
    let again: Vec<_> = double.project().attempts.iter().map(|(attempt, _)| *attempt).collect();
    assert_eq!(again, [1, 2]);
}

#[tokio::test]
async fn user_properties_wait_while_posthog_does_not_process_persons() {
    let double = PostHogV1::start(Project { skips_persons: true, ..Project::default() }).await;
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let analytics = device.builder().backend(posthog(&double.url())).build().await.unwrap();
    analytics.opt_in_and_settle().await;
    analytics.set_user_properties(UserProperties::new().set("app", "desktop")).unwrap();
    for name in ["Skipped", "Plain", "Carrier", "Later"] {
        analytics.capture_one(name);
        eventually(analytics.flush_all()).await;
        double.project().skips_persons = false;
    }
    let sets: Vec<_> = double
        .project()
        .stored
        .iter()
        .map(|event| (text(&event["event"]), event["properties"]["$set"].is_object()))
        .filter(|(_, has_set)| *has_set)
        .map(|(name, _)| name)
        .collect();
    // The request after the first goes without them, to show whether they are to blame.
    assert_eq!(sets, ["Skipped", "Carrier"]);
    assert_eq!(analytics.stats().backends[0].delivered, 4);
}
