//! How a restart treats the events that it finds.

use std::time::Duration;

use matrix_analytics::{
    Backend, Batch, ConsentState, DeliveryError, Limits, OverflowPolicy, Properties,
    UserProperties,
    testing::{Fault, RecordingBackend},
};
use rusqlite::Connection;

use super::{Durable, counters, dropped, flush};
use crate::support::{AnalyticsExt as _, content, eventually};
use matrix_analytics::{
    DropReason,
    testing::{DeliveryFailure, FailingBackend},
};

#[tokio::test]
async fn flushed_events_are_delivered_after_a_restart() {
    let durable = Durable::new().await;
    let (analytics, backend) = durable.start_offline().await;
    analytics.capture_one("First");
    analytics.capture_one("Second");
    flush(&analytics).await;
    assert_eq!(backend.accepted_events(), []);
    durable.end(analytics).await;
    assert_eq!(durable.rows(), 2);

    let (analytics, backend) = durable.start().await;
    flush(&analytics).await;
    let names: Vec<_> = backend.accepted_events().into_iter().map(|event| event.name).collect();
    assert_eq!(names, ["First", "Second"]);
    let counters = counters(&analytics);
    assert_eq!((counters.captured, counters.restored, counters.delivered), (0, 2, 2));
    durable.end(analytics).await;
    assert_eq!(durable.rows(), 0);
}

/// Accepts each batch, and then reports a failure.
#[derive(Clone, Default)]
struct FailsAfterAccepting(RecordingBackend);

impl Backend for FailsAfterAccepting {
    fn name(&self) -> &'static str {
        "fails-after-accepting"
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        self.0.send(batch).await?;
        Err(DeliveryError::Transient("accepted".into()))
    }
}

#[tokio::test]
async fn every_attempt_has_the_same_unique_id_time_and_content() {
    let durable = Durable::new().await;
    let backend = FailsAfterAccepting::default();
    for process in 0..3 {
        let analytics = durable.builder().backend(backend.clone()).build().await.unwrap();
        analytics.confirmed().await;
        if process == 0 {
            analytics.set_user_properties([("app", "desktop")]).unwrap();
            let sent = Properties::new().with("text", "a \"b\"\n⌘").with("n", u64::MAX);
            analytics.capture_named("Event", sent);
        }
        flush(&analytics).await;
        durable.end(analytics).await;
    }
    let tries = backend.0.events();
    assert!(tries.len() >= 3);
    assert_eq!(tries[0].properties["text"], "a \"b\"\n⌘");
    assert_eq!(tries[0].set["app"], "desktop");
    assert!(tries.iter().all(|one| *one == tries[0]), "{tries:?}");
}

#[tokio::test]
async fn no_restored_event_is_sent_before_consent_is_confirmed() {
    let durable = Durable::new().await;
    let (analytics, _) = durable.start_offline().await;
    analytics.capture_one("Held");
    flush(&analytics).await;
    durable.end(analytics).await;

    durable.world.server.fail_all(Fault::ResetBefore);
    let backend = FailingBackend::new();
    let analytics = durable.builder().backend(backend.clone()).build().await.unwrap();
    assert!(eventually(analytics.recheck()).await.is_err());
    flush(&analytics).await;
    assert_eq!((backend.attempts(), counters(&analytics).queued), (0, 1));

    durable.world.server.heal();
    eventually(analytics.recheck()).await.unwrap();
    flush(&analytics).await;
    assert_eq!(backend.accepted_events().len(), 1);
}

#[tokio::test]
async fn a_withdrawal_elsewhere_deletes_restored_events_unsent() {
    let durable = Durable::new().await;
    let (analytics, _) = durable.start_offline().await;
    analytics.capture_one("Withdrawn");
    flush(&analytics).await;
    durable.end(analytics).await;

    durable.world.set_content(&content(Some(false), None));
    let (analytics, backend) = durable.start().await;
    let counters = counters(&analytics);
    assert_eq!((counters.restored, dropped(&counters, DropReason::Withdrawn)), (1, 1));
    durable.end(analytics).await;
    assert_eq!((backend.attempts(), durable.rows()), (0, 0));
}

#[tokio::test]
async fn a_start_under_a_veto_deletes_waiting_events() {
    let durable = Durable::new().await;
    let (analytics, _) = durable.start_offline().await;
    analytics.capture_one("Vetoed");
    flush(&analytics).await;
    durable.end(analytics).await;

    let backend = FailingBackend::new();
    let builder = durable.builder().backend(backend.clone()).do_not_track();
    let analytics = builder.build().await.unwrap();
    let counters = counters(&analytics);
    assert_eq!((counters.restored, dropped(&counters, DropReason::Withdrawn)), (1, 1));
    durable.end(analytics).await;
    assert_eq!((backend.attempts(), durable.rows()), (0, 0));
}

#[tokio::test]
async fn a_change_of_the_id_deletes_waiting_events() {
    let durable = Durable::new().await;
    let (analytics, _) = durable.start_offline().await;
    analytics.capture_one("OldId");
    flush(&analytics).await;
    durable.end(analytics).await;

    durable.world.set_content(&content(Some(true), Some("another-id")));
    let (analytics, backend) = durable.start().await;
    analytics.until(ConsentState::is_open).await;
    analytics.capture_one("NewId");
    flush(&analytics).await;
    let names: Vec<_> = backend.accepted_events().into_iter().map(|event| event.name).collect();
    assert_eq!(names, ["NewId"]);
    assert_eq!(dropped(&counters(&analytics), DropReason::Withdrawn), 1);
}

#[tokio::test]
async fn each_backend_gets_its_undelivered_events_and_a_new_backend_gets_none() {
    let durable = Durable::new().await;
    let (well, ill) = (RecordingBackend::new(), FailingBackend::new());
    let builder = durable.builder().backend(well.clone()).backend(ill.clone());
    let analytics = builder.build().await.unwrap();
    analytics.confirmed().await;
    ill.fail_always(DeliveryFailure::Transient);
    analytics.capture_one("Event");
    flush(&analytics).await;
    assert_eq!(well.events().len(), 1);
    durable.end(analytics).await;

    // The same backends in another order, and one more whose name is already taken.
    let (well, ill) = (RecordingBackend::new(), FailingBackend::new());
    let new = FailingBackend::new();
    let builder = durable.builder().backend(ill.clone()).backend(new.clone()).backend(well.clone());
    let analytics = builder.build().await.unwrap();
    analytics.confirmed().await;
    flush(&analytics).await;
    assert_eq!((ill.accepted_events().len(), new.attempts(), well.events().len()), (1, 0, 0));
    let restored: Vec<_> = analytics.stats().backends.iter().map(|b| b.restored).collect();
    assert_eq!(restored, [1, 0, 0]);
    durable.end(analytics).await;
    assert_eq!(durable.rows(), 0);
}

#[tokio::test]
async fn events_for_a_removed_backend_are_deleted() {
    let durable = Durable::new().await;
    let (analytics, _) = durable.start_offline().await;
    analytics.capture_one("Event");
    flush(&analytics).await;
    durable.end(analytics).await;

    let other = RecordingBackend::new();
    let analytics = durable.builder().backend(other.clone()).build().await.unwrap();
    analytics.confirmed().await;
    flush(&analytics).await;
    durable.end(analytics).await;
    assert_eq!((other.events().len(), durable.rows()), (0, 0));
}

#[tokio::test]
async fn all_events_are_deleted_when_every_backend_is_removed() {
    let durable = Durable::new().await;
    let (analytics, _) = durable.start_offline().await;
    analytics.capture_one("Event");
    flush(&analytics).await;
    durable.end(analytics).await;
    assert_eq!(durable.rows(), 1);

    let analytics = durable.builder().build().await.unwrap();
    analytics.confirmed().await;
    analytics.capture_one("ForNone");
    durable.end(analytics).await;
    assert_eq!(durable.rows(), 0);
    // A backend that was removed and added again counts as a new one.
    let (analytics, backend) = durable.start().await;
    flush(&analytics).await;
    assert_eq!((backend.attempts(), counters(&analytics).restored), (0, 0));
}

#[tokio::test]
async fn overflow_drops_events_from_the_disk_as_well() {
    for policy in [OverflowPolicy::DropOldest, OverflowPolicy::DropNewest] {
        let durable = Durable::new().await;
        let (slow, fast) = (FailingBackend::new(), RecordingBackend::new());
        let builder =
            durable.builder().limits(Limits::default().queue_max_events(3).overflow_policy(policy));
        let builder = builder.backend(slow.clone()).backend(fast.clone());
        let analytics = builder.build().await.unwrap();
        analytics.confirmed().await;
        slow.fail_always(DeliveryFailure::Transient);
        for _ in 0..3 {
            for name in ["A", "B", "C"] {
                analytics.capture_one(name);
            }
            flush(&analytics).await;
        }
        assert_eq!(dropped(&counters(&analytics), DropReason::QueueFull), 6);
        assert_eq!(fast.events().len(), 9);
        durable.end(analytics).await;
        assert_eq!(durable.rows(), 3, "{policy:?}");

        let (slow, fast) = (FailingBackend::new(), RecordingBackend::new());
        let builder = durable.builder().backend(slow.clone()).backend(fast.clone());
        let analytics = builder.build().await.unwrap();
        analytics.confirmed().await;
        flush(&analytics).await;
        assert_eq!((slow.accepted_events().len(), fast.events().len()), (3, 0), "{policy:?}");
        durable.end(analytics).await;
        assert_eq!(durable.rows(), 0);
    }
}

#[tokio::test]
async fn undelivered_events_at_shutdown_are_counted_as_kept() {
    let durable = Durable::new().await;
    let (analytics, _) = durable.start_offline().await;
    for _ in 0..150 {
        analytics.capture_one("Event");
    }
    let report = eventually(analytics.shutdown(Duration::from_secs(1))).await;
    assert_eq!((report.backends[0].kept, report.backends[0].undelivered), (150, 0));
    assert!(!report.is_complete());
    assert_eq!(counters(&analytics).kept, 150);
    assert_eq!(durable.rows(), 150);
    drop(analytics);

    let (analytics, backend) = durable.start().await;
    flush(&analytics).await;
    assert_eq!(backend.accepted_events().len(), 150);
    assert_eq!(counters(&analytics).restored, 150);
}

#[tokio::test]
async fn a_shutdown_against_a_black_hole_ends_in_time_and_keeps_everything() {
    for events in [10, 10_000] {
        let durable = Durable::new().await;
        let (analytics, backend) = durable.start().await;
        backend.stall();
        for _ in 0..events {
            analytics.capture_one("Event");
        }
        let shutdown = analytics.clone();
        let shutdown = tokio::spawn(async move { shutdown.shutdown(Duration::from_secs(1)).await });
        eventually(async {
            while counters(&analytics).in_flight == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        tokio::time::advance(Duration::from_millis(1_001)).await;
        let report = eventually(shutdown).await.unwrap();
        // The newest events are kept like the others, not dropped.
        assert_eq!((report.backends[0].kept, report.backends[0].undelivered), (events, 0));
        assert_eq!(counters(&analytics).kept, events);
        assert_eq!(durable.rows(), i64::try_from(events).unwrap());
    }
}

#[tokio::test]
async fn a_handle_that_is_dropped_without_shutdown_keeps_everything() {
    let durable = Durable::new().await;
    let (analytics, backend) = durable.start().await;
    backend.stall();
    for _ in 0..100 {
        analytics.capture_one("InFlight");
    }
    eventually(async {
        while counters(&analytics).in_flight == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    analytics.capture_one("InTheIntake");
    drop(analytics);

    // The start waits until the previous process has released the file.
    let (analytics, backend) = durable.start().await;
    flush(&analytics).await;
    assert_eq!(backend.accepted_events().len(), 101);
}

#[tokio::test]
async fn a_withdrawal_after_shutdown_still_wipes_the_file() {
    let durable = Durable::new().await;
    let (analytics, _) = durable.start_offline().await;
    analytics.capture_one("Kept");
    durable.end(analytics.clone()).await;
    assert_eq!(durable.rows(), 1);

    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(receipt.queue.is_done(), "{receipt:?}");
    assert_eq!(durable.rows(), 0);
    let counters = counters(&analytics);
    assert_eq!((counters.kept, dropped(&counters, DropReason::Withdrawn)), (0, 1));
}

#[tokio::test]
async fn events_over_the_age_limit_expire_at_the_start_and_future_ones_count_as_new() {
    const DAY: i64 = 24 * 3_600_000;

    let durable = Durable::new().await;
    let (analytics, _) = durable.start_offline().await;
    for name in ["Old", "Young", "Future"] {
        analytics.capture_one(name);
    }
    durable.end(analytics).await;
    let connection = Connection::open(durable.path()).unwrap();
    for (id, shift) in [(1, -DAY - 60_000), (2, -DAY + 60_000), (3, 365 * DAY)] {
        let sql = "UPDATE events SET since = since + ?2 WHERE id = ?1";
        connection.execute(sql, [id, shift]).unwrap();
    }
    let before: i64 =
        connection.query_row("SELECT max(since) FROM events", [], |row| row.get(0)).unwrap();
    drop(connection);

    let (analytics, backend) = durable.start_offline().await;
    let counters = counters(&analytics);
    assert_eq!((counters.restored, dropped(&counters, DropReason::Expired)), (3, 1));
    assert_eq!(backend.accepted_events(), []);
    durable.end(analytics).await;
    assert_eq!(durable.rows(), 2);
    let connection = Connection::open(durable.path()).unwrap();
    let after: i64 =
        connection.query_row("SELECT max(since) FROM events", [], |row| row.get(0)).unwrap();
    assert!(after < before - 364 * DAY);
}

#[tokio::test]
async fn user_properties_outlive_the_event_they_were_stored_with() {
    let durable = Durable::new().await;
    let (analytics, backend) = durable.start_offline().await;
    analytics.set_user_properties(UserProperties::new().set("rooms", 5)).unwrap();
    analytics.capture_one("Refused");
    backend.fail_always(DeliveryFailure::Rejected);
    // It is rejected with the user properties, and then again without them.
    while counters(&analytics).dropped_total() == 0 {
        tokio::time::advance(Duration::from_secs(60)).await;
        flush(&analytics).await;
    }
    // Its row is deleted, and the next row carries the undelivered user properties.
    backend.fail_always(DeliveryFailure::Transient);
    analytics.set_user_properties(UserProperties::new().set_once("first", 1)).unwrap();
    analytics.capture_one("Kept");
    flush(&analytics).await;
    durable.end(analytics).await;
    assert_eq!(durable.rows(), 1);

    let (analytics, backend) = durable.start().await;
    flush(&analytics).await;
    analytics.capture_one("Later");
    flush(&analytics).await;
    let events = backend.accepted_events();
    assert_eq!((events[0].name.as_str(), &events[0].set["rooms"]), ("Kept", &5.into()));
    assert_eq!(events[0].set_once["first"], 1);
    assert!(events[1].set.is_empty() && events[1].set_once.is_empty());
}

#[tokio::test]
async fn restored_user_properties_go_with_the_first_event_that_is_sent() {
    let durable = Durable::new().await;
    let (analytics, _) = durable.start_offline().await;
    analytics.capture_one("First");
    flush(&analytics).await;
    for rooms in [5, 6] {
        analytics.set_user_properties(UserProperties::new().set("rooms", rooms)).unwrap();
        analytics.capture_one("Carrier");
        flush(&analytics).await;
    }
    durable.end(analytics).await;

    let (analytics, backend) = durable.start().await;
    flush(&analytics).await;
    let sets: Vec<_> = backend
        .accepted_events()
        .into_iter()
        .map(|event| event.set.get("rooms").cloned())
        .collect();
    assert_eq!(sets, [Some(6.into()), None, None]);
}
