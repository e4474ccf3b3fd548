//! P6: one account has one ID, and each re-opt-in gets a new one. `interleavings.rs` enumerates how
//! two devices agree on one.

mod recipients;
mod withdrawn_ids;

use std::{collections::BTreeSet, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _};
use hyper::Method;
use matrix_analytics::{
    Analytics, ClosedReason, Consent, ConsentState, ELEMENT_EVENT_TYPE, GateState, HoldReason,
    Prompt,
    testing::{AccountDataMethod, Fault, FaultRule},
};
use uuid::Uuid;

use crate::support::{
    ALICE, AnalyticsExt as _, BOUND, Device, FOREIGN_ID, GatedProxy, SETTLE, World, content,
    eventually, id_in,
};

#[tokio::test]
async fn every_opt_in_after_an_opt_out_has_a_new_id() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
    let mut ids = BTreeSet::new();
    for _ in 0..5 {
        analytics.opt_in_and_settle().await;
        let id = analytics.analytics_id().unwrap();
        let uuid = Uuid::parse_str(id.reveal()).unwrap();
        assert_eq!(uuid.get_version_num(), 4);
        assert_eq!(uuid.hyphenated().to_string(), id.reveal());
        assert!(ids.insert(id.reveal().to_owned()));
        eventually(analytics.opt_out().into_future()).await;
    }
}

#[tokio::test]
async fn a_retired_id_that_another_client_restores_is_never_used_again() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, recorder) = device.start_opted_in().await;
    let retired = world.content().unwrap();
    eventually(analytics.opt_out().into_future()).await;
    analytics.opt_in_and_settle().await;
    device.sync().await;
    world.take_requests();

    // Only a call writes an opt-in. One written now, without the user, could overwrite an opt-out
    // made elsewhere in the meantime.
    world.set_content(&retired);
    device.sync().await;
    analytics.until(|state| state.gate == GateState::Holding(HoldReason::MissingId)).await;
    assert!(analytics.analytics_id().is_none());
    assert_eq!(world.take_requests(), "GET");

    // The user opts in again.
    analytics.opt_in_and_settle().await;
    let last = id_in(&world.content().unwrap()).unwrap();
    assert_ne!(Some(&last), id_in(&retired).as_ref());
    analytics.capture_one("Opened");
    eventually(analytics.flush_all()).await;
    assert_eq!(recorder.ids(), [last]);
}

#[tokio::test]
async fn a_reader_of_the_states_is_woken_when_only_the_id_has_changed() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_opted_in().await;
    let mut states = analytics.state_stream();
    let before = eventually(states.next()).await.unwrap();
    assert!(before.is_open());

    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    eventually(analytics.recheck()).await.unwrap();
    assert_eq!(analytics.analytics_id().unwrap().reveal(), FOREIGN_ID);
    assert_eq!(states.next().now_or_never().flatten(), Some(before));
    assert_eq!(states.next().now_or_never(), None);
}

#[tokio::test]
async fn a_write_without_an_answer_is_read_back_and_counts() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
    world.take_requests();
    world.server.fail_next_on(AccountDataMethod::Put, Fault::ResetAfter);
    let state = eventually(analytics.opt_in()).await.unwrap();
    assert_eq!(world.take_requests(), "GET PUT GET");
    // It was written just now, so another device may be writing its own.
    assert_eq!(state.gate, GateState::Holding(HoldReason::Settling));
    let written = id_in(&world.content().unwrap()).unwrap();
    tokio::time::advance(SETTLE + BOUND).await;
    analytics.until(ConsentState::is_open).await;
    assert_eq!(analytics.analytics_id().unwrap().reveal(), written);
    assert_eq!(world.take_requests(), "GET");
}

#[tokio::test]
async fn a_write_that_was_not_applied_is_an_error_and_leaves_the_user_undecided() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
    world.take_requests();
    world.server.fail_next_on(AccountDataMethod::Put, Fault::ServerError(500));
    assert!(eventually(analytics.opt_in()).await.is_err());
    assert_eq!(world.take_requests(), "GET PUT GET");
    let state = analytics.state();
    assert_eq!((state.decision, state.prompt()), (Consent::Undecided, Prompt::Ask));
}

#[tokio::test]
async fn a_write_with_an_unknown_outcome_leaves_the_decision_open_and_creates_no_second_id() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
    world.take_requests();
    world.server.fail_next_on(AccountDataMethod::Put, Fault::ResetAfter);
    let mut opt_in = Box::pin(analytics.opt_in());
    assert!(futures_util::poll!(&mut opt_in).is_pending());
    eventually(world.server.wait_for(|requests| requests.len() == 1)).await;
    let unreadable = FaultRule::always(Fault::ServerError(502)).on(AccountDataMethod::Get);
    world.server.fail(unreadable);
    assert!(eventually(opt_in).await.is_err());
    // Whether the user has decided is unknown until the homeserver answers.
    assert_eq!(analytics.state().prompt(), Prompt::Wait);
    let written = id_in(&world.content().unwrap()).unwrap();
    eventually(world.server.wait_for(|requests| requests.len() == 4)).await;
    assert_eq!(world.take_requests(), "GET PUT GET GET");

    world.server.heal();
    let state = eventually(analytics.opt_in()).await.unwrap();
    assert_eq!(world.take_requests(), "GET");
    assert_eq!(state.gate, GateState::Holding(HoldReason::Settling));
    assert_eq!(id_in(&world.content().unwrap()), Some(written));
}

#[tokio::test]
async fn a_write_is_read_back_even_under_a_veto() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let analytics = device.builder().do_not_track().build().await.unwrap();
    world.server.fail_next_on(AccountDataMethod::Put, Fault::ResetAfter);
    let state = eventually(analytics.opt_in()).await.unwrap();
    assert_eq!(state.gate, GateState::Closed(ClosedReason::DoNotTrack));
    assert_eq!(world.take_requests(), "GET PUT GET");
}

#[tokio::test]
async fn an_opt_out_while_a_write_is_read_back_wins() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
    world.take_requests();
    world.server.fail_next_on(AccountDataMethod::Put, Fault::ResetAfter);
    let mut opt_in = Box::pin(analytics.opt_in());
    assert!(futures_util::poll!(&mut opt_in).is_pending());
    eventually(world.server.wait_for(|requests| requests.len() == 1)).await;
    world.server.fail_next_on(AccountDataMethod::Get, Fault::StallBefore);
    world.until_stalled().await;
    // Until the outcome is known, events are held.
    assert_eq!(analytics.state().gate, GateState::Holding(HoldReason::OptingIn));

    let mut opt_out = analytics.opt_out().into_future();
    assert!(futures_util::poll!(&mut opt_out).is_pending());
    assert_eq!(eventually(opt_in).await.unwrap().decision, Consent::Denied);
    tokio::time::advance(BOUND + Duration::from_millis(1)).await;
    let receipt = eventually(opt_out).await;
    assert!(receipt.account.is_done(), "{receipt:?}");
    assert_eq!(world.content().unwrap(), content(Some(false), None));
}

#[tokio::test]
async fn an_id_of_another_client_is_kept_as_it_is() {
    for id in [FOREIGN_ID, "9f1c2d7ea4b4c1d9e2f3a4b5c6d7e8f", "legacy id/1"] {
        let world = World::new().await;
        world.set_content(&content(Some(true), Some(id)));
        let (analytics, recorder) = world.device("PHONE").await.start_confirmed().await;
        analytics.capture_one("Opened");
        eventually(analytics.flush_all()).await;
        assert_eq!(recorder.ids(), [id]);
    }
}

#[tokio::test]
async fn events_wait_for_element_web_to_add_the_id_after_the_flag() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    world.set_content(&content(Some(true), None));
    let (analytics, recorder) = device.start_confirmed().await;
    analytics.capture_one("Held");
    eventually(analytics.flush_all()).await;
    assert!(recorder.events().is_empty());

    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    device.sync().await;
    analytics.until(ConsentState::is_open).await;
    eventually(analytics.flush_all()).await;
    assert_eq!(recorder.names(), ["Held"]);
    assert_eq!(recorder.ids(), [FOREIGN_ID]);
}

#[cfg(feature = "posthog")]
#[tokio::test]
async fn two_ids_never_share_a_connection() {
    use crate::{p01_silence_before_proof::posthog, support::collector::Collector};

    let world = World::new().await;
    world.set_content(&content(Some(true), Some("first-id")));
    let collector = Collector::start();
    let device = world.device("PHONE").await;
    let analytics = device.builder().backend(posthog(&collector)).build().await.unwrap();
    analytics.until(ConsentState::is_open).await;
    analytics.capture_one("First");
    assert!(eventually(analytics.flush_all()).await.is_complete());

    // Another device changed the ID, and this one learns of it in a single step.
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    eventually(analytics.recheck()).await.unwrap();
    analytics.capture_one("Second");
    assert!(eventually(analytics.flush_all()).await.is_complete());
    let seen = collector.seen();
    assert_eq!((seen.opened, seen.requests.len()), (2, 2));
    assert!(!String::from_utf8_lossy(&seen.requests[1]).contains("first-id"));
}

#[tokio::test]
async fn events_captured_under_one_id_are_never_sent_under_the_next() {
    for changed in ["{}".to_owned(), content(Some(true), None), content(Some(false), None)] {
        let world = World::new().await;
        let (analytics, recorder) = world.device("PHONE").await.start_opted_in().await;
        analytics.capture_one("Old");
        // Another client removed the ID, and sync has not shown it yet.
        world.set_content(&changed);
        analytics.opt_in_and_settle().await;
        analytics.capture_one("New");
        eventually(analytics.flush_all()).await;
        assert_eq!(recorder.names(), ["New"], "{changed}");
    }
}

#[tokio::test]
async fn two_concurrent_opt_ins_create_one_id_and_wait_for_it_to_settle() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
    let (one, other) = tokio::join!(analytics.opt_in(), analytics.opt_in());
    for state in [one.unwrap(), other.unwrap()] {
        assert_eq!(state.gate, GateState::Holding(HoldReason::Settling));
    }
    assert_eq!(world.take_requests(), "GET GET PUT GET");
    tokio::time::advance(SETTLE).await;
    analytics.until(ConsentState::is_open).await;
}

#[tokio::test]
async fn a_stale_opt_out_in_sync_does_not_shorten_the_settle_time() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_confirmed().await;
    eventually(analytics.opt_in()).await.unwrap();
    let held = world.content().unwrap();
    // Sync replays an old opt-out, and then shows the new content.
    world.set_content(&content(Some(false), None));
    device.sync().await;
    assert_eq!(analytics.state().decision, Consent::Denied);
    world.set_content(&held);
    device.sync().await;
    analytics.until(|state| state.gate == GateState::Holding(HoldReason::Settling)).await;
    tokio::time::advance(SETTLE).await;
    analytics.until(ConsentState::is_open).await;
}

#[tokio::test]
async fn an_id_with_a_pending_removal_is_not_used_again() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let device = world.device("PHONE").await;
    world.server.fail_all(Fault::ResetBefore);
    let (analytics, _) = device.start().await;
    // This device has never seen the ID.
    assert!(!eventually(analytics.opt_out().into_future()).await.account.is_done());
    world.server.heal();
    analytics.opt_in_and_settle().await;
    assert_ne!(analytics.analytics_id().unwrap().reveal(), FOREIGN_ID);
}

#[tokio::test]
async fn the_echo_of_an_opt_out_is_not_taken_for_another_clients_write() {
    let world = World::new().await;
    let (mut proxy, device) = world.gated_device("PHONE").await;
    let client = device.client.clone();
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let analytics = Analytics::builder(client.clone(), ELEMENT_EVENT_TYPE).build().await.unwrap();
    proxy.next(Method::GET).await.pass().await;
    analytics.until(ConsentState::is_open).await;

    let opt_out = tokio::spawn(analytics.opt_out().into_future());
    proxy.next(Method::GET).await.pass().await;
    let answer = proxy.next(Method::PUT).await.apply().await;
    // Sync shows the write before the write is answered.
    eventually(client.sync_once(matrix_sdk::config::SyncSettings::new())).await.unwrap();
    answer.deliver();
    // The write is verified, and there is no other request.
    proxy.next(Method::GET).await.pass().await;
    assert!(eventually(opt_out).await.unwrap().is_complete());
    assert!(proxy.is_idle());
}

#[tokio::test]
async fn an_id_is_remembered_as_retired_before_it_is_removed() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let login = world.server.add_device(ALICE, "PHONE");
    let mut proxy = GatedProxy::start(world.server.uri()).await;
    let client = world
        .server
        .client_with(&login, |builder| builder.homeserver_url(proxy.uri()))
        .await
        .unwrap();
    let device = Device { client, login };
    let (analytics, _) = device.start().await;

    // The device has not seen the ID before, and may stop right after the removal.
    let opt_out = tokio::spawn(analytics.opt_out().into_future());
    let removal = loop {
        let held = eventually(proxy.next_of_any_method()).await;
        if held.method == Method::PUT {
            break held;
        }
        held.pass().await;
    };
    let record: serde_json::Value = serde_json::from_str(&device.record().await.unwrap()).unwrap();
    assert_eq!(record["retired"].as_array().unwrap().len(), 1);
    removal.pass().await;
    eventually(proxy.next_of_any_method()).await.pass().await;
    assert!(eventually(opt_out).await.unwrap().is_complete());
}

#[tokio::test]
async fn a_personal_or_placeholder_id_is_not_an_id() {
    let longest = "x".repeat(200);
    let too_long = "x".repeat(201);
    let world = World::new().await;
    let device = world.device("GHTYAJCEQW").await;
    let (analytics, recorder) = device.start_confirmed().await;
    for bad in [
        "alice@example.org",
        "https://matrix.to/#/@alice:example.org",
        "@alice:example.org",
        "user alice of example.org",
        "203.0.113.7",
        "2001:db8::7",
        "GHTYAJCEQW",
        "device-ghtyajceqw",
        "undefined",
        "null",
        "nil",
        "none",
        "NaN",
        "anonymous",
        "Guest",
        "0",
        "-1",
        "false",
        "true",
        " undefined ",
        "[object Object]",
        "00000000-0000-0000-0000-000000000000",
        "00000000000000000000000000000000",
        &too_long,
    ] {
        world.set_content(&content(Some(true), Some(bad)));
        eventually(analytics.recheck()).await.unwrap();
        assert_eq!(analytics.state().gate, GateState::Holding(HoldReason::MissingId), "{bad}");
    }
    analytics.capture_one("Held");
    eventually(analytics.flush_all()).await;
    assert!(recorder.events().is_empty());

    for good in [FOREIGN_ID, "9f1c2d7ea4b4c1d9e2f3a4b5c6d7e8f", "legacy id/1", &longest] {
        world.set_content(&content(Some(true), Some(good)));
        let state = eventually(analytics.recheck()).await.unwrap();
        assert!(state.is_open(), "{good}");
        assert_eq!(analytics.analytics_id().unwrap().reveal(), good);
    }
}

#[tokio::test]
async fn an_id_that_was_seen_withdrawn_on_another_device_is_not_used_again() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let device = world.device("PHONE").await;
    let (analytics, recorder) = device.start_confirmed().await;
    assert!(analytics.is_open());
    // Another device opts out, and a third client restores its cached content.
    world.set_content(&content(Some(false), None));
    device.sync().await;
    assert_eq!(analytics.state().decision, Consent::Denied);
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    device.sync().await;
    eventually(analytics.recheck()).await.unwrap();
    assert_eq!(analytics.state().decision, Consent::Denied);
    analytics.capture_one("Never");
    eventually(analytics.flush_all()).await;
    assert!(recorder.events().is_empty());
}
