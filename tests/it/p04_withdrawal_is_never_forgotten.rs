//! P4: a no stands on this device until the server copy is clean; a server that
//! still says yes does not lift it.

use matrix_analytics::{Consent, ConsentState, testing::Fault};

use crate::support::{AnalyticsExt as _, FOREIGN_ID, SETTLE, World, content, eventually};

#[tokio::test]
async fn an_offline_no_is_carried_out_by_itself_when_the_network_is_back() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_opted_in().await;
    world.server.fail_all(Fault::ResetBefore);
    assert!(!eventually(analytics.opt_out().into_future()).await.account.is_done());

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
    world.server.fail_all(Fault::ResetBefore);
    eventually(analytics.opt_out().into_future()).await;
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
    world.server.fail_all(Fault::ResetBefore);
    eventually(analytics.opt_out().into_future()).await;
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
    world.server.fail_all(Fault::ResetBefore);
    eventually(analytics.opt_out().into_future()).await;
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
    world.server.fail_all(Fault::ResetBefore);
    eventually(analytics.opt_out().into_future()).await;
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
    world.server.fail_all(Fault::ResetBefore);
    eventually(analytics.opt_out().into_future()).await;
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
    world.server.fail_all(Fault::ResetBefore);
    eventually(analytics.opt_out().into_future()).await;
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
