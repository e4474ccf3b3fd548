//! P9: for each backend, captured + restored = delivered + queued + in flight + kept + dropped, and
//! each drop has a reason.

mod user_properties;

use std::{
    task::Poll,
    time::{Duration, SystemTime},
};

use futures_util::{Stream, StreamExt as _};
#[cfg(feature = "posthog")]
use matrix_analytics::PostHog;
use matrix_analytics::{
    Analytics, AnalyticsBuilder, AnalyticsEvent, DeliveryReport, DropReason, Dropped, EventOutcome,
    GateState, Limits, MAX_EVENT_BYTES, OverflowPolicy, Properties, UserProperties,
    testing::{DeliveryFailure, FailingBackend, Fault, RecordingBackend},
};
use serde::Serialize;

#[cfg(feature = "posthog")]
use crate::support::collector::Collector;
use crate::support::{AnalyticsExt as _, FOREIGN_ID, World, content, eventually};

async fn opted_in(builder: AnalyticsBuilder) -> Analytics {
    let analytics = builder.build().await.unwrap();
    analytics.opt_in_and_settle().await;
    analytics
}

fn dropped(analytics: &Analytics, backend: usize, reason: DropReason) -> u64 {
    let stats = analytics.stats();
    assert!(stats.backends[backend].is_balanced(), "{stats:?}");
    stats.backends[backend].dropped.get(&reason).copied().unwrap_or_default()
}

/// Flushes once a flush may retry again, but before the lane retries on its own.
async fn flush_after_the_floor(analytics: &Analytics) -> DeliveryReport {
    tokio::time::advance(Duration::from_millis(500)).await;
    eventually(analytics.flush_all()).await
}

#[tokio::test]
async fn each_failure_of_a_backend_has_its_reason() {
    for (failure, reason) in [
        (DeliveryFailure::Rejected, DropReason::Rejected),
        (DeliveryFailure::TooLarge, DropReason::TooLarge),
        (DeliveryFailure::PerEvent(EventOutcome::Expired), DropReason::Expired),
        (DeliveryFailure::PerEvent(EventOutcome::OverQuota), DropReason::OverQuota),
        (DeliveryFailure::PerEvent(EventOutcome::Rejected), DropReason::Rejected),
        (DeliveryFailure::PerEvent(EventOutcome::TooLarge), DropReason::TooLarge),
    ] {
        let world = World::new().await;
        let backend = FailingBackend::new();
        let device = world.device("PHONE").await;
        let analytics = opted_in(device.builder().backend(backend.clone())).await;
        backend.fail_always(failure);
        for _ in 0..5 {
            analytics.capture_one("Refused");
        }
        assert!(eventually(analytics.flush_all()).await.is_complete(), "{failure:?}");
        assert_eq!(dropped(&analytics, 0, reason), 5, "{failure:?}");
    }
}

#[tokio::test]
async fn one_poison_event_does_not_sink_its_neighbours() {
    let world = World::new().await;
    let backend = Picky(RecordingBackend::new());
    let device = world.device("PHONE").await;
    let analytics = opted_in(device.builder().backend(backend.clone())).await;
    for number in 0..50 {
        analytics.capture_one(if number == 17 { "Poison" } else { "Good" });
    }
    assert!(eventually(analytics.flush_all()).await.is_complete());
    assert_eq!(backend.0.events().len(), 49);
    assert_eq!(dropped(&analytics, 0, DropReason::Rejected), 1);
}

/// Rejects a batch with an event named `Poison`.
#[derive(Clone)]
struct Picky(RecordingBackend);

impl matrix_analytics::Backend for Picky {
    fn name(&self) -> &'static str {
        "picky"
    }

    async fn send(
        &self,
        batch: &matrix_analytics::Batch,
    ) -> Result<(), matrix_analytics::DeliveryError> {
        if batch.events().any(|event| event.name() == "Poison") {
            return Err(matrix_analytics::DeliveryError::Rejected("poison".into()));
        }
        self.0.send(batch).await
    }
}

#[tokio::test]
async fn a_backend_that_comes_back_gets_everything_under_the_same_unique_ids() {
    let world = World::new().await;
    let backend = FailingBackend::new();
    let device = world.device("PHONE").await;
    let analytics = opted_in(device.builder().backend(backend.clone())).await;
    backend.fail_next(DeliveryFailure::Transient);
    backend.fail_next(DeliveryFailure::Throttled { retry_after: Some(Duration::from_secs(60)) });
    analytics.capture_one("Late");
    assert_eq!(eventually(analytics.flush_all()).await.backends[0].undelivered, 1);
    assert_eq!(flush_after_the_floor(&analytics).await.backends[0].undelivered, 1);
    assert_eq!(backend.attempts(), 2);
    // The backend asked for a delay, and a flush does not shorten it.
    assert_eq!(eventually(analytics.flush_all()).await.backends[0].undelivered, 1);
    assert_eq!(backend.attempts(), 2);

    tokio::time::advance(Duration::from_millis(60_001)).await;
    eventually(backend.wait_for_attempts(3)).await;
    assert!(eventually(analytics.flush_all()).await.is_complete());
    assert_eq!(backend.accepted_events().len(), 1);
    assert!(analytics.stats().backends[0].is_balanced());
}

#[tokio::test]
async fn a_backend_that_needs_the_app_gets_one_attempt_an_hour_and_at_each_flush_and_shutdown() {
    for failure in [DeliveryFailure::Unauthorized, DeliveryFailure::Misconfigured] {
        let world = World::new().await;
        let backend = FailingBackend::new();
        let device = world.device("PHONE").await;
        let analytics = opted_in(device.builder().backend(backend.clone())).await;
        backend.fail_always(failure);
        for _ in 0..150 {
            analytics.capture_one("Kept");
        }
        assert_eq!(eventually(analytics.flush_all()).await.backends[0].undelivered, 150);
        assert_eq!(backend.attempts(), 1, "{failure:?}");
        // Without a flush, there is one attempt per hour.
        for minute in 1..=125 {
            tokio::time::advance(Duration::from_millis(60_001)).await;
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            assert_eq!(backend.attempts(), 1 + minute / 60, "{failure:?}, minute {minute}");
        }
        assert_eq!(eventually(analytics.flush_all()).await.backends[0].undelivered, 150);
        assert_eq!(backend.attempts(), 4, "{failure:?}");

        // The backend is repaired, and the app exits soon after the failed attempt.
        backend.heal();
        tokio::time::advance(Duration::from_millis(101)).await;
        let shutdown = analytics.shutdown(Duration::from_secs(1));
        assert!(eventually(shutdown).await.is_complete(), "{failure:?}");
        assert_eq!(backend.accepted_events().len(), 150, "{failure:?}");
    }
}

#[tokio::test]
async fn an_event_expires_on_time_even_if_its_backend_is_paused_or_the_gate_holds() {
    const AGE: Duration = Duration::from_secs(600);

    for (failure, reason) in [
        (DeliveryFailure::Unauthorized, DropReason::Unauthorized),
        (DeliveryFailure::Throttled { retry_after: Some(6 * AGE) }, DropReason::Expired),
    ] {
        let world = World::new().await;
        let backend = FailingBackend::new();
        let device = world.device("PHONE").await;
        let builder =
            device.builder().backend(backend.clone()).limits(Limits::default().queue_max_age(AGE));
        let analytics = opted_in(builder).await;
        let mut drops = analytics.drops();
        backend.fail_always(failure);
        analytics.capture_one("Kept");
        assert_eq!(eventually(analytics.flush_all()).await.backends[0].undelivered, 1);
        tokio::time::advance(AGE - Duration::from_secs(1)).await;
        assert_eq!(analytics.stats().backends[0].queued, 1, "{failure:?}");
        // Only the age of the waiting events wakes the lane.
        tokio::time::advance(Duration::from_secs(2)).await;
        let dropped = eventually(drops.next()).await.unwrap();
        assert_eq!((dropped.reason, dropped.events), (reason, 1), "{failure:?}");
        assert_eq!(backend.attempts(), 1, "{failure:?}");
    }

    let world = World::new().await;
    let device = world.device("PHONE").await;
    let backend = FailingBackend::new();
    let analytics = opted_in(
        device.builder().backend(backend.clone()).limits(Limits::default().queue_max_age(AGE)),
    )
    .await;
    world.server.fail_all(Fault::StallBefore);
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    device.sync().await;
    analytics.until(|state| matches!(state.gate, GateState::Holding(_))).await;
    let mut drops = analytics.drops();
    analytics.capture_one("Held");
    eventually(analytics.flush_all()).await;
    tokio::time::advance(AGE + Duration::from_secs(1)).await;
    let dropped = eventually(drops.next()).await.unwrap();
    assert_eq!((dropped.reason, dropped.events), (DropReason::Expired, 1));
}

#[tokio::test]
async fn a_shutdown_right_after_a_failed_attempt_makes_no_other() {
    let world = World::new().await;
    let backend = FailingBackend::new();
    let device = world.device("PHONE").await;
    let analytics = opted_in(device.builder().backend(backend.clone())).await;
    backend.fail_always(DeliveryFailure::Transient);
    analytics.capture_one("Left");
    eventually(analytics.flush_all()).await;
    let report = eventually(analytics.shutdown(Duration::from_secs(3600))).await;
    assert_eq!((report.backends[0].undelivered, backend.attempts()), (1, 1));
}

#[tokio::test]
async fn a_throttling_backend_is_not_contacted_at_shutdown() {
    let world = World::new().await;
    let backend = FailingBackend::new();
    let device = world.device("PHONE").await;
    let analytics = opted_in(device.builder().backend(backend.clone())).await;
    backend.fail_next(DeliveryFailure::Throttled { retry_after: Some(Duration::from_secs(60)) });
    analytics.capture_one("Left");
    eventually(analytics.flush_all()).await;
    // Nor does it delay the app's exit until the deadline.
    let report = eventually(analytics.shutdown(Duration::from_secs(3600))).await;
    assert_eq!((report.backends[0].delivered, report.backends[0].undelivered), (0, 1));
    assert_eq!(backend.attempts(), 1);
}

#[tokio::test]
async fn the_outage_of_one_backend_delays_no_other() {
    let world = World::new().await;
    let (well, ill) = (RecordingBackend::new(), FailingBackend::new());
    let device = world.device("PHONE").await;
    let analytics = opted_in(device.builder().backend(ill.clone()).backend(well.clone())).await;
    ill.stall();
    for _ in 0..250 {
        analytics.capture_one("Event");
    }
    let mut flush = Box::pin(analytics.flush_all());
    assert!(futures_util::poll!(&mut flush).is_pending());
    eventually(well.wait_for(250)).await;
    let stats = analytics.stats();
    assert_eq!((stats.backends[1].delivered, stats.backends[0].delivered), (250, 0));
    assert_eq!(stats.backends[0].in_flight + stats.backends[0].queued, 250);
    assert!(stats.backends.iter().all(matrix_analytics::BackendStats::is_balanced));

    ill.release();
    assert!(eventually(flush).await.is_complete());
    assert_eq!(ill.accepted_events().len(), 250);
}

#[tokio::test]
async fn a_full_intake_and_a_full_queue_drop_and_count() {
    for (policy, kept) in [
        (OverflowPolicy::DropOldest, ["Event", "Last"]),
        (OverflowPolicy::DropNewest, ["Event", "Event"]),
    ] {
        let world = World::new().await;
        let backend = FailingBackend::new();
        let device = world.device("PHONE").await;
        let builder = device
            .builder()
            .backend(backend.clone())
            .limits(Limits::default().queue_max_events(2).overflow_policy(policy));
        let analytics = opted_in(builder).await;
        backend.fail_next(DeliveryFailure::Transient);
        for _ in 0..5 {
            analytics.capture_one("Event");
        }
        assert_eq!(dropped(&analytics, 0, DropReason::QueueFull), 3);
        eventually(analytics.flush_all()).await;
        assert_eq!(dropped(&analytics, 0, DropReason::QueueFull), 3);
        backend.fail_next(DeliveryFailure::Transient);
        analytics.capture_one("Last");
        flush_after_the_floor(&analytics).await;
        assert_eq!(dropped(&analytics, 0, DropReason::QueueFull), 4);
        flush_after_the_floor(&analytics).await;
        let names: Vec<_> = backend.accepted_events().into_iter().map(|event| event.name).collect();
        assert_eq!(names, kept, "{policy:?}");
    }
}

#[tokio::test]
async fn an_event_that_waited_too_long_expires() {
    let world = World::new().await;
    let backend = FailingBackend::new();
    let device = world.device("PHONE").await;
    let builder = device
        .builder()
        .backend(backend.clone())
        .limits(Limits::default().queue_max_age(Duration::from_secs(60)));
    let analytics = opted_in(builder).await;
    backend.fail_always(DeliveryFailure::Transient);
    analytics.capture_one("Old");
    eventually(analytics.flush_all()).await;
    tokio::time::advance(Duration::from_secs(61)).await;
    assert!(eventually(analytics.flush_all()).await.is_complete());
    assert_eq!(dropped(&analytics, 0, DropReason::Expired), 1);
}

#[tokio::test]
async fn a_backend_that_panics_over_one_event_loses_only_that_event() {
    let world = World::new().await;
    let backend = FailingBackend::new();
    let device = world.device("PHONE").await;
    let analytics = opted_in(device.builder().backend(backend.clone())).await;
    backend.panic_next();
    analytics.capture_one("Panics");
    assert!(eventually(analytics.flush_all()).await.is_complete());
    assert_eq!(dropped(&analytics, 0, DropReason::BackendPanicked), 1);
    analytics.capture_one("BackendReport");
    assert!(eventually(analytics.flush_all()).await.is_complete());
    assert_eq!(backend.accepted_events().len(), 1);
}

#[tokio::test]
async fn shutdown_keeps_its_deadline_and_reports_undelivered_events() {
    let world = World::new().await;
    let backend = FailingBackend::new();
    let device = world.device("PHONE").await;
    let analytics = opted_in(device.builder().backend(backend.clone())).await;
    backend.stall();
    for _ in 0..7 {
        analytics.capture_one("Left");
    }
    let mut shutdown = Box::pin(analytics.shutdown(Duration::from_secs(1)));
    assert!(futures_util::poll!(&mut shutdown).is_pending());
    eventually(backend.wait_for_attempts(1)).await;
    tokio::time::advance(Duration::from_millis(1_001)).await;
    let report = eventually(shutdown).await;
    assert_eq!((report.backends[0].delivered, report.backends[0].undelivered), (0, 7));
    while analytics.stats().backends[0].in_flight > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(dropped(&analytics, 0, DropReason::Shutdown), 7);

    analytics.capture_one("After");
    assert_eq!(dropped(&analytics, 0, DropReason::AfterShutdown), 1);
}

#[tokio::test]
async fn events_are_sent_by_count_and_by_time_without_a_flush() {
    let world = World::new().await;
    let (analytics, recorder) = world.device("PHONE").await.start_opted_in().await;
    for _ in 0..100 {
        analytics.capture_one("Full");
    }
    eventually(recorder.wait_for(100)).await;

    analytics.capture_one("Timed");
    tokio::task::yield_now().await;
    tokio::time::advance(Duration::from_millis(10_001)).await;
    eventually(recorder.wait_for(101)).await;
    assert_eq!(recorder.batches().len(), 2);
}

#[derive(Serialize)]
struct Nested {
    inner: Vec<u8>,
}

impl AnalyticsEvent for Nested {
    const NAME: &'static str = "Nested";
}

#[derive(Serialize)]
struct Number {
    value: f64,
}

impl AnalyticsEvent for Number {
    const NAME: &'static str = "Number";
}

#[tokio::test]
async fn an_invalid_event_is_counted_and_the_sink_continues() {
    let world = World::new().await;
    let (analytics, recorder) = world.device("PHONE").await.start_opted_in().await;
    let bad = |key: &str| Properties::new().with(key.to_owned(), 1);
    analytics.capture(&Nested { inner: vec![1] });
    analytics.capture(&Number { value: f64::NAN });
    analytics.capture_named("", Properties::new());
    analytics.capture_named("  ", Properties::new());
    analytics.capture_named("line\nbreak", Properties::new());
    analytics.capture_named("x".repeat(201), Properties::new());
    analytics.capture_named("Key", bad(""));
    analytics.capture_named("Key", bad(&"k".repeat(201)));
    analytics.capture_named("Key", bad("tab\t"));
    analytics.capture_named("Value", Properties::new().with("value", f64::INFINITY));
    assert_eq!(dropped(&analytics, 0, DropReason::Invalid), 10);
    let text = "x".repeat(1024 * 1024);
    analytics.capture_named("Value", Properties::new().with("value", text.clone()));
    assert_eq!(dropped(&analytics, 0, DropReason::TooLarge), 1);

    // Too large only together with the super properties.
    let half = "x".repeat(MAX_EVENT_BYTES / 2);
    analytics.set_super_properties(Properties::new().with("base", half.clone())).unwrap();
    analytics.capture_named("Sum", Properties::new().with("own", half.clone()));
    analytics.set_super_properties(Properties::new()).unwrap();
    analytics.capture(&Number { value: 1.5 });
    assert!(eventually(analytics.flush_all()).await.is_complete());
    assert_eq!(dropped(&analytics, 0, DropReason::TooLarge), 2);
    assert_eq!(recorder.names(), ["Number"]);
}

#[tokio::test]
async fn super_and_user_properties_go_with_the_next_event_and_the_event_wins() {
    let world = World::new().await;
    let (analytics, recorder) = world.device("PHONE").await.start_opted_in().await;
    analytics.set_super_properties(Properties::new().with("app", "1.0").with("value", 0)).unwrap();
    analytics.set_user_properties(UserProperties::new().set("rooms", 5).set("spaces", 1)).unwrap();
    analytics.set_user_properties(UserProperties::new().set("rooms", 6)).unwrap();
    analytics.set_user_properties(UserProperties::new().set_once("first", "a")).unwrap();
    analytics.set_user_properties(UserProperties::new().set_once("first", "b")).unwrap();
    analytics.capture(&Number { value: 2.5 });
    analytics.capture_one("Second");
    assert!(eventually(analytics.flush_all()).await.is_complete());

    let events = recorder.events();
    let json = |value: &_| serde_json::to_value(value).unwrap();
    assert_eq!(json(&events[0].properties), serde_json::json!({"app": "1.0", "value": 2.5}));
    assert_eq!(json(&events[0].set), serde_json::json!({"rooms": 6, "spaces": 1}));
    assert_eq!(json(&events[0].set_once), serde_json::json!({"first": "a"}));
    assert_eq!(json(&events[1].properties), serde_json::json!({"app": "1.0", "value": 0}));
    assert!(events[1].set.is_empty() && events[1].set_once.is_empty());
}

#[tokio::test]
async fn every_drop_is_reported_once_even_to_a_slow_reader() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let builder = device.builder().backend(RecordingBackend::new());
    let builder = builder.limits(Limits::default().queue_max_events(3));
    let analytics = opted_in(builder).await;
    let mut drops = analytics.drops();
    assert_eq!(futures_util::poll!(drops.next()), Poll::Pending);
    for _ in 0..5 {
        analytics.capture_one("Event");
    }
    analytics.capture_one("");
    let next_drop = async |drops: &mut (dyn Stream<Item = Dropped> + Send + Unpin)| {
        let dropped = eventually(drops.next()).await.unwrap();
        (dropped.backend, dropped.reason, dropped.events)
    };
    assert_eq!(next_drop(&mut drops).await, ("recording", DropReason::Invalid, 1));
    assert_eq!(next_drop(&mut drops).await, ("recording", DropReason::QueueFull, 2));
    assert_eq!(futures_util::poll!(drops.next()), Poll::Pending);

    // An event that the reader captures after a drop is not itself a drop.
    eventually(analytics.opt_out().into_future()).await;
    assert_eq!(next_drop(&mut drops).await, ("recording", DropReason::Withdrawn, 3));
    analytics.capture_one("Again");
    assert_eq!(futures_util::poll!(drops.next()), Poll::Pending);
    drop(analytics);
    assert_eq!(eventually(drops.next()).await, None);
}

#[tokio::test]
async fn an_outage_of_hours_loses_nothing_and_one_of_days_only_with_a_reason() {
    const STEP: Duration = Duration::from_secs(60);

    for (hours, is_lossless) in [(20, true), (60, false)] {
        let world = World::new().await;
        let backend = FailingBackend::new();
        let device = world.device("PHONE").await;
        let analytics = opted_in(device.builder().backend(backend.clone())).await;
        for minute in 0..hours * 60 {
            // Each kind of transient failure in turn.
            backend.fail_always(match minute / 20 % 3 {
                0 => DeliveryFailure::Transient,
                1 => DeliveryFailure::Throttled { retry_after: Some(2 * STEP) },
                _ => DeliveryFailure::Unauthorized,
            });
            if minute % 5 == 0 {
                analytics.capture_one("Captured");
            }
            tokio::task::yield_now().await;
            tokio::time::advance(STEP).await;
            assert!(analytics.stats().backends[0].is_balanced());
        }
        backend.heal();
        // A backend that asked for an hour's pause gets it.
        for _ in 0..70 {
            tokio::task::yield_now().await;
            tokio::time::advance(STEP).await;
        }
        eventually(analytics.flush_all()).await;

        let stats = &analytics.stats().backends[0];
        assert_eq!((stats.queued, stats.in_flight), (0, 0));
        assert_eq!(stats.captured, hours * 12);
        assert_eq!(stats.dropped.is_empty(), is_lossless, "{stats:?}");
        let named = [DropReason::Expired, DropReason::Unauthorized];
        assert!(stats.dropped.keys().all(|reason| named.contains(reason)), "{stats:?}");
        // The queue keeps a day of events.
        assert!(stats.delivered >= (24 * 12).min(stats.captured) - 12, "{stats:?}");
        assert_eq!(stats.delivered as usize, backend.accepted_events().len());
    }
}

/// Returns an event's size as the limits count it, documented in
/// `Limits`.
fn counted(name: &str, own: &Properties, shared: &Properties) -> usize {
    let members = |properties: &Properties| properties.json_bytes() - "{}".len();
    160 + name.len() + members(own) + members(shared)
}

#[tokio::test]
async fn a_burst_that_fits_the_limits_loses_no_event_in_the_intake_or_in_the_queue() {
    let mut dice = fastrand::Rng::with_seed(11);
    for round in 0..40 {
        let text = |bytes: usize| "x".repeat(bytes);
        let largest = [1, 50, 2000, 15_000][round % 4];
        let shared = Properties::new().with("shared", text(dice.usize(..largest)));
        let mut burst = Vec::new();
        for _ in 0..dice.usize(1..60) {
            let own = Properties::new().with("own", text(dice.usize(..largest)));
            // A super property that the event replaces counts as well.
            burst.push(if dice.bool() { own } else { own.with("shared", dice.bool()) });
        }
        let bytes = burst.iter().map(|own| counted("Burst", own, &shared)).sum();

        let world = World::new().await;
        let backend = FailingBackend::new();
        let device = world.device("PHONE").await;
        let builder = device.builder().backend(backend.clone());
        let builder = builder;
        let builder =
            builder.limits(Limits::default().queue_max_bytes(bytes).queue_max_events(burst.len()));
        let analytics = opted_in(builder).await;
        analytics.set_super_properties(shared).unwrap();
        backend.fail_always(DeliveryFailure::Transient);
        for own in &burst {
            analytics.capture_named("Burst", own.clone());
        }
        eventually(analytics.flush_all()).await;
        let stats = analytics.stats();
        assert_eq!(stats.backends[0].dropped_total(), 0, "{round}: {stats:?}");
        assert_eq!(stats.backends[0].queued, burst.len() as u64, "{round}");
        // The waiting events are exactly at the limits.
        analytics.capture_one("One");
        eventually(analytics.flush_all()).await;
        assert!(dropped(&analytics, 0, DropReason::QueueFull) > 0, "{round}");
    }
}

#[tokio::test]
async fn large_events_for_an_idle_backend_do_not_wait_until_the_intake_is_full() {
    let world = World::new().await;
    let recorder = RecordingBackend::new();
    let device = world.device("PHONE").await;
    let builder =
        device.builder().backend(recorder.clone()).limits(Limits::default().batch_max_events(1000));
    let analytics = opted_in(builder).await;
    let text = "x".repeat(30_000);
    for _ in 0..500 {
        analytics.capture_named("Large", Properties::new().with("text", text.clone()));
        // The app yields to the runtime now and then, but never for 10 seconds.
        tokio::task::yield_now().await;
    }
    assert!(eventually(analytics.flush_all()).await.is_complete());
    assert_eq!(analytics.stats().backends[0].dropped_total(), 0);
    assert_eq!(recorder.events().len(), 500);
}

#[tokio::test]
async fn an_event_that_can_never_fit_evicts_no_other() {
    let world = World::new().await;
    let backend = FailingBackend::new();
    let device = world.device("PHONE").await;
    let analytics = opted_in(
        device.builder().backend(backend.clone()).limits(Limits::default().queue_max_bytes(2000)),
    )
    .await;
    backend.fail_always(DeliveryFailure::Transient);
    for _ in 0..5 {
        analytics.capture_one("Small");
    }
    eventually(analytics.flush_all()).await;
    let text = "x".repeat(2000);
    analytics.capture_named("Large", Properties::new().with("text", text.clone()));
    eventually(analytics.flush_all()).await;
    assert_eq!(dropped(&analytics, 0, DropReason::TooLarge), 1);
    assert_eq!(analytics.stats().backends[0].queued, 5);
}

#[tokio::test]
async fn an_earlier_event_keeps_its_time_and_ages_from_its_capture() {
    const DAY: Duration = Duration::from_secs(24 * 3600);

    let world = World::new().await;
    let recorder = RecordingBackend::new();
    let device = world.device("PHONE").await;
    let builder =
        device.builder().backend(recorder.clone()).limits(Limits::default().queue_max_age(DAY));
    let analytics = opted_in(builder).await;
    let start = SystemTime::now();
    let earlier = start - 30 * DAY;
    analytics.capture_at(earlier, &Number { value: 1.0 });
    analytics.capture_named_at(earlier, "Named", Properties::new());
    analytics.capture_named_at(start + DAY, "Future", Properties::new());
    // A time that no file could store.
    analytics.capture_named_at(start - 500 * 365 * DAY, "Antiquity", Properties::new());
    // Older than the queue's age limit, but captured just now.
    assert!(eventually(analytics.flush_all()).await.is_complete());
    assert_eq!(analytics.stats().backends[0].dropped_total(), 0);
    let events = recorder.events();
    assert_eq!([events[0].time, events[1].time], [earlier; 2]);
    assert!((start..=SystemTime::now()).contains(&events[2].time));
    let since = SystemTime::UNIX_EPOCH.duration_since(events[3].time).unwrap();
    assert_eq!(since, Duration::from_nanos(i64::MAX as u64));
}

#[cfg(feature = "posthog")]
#[tokio::test]
async fn posthog_receives_the_time_of_an_event() {
    let collector = Collector::start();
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let posthog = PostHog::new(&collector.url(), "phc_key").unwrap();
    let analytics = opted_in(device.builder().backend(posthog)).await;
    let earlier = SystemTime::UNIX_EPOCH + Duration::from_millis(1_769_860_800_250);
    analytics.capture_named_at(earlier, "Earlier", Properties::new());
    assert!(eventually(analytics.flush_all()).await.is_complete());
    let body = String::from_utf8(collector.seen().requests[0].clone()).unwrap();
    assert!(body.contains(r#""timestamp":"2026-01-31T12:00:00.25Z""#), "{body}");
}
