//! The history holds the events that were sent, until the user withdraws.

use std::{collections::BTreeSet, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _};
use matrix_analytics::{
    Analytics, Properties, Recipient, SentEvent, SentOutcome, UserProperties,
    testing::{DeliveryFailure, FailingBackend, RecordingBackend},
};

use serde_json::json;

use crate::support::{AnalyticsExt as _, World, content, eventually};

/// A device that keeps a history of at most `events`, and has opted in.
async fn opted_in(world: &World, events: usize) -> (Analytics, FailingBackend) {
    let backend = FailingBackend::new();
    let device = world.device("PHONE").await;
    let builder = device.builder().backend(backend.clone()).history(events);
    let analytics = builder.build().await.unwrap();
    analytics.opt_in_and_settle().await;
    (analytics, backend)
}

fn outcomes(analytics: &Analytics) -> Vec<(String, SentOutcome)> {
    let history = analytics.history().into_iter();
    history.map(|sent| (sent.event().name().to_owned(), sent.outcome())).collect()
}

#[tokio::test]
async fn each_recipient_has_an_entry_with_the_event_as_it_left() {
    let world = World::new().await;
    let recorder = RecordingBackend::new();
    let device = world.device("PHONE").await;
    let first = Recipient::new(recorder.clone()).name("Ours");
    let builder = device.builder().backend(first).backend(FailingBackend::new()).history(10);
    let analytics = builder.build().await.unwrap();
    assert!(analytics.history().is_empty());
    analytics.opt_in_and_settle().await;
    analytics.set_user_properties(UserProperties::new().set("rooms", 3)).unwrap();
    let text = "from @bob:example.org".to_owned();
    let opened = Properties::new().with("text", text).with("filters", ["People", "Unreads"]);
    analytics.capture_named("Opened", opened);
    assert!(eventually(analytics.flush_all()).await.is_complete());

    let history = analytics.history();
    let recipients: BTreeSet<_> = history.iter().map(SentEvent::recipient).collect();
    assert_eq!(recipients, ["Ours", "failing"].into());
    let received = &recorder.events()[0];
    for sent in &history {
        assert_eq!(sent.outcome(), SentOutcome::Delivered);
        assert_eq!(sent.event().uuid(), received.uuid);
        let sent = serde_json::to_value(sent).unwrap();
        assert_eq!(sent["properties"]["text"], "from [user_id]");
        assert_eq!(sent["properties"]["filters"], json!(["People", "Unreads"]));
        assert_eq!(sent["set"]["rooms"], 3);
        assert_eq!(sent["outcome"], "delivered");
        let id = analytics.analytics_id().unwrap();
        assert!(!sent.to_string().contains(id.reveal()));
    }
}

#[tokio::test]
async fn the_oldest_entry_goes_when_the_history_is_full() {
    let world = World::new().await;
    let (analytics, _) = opted_in(&world, 2).await;
    for name in ["First", "Second", "Third"] {
        analytics.capture_one(name);
    }
    assert!(eventually(analytics.flush_all()).await.is_complete());
    let names: Vec<_> = outcomes(&analytics).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["Second", "Third"]);
}

#[tokio::test]
async fn the_outcome_follows_the_last_attempt_and_an_event_has_one_entry() {
    let world = World::new().await;
    let (analytics, backend) = opted_in(&world, 10).await;
    backend.fail_next(DeliveryFailure::Transient);
    analytics.capture_one("Retried");
    eventually(analytics.flush_all()).await;
    assert_eq!(outcomes(&analytics), [("Retried".to_owned(), SentOutcome::Unconfirmed)]);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(eventually(analytics.flush_all()).await.is_complete());
    assert_eq!(outcomes(&analytics), [("Retried".to_owned(), SentOutcome::Delivered)]);

    backend.fail_next(DeliveryFailure::Rejected);
    analytics.capture_one("Refused");
    eventually(analytics.flush_all()).await;
    assert_eq!(outcomes(&analytics)[1], ("Refused".to_owned(), SentOutcome::Refused));
}

#[tokio::test]
async fn a_withdrawal_wipes_the_history_before_it_first_waits_even_of_a_request_in_flight() {
    let world = World::new().await;
    let (analytics, backend) = opted_in(&world, 10).await;
    analytics.capture_one("Delivered");
    assert!(eventually(analytics.flush_all()).await.is_complete());
    backend.stall();
    analytics.capture_one("InFlight");
    let flush = tokio::spawn({
        let analytics = analytics.clone();
        async move { analytics.flush_all().await }
    });
    eventually(backend.wait_for_attempts(2)).await;
    assert_eq!(outcomes(&analytics)[1], ("InFlight".to_owned(), SentOutcome::InFlight));

    let mut opt_out = analytics.opt_out().into_future();
    assert!((&mut opt_out).now_or_never().is_none());
    assert!(analytics.history().is_empty());
    eventually(opt_out).await;
    eventually(flush).await.unwrap();
    assert!(analytics.history().is_empty());
}

#[tokio::test]
async fn another_devices_withdrawal_a_veto_and_the_end_of_the_session_wipe_the_history() {
    for case in ["elsewhere", "veto", "session"] {
        let world = World::new().await;
        let backend = FailingBackend::new();
        let device = world.device("PHONE").await;
        let builder = device.builder().backend(backend).history(10);
        let analytics = builder.build().await.unwrap();
        analytics.opt_in_and_settle().await;
        analytics.capture_one("Delivered");
        assert!(eventually(analytics.flush_all()).await.is_complete());
        assert_eq!(analytics.history().len(), 1);
        match case {
            "elsewhere" => {
                world.set_content(&content(Some(false), None));
                device.sync().await;
            }
            "veto" => eventually(analytics.deny_on_this_device()).await.unwrap(),
            _ => drop(eventually(analytics.end_session()).await),
        }
        assert!(analytics.history().is_empty(), "{case}");
    }
}

#[tokio::test]
async fn the_history_can_be_read_after_a_shutdown() {
    let world = World::new().await;
    let (analytics, _) = opted_in(&world, 10).await;
    analytics.capture_one("Last");
    assert!(eventually(analytics.shutdown(Duration::from_secs(1))).await.is_complete());
    assert_eq!(outcomes(&analytics), [("Last".to_owned(), SentOutcome::Delivered)]);
}

#[tokio::test]
async fn the_stream_yields_the_history_now_and_after_each_change_until_the_last_handle_is_gone() {
    let world = World::new().await;
    let (analytics, _) = opted_in(&world, 10).await;
    let mut stream = analytics.history_stream();
    assert_eq!(eventually(stream.next()).await.unwrap().len(), 0);
    analytics.capture_one("Sent");
    assert!(eventually(analytics.flush_all()).await.is_complete());
    let sent = eventually(stream.next()).await.unwrap();
    assert_eq!(sent[0].outcome(), SentOutcome::Delivered);
    eventually(analytics.opt_out().into_future()).await;
    assert_eq!(eventually(stream.next()).await.unwrap().len(), 0);
    drop(analytics);
    while eventually(stream.next()).await.is_some() {}
}

#[tokio::test]
async fn no_history_is_kept_unless_the_app_asks_for_it() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_opted_in().await;
    analytics.capture_one("Sent");
    assert!(eventually(analytics.flush_all()).await.is_complete());
    assert!(analytics.history().is_empty());
    assert!(eventually(analytics.history_stream().next()).await.is_none());
}

#[tokio::test]
async fn debug_output_of_the_history_shows_no_name_property_or_id() {
    let world = World::new().await;
    let (analytics, _) = opted_in(&world, 10).await;
    analytics.capture_named("Name", Properties::new().with("key", "value"));
    assert!(eventually(analytics.flush_all()).await.is_complete());
    let printed = format!("{:?}", analytics.history());
    for secret in ["Name", "key", "value", analytics.analytics_id().unwrap().reveal()] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

#[tokio::test]
async fn two_recipients_of_one_name_have_an_entry_each() {
    let world = World::new().await;
    let (first, second) = (FailingBackend::new(), FailingBackend::new());
    second.fail_always(DeliveryFailure::Rejected);
    let device = world.device("PHONE").await;
    let builder = device.builder().backend(first).backend(second).history(10);
    let analytics = builder.build().await.unwrap();
    analytics.opt_in_and_settle().await;
    analytics.capture_one("Sent");
    eventually(analytics.flush_all()).await;
    let outcomes: BTreeSet<_> = analytics.history().iter().map(SentEvent::outcome).collect();
    assert_eq!(outcomes, [SentOutcome::Delivered, SentOutcome::Refused].into());
}

#[tokio::test]
async fn a_refusal_of_several_events_says_nothing_of_each() {
    let world = World::new().await;
    let (analytics, backend) = opted_in(&world, 10).await;
    backend.fail_next(DeliveryFailure::Rejected);
    let mut stream = analytics.history_stream();
    for name in ["First", "Second"] {
        analytics.capture_one(name);
    }
    let flush = tokio::spawn({
        let analytics = analytics.clone();
        async move { analytics.flush_all().await }
    });
    let mut seen = BTreeSet::new();
    while outcomes(&analytics).len() < 2 || !flush.is_finished() {
        let history = eventually(stream.next()).await.unwrap();
        seen.extend(history.iter().map(SentEvent::outcome));
        tokio::task::yield_now().await;
    }
    assert!(!seen.contains(&SentOutcome::Refused), "{seen:?}");
}
