//! P4: a no stands on this device until the server copy is clean; a server that
//! still says yes does not lift it.

use matrix_analytics::{Consent, ConsentState, testing::Fault};

use crate::support::{AnalyticsExt as _, FOREIGN_ID, SETTLE, World, content, eventually};

#[tokio::test]
async fn an_offline_no_is_carried_out_by_itself_when_the_network_is_back() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_opted_in().await;
    world.opt_out_offline(&analytics).await;

    world.server.heal();
    tokio::time::advance(std::time::Duration::from_secs(601)).await;
    analytics.until(|state| !state.removal_pending).await;
    assert_eq!(world.content().unwrap(), content(Some(false), None));
}

#[tokio::test]
async fn a_server_that_still_says_yes_does_not_lift_a_no() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, recorder) = device.start_opted_in().await;
    world.opt_out_offline(&analytics).await;
    drop(analytics);

    // After a restart too, and with sync showing the yes.
    let (analytics, _) = device.start().await;
    device.sync().await;
    assert!(eventually(analytics.recheck()).await.is_err());
    assert_eq!(analytics.state().decision, Consent::Denied);
    assert!(analytics.state().removal_pending);
    analytics.capture_one("Never");
    eventually(analytics.flush()).await;
    assert!(recorder.events().is_empty());
}

#[tokio::test]
async fn a_pending_removal_wins_over_a_yes_of_another_device() {
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
async fn an_opt_in_that_fails_leaves_the_no_and_its_removal_standing() {
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
async fn a_new_yes_discharges_the_removal_once_it_is_read_back() {
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
async fn a_yes_that_has_not_settled_is_forgotten_with_the_process() {
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
async fn a_new_yes_under_a_veto_discharges_the_removal_too() {
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
async fn a_no_is_remembered_while_a_request_is_out() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_opted_in().await;
    world.server.fail_all(Fault::StallBefore);
    let mut recheck = Box::pin(analytics.recheck());
    assert!(futures_util::poll!(&mut recheck).is_pending());
    world.until_stalled().await;

    let mut opt_out = analytics.opt_out().into_future();
    assert!(futures_util::poll!(&mut opt_out).is_pending());
    tokio::task::yield_now().await;
    // As a process that starts now would read it.
    let (restarted, _) = device.start().await;
    assert_eq!(restarted.state().decision, Consent::Denied);
    assert!(restarted.state().removal_pending);
}

#[tokio::test]
async fn a_removal_that_was_forbidden_once_goes_on() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_opted_in().await;
    world.server.fail_next(Fault::Forbidden);
    assert!(!eventually(analytics.opt_out().into_future()).await.account.is_done());
    tokio::time::advance(std::time::Duration::from_secs(601)).await;
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
    // As a thread of a user interface does it.
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
async fn a_record_that_cannot_be_read_opens_nothing_by_itself() {
    for garbage in ["", "garbage", "{}", r#"{"version":1,"decision":"perhaps"}"#] {
        for held in [content(Some(true), Some(FOREIGN_ID)), content(Some(false), None)] {
            let world = World::new().await;
            world.set_content(&held);
            let device = world.device("PHONE").await;
            device.overwrite_record(garbage).await;
            let (analytics, _) = device.start_confirmed().await;
            assert_eq!(analytics.state().decision, Consent::Denied, "{garbage}, {held}");
            assert_eq!(world.content().unwrap(), held, "{garbage}");

            // The user's own yes does, under a new ID.
            analytics.opt_in_and_settle().await;
            assert_ne!(analytics.analytics_id().unwrap().reveal(), FOREIGN_ID);
        }
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_matters_not_where_nothing_is_held() {
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
