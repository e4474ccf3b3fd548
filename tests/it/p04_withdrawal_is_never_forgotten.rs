//! P4: an opt-out stands on this device until the server's copy is clean. A server that still says
//! `true` does not lift it.

mod late_writes;

use std::time::Duration;

use matrix_analytics::{
    Analytics, ClosedReason, Consent, ConsentState, GateState,
    testing::{AccountDataMethod, AccountDataRequest, Fault, FaultRule},
};

use hyper::Method;

use crate::support::{
    ALICE, AnalyticsExt as _, Device, FOREIGN_ID, SETTLE, World, content, eventually,
    pass_everything,
};

#[tokio::test]
async fn an_offline_opt_out_is_completed_in_the_background_when_the_network_is_back() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_opted_in().await;
    world.opt_out_offline(&analytics).await;

    world.server.heal();
    tokio::time::advance(Duration::from_secs(601)).await;
    analytics.until(|state| !state.removal_pending).await;
    assert_eq!(world.content().unwrap(), content(Some(false), None));
}

#[tokio::test]
async fn a_server_that_still_says_true_does_not_lift_an_opt_out() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, recorder) = device.start_opted_in().await;
    world.opt_out_offline(&analytics).await;
    drop(analytics);

    // Nor after a restart, with sync showing the opt-in.
    let (analytics, _) = device.start().await;
    device.sync().await;
    assert!(eventually(analytics.recheck()).await.is_err());
    assert_eq!(analytics.state().decision, Consent::Denied);
    assert!(analytics.state().removal_pending);
    analytics.capture_one("Never");
    eventually(analytics.flush_all()).await;
    assert!(recorder.events().is_empty());
}

#[tokio::test]
async fn a_pending_removal_wins_over_an_opt_in_on_another_device() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_opted_in().await;
    world.opt_out_offline(&analytics).await;
    world.server.heal();
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));

    device.sync().await;
    analytics.until(|state| !state.removal_pending).await;
    assert_eq!(world.content().unwrap(), content(Some(false), None));
    assert_eq!(analytics.state().decision, Consent::Denied);
}

#[tokio::test]
async fn a_failed_opt_in_leaves_the_opt_out_and_its_removal_standing() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_opted_in().await;
    world.opt_out_offline(&analytics).await;
    assert!(eventually(analytics.opt_in()).await.is_err());
    let state = analytics.state();
    assert_eq!(state.decision, Consent::Denied);
    assert!(state.removal_pending);
    drop(analytics);

    world.server.heal();
    let (analytics, _) = device.start().await;
    analytics.until(|state| !state.removal_pending).await;
    assert_eq!(world.content().unwrap(), content(Some(false), None));
}

#[tokio::test]
async fn a_new_opt_in_discharges_the_removal_once_it_is_read_back() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_opted_in().await;
    world.opt_out_offline(&analytics).await;
    world.server.heal();

    analytics.opt_in_and_settle().await;
    assert!(!analytics.state().removal_pending);
    drop(analytics);
    let (analytics, _) = device.start().await;
    analytics.until(ConsentState::is_open).await;
}

#[tokio::test]
async fn an_opt_in_that_has_not_settled_is_forgotten_with_the_process() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_opted_in().await;
    world.opt_out_offline(&analytics).await;
    world.server.heal();
    eventually(analytics.opt_in()).await.unwrap();
    drop(analytics);

    let (analytics, _) = device.start().await;
    assert_eq!(analytics.state().decision, Consent::Denied);
    analytics.until(|state| !state.removal_pending).await;
    assert_eq!(world.content().unwrap(), content(Some(false), None));
}

#[tokio::test]
async fn a_new_opt_in_under_a_veto_discharges_the_removal() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_opted_in().await;
    world.opt_out_offline(&analytics).await;
    world.server.heal();
    drop(analytics);

    let analytics = device.builder().do_not_track().build().await.unwrap();
    eventually(analytics.opt_in()).await.unwrap();
    tokio::time::advance(SETTLE).await;
    analytics.confirmed().await;
    let held = world.content();
    drop(analytics);

    let (analytics, _) = device.start().await;
    analytics.until(ConsentState::is_open).await;
    assert_eq!(world.content(), held);
}

#[tokio::test]
async fn an_opt_out_is_saved_while_a_request_is_in_flight() {
    let world = World::new().await;
    let directory = tempfile::tempdir().unwrap();
    let (device, next) = two_on_one_directory(&world, directory.path()).await;
    let (analytics, _) = device.start_opted_in().await;
    world.server.fail_all(Fault::StallBefore);
    let mut recheck = Box::pin(analytics.recheck());
    assert!(futures_util::poll!(&mut recheck).is_pending());
    world.until_stalled().await;

    let mut opt_out = analytics.opt_out().into_future();
    assert!(futures_util::poll!(&mut opt_out).is_pending());
    // The record as a process that starts now would read it.
    eventually(async {
        while !next.record().await.unwrap().contains("denied") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (restarted, _) = next.start().await;
    assert_eq!(restarted.state().decision, Consent::Denied);
    assert!(restarted.state().removal_pending);
}

#[tokio::test]
async fn a_removal_continues_after_a_single_forbidden_answer() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_opted_in().await;
    world.server.fail_next(Fault::Forbidden);
    assert!(!eventually(analytics.opt_out().into_future()).await.account.is_done());
    tokio::time::advance(Duration::from_secs(601)).await;
    analytics.until(|state| !state.removal_pending).await;
    assert_eq!(world.content().unwrap(), content(Some(false), None));
}

#[test]
fn a_thread_without_a_runtime_opts_out_and_drops_the_last_handle() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (world, device, analytics) = runtime.block_on(async {
        let world = World::new().await;
        let device = world.device("PHONE").await;
        let analytics = device.start_opted_in().await.0;
        (world, device, analytics)
    });
    // As a user-interface thread may do it.
    let mut opt_out = analytics.opt_out().into_future();
    let polled = futures_util::FutureExt::now_or_never(&mut opt_out);
    assert!(polled.is_none());
    drop((opt_out, analytics));
    runtime.block_on(async move {
        tokio::task::yield_now().await;
        let (analytics, _) = device.start().await;
        assert_eq!(analytics.state().decision, Consent::Denied);
        analytics.until(|state| !state.removal_pending).await;
        assert_eq!(world.content().unwrap(), content(Some(false), None));
        drop((device, world));
    });
}

#[tokio::test]
async fn an_unreadable_record_opens_nothing_by_itself() {
    for garbage in ["", "garbage", "{}", r#"{"version":1,"decision":"perhaps"}"#] {
        for held in [content(Some(true), Some(FOREIGN_ID)), content(Some(false), None)] {
            let world = World::new().await;
            world.set_content(&held);
            let device = world.device("PHONE").await;
            device.overwrite_record(garbage).await;
            let (analytics, _) = device.start_confirmed().await;
            assert_eq!(analytics.state().decision, Consent::Denied, "{garbage}, {held}");
            assert_eq!(world.content().unwrap(), held, "{garbage}");

            // Only the user's own opt-in opens the gate, under a new ID.
            analytics.opt_in_and_settle().await;
            assert_ne!(analytics.analytics_id().unwrap().reveal(), FOREIGN_ID);
        }
    }
}

#[tokio::test]
async fn an_unreadable_record_does_not_matter_if_the_account_has_no_event() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    device.overwrite_record("garbage").await;
    let (analytics, _) = device.start().await;
    assert!(!analytics.is_open());
    analytics.until(|state| state.prompt() == matrix_analytics::Prompt::Ask).await;
}

#[tokio::test]
async fn a_record_of_a_newer_version_is_neither_used_nor_overwritten() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let newer = r#"{"version":2,"something":"new"}"#;
    device.overwrite_record(newer).await;
    let built = device.builder().build().await;
    assert!(matches!(built, Err(matrix_analytics::BuildError::NewerRecord)));
    assert_eq!(device.record().await.as_deref(), Some(newer));
}

#[tokio::test]
async fn a_rebuild_at_once_knows_of_a_withdrawal_that_was_polled_once_and_dropped() {
    for reachable in [true, false] {
        let world = World::new().await;
        let device = world.device("PHONE").await;
        let (analytics, _) = device.start_opted_in().await;
        if !reachable {
            world.server.fail_all(Fault::ResetBefore);
        }
        let mut opt_out = analytics.opt_out().into_future();
        assert!(futures_util::poll!(&mut opt_out).is_pending());
        drop((opt_out, analytics));

        let (rebuilt, recorder) = device.start().await;
        assert_eq!(rebuilt.state().decision, Consent::Denied);
        rebuilt.capture_one("Never");
        // Every later save of this process includes the removal.
        eventually(rebuilt.deny_on_this_device()).await.unwrap();
        eventually(rebuilt.allow_on_this_device()).await.unwrap();
        drop(rebuilt);
        world.server.heal();
        let (rebuilt, _) = device.start().await;
        rebuilt.until(|state| !state.removal_pending).await;
        assert_eq!(world.content().unwrap(), content(Some(false), None));
        assert!(recorder.events().is_empty());
    }
}

/// Waits until nothing is left to save. Two simultaneous writes can hit the window in which the
/// SDK's store replaces a value.
async fn saved(analytics: &Analytics) {
    eventually(analytics.recheck()).await.unwrap();
}

/// Creates two clients of one account on one directory, as two processes would.
async fn two_on_one_directory(world: &World, directory: &std::path::Path) -> (Device, Device) {
    let login = world.server.add_device(ALICE, "PHONE");
    let one = world.device_on_disk(&login, directory).await;
    let other = world.device_on_disk(&login, directory).await;
    (one, other)
}

#[tokio::test]
async fn an_opt_out_survives_a_save_by_another_client_on_the_same_directory() {
    let world = World::new().await;
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = two_on_one_directory(&world, directory.path()).await;
    let (here, _) = one.start_opted_in().await;
    let (there, _) = other.start_confirmed().await;
    saved(&here).await;
    saved(&there).await;
    assert!(there.is_open());
    world.opt_out_offline(&here).await;

    eventually(there.deny_on_this_device()).await.unwrap();
    eventually(there.allow_on_this_device()).await.unwrap();
    drop((here, there, one, other));
    let (restarted, _) = two_on_one_directory(&world, directory.path()).await;
    let (analytics, _) = restarted.start().await;
    assert_eq!(analytics.state().decision, Consent::Denied);
    assert!(analytics.state().removal_pending);
}

// This client cannot know which decision is newer, so the more closed one wins.
#[tokio::test]
async fn an_unknown_opt_out_of_another_client_on_the_same_directory_outweighs_one_opt_in() {
    let world = World::new().await;
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = two_on_one_directory(&world, directory.path()).await;
    let (here, _) = one.start_confirmed().await;
    let (there, _) = other.start_confirmed().await;
    saved(&here).await;
    saved(&there).await;
    let receipt = eventually(there.opt_out().into_future()).await;
    assert!(receipt.is_complete(), "{receipt:?}");

    for decision in [Consent::Denied, Consent::Granted] {
        let state = eventually(here.opt_in()).await.unwrap();
        assert_eq!(state.decision, decision, "{state:?}");
    }
}

#[tokio::test]
async fn a_second_opt_out_survives_a_save_by_another_client_on_the_same_directory() {
    let world = World::new().await;
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = two_on_one_directory(&world, directory.path()).await;
    let (here, _) = one.start_opted_in().await;
    let (there, _) = other.start_confirmed().await;
    saved(&here).await;
    saved(&there).await;
    world.opt_out_offline(&here).await;
    // The other client cleans the account, and its user opts in.
    world.server.heal();
    there.opt_in_and_settle().await;
    saved(&there).await;
    // The user opts out here again before this client has seen that.
    world.opt_out_offline(&here).await;
    drop((here, there, one, other));

    let (restarted, _) = two_on_one_directory(&world, directory.path()).await;
    let (analytics, _) = restarted.start().await;
    assert_eq!(analytics.state().decision, Consent::Denied);
    assert!(analytics.state().removal_pending);
}

#[tokio::test]
async fn a_veto_lifted_here_is_not_restored_by_another_client_on_the_same_directory() {
    let world = World::new().await;
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = two_on_one_directory(&world, directory.path()).await;
    let (here, _) = one.start_confirmed().await;
    eventually(here.deny_on_this_device()).await.unwrap();
    let (there, _) = other.start().await;
    eventually(there.allow_on_this_device()).await.unwrap();
    saved(&there).await;
    // This client saves something else.
    assert!(eventually(here.opt_out().into_future()).await.record.is_done());
    drop((here, there, one, other));

    let (restarted, _) = two_on_one_directory(&world, directory.path()).await;
    let (analytics, _) = restarted.start().await;
    assert_eq!(analytics.state().gate, GateState::Closed(ClosedReason::Denied));
}

#[tokio::test]
async fn two_clients_that_start_together_recognise_each_others_retired_ids() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = two_on_one_directory(&world, directory.path()).await;
    // Both start before there is a record.
    world.server.fail_all(Fault::ResetBefore);
    let ((here, _), (there, _)) = (one.start().await, other.start().await);
    assert_eq!(one.record().await, None);
    world.server.heal();
    assert!(eventually(here.recheck()).await.unwrap().is_open());
    assert!(eventually(there.recheck()).await.unwrap().is_open());

    assert!(eventually(here.opt_out().into_future()).await.is_complete());
    eventually(there.deny_on_this_device()).await.unwrap();
    let record: serde_json::Value = serde_json::from_str(&one.record().await.unwrap()).unwrap();
    assert_eq!(record["decision"], "denied", "{record}");
    assert_eq!(record["retired"].as_array().unwrap().len(), 1, "{record}");
    assert!(record["unreadable"].is_null(), "{record}");
}

#[tokio::test]
async fn a_record_with_an_impossible_epoch_opens_nothing_by_itself() {
    for epoch in [u64::MAX, u64::MAX >> 1, u64::MAX >> 2] {
        let world = World::new().await;
        let device = world.device("PHONE").await;
        let (analytics, _) = device.start_opted_in().await;
        // The record as the ended process left it.
        drop(analytics);
        tokio::task::yield_now().await;
        let mut record: serde_json::Value =
            serde_json::from_str(&device.record().await.unwrap()).unwrap();
        record["epoch"] = epoch.into();
        device.overwrite_record(record.to_string()).await;

        let (analytics, recorder) = device.start_confirmed().await;
        assert_eq!(analytics.state().decision, Consent::Denied, "{epoch}");
        analytics.capture_one("Never");
        assert!(eventually(analytics.opt_out().into_future()).await.is_complete());
        eventually(analytics.flush_all()).await;
        assert!(recorder.events().is_empty());
        analytics.opt_in_and_settle().await;
    }
}

#[tokio::test]
async fn the_clean_up_of_a_restored_id_is_tried_until_it_succeeds() {
    for restart in [false, true] {
        let world = World::new().await;
        let device = world.device("PHONE").await;
        let (analytics, _) = device.start_opted_in().await;
        let retired = world.content().unwrap();
        assert!(eventually(analytics.opt_out().into_future()).await.is_complete());
        device.sync().await;

        let refused = FaultRule::always(Fault::ServerError(503)).on(AccountDataMethod::Put);
        world.server.fail(refused);
        world.set_content(&retired);
        world.server.clear_requests();
        device.sync().await;
        let is_refused =
            |requests: &[AccountDataRequest]| requests.iter().any(|r| r.status() == Some(503));
        eventually(world.server.wait_for(is_refused)).await;
        let analytics = if restart {
            drop(analytics);
            world.server.heal();
            device.start().await.0
        } else {
            world.server.heal();
            analytics
        };
        world.pass(Duration::from_secs(3600), Duration::from_secs(30)).await;
        assert_eq!(world.content().unwrap(), content(Some(false), None), "restart: {restart}");
        drop(analytics);
    }
}

#[test]
fn an_opt_out_whose_runtime_ended_before_it_was_saved_is_known_to_the_next_build() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let (device, analytics) = first.block_on(async {
        let world = World::new().await;
        let device = world.device("PHONE").await;
        let (analytics, _) = device.start_opted_in().await;
        eventually(analytics.recheck()).await.unwrap();
        let mut opt_out = analytics.opt_out().into_future();
        assert!(futures_util::poll!(&mut opt_out).is_pending());
        (device, analytics)
    });
    first.shutdown_background();
    drop(analytics);
    second.block_on(async {
        assert!(device.record().await.unwrap().contains("granted"));
        let (analytics, _) = device.start().await;
        assert_eq!(analytics.state().decision, Consent::Denied);
    });
}

#[tokio::test]
async fn a_clean_up_that_was_answered_but_not_applied_is_repeated() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_opted_in().await;
    let opted_in = world.content().unwrap();
    assert!(eventually(analytics.opt_out().into_future()).await.is_complete());
    world.set_content(&opted_in);
    world.server.fail_next_on(AccountDataMethod::Put, Fault::Html(200));
    for _ in 0..3 {
        device.sync().await;
        eventually(analytics.recheck()).await.unwrap();
        tokio::time::advance(Duration::from_secs(13 * 3600)).await;
    }
    drop(analytics);
    let (analytics, _) = device.start_confirmed().await;
    eventually(analytics.recheck()).await.unwrap();
    assert_eq!(world.content().unwrap(), content(Some(false), None));
}

// What sync shows may be older than the call: the last write wins.
#[tokio::test]
async fn an_opt_in_overwrites_an_opt_out_that_sync_shows_during_the_call() {
    let world = World::new().await;
    let (mut proxy, device) = world.gated_device("PHONE").await;
    let (analytics, _) = device.start().await;
    proxy.next(Method::GET).await.pass().await;
    analytics.confirmed().await;

    let here = analytics.clone();
    let opt_in = tokio::spawn(async move { here.opt_in().await });
    let read = proxy.next(Method::GET).await.apply().await;
    world.set_content(&content(Some(false), None));
    device.sync().await;
    read.deliver();
    pass_everything(proxy);
    let state = eventually(opt_in).await.unwrap().unwrap();
    assert_eq!(state.decision, Consent::Granted, "{state:?}");
}
