//! Members that another client carries along after a withdrawal.

use matrix_analytics::{ClosedReason, GateState};

use super::{device_with, id_of, settle, third};
use crate::support::{World, eventually};

#[tokio::test]
async fn a_device_that_missed_a_withdrawal_in_element_web_continues_and_a_new_one_opens() {
    let world = World::new().await;
    let phone = device_with(&world, "PHONE", third()).await;
    let (first, _) = phone.start_opted_in().await;
    let opted_in = world.content().unwrap();
    // The switch of Element Web changes the flag alone.
    world.set_content(&opted_in.replace("true", "false"));
    world.set_content(&opted_in);
    settle(&phone, &first).await;
    assert!(first.is_open());
    let (second, _) = device_with(&world, "LAPTOP", third()).await.start_confirmed().await;
    assert!(second.is_open());
    assert_eq!(id_of(&second), id_of(&first));
}

#[tokio::test]
async fn a_new_device_opens_under_a_restored_member_until_the_clean_up() {
    let world = World::new().await;
    let phone = device_with(&world, "PHONE", third()).await;
    let (first, _) = phone.start_opted_in().await;
    let opted_in = world.content().unwrap();
    eventually(first.opt_out().into_future()).await;
    // A client writes its cached content back.
    world.set_content(&opted_in);
    let laptop = device_with(&world, "LAPTOP", third()).await;
    let (second, _) = laptop.start_confirmed().await;
    assert!(second.is_open());

    settle(&phone, &first).await;
    assert_eq!(world.content().as_deref(), Some(r#"{"pseudonymousAnalyticsOptIn":false}"#));
    settle(&laptop, &second).await;
    for analytics in [&first, &second] {
        assert_eq!(analytics.state().gate, GateState::Closed(ClosedReason::Denied));
    }
}
