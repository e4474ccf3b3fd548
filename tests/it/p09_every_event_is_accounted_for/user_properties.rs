//! User properties are kept until an event that carries them has been delivered.

use std::time::Duration;

use matrix_analytics::{
    Analytics, Backend, Batch, DeliveryError, Limits, OutgoingEvent, OverflowPolicy, Properties,
    UserProperties,
    testing::{DeliveryFailure, FailingBackend, ReceivedEvent, RecordingBackend},
};
use serde_json::{Value, json};

use super::opted_in;
use crate::support::{AnalyticsExt as _, World, eventually};

fn set_property(analytics: &Analytics, key: &'static str, value: i64) {
    analytics.set_user_properties(UserProperties::new().set(key, value)).unwrap();
}

async fn send(analytics: &Analytics, name: &'static str) {
    analytics.capture_one(name);
    eventually(analytics.flush_all()).await;
}

/// Lets time pass until the first backend has dropped `events` events. Attempts after a rejection
/// are paced.
async fn until_dropped(analytics: &Analytics, events: u64) {
    for _ in 0..10 {
        if analytics.stats().backends[0].dropped_total() == events {
            return;
        }
        tokio::time::advance(Duration::from_secs(3600)).await;
        eventually(analytics.flush_all()).await;
    }
    panic!("{:?}", analytics.stats());
}

/// Returns the name and user properties of each event.
fn user_properties(events: &[ReceivedEvent]) -> Vec<(&str, Value)> {
    events.iter().map(|event| (event.name.as_str(), Value::Object(event.set.clone()))).collect()
}

#[tokio::test]
async fn they_outlive_a_rejected_event_and_go_with_the_next() {
    for failure in [DeliveryFailure::Rejected, DeliveryFailure::TooLarge] {
        let world = World::new().await;
        let (failing, healthy) = (FailingBackend::new(), RecordingBackend::new());
        let device = world.device("PHONE").await;
        let builder = device.builder().backend(failing.clone()).backend(healthy.clone());
        let analytics = opted_in(builder).await;
        failing.fail_always(failure);
        set_property(&analytics, "rooms", 5);
        send(&analytics, "Rejected").await;
        until_dropped(&analytics, 1).await;

        failing.heal();
        // The request after a rejection carries no user properties, to show whether they are to
        // blame.
        send(&analytics, "Next").await;
        set_property(&analytics, "spaces", 1);
        send(&analytics, "Carrier").await;
        send(&analytics, "Later").await;
        let all = json!({ "rooms": 5, "spaces": 1 });
        let events = failing.accepted_events();
        let with_properties: Vec<_> =
            user_properties(&events).into_iter().filter(|(_, set)| *set != json!({})).collect();
        assert_eq!(with_properties.last().unwrap().1.as_object().unwrap()["spaces"], 1);
        let mut seen = json!({});
        for (_, set) in &with_properties {
            seen.as_object_mut().unwrap().extend(set.as_object().unwrap().clone());
        }
        assert_eq!(seen, all, "{failure:?}");
        assert_eq!(user_properties(&events).last().unwrap(), &("Later", json!({})), "{failure:?}");
        // The other backend received them at once, and only once.
        let events = healthy.events();
        assert_eq!(
            user_properties(&events),
            [
                ("Rejected", json!({ "rooms": 5 })),
                ("Next", json!({})),
                ("Carrier", json!({ "spaces": 1 })),
                ("Later", json!({})),
            ],
            "{failure:?}"
        );
    }
}

#[tokio::test]
async fn they_outlive_an_event_that_expires_or_has_no_room() {
    let world = World::new().await;
    let backend = FailingBackend::new();
    let device = world.device("PHONE").await;
    let builder = device.builder().backend(backend.clone());
    let builder = builder;
    let analytics = opted_in(
        builder.limits(
            Limits::default()
                .queue_max_events(1)
                .overflow_policy(OverflowPolicy::DropOldest)
                .queue_max_age(Duration::from_secs(60)),
        ),
    )
    .await;
    backend.fail_always(DeliveryFailure::Transient);
    set_property(&analytics, "rooms", 5);
    send(&analytics, "Evicted").await;
    send(&analytics, "Expired").await;
    tokio::time::advance(Duration::from_secs(61)).await;
    eventually(analytics.flush_all()).await;
    assert_eq!(analytics.stats().backends[0].dropped_total(), 2);
    backend.heal();
    send(&analytics, "Next").await;
    assert_eq!(user_properties(&backend.accepted_events()), [("Next", json!({ "rooms": 5 }))]);
}

#[tokio::test]
async fn a_property_set_again_during_a_request_is_sent_again() {
    let world = World::new().await;
    let backend = FailingBackend::new();
    let device = world.device("PHONE").await;
    let analytics = opted_in(device.builder().backend(backend.clone())).await;
    backend.stall();
    set_property(&analytics, "rooms", 5);
    set_property(&analytics, "spaces", 1);
    analytics.capture_one("Out");
    let mut flush = Box::pin(analytics.flush_all());
    assert!(futures_util::poll!(&mut flush).is_pending());
    eventually(backend.wait_for_attempts(1)).await;
    set_property(&analytics, "rooms", 6);
    // The backend's lane learns of the new value before the request ends.
    let mut next = Box::pin(analytics.flush_all());
    for _ in 0..8 {
        assert!(futures_util::poll!(&mut next).is_pending());
        tokio::task::yield_now().await;
    }
    backend.release();
    eventually(flush).await;
    eventually(next).await;
    send(&analytics, "Next").await;
    send(&analytics, "Last").await;
    assert_eq!(
        user_properties(&backend.accepted_events()),
        [
            ("Out", json!({ "rooms": 5, "spaces": 1 })),
            ("Next", json!({ "rooms": 6 })),
            ("Last", json!({})),
        ]
    );
}

/// Ignores the user properties of events named `Ignoring`.
#[derive(Clone)]
struct Ignoring(RecordingBackend);

impl Backend for Ignoring {
    fn name(&self) -> &'static str {
        "ignoring"
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        self.0.send(batch).await
    }

    fn carries_user_properties(&self, event: &OutgoingEvent) -> bool {
        assert_ne!(event.name(), "Panics");
        event.name() != "Ignoring"
    }
}

#[tokio::test]
async fn they_never_go_with_an_event_whose_backend_would_ignore_them() {
    let world = World::new().await;
    let (ignoring, healthy) = (Ignoring(RecordingBackend::new()), RecordingBackend::new());
    let device = world.device("PHONE").await;
    let builder = device.builder().backend(ignoring.clone()).backend(healthy.clone());
    let analytics = opted_in(builder).await;
    set_property(&analytics, "rooms", 5);
    send(&analytics, "Ignoring").await;
    send(&analytics, "Panics").await;
    analytics.capture_one("Ignoring");
    send(&analytics, "Normal").await;
    let rooms = json!({ "rooms": 5 });
    assert_eq!(
        user_properties(&ignoring.0.events()),
        [
            ("Ignoring", json!({})),
            ("Panics", json!({})),
            ("Ignoring", json!({})),
            ("Normal", rooms.clone()),
        ]
    );
    assert_eq!(user_properties(&healthy.events())[0], ("Ignoring", rooms));
}

#[cfg(feature = "posthog")]
#[tokio::test]
async fn posthog_gets_them_only_with_an_event_that_can_carry_them() {
    use matrix_analytics::PostHog;

    let collector = crate::support::collector::Collector::start();
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let posthog = PostHog::new(&collector.url(), "phc_key").unwrap();
    let analytics = opted_in(device.builder().backend(posthog)).await;
    set_property(&analytics, "rooms", 5);
    for name in ["$exception", "$$heatmap", "$groupidentify"] {
        analytics.capture_one(name);
    }
    let personless = Properties::new().with("a", 1).with("$process_person_profile", false);
    analytics.capture_named("Personless", personless);
    let profiled = Properties::new().with("$process_person_profile", true);
    analytics.capture_named("Profiled", profiled.with("text", "\"$process_person_profile\":false"));
    assert!(eventually(analytics.flush_all()).await.is_complete());
    let body: Value = serde_json::from_slice(&collector.seen().requests[0]).unwrap();
    let events = body["batch"].as_array().unwrap();
    let sets: Vec<_> = events.iter().map(|event| event["properties"]["$set"].clone()).collect();
    assert_eq!(sets[..4], [Value::Null, Value::Null, Value::Null, Value::Null], "{body}");
    assert_eq!(sets[4], json!({ "rooms": 5 }), "{body}");
}

/// Rejects events with user properties.
#[derive(Clone)]
struct RejectsUserProperties(RecordingBackend);

impl Backend for RejectsUserProperties {
    fn name(&self) -> &'static str {
        "rejecting"
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        if batch.events().any(|event| !event.user_properties().is_empty()) {
            return Err(DeliveryError::Rejected("user properties".into()));
        }
        self.0.send(batch).await
    }
}

#[tokio::test]
async fn rejected_user_properties_lose_no_event() {
    let world = World::new().await;
    let backend = RejectsUserProperties(RecordingBackend::new());
    let device = world.device("PHONE").await;
    let analytics = opted_in(device.builder().backend(backend.clone())).await;
    set_property(&analytics, "rooms", 5);
    for round in 0..30 {
        for _ in 0..=round % 3 {
            analytics.capture_one("Event");
        }
        eventually(analytics.flush_all()).await;
        tokio::time::advance(Duration::from_secs(3600)).await;
        eventually(analytics.flush_all()).await;
    }
    let stats = &analytics.stats().backends[0];
    assert_eq!((stats.delivered, stats.dropped_total()), (stats.captured, 0), "{stats:?}");
}
