//! P11: every wait has an end, and the session's tokens are never put at risk.

use std::time::Duration;

use matrix_analytics::{Analytics, ConsentState, ELEMENT_EVENT_TYPE, testing::Fault};

use crate::support::{ALICE, AnalyticsExt as _, BOUND, World, content, eventually};

#[tokio::test]
async fn a_homeserver_that_never_answers_is_waited_for_within_the_bound() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
    world.server.fail_all(Fault::StallBefore);

    let mut opt_in = Box::pin(analytics.opt_in());
    assert!(futures_util::poll!(&mut opt_in).is_pending());
    eventually(world.server.wait_for(|requests| requests.len() == 2)).await;
    tokio::time::advance(BOUND + Duration::from_millis(1)).await;
    assert!(eventually(opt_in).await.is_err());

    // So is an opt-out, which counts although the account could not be cleaned.
    let mut opt_out = analytics.opt_out().into_future();
    assert!(futures_util::poll!(&mut opt_out).is_pending());
    eventually(world.server.wait_for(|requests| requests.len() == 3)).await;
    tokio::time::advance(BOUND + Duration::from_millis(1)).await;
    let receipt = eventually(opt_out).await;
    assert!(!receipt.account.is_done());
    assert!(analytics.state().removal_pending);
}

#[tokio::test]
async fn a_call_that_is_dropped_in_the_middle_of_a_token_refresh_costs_no_session() {
    let world = World::new().await;
    let login = world.server.add_device_with_refresh(ALICE, "PHONE");
    let client = world.server.client(&login).await.unwrap();
    let analytics = Analytics::builder(client.clone(), ELEMENT_EVENT_TYPE).build().await.unwrap();
    analytics.confirmed().await;
    world.server.expire_token(&login);
    world.take_requests();

    // The call meets the expired token, and is dropped while the SDK refreshes.
    let mut opt_in = Box::pin(analytics.opt_in());
    assert!(futures_util::poll!(&mut opt_in).is_pending());
    eventually(world.server.wait_for(|requests| !requests.is_empty())).await;
    drop(opt_in);

    // The refresh was not cut: the session has its new tokens, and works.
    eventually(analytics.opt_in()).await.unwrap();
    assert_eq!(world.server.refreshes(), 1);
    tokio::time::advance(crate::support::SETTLE).await;
    analytics.until(ConsentState::is_open).await;
    assert!(client.session_tokens().unwrap().refresh_token != login.refresh_token);
}

#[tokio::test]
async fn the_last_handle_takes_its_tasks_and_its_handler_along() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    // The client's own connection is there from its first request on.
    eventually(device.client.whoami()).await.unwrap();
    let before = tasks();

    let (analytics, _) = device.start_confirmed().await;
    assert_eq!(tasks(), before + 2);
    let clone = analytics.clone();
    drop(analytics);
    eventually(clone.recheck()).await.unwrap();
    assert_eq!(tasks(), before + 2);
    drop(clone);
    eventually(async {
        while tasks() > before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // The handler is gone too: a change in sync asks for nothing.
    world.take_requests();
    world.set_content(&content(Some(true), None));
    device.sync().await;
    assert_eq!(world.take_requests(), "");
}
