//! P3: when `opt_out()` is first polled, the gate shuts, the request in flight is cut, the queue is
//! wiped, and the ID is removed. It completes even if
//! its future is dropped after the first poll.

mod connections;

use matrix_analytics::{
    Consent, DropReason, GateState, Properties, UserProperties,
    testing::{AccountDataMethod, DeliveryFailure, FailingBackend, Fault, RecordingBackend},
};

use crate::support::{ALICE, AnalyticsExt as _, FOREIGN_ID, World, content, eventually, id_in};

#[tokio::test]
async fn opting_out_empties_the_queue_before_it_first_waits() {
    let world = World::new().await;
    let (analytics, recorder) = world.device("PHONE").await.start_opted_in().await;
    for _ in 0..10 {
        analytics.capture_one("Queued");
    }

    let mut opt_out = analytics.opt_out().into_future();
    assert!(futures_util::poll!(&mut opt_out).is_pending());
    assert!(!analytics.is_open());
    assert_eq!(analytics.state().decision, Consent::Denied);
    assert!(analytics.analytics_id().is_none());
    let stats = analytics.stats();
    assert_eq!((stats.backends[0].captured, stats.backends[0].queued), (10, 0));
    assert_eq!(stats.backends[0].dropped[&DropReason::Withdrawn], 10);
    analytics.capture_one("After");
    assert_eq!(analytics.stats(), stats);

    assert!(eventually(opt_out).await.is_complete());
    assert!(recorder.events().is_empty());
}

#[tokio::test]
async fn events_waiting_for_an_unreachable_backend_are_wiped_like_new_ones() {
    let world = World::new().await;
    let backend = FailingBackend::new();
    let device = world.device("PHONE").await;
    let analytics = device.builder().backend(backend.clone()).build().await.unwrap();
    analytics.opt_in_and_settle().await;
    backend.fail_always(DeliveryFailure::Transient);
    analytics.capture_one("Tried");
    eventually(analytics.flush_all()).await;
    analytics.capture_one("Fresh");
    assert_eq!(analytics.stats().backends[0].queued, 2);

    let mut opt_out = analytics.opt_out().into_future();
    assert!(futures_util::poll!(&mut opt_out).is_pending());
    let stats = &analytics.stats().backends[0];
    assert_eq!((stats.queued, stats.in_flight), (0, 0));
    assert_eq!(stats.dropped[&DropReason::Withdrawn], 2);
    assert!(eventually(opt_out).await.is_complete());
}

#[tokio::test]
async fn polled_once_and_dropped_it_still_completes() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_opted_in().await;
    let mut opt_out = analytics.opt_out().into_future();
    assert!(futures_util::poll!(&mut opt_out).is_pending());
    drop(opt_out);

    analytics.until(|state| !state.removal_pending).await;
    assert_eq!(world.content().unwrap(), content(Some(false), None));
    drop(analytics);
    // The device remembers the opt-out.
    let (analytics, _) = device.start().await;
    assert_eq!(analytics.state().decision, Consent::Denied);
}

#[tokio::test]
async fn a_request_in_flight_is_cut_and_its_events_are_counted_as_unknown() {
    let world = World::new().await;
    let backend = FailingBackend::new();
    let device = world.device("PHONE").await;
    let analytics = device.builder().backend(backend.clone()).build().await.unwrap();
    analytics.opt_in_and_settle().await;
    backend.stall();
    analytics.capture_one("InFlight");
    let mut flush = Box::pin(analytics.flush_all());
    assert!(futures_util::poll!(&mut flush).is_pending());
    eventually(backend.wait_for_attempts(1)).await;
    assert_eq!(analytics.stats().backends[0].in_flight, 1);

    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(receipt.is_complete(), "{receipt:?}");
    let stats = analytics.stats();
    assert_eq!(stats.backends[0].dropped[&DropReason::CutAtWithdrawal], 1);
    assert!(stats.backends[0].is_balanced());
    eventually(flush).await;

    backend.release();
    eventually(analytics.flush_all()).await;
    assert!(backend.accepted_events().is_empty());
}

#[cfg(feature = "posthog")]
#[tokio::test]
async fn after_opt_out_returns_no_connection_is_open_or_opened() {
    use crate::{
        p01_silence_before_proof::posthog,
        support::collector::{Answer, Collector, OK},
    };

    let world = World::new().await;
    let collector = Collector::start();
    let device = world.device("PHONE").await;
    let analytics = device.builder().backend(posthog(&collector)).build().await.unwrap();
    analytics.opt_in_and_settle().await;
    // One request is answered, which leaves an idle connection; another is in flight.
    analytics.capture_one("BackendReport");
    assert!(eventually(analytics.flush_all()).await.is_complete());
    collector.set_answer(Answer::Never);
    analytics.capture_one("InFlight");
    let mut flush = Box::pin(analytics.flush_all());
    assert!(futures_util::poll!(&mut flush).is_pending());
    eventually(collector.wait_until(|seen| seen.stalled == 1)).await;

    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(receipt.is_complete(), "{receipt:?}");
    let opened = collector.seen().opened;
    collector.set_answer(OK);
    eventually(collector.wait_until(|seen| seen.ended == seen.opened)).await;
    eventually(flush).await;

    analytics.capture_one("After");
    eventually(analytics.flush_all()).await;
    tokio::time::advance(std::time::Duration::from_secs(3600)).await;
    eventually(analytics.flush_all()).await;
    let seen = collector.seen();
    assert_eq!(seen.opened, opened);
    assert_eq!(seen.requests.len(), 1);
}

#[tokio::test]
async fn super_and_user_properties_are_forgotten() {
    let world = World::new().await;
    let (analytics, recorder) = world.device("PHONE").await.start_opted_in().await;
    analytics.set_super_properties(Properties::new().with("plan", "old")).unwrap();
    analytics.set_user_properties(UserProperties::new().set("rooms", 5)).unwrap();
    analytics.set_user_properties(UserProperties::new().set_once("first", "old")).unwrap();
    eventually(analytics.opt_out().into_future()).await;
    // A closed gate accepts nothing.
    analytics.set_user_properties(UserProperties::new().set("rooms", 6)).unwrap();

    analytics.opt_in_and_settle().await;
    analytics.capture_one("Again");
    eventually(analytics.flush_all()).await;
    let events = recorder.events();
    assert_eq!(events.len(), 1);
    assert!(events[0].properties.is_empty() && events[0].set.is_empty());
    assert!(events[0].set_once.is_empty());
}

#[tokio::test]
async fn a_withdrawal_whose_handle_is_dropped_is_still_remembered() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_opted_in().await;
    let mut opt_out = analytics.opt_out().into_future();
    assert!(futures_util::poll!(&mut opt_out).is_pending());
    drop((opt_out, analytics));

    // The store is written by a task of its own, which must run before the next start.
    tokio::task::yield_now().await;
    let (analytics, _) = device.start().await;
    assert_eq!(analytics.state().decision, Consent::Denied);
    analytics.until(|state| !state.removal_pending).await;
    assert_eq!(world.content().unwrap(), content(Some(false), None));
}

#[tokio::test]
async fn a_second_backend_is_cut_and_wiped_like_the_first() {
    let world = World::new().await;
    let (one, other) = (RecordingBackend::new(), FailingBackend::new());
    let device = world.device("PHONE").await;
    let analytics =
        device.builder().backend(one.clone()).backend(other.clone()).build().await.unwrap();
    analytics.opt_in_and_settle().await;
    other.stall();
    analytics.capture_one("Both");
    let mut flush = Box::pin(analytics.flush_all());
    assert!(futures_util::poll!(&mut flush).is_pending());
    eventually(one.wait_for(1)).await;
    eventually(other.wait_for_attempts(1)).await;

    eventually(analytics.opt_out().into_future()).await;
    let stats = analytics.stats();
    assert_eq!(stats.backends[0].delivered, 1);
    assert_eq!(stats.backends[1].dropped[&DropReason::CutAtWithdrawal], 1);
    assert!(stats.backends.iter().all(matrix_analytics::BackendStats::is_balanced));
    assert!(matches!(analytics.state().gate, GateState::Closed(_)));
}

#[tokio::test]
async fn the_receipt_names_the_removed_id() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_opted_in().await;
    let id = analytics.analytics_id();
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(id.is_some());
    assert_eq!(receipt.analytics_id().cloned(), id);
    assert!(!format!("{receipt:?}").contains(id.unwrap().reveal()));

    // There is no ID left to remove.
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert_eq!(receipt.analytics_id(), None);
}

#[tokio::test]
async fn the_receipt_names_an_id_that_was_never_used_here() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let device = world.device("PHONE").await;
    let analytics = device.builder().do_not_track().build().await.unwrap();
    assert_eq!(analytics.analytics_id(), None);
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert_eq!(receipt.analytics_id().unwrap().reveal(), FOREIGN_ID);
}

#[tokio::test]
async fn the_receipt_names_an_id_whose_removal_is_pending() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let device = world.device("PHONE").await;
    let analytics = device.builder().do_not_track().build().await.unwrap();
    world.server.fail_next_on(AccountDataMethod::Put, Fault::ServerError(500));
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(!receipt.account.is_done());
    assert_eq!(receipt.analytics_id().unwrap().reveal(), FOREIGN_ID);
}

#[tokio::test]
async fn the_next_receipt_names_an_id_that_was_removed_in_the_background() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let device = world.device("PHONE").await;
    let analytics = device.builder().do_not_track().build().await.unwrap();
    world.server.fail_all(Fault::ResetBefore);
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(!receipt.account.is_done() && receipt.analytics_id().is_none());

    world.server.heal();
    eventually(analytics.recheck()).await.unwrap();
    assert_eq!(world.content().unwrap(), content(Some(false), None));
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert_eq!(receipt.analytics_id().unwrap().reveal(), FOREIGN_ID);
}

#[tokio::test]
async fn the_end_of_a_session_removes_no_id_from_the_account() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_opted_in().await;
    let receipt = eventually(analytics.end_session()).await;
    assert_eq!(receipt.analytics_id(), None);
}

#[tokio::test]
async fn the_receipt_of_an_erasure_names_the_id_that_the_account_held_last() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let (analytics, recorder) = world.device("PHONE").await.start_confirmed().await;
    // Another device changes the ID, and sync has not shown it yet.
    world.set_content(&content(Some(true), Some("another-id")));
    let receipt = eventually(analytics.opt_out().erase_event().into_future()).await;
    assert_eq!(receipt.analytics_id().unwrap().reveal(), "another-id");

    // It is not used again when another client restores it.
    world.set_content(&content(Some(true), Some("another-id")));
    eventually(analytics.recheck()).await.unwrap();
    assert!(!analytics.is_open());
    analytics.capture_one("Never");
    eventually(analytics.flush_all()).await;
    assert!(recorder.events().is_empty());
}

#[tokio::test]
async fn a_removal_that_was_answered_but_not_applied_is_not_reported_as_done() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_opted_in().await;
    let held = world.content();
    // As a captive portal answers.
    world.server.fail_next_on(AccountDataMethod::Put, Fault::Html(200));
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(receipt.account.is_done() == (world.content() != held), "{receipt:?}");

    world.pass(std::time::Duration::from_secs(600), std::time::Duration::from_secs(10)).await;
    assert_eq!(world.content().unwrap(), content(Some(false), None));
    assert!(!analytics.state().removal_pending);
}

#[tokio::test]
async fn an_opt_in_elsewhere_right_after_the_removal_is_followed_and_the_receipt_is_done() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_opted_in().await;
    world.server.after_next(AccountDataMethod::Put, |server| {
        server.set_content(
            ALICE,
            matrix_analytics::ELEMENT_EVENT_TYPE,
            &content(Some(true), Some(FOREIGN_ID)),
        );
    });
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert_eq!(id_in(&world.content().unwrap()).as_deref(), Some(FOREIGN_ID));
    assert!(receipt.account.is_done(), "{receipt:?}");
    let state = eventually(analytics.recheck()).await.unwrap();
    assert_eq!((state.decision, state.gate), (Consent::Granted, GateState::Open));
}
