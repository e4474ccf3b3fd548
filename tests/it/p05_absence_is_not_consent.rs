//! P5: a missing, empty, malformed or foreign event opens nothing and changes no decision, and only
//! `opt_in()` writes `true`. `table.rs` has the cells of the table; this file simulates clients
//! that write such events.

use matrix_analytics::{ClosedReason, Consent, GateState, Prompt};

use crate::support::{AnalyticsExt as _, FOREIGN_ID, World, content, eventually};

#[tokio::test]
async fn an_overwrite_without_a_flag_does_not_prompt_again_and_is_not_reverted() {
    for decided in [true, false] {
        let world = World::new().await;
        let device = world.device("PHONE").await;
        let (analytics, _) = device.start_opted_in().await;
        if !decided {
            eventually(analytics.opt_out().into_future()).await;
        }
        device.sync().await;
        // Element Android repeatedly overwrites the whole event with `{"id":…}`
        // (AnalyticsAccountDataViewModel.kt).
        let overwrite = content(None, Some(FOREIGN_ID));
        world.take_requests();
        for _ in 0..3 {
            world.set_content(&overwrite);
            device.sync().await;
            analytics.confirmed().await;
            assert!(!analytics.is_open());
            assert_eq!(analytics.state().prompt(), Prompt::DontAsk);
            assert_eq!(world.content().unwrap(), overwrite);
        }
        assert_eq!(world.take_requests().matches("PUT").count(), 0);
        let expected = if decided { Consent::Granted } else { Consent::Denied };
        assert_eq!(analytics.state().decision, expected);
    }
}

#[tokio::test]
async fn an_erased_event_closes_without_a_new_decision() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, recorder) = device.start_opted_in().await;
    device.sync().await;
    analytics.capture_one("Queued");
    world.set_content("{}");
    device.sync().await;
    let state = analytics.confirmed().await;
    assert_eq!(state.gate, GateState::Closed(ClosedReason::DecisionErased));
    assert_eq!(state.decision, Consent::Granted);
    eventually(analytics.flush_all()).await;
    assert!(recorder.events().is_empty());
    assert_eq!(world.content().unwrap(), "{}");
}

#[tokio::test]
async fn a_client_that_restores_a_retired_id_on_every_sync_is_answered_once() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_opted_in().await;
    let retired = world.content().unwrap();
    eventually(analytics.opt_out().into_future()).await;
    device.sync().await;
    world.take_requests();

    for _ in 0..3 {
        world.set_content(&retired);
        device.sync().await;
        eventually(analytics.recheck()).await.unwrap();
        assert_eq!(analytics.state().decision, Consent::Denied);
    }
    assert_eq!(world.take_requests().matches("PUT").count(), 1);
}
