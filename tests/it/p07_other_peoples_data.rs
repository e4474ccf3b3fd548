//! P7: members that this crate does not know survive its writes byte for byte. Unit tests cover the
//! merge; these tests send it over the wire.

use matrix_analytics::{AccountDataError, OptInError, Prompt, WithdrawalStep, testing::Fault};

use crate::support::{World, eventually};

#[tokio::test]
async fn opting_in_and_out_preserves_the_members_of_other_clients() {
    let digits = "7".repeat(400);
    let deep = format!("{}1{}", "[".repeat(900), "]".repeat(900));
    let others = format!(
        r#""\ud83d":"\udc00","long":{digits},"deep":{deep},"nested":{{"id":"x", "a":[1.0, -0.0]}}"#
    );
    let world = World::new().await;
    world.set_content(&format!(r#"{{{others},"id":null}}"#));
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_opted_in().await;

    let id = analytics.analytics_id().unwrap();
    let expected =
        format!(r#"{{{others},"id":"{}","pseudonymousAnalyticsOptIn":true}}"#, id.reveal());
    assert_eq!(world.content().unwrap(), expected);
    // Sync shows the content that is already known.
    world.take_requests();
    device.sync().await;
    assert!(analytics.is_open());
    assert_eq!(world.take_requests(), "");

    eventually(analytics.opt_out().into_future()).await;
    let expected = format!(r#"{{{others},"pseudonymousAnalyticsOptIn":false}}"#);
    assert_eq!(world.content().unwrap(), expected);
}

#[tokio::test]
async fn an_answer_without_a_body_does_not_count_and_nothing_is_written() {
    let world = World::new().await;
    let held = r#"{"theirs":1}"#;
    world.set_content(held);
    world.server.fail_all(Fault::Empty);
    let (analytics, _) = world.device("PHONE").await.start().await;
    let opt_in = eventually(analytics.opt_in()).await;
    assert!(matches!(opt_in, Err(OptInError::AccountData(AccountDataError::EmptyAnswer))));
    let recheck = eventually(analytics.recheck()).await;
    assert!(matches!(recheck, Err(AccountDataError::EmptyAnswer)));
    assert_eq!(analytics.state().prompt(), Prompt::Wait);
    assert_eq!(world.content().unwrap(), held);
    assert!(!world.take_requests().contains("PUT"));

    // Such an answer does not prove that the account is clean, either.
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(matches!(
        receipt.account,
        WithdrawalStep::Pending(Some(AccountDataError::EmptyAnswer))
    ));
    world.server.heal();
    eventually(analytics.recheck()).await.unwrap();
    let expected = r#"{"theirs":1,"pseudonymousAnalyticsOptIn":false}"#;
    assert_eq!(world.content().unwrap(), expected);
}
