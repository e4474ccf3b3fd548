//! The account-data requests of each step, as the design lists them.

use matrix_analytics::{GateState, HoldReason, WithdrawalStep, testing::Fault};

use crate::support::{
    ALICE, AnalyticsExt as _, Device, FOREIGN_ID, SETTLE, World, content, eventually,
};

#[tokio::test]
async fn starting_costs_one_get_in_any_state() {
    for held in [
        None,
        Some(content(Some(true), Some(FOREIGN_ID))),
        Some(content(Some(true), None)),
        Some(content(Some(false), None)),
        Some(content(None, Some(FOREIGN_ID))),
        Some("{}".to_owned()),
    ] {
        let world = World::new().await;
        if let Some(held) = &held {
            world.set_content(held);
        }
        let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
        assert_eq!(world.take_requests(), "GET", "{held:?}");
        assert_eq!(world.content(), held);
        drop(analytics);
    }
}

#[tokio::test]
async fn starting_with_a_pending_removal_costs_a_get_a_put_and_a_get() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    opt_out_offline(&world, &device).await;

    let (analytics, _) = device.start().await;
    analytics.until(|state| !state.removal_pending).await;
    assert_eq!(world.take_requests(), "GET PUT GET");
}

#[tokio::test]
async fn starting_under_a_veto_costs_nothing() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let device = world.device("PHONE").await;
    let analytics = device.builder().do_not_track().build().await.unwrap();
    // The recheck is answered after all work of the start.
    eventually(analytics.recheck()).await.unwrap();
    assert_eq!(world.take_requests(), "");
    drop(analytics);

    let (analytics, _) = device.start_confirmed().await;
    eventually(analytics.deny_on_this_device()).await.unwrap();
    drop(analytics);
    world.take_requests();

    let (analytics, _) = device.start().await;
    eventually(analytics.recheck()).await.unwrap();
    assert_eq!(world.take_requests(), "");

    eventually(analytics.allow_on_this_device()).await.unwrap();
    analytics.until(|state| state.is_open()).await;
    assert_eq!(world.take_requests(), "GET");
    assert_eq!(analytics.analytics_id().unwrap().reveal(), FOREIGN_ID);
}

#[tokio::test]
async fn opting_in_with_an_id_and_a_true_flag_costs_one_get() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    world.take_requests();

    let state = eventually(analytics.opt_in()).await.unwrap();
    assert_eq!(state.gate, GateState::Open);
    assert_eq!(world.take_requests(), "GET");
}

#[tokio::test]
async fn opting_in_with_an_existing_id_costs_a_get_a_put_and_a_get_that_confirms_it() {
    let world = World::new().await;
    world.set_content(&content(None, Some(FOREIGN_ID)));
    let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
    world.take_requests();

    let state = eventually(analytics.opt_in()).await.unwrap();
    assert_eq!(state.gate, GateState::Open);
    assert_eq!(world.take_requests(), "GET PUT GET");
    assert_eq!(world.content().unwrap(), content(Some(true), Some(FOREIGN_ID)));
}

#[tokio::test]
async fn opting_in_with_a_new_id_costs_a_get_a_put_and_a_get_after_the_settle_time() {
    for held in [
        None,
        Some("{}".to_owned()),
        Some(content(Some(true), None)),
        Some(content(Some(false), None)),
        Some(content(Some(false), Some(FOREIGN_ID))),
        Some(r#"{"id":null}"#.to_owned()),
    ] {
        let world = World::new().await;
        if let Some(held) = &held {
            world.set_content(held);
        }
        let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
        world.take_requests();

        let state = eventually(analytics.opt_in()).await.unwrap();
        assert_eq!(state.gate, GateState::Holding(HoldReason::Settling), "{held:?}");
        assert_eq!(world.take_requests(), "GET PUT", "{held:?}");

        tokio::time::advance(SETTLE).await;
        analytics.until(|state| state.is_open()).await;
        assert_eq!(world.take_requests(), "GET", "{held:?}");
        let id = analytics.analytics_id().unwrap();
        assert_ne!(id.reveal(), FOREIGN_ID);
        assert_eq!(world.content().unwrap(), content(Some(true), Some(id.reveal())));
    }
}

#[tokio::test]
async fn opting_out_costs_a_get_a_put_and_a_get_that_verifies_it() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_opted_in().await;
    world.take_requests();

    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(receipt.is_complete(), "{receipt:?}");
    assert_eq!(world.take_requests(), "GET PUT GET");
    assert_eq!(world.content().unwrap(), content(Some(false), None));
}

#[tokio::test]
async fn opting_out_of_a_clean_account_costs_one_get() {
    let world = World::new().await;
    world.set_content(&content(Some(false), None));
    let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
    world.take_requests();

    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(receipt.is_complete(), "{receipt:?}");
    assert_eq!(world.take_requests(), "GET");
}

#[tokio::test]
async fn opting_out_offline_returns_with_the_removal_pending() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_opted_in().await;
    world.server.fail_all(Fault::ResetBefore);

    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(receipt.record.is_done());
    assert!(receipt.requests.is_done());
    assert!(matches!(receipt.account, WithdrawalStep::Pending(Some(_))), "{receipt:?}");
    assert!(analytics.state().removal_pending);
}

#[tokio::test]
async fn erasing_costs_a_get_a_put_and_a_get_that_verifies_it() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_opted_in().await;
    world.take_requests();

    let receipt = eventually(analytics.opt_out().erase_event().into_future()).await;
    assert!(receipt.is_complete(), "{receipt:?}");
    assert_eq!(world.take_requests(), "GET PUT GET");
    assert_eq!(world.content().unwrap(), "{}");
}

#[tokio::test]
async fn a_sync_event_equal_to_the_known_content_costs_nothing() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_opted_in().await;
    world.take_requests();

    device.sync().await;
    world.server.redeliver(ALICE, "im.vector.analytics");
    device.sync().await;
    assert_eq!(analytics.state().gate, GateState::Open);
    assert_eq!(world.take_requests(), "");

    eventually(analytics.opt_out().into_future()).await;
    world.take_requests();
    device.sync().await;
    // Answered after all work that the sync triggered.
    eventually(analytics.recheck()).await.unwrap();
    assert_eq!(world.take_requests(), "GET");
}

#[tokio::test]
async fn a_withdrawal_on_another_device_costs_nothing() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_opted_in().await;
    device.sync().await;
    world.set_content(&content(Some(false), None));
    world.take_requests();

    device.sync().await;
    assert_eq!(analytics.state().decision, matrix_analytics::Consent::Denied);
    assert_eq!(world.take_requests(), "");
}

#[tokio::test]
async fn any_other_change_on_another_device_costs_one_get() {
    for change in [
        content(Some(true), Some(FOREIGN_ID)),
        content(Some(true), None),
        content(None, Some(FOREIGN_ID)),
        "{}".to_owned(),
    ] {
        let world = World::new().await;
        let device = world.device("PHONE").await;
        let (analytics, _) = device.start_opted_in().await;
        device.sync().await;
        world.set_content(&change);
        world.take_requests();

        device.sync().await;
        analytics.confirmed().await;
        assert_eq!(world.take_requests(), "GET", "{change}");
    }
}

#[tokio::test]
async fn a_recheck_costs_one_get() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
    world.take_requests();
    eventually(analytics.recheck()).await.unwrap();
    assert_eq!(world.take_requests(), "GET");
}

async fn opt_out_offline(world: &World, device: &Device) {
    let (analytics, _) = device.start_opted_in().await;
    world.server.fail_all(Fault::ResetBefore);
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(!receipt.account.is_done());
    drop(analytics);
    world.server.heal();
    world.take_requests();
}
