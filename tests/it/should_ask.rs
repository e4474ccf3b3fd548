//! Whether to ask the user: known once the homeserver has answered, and never waited for in
//! vain.

use std::{task::Poll, time::Duration};

use hyper::Method;
use matrix_analytics::{Analytics, ClosedReason, Consent, GateState, testing::Fault};

use crate::support::{ALICE, AnalyticsExt as _, FOREIGN_ID, World, content, eventually};

/// Starts analytics that cannot reach the homeserver, and sees that the answer is waited for.
async fn offline(world: &World) -> Analytics {
    world.server.fail_all(Fault::ResetBefore);
    let (analytics, _) = world.device("PHONE").await.start().await;
    let mut question = Box::pin(analytics.should_ask());
    assert_eq!(futures_util::poll!(&mut question), Poll::Pending);
    analytics
}

#[tokio::test]
async fn the_user_is_asked_once_the_homeserver_said_that_they_have_not_decided() {
    let world = World::new().await;
    let analytics = offline(&world).await;
    let question = analytics.should_ask();
    world.server.heal();
    eventually(analytics.recheck()).await.unwrap();
    assert!(eventually(question).await);
    assert!(eventually(analytics.should_ask()).await);
}

#[tokio::test]
async fn a_user_who_has_decided_is_not_asked() {
    for flag in [true, false] {
        let world = World::new().await;
        world.set_content(&content(Some(flag), Some(FOREIGN_ID)));
        let (analytics, _) = world.device("PHONE").await.start().await;
        assert!(!eventually(analytics.should_ask()).await, "{flag}");
    }
}

#[tokio::test]
async fn a_user_who_decides_during_the_wait_is_not_asked() {
    let world = World::new().await;
    let analytics = offline(&world).await;
    let question = analytics.should_ask();
    eventually(analytics.opt_out().into_future()).await;
    assert!(!eventually(question).await);
    assert_eq!(analytics.state().decision, Consent::Denied);
}

#[tokio::test]
async fn a_guest_is_not_asked() {
    let world = World::new().await;
    let login = world.server.add_guest(ALICE, "GUEST");
    let (analytics, _) = world.device_of(login).await.start().await;
    assert!(!eventually(analytics.should_ask()).await);
    assert_eq!(analytics.state().gate, GateState::Closed(ClosedReason::Unavailable));
}

#[tokio::test]
async fn a_user_who_must_not_be_tracked_here_is_not_asked() {
    let world = World::new().await;
    let device = world.device("TABLET").await;
    let untracked = device.builder().do_not_track().build().await.unwrap();
    assert!(!eventually(untracked.should_ask()).await);

    let analytics = offline(&world).await;
    let question = analytics.should_ask();
    eventually(analytics.deny_on_this_device()).await.unwrap();
    assert!(!eventually(question).await);
    assert!(!eventually(analytics.should_ask()).await);
}

#[tokio::test]
async fn the_end_of_the_session_ends_the_wait() {
    let world = World::new().await;
    let analytics = offline(&world).await;
    let question = analytics.should_ask();
    eventually(analytics.end_session()).await;
    assert!(!eventually(question).await);
    assert!(!eventually(analytics.should_ask()).await);
}

#[tokio::test]
async fn a_shutdown_ends_the_wait() {
    let world = World::new().await;
    let analytics = offline(&world).await;
    let question = analytics.should_ask();
    eventually(analytics.shutdown(Duration::from_secs(1))).await;
    assert!(!eventually(question).await);
    assert!(!eventually(analytics.should_ask()).await);
}

#[tokio::test]
async fn the_wait_keeps_no_handle_alive_and_ends_with_the_last() {
    let world = World::new().await;
    let analytics = offline(&world).await;
    let question = analytics.should_ask();
    let mut states = analytics.state_stream();
    drop(analytics);
    eventually(async { while futures_util::StreamExt::next(&mut states).await.is_some() {} }).await;
    assert!(!eventually(question).await);
}

#[test]
fn the_wait_ends_with_the_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let analytics = runtime.block_on(async { offline(&World::new().await).await });
    let question = analytics.should_ask();
    drop(runtime);
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert!(!other.block_on(question));
}

// Sync has announced the change, so the answer from before it is out of date.
#[tokio::test]
async fn a_user_who_decides_on_another_device_is_not_asked_once_sync_announced_it() {
    let world = World::new().await;
    let (mut proxy, device) = world.gated_device("PHONE").await;
    let (analytics, _) = device.start().await;
    proxy.next(Method::GET).await.pass().await;
    analytics.confirmed().await;

    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    device.sync().await;
    let read = proxy.next(Method::GET).await;
    let mut question = Box::pin(analytics.should_ask());
    assert_eq!(futures_util::poll!(&mut question), Poll::Pending);
    assert!(!analytics.state().confirmed);
    read.pass().await;
    assert!(!eventually(question).await);
}
