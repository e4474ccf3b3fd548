//! P2: any sign of withdrawal closes the gate at once, and only a fresh GET opens it.

use std::time::Duration;

use hyper::Method;
use matrix_analytics::{
    Analytics, ClosedReason, Consent, ConsentState, ELEMENT_EVENT_TYPE, GateState, HoldReason,
    Prompt,
    testing::{AccountDataMethod, Fault, InitialSync},
};

use crate::support::{ALICE, AnalyticsExt as _, FOREIGN_ID, World, content, eventually};

#[tokio::test]
async fn a_false_in_sync_closes_at_once() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, recorder) = device.start_opted_in().await;
    world.set_content(&content(Some(false), None));
    analytics.capture_one("Queued");

    device.sync().await;
    assert_eq!(analytics.state().gate, GateState::Closed(ClosedReason::Denied));
    assert!(!analytics.is_open());
    eventually(analytics.flush_all()).await;
    assert!(recorder.events().is_empty());
}

#[tokio::test]
async fn a_change_in_sync_holds_until_a_get_decides() {
    let world = World::new().await;
    let (mut proxy, device) = world.gated_device("PHONE").await;
    let client = device.client.clone();
    world.set_content(&content(Some(true), Some("first-id")));
    let recorder = matrix_analytics::testing::RecordingBackend::new();
    let analytics = Analytics::builder(client.clone(), ELEMENT_EVENT_TYPE)
        .backend(recorder.clone())
        .build()
        .await
        .unwrap();
    proxy.next(Method::GET).await.pass().await;
    analytics.until(ConsentState::is_open).await;

    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    eventually(client.sync_once(matrix_sdk::config::SyncSettings::new())).await.unwrap();
    assert_eq!(analytics.state().gate, GateState::Holding(HoldReason::Rechecking));
    assert!(analytics.analytics_id().is_none());
    analytics.capture_one("Doubted");
    eventually(analytics.flush_all()).await;
    assert!(recorder.events().is_empty());

    proxy.next(Method::GET).await.pass().await;
    analytics.until(ConsentState::is_open).await;
    analytics.capture_one("Proven");
    eventually(analytics.flush_all()).await;
    // Events queued for the previous ID are gone.
    assert_eq!(recorder.names(), ["Proven"]);
    assert_eq!(recorder.ids(), [FOREIGN_ID]);
}

#[tokio::test]
async fn a_hold_that_ends_with_consent_keeps_the_queue() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, recorder) = device.start_opted_in().await;
    let held = world.content().unwrap();
    device.sync().await;
    world.set_content(&content(Some(true), None));
    analytics.capture_one("Queued");
    device.sync().await;
    analytics.until(|state| state.gate == GateState::Holding(HoldReason::MissingId)).await;
    eventually(analytics.flush_all()).await;
    assert!(recorder.events().is_empty());

    world.set_content(&held);
    device.sync().await;
    analytics.until(ConsentState::is_open).await;
    eventually(analytics.flush_all()).await;
    assert_eq!(recorder.names(), ["Queued"]);
}

/// Runs `during` while the answer of a GET is held.
async fn late_answer(during: impl AsyncFnOnce(&World, &Analytics, &matrix_sdk::Client)) {
    let world = World::new().await;
    let (mut proxy, device) = world.gated_device("PHONE").await;
    let client = device.client.clone();
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let analytics = Analytics::builder(client.clone(), ELEMENT_EVENT_TYPE).build().await.unwrap();
    let late = proxy.next(Method::GET).await.apply().await;
    during(&world, &analytics, &client).await;
    late.deliver();

    // If it had counted as confirmation, the gate would be open by the next request.
    proxy.next(Method::GET).await.pass().await;
    let state = analytics.state();
    assert_eq!(state.decision, Consent::Denied);
    assert!(!analytics.is_open());
}

#[tokio::test]
async fn a_get_sent_before_an_opt_out_confirms_nothing() {
    late_answer(async |_, analytics, _| {
        let mut opt_out = analytics.opt_out().into_future();
        assert!(futures_util::poll!(&mut opt_out).is_pending());
    })
    .await;
}

#[tokio::test]
async fn a_get_sent_before_a_false_in_sync_confirms_nothing() {
    late_answer(async |world, _, client| {
        world.set_content(&content(Some(false), None));
        let settings = matrix_sdk::config::SyncSettings::new();
        eventually(client.sync_once(settings)).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_stale_sync_opens_nothing() {
    let world = World::new().await;
    world.server.set_initial_sync(InitialSync::Cached);
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let device = world.device("PHONE").await;
    device.sync().await;
    world.set_content(&content(Some(false), None));

    // The client restarts, and its first sync shows the old opt-in again.
    let device = world.device_of(device.login.clone()).await;
    let (analytics, recorder) = device.start_confirmed().await;
    device.sync().await;
    analytics.capture_one("Stale");
    eventually(analytics.recheck()).await.unwrap();
    eventually(analytics.flush_all()).await;
    assert_eq!(analytics.state().decision, Consent::Denied);
    assert!(recorder.events().is_empty());
    assert_eq!(world.content().unwrap(), content(Some(false), None));
}

#[tokio::test]
async fn a_lost_session_closes_and_a_soft_logout_holds() {
    for (fault, gate) in [
        (Fault::UnknownToken, GateState::Closed(ClosedReason::SessionEnded)),
        (Fault::SoftLogout, GateState::Holding(HoldReason::SoftLogout)),
    ] {
        let world = World::new().await;
        let device = world.device("PHONE").await;
        let (analytics, recorder) = device.start_opted_in().await;
        analytics.capture_one("Queued");
        world.server.fail_next(fault);
        assert!(eventually(analytics.recheck()).await.is_err());
        analytics.until(|state| state.gate == gate).await;
        eventually(analytics.flush_all()).await;
        assert!(recorder.events().is_empty());

        if gate == GateState::Holding(HoldReason::SoftLogout) {
            eventually(analytics.recheck()).await.unwrap();
            analytics.until(ConsentState::is_open).await;
            eventually(analytics.flush_all()).await;
            assert_eq!(recorder.names(), ["Queued"]);
        }
    }
}

#[tokio::test]
async fn the_gate_of_a_locked_user_holds_until_the_homeserver_answers_again() {
    let world = World::new().await;
    let (analytics, recorder) = world.device("PHONE").await.start_opted_in().await;
    analytics.capture_one("Queued");
    world.server.fail_all(Fault::UserLocked);
    assert!(eventually(analytics.recheck()).await.is_err());
    assert_eq!(analytics.state().gate, GateState::Holding(HoldReason::Unverified));
    eventually(analytics.flush_all()).await;
    assert!(recorder.events().is_empty());

    // There is no signal for an unlocked user: the crate asks from time to time.
    world.server.heal();
    tokio::time::advance(Duration::from_secs(2)).await;
    analytics.until(ConsentState::is_open).await;
    eventually(analytics.flush_all()).await;
    assert_eq!(recorder.names(), ["Queued"]);
}

#[tokio::test]
async fn a_veto_of_this_device_closes_at_once_and_leaves_the_account_alone() {
    let world = World::new().await;
    let (analytics, recorder) = world.device("PHONE").await.start_opted_in().await;
    let before = world.content();
    analytics.capture_one("Queued");

    let mut deny = Box::pin(analytics.deny_on_this_device());
    assert!(futures_util::poll!(&mut deny).is_pending());
    assert_eq!(analytics.state().gate, GateState::Closed(ClosedReason::DeviceVeto));
    eventually(deny).await.unwrap();
    eventually(analytics.flush_all()).await;
    assert!(recorder.events().is_empty());
    assert_eq!(world.content(), before);
}

#[tokio::test]
async fn under_a_veto_both_decisions_are_written_and_the_gate_stays_closed() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let analytics = device.builder().do_not_track().build().await.unwrap();

    let state = eventually(analytics.opt_in()).await.unwrap();
    assert_eq!(state.gate, GateState::Closed(ClosedReason::DoNotTrack));
    assert_eq!(state.decision, Consent::Granted);
    assert!(world.content().unwrap().contains("true"));

    assert!(eventually(analytics.opt_out().into_future()).await.is_complete());
    assert_eq!(world.content().unwrap(), content(Some(false), None));
}

#[tokio::test]
async fn an_opt_out_found_by_an_opt_in_closes_the_gate_even_if_the_write_fails() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, recorder) = device.start_opted_in().await;
    analytics.capture_one("Queued");
    world.set_content(&content(Some(false), None));
    world.server.fail_next_on(AccountDataMethod::Put, Fault::ServerError(503));
    assert!(eventually(analytics.opt_in()).await.is_err());
    assert_eq!(analytics.state().gate, GateState::Closed(ClosedReason::Denied));
    device.sync().await;
    eventually(analytics.flush_all()).await;
    assert!(recorder.events().is_empty());
}

#[tokio::test]
async fn a_recheck_after_a_soft_logout_opens_only_with_its_answer() {
    let world = World::new().await;
    let (mut proxy, device) = world.gated_device("PHONE").await;
    let client = device.client.clone();
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let analytics = Analytics::builder(client, ELEMENT_EVENT_TYPE).build().await.unwrap();
    proxy.next(Method::GET).await.pass().await;
    analytics.until(ConsentState::is_open).await;

    world.server.fail_next(Fault::SoftLogout);
    let recheck = {
        let analytics = analytics.clone();
        tokio::spawn(async move { analytics.recheck().await })
    };
    proxy.next(Method::GET).await.pass().await;
    assert!(eventually(recheck).await.unwrap().is_err());
    analytics.until(|state| state.gate == GateState::Holding(HoldReason::SoftLogout)).await;

    let recheck = {
        let analytics = analytics.clone();
        tokio::spawn(async move { analytics.recheck().await })
    };
    let held = proxy.next(Method::GET).await;
    assert_eq!(analytics.state().gate, GateState::Holding(HoldReason::Unverified));
    held.pass().await;
    assert!(eventually(recheck).await.unwrap().unwrap().is_open());
}

#[tokio::test]
async fn after_an_opt_in_that_fails_before_the_first_answer_the_user_is_asked() {
    let world = World::new().await;
    world.server.fail_next(Fault::ServerError(503));
    let (analytics, _) = world.device("PHONE").await.start().await;
    world.server.fail_next_on(AccountDataMethod::Put, Fault::ServerError(503));
    assert!(eventually(analytics.opt_in()).await.is_err());
    analytics.until(|state| state.prompt() == Prompt::Ask).await;
}

#[tokio::test]
async fn following_an_opt_in_on_another_device_keeps_the_super_properties() {
    let world = World::new().await;
    world.set_content(&content(Some(false), None));
    let device = world.device("PHONE").await;
    let (analytics, recorder) = device.start_confirmed().await;
    analytics.set_super_properties(matrix_analytics::Properties::new().with("app", "1.0")).unwrap();
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    device.sync().await;
    analytics.until(ConsentState::is_open).await;
    analytics.capture_one("Event");
    eventually(analytics.flush_all()).await;
    assert_eq!(recorder.events()[0].properties["app"], "1.0");
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_gate_that_an_opt_in_opened_before_the_first_answer_asks_again_within_twelve_hours() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    world.server.fail_next(Fault::ServerError(503));
    let (analytics, _) = world.device("PHONE").await.start().await;
    eventually(world.server.wait_for(|requests| requests.len() == 1)).await;
    assert!(eventually(analytics.opt_in()).await.unwrap().is_open());

    // The user opts out on another device, and this one does not sync.
    world.set_content(&content(Some(false), None));
    world.take_requests();
    world.pass(12 * HOUR + Duration::from_secs(60), Duration::from_secs(60)).await;
    assert_ne!(world.take_requests(), "");
    analytics.until(|state| state.decision == Consent::Denied).await;
}

#[tokio::test]
async fn a_sync_that_stops_carrying_account_data_does_not_delay_the_recheck() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_opted_in().await;
    world.server.set_content(ALICE, "org.example.other", "{}");
    device.sync().await;

    world.set_content(&content(Some(false), None));
    world.take_requests();
    world.pass(48 * HOUR, Duration::from_secs(1800)).await;
    assert_ne!(world.take_requests(), "");
    analytics.until(|state| state.decision == Consent::Denied).await;
}

#[tokio::test]
async fn a_session_that_works_again_has_its_consent_confirmed_again() {
    for fault in [Fault::UnknownToken, Fault::Forbidden, Fault::SoftLogout] {
        let world = World::new().await;
        let device = world.device("PHONE").await;
        let (analytics, recorder) = device.start_opted_in().await;
        device.sync().await;
        world.server.fail_next(fault.clone());
        assert!(eventually(analytics.recheck()).await.is_err());
        analytics.until(|state| !state.is_open()).await;

        // Sync carries account data without a change.
        world.server.redeliver(ALICE, ELEMENT_EVENT_TYPE);
        device.sync().await;
        world.pass(Duration::from_secs(600), Duration::from_secs(10)).await;
        assert!(analytics.is_open(), "{fault:?}: {:?}", analytics.state());
        analytics.capture_one("Works");
        eventually(analytics.flush_all()).await;
        assert_eq!(recorder.names(), ["Works"], "{fault:?}");
    }
}

#[tokio::test]
async fn a_single_forbidden_answer_does_not_mark_the_user_as_a_guest() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    world.server.fail_next(Fault::Forbidden);
    let (analytics, _) = device.start().await;
    eventually(world.server.wait_for(|requests| requests.len() == 1)).await;
    world.server.set_content(ALICE, "org.example.other", "{}");
    device.sync().await;
    world.pass(Duration::from_secs(600), Duration::from_secs(10)).await;
    assert_eq!(analytics.state().prompt(), Prompt::Ask);
}
