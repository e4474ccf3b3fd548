//! Properties that the builder sets: part of every epoch, and of none before the opt-in.

use std::{error::Error as _, time::Duration};

use matrix_analytics::{
    AnalyticsBuilder, BuildError, ConsentState, InvalidEvent, Properties, UserProperties,
    testing::{ReceivedEvent, RecordingBackend},
};
use serde_json::Value;

use crate::support::{ALICE, AnalyticsExt as _, Device, FOREIGN_ID, World, content, eventually};

fn described(device: &Device, recorder: &RecordingBackend) -> AnalyticsBuilder {
    device
        .builder()
        .backend(recorder.clone())
        .super_properties([("app", "desktop")])
        .user_properties(UserProperties::new().set("theme", "dark").set_once("first", 1))
}

/// The values of the app, the theme and the property that is set once, in an event.
fn told(event: &ReceivedEvent) -> [Option<&Value>; 3] {
    [event.properties.get("app"), event.set.get("theme"), event.set_once.get("first")]
}

fn assert_described(event: &ReceivedEvent) {
    let expected = [Value::from("desktop"), "dark".into(), 1.into()];
    assert_eq!(told(event), expected.each_ref().map(Some));
}

#[tokio::test]
async fn they_leave_once_the_user_has_opted_in_and_again_after_each_new_opt_in() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let recorder = RecordingBackend::new();
    let analytics = described(&device, &recorder).build().await.unwrap();
    analytics.confirmed().await;
    analytics.capture_one("Before");
    eventually(analytics.flush_all()).await;
    assert!(recorder.events().is_empty());

    for _ in 0..2 {
        analytics.opt_in_and_settle().await;
        recorder.clear();
        for _ in 0..2 {
            analytics.capture_one("Opened");
            eventually(analytics.flush_all()).await;
        }
        let events = recorder.events();
        assert_eq!(events.len(), 2);
        assert_described(&events[0]);
        // A super property is part of each event; the user is described once.
        assert_eq!(events[1].properties["app"], "desktop");
        assert!(events[1].set.is_empty() && events[1].set_once.is_empty());
        eventually(analytics.opt_out().into_future()).await;
        analytics.capture_one("After");
        eventually(analytics.flush_all()).await;
        assert_eq!(recorder.events().len(), 2);
    }
}

#[tokio::test]
async fn they_leave_again_under_another_id() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some("first-id")));
    let device = world.device("PHONE").await;
    let recorder = RecordingBackend::new();
    let analytics = described(&device, &recorder).build().await.unwrap();
    for id in ["first-id", FOREIGN_ID] {
        world.set_content(&content(Some(true), Some(id)));
        eventually(analytics.recheck()).await.unwrap();
        analytics.until(ConsentState::is_open).await;
        analytics.capture_one("Opened");
        eventually(analytics.flush_all()).await;
        assert_eq!(recorder.ids(), [id]);
        assert_described(&recorder.events()[0]);
        recorder.clear();
    }
}

#[tokio::test]
async fn properties_that_are_set_at_run_time_win_until_the_withdrawal() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let recorder = RecordingBackend::new();
    let analytics = described(&device, &recorder).build().await.unwrap();
    analytics.confirmed().await;
    for is_first in [true, false] {
        analytics.opt_in_and_settle().await;
        if is_first {
            analytics.set_super_properties([("app", "web"), ("channel", "beta")]).unwrap();
            analytics.set_user_properties([("theme", "light")]).unwrap();
        }
        recorder.clear();
        analytics.capture_one("Opened");
        eventually(analytics.flush_all()).await;
        let event = &recorder.events()[0];
        let (app, theme) = if is_first { ("web", "light") } else { ("desktop", "dark") };
        let expected = [Value::from(app), theme.into(), 1.into()];
        assert_eq!(told(event), expected.each_ref().map(Some));
        assert_eq!(event.properties.contains_key("channel"), is_first);
        eventually(analytics.opt_out().into_future()).await;
    }
}

#[tokio::test]
async fn they_pass_the_guard() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let device = world.device("PHONE").await;
    let recorder = RecordingBackend::new();
    let builder = device.builder().backend(recorder.clone());
    let builder = builder.super_properties([("by", ALICE)]).user_properties([("who", ALICE)]);
    let analytics = builder.build().await.unwrap();
    analytics.until(ConsentState::is_open).await;
    analytics.capture_one("Opened");
    eventually(analytics.flush_all()).await;
    let event = &recorder.events()[0];
    assert_eq!(event.properties["by"], "[user_id]");
    assert_eq!(event.set["who"], "[user_id]");
}

#[tokio::test]
async fn invalid_ones_are_refused_when_analytics_are_built() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let bad = || Properties::new().with("", 1);
    let error = device.builder().super_properties(bad()).build().await.unwrap_err();
    assert!(matches!(error, BuildError::SuperProperties(InvalidEvent::Key)));
    let error = device.builder().user_properties(bad()).build().await.unwrap_err();
    assert!(matches!(error, BuildError::UserProperties(InvalidEvent::Key)));
    assert!(error.source().is_some());
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_withdrawal_deletes_them_from_the_file() {
    use matrix_analytics::{
        SqliteQueue,
        testing::{DeliveryFailure, FailingBackend},
    };

    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let device = world.device("PHONE").await;
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("queue.sqlite3");
    let rows = || {
        let connection = rusqlite::Connection::open(&path).unwrap();
        let count = "SELECT (SELECT count(*) FROM user) + (SELECT count(*) FROM events)";
        connection.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let start = async || {
        let offline = FailingBackend::new();
        offline.fail_always(DeliveryFailure::Transient);
        let builder = device.builder().backend(offline).queue(SqliteQueue::new(path.clone()));
        let analytics = builder.user_properties([("theme", "dark")]).build().await.unwrap();
        analytics.until(ConsentState::is_open).await;
        analytics.capture_one("Opened");
        eventually(analytics.flush_all()).await;
        analytics
    };
    let analytics = start().await;
    eventually(analytics.shutdown(Duration::ZERO)).await;
    drop(analytics);
    assert_eq!(rows(), 2);

    let analytics = start().await;
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(receipt.queue.is_done());
    eventually(analytics.shutdown(Duration::ZERO)).await;
    drop(analytics);
    assert_eq!(rows(), 0);
}

// The first events after the opening are those from before the restart.
#[cfg(feature = "sqlite")]
#[tokio::test]
async fn they_leave_with_the_first_events_after_a_restart() {
    use matrix_analytics::{
        SqliteQueue,
        testing::{DeliveryFailure, FailingBackend},
    };

    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let device = world.device("PHONE").await;
    let directory = tempfile::TempDir::new().unwrap();
    let builder = |backend: &FailingBackend| {
        let queue = SqliteQueue::new(directory.path().join("queue.sqlite3"));
        device.builder().backend(backend.clone()).queue(queue)
    };
    let offline = FailingBackend::new();
    offline.fail_always(DeliveryFailure::Transient);
    let analytics = builder(&offline).build().await.unwrap();
    analytics.until(ConsentState::is_open).await;
    analytics.capture_one("BeforeTheRestart");
    eventually(analytics.flush_all()).await;
    eventually(analytics.shutdown(Duration::ZERO)).await;
    drop(analytics);

    let online = FailingBackend::new();
    let builder = builder(&online).user_properties([("theme", "dark")]);
    let analytics = builder.build().await.unwrap();
    eventually(async {
        while online.accepted_events().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let event = &online.accepted_events()[0];
    assert_eq!(event.name, "BeforeTheRestart");
    assert_eq!(event.set.get("theme"), Some(&Value::from("dark")));
    drop(analytics);
}
