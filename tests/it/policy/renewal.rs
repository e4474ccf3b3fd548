//! The question that a policy leads to, and its two answers.

use std::time::Duration;

use futures_util::poll;
use matrix_analytics::{
    ClosedReason, Consent, GateState, HoldReason, Note, Policy, Prompt, Switch, testing::Fault,
};
use serde_json::Value;

use super::{MEMBER, NOT_AGREED, YEAR, asking, device_with, id_of, settle, third, versions};
use crate::support::{AnalyticsExt as _, Device, FOREIGN_ID, World, content, eventually};

/// An app that was updated from version 3 of the policy to version 4.
async fn updated(world: &World) -> (Device, String) {
    let device = device_with(world, "PHONE", Policy::new("3.0.0")).await;
    let id = id_of(&device.start_opted_in().await.0);
    (asking(device, Policy::new("4.0.0")), id)
}

#[tokio::test]
async fn a_new_version_asks_again_and_a_renewed_opt_in_continues_under_the_id() {
    let world = World::new().await;
    let (device, id) = updated(&world).await;
    world.take_requests();
    let (analytics, recorder) = device.start().await;
    // Known only once the homeserver has answered.
    assert!(eventually(analytics.should_ask()).await);
    let state = analytics.state();
    assert_eq!((state.gate, state.decision), (NOT_AGREED, Consent::Granted));
    assert_eq!((state.switch(), state.note()), (Switch::Off, Some(Note::PolicyNotAgreed)));
    assert_eq!(analytics.analytics_id(), None);
    analytics.capture_one("Before");
    assert_eq!(world.take_requests(), "GET");

    let state = eventually(analytics.opt_in()).await.unwrap();
    assert_eq!(state.gate, GateState::Open);
    assert_eq!(world.take_requests(), "GET PUT GET");
    assert_eq!(versions(&world), ["3.0.0", "4.0.0"]);
    assert!(!eventually(analytics.should_ask()).await);
    analytics.capture_one("After");
    eventually(analytics.flush_all()).await;
    assert_eq!(recorder.ids(), [id]);
    assert_eq!(recorder.names(), ["After"]);
}

#[tokio::test]
async fn a_refusal_withdraws() {
    let world = World::new().await;
    let (device, _) = updated(&world).await;
    let (analytics, _) = device.start().await;
    assert!(eventually(analytics.should_ask()).await);
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(receipt.is_complete());
    assert_eq!(world.content().as_deref(), Some(r#"{"pseudonymousAnalyticsOptIn":false}"#));
    assert!(!eventually(analytics.should_ask()).await);
    // A new opt-in is one under a new ID.
    analytics.opt_in_and_settle().await;
    assert_ne!(Some(id_of(&analytics)), receipt.analytics_id().map(|id| id.reveal().to_owned()));
    assert_eq!(versions(&world), ["4.0.0"]);
}

#[tokio::test]
async fn before_the_first_answer_events_are_held_only_after_an_agreement_to_this_version() {
    let world = World::new().await;
    let (device, _) = updated(&world).await;
    for (version, gate, prompt) in [
        ("3.0.0", GateState::Holding(HoldReason::Unverified), Prompt::DontAsk),
        ("4.0.0", GateState::Closed(ClosedReason::Unknown), Prompt::Wait),
    ] {
        world.server.fail_all(Fault::ResetBefore);
        let (client, login) = (device.client.clone(), device.login.clone());
        let device = asking(Device { client, login, policy: None }, Policy::new(version));
        let (analytics, recorder) = device.start().await;
        assert_eq!((analytics.state().gate, analytics.state().prompt()), (gate, prompt));
        let mut question = Box::pin(analytics.should_ask());
        assert_eq!(poll!(&mut question).is_pending(), prompt == Prompt::Wait, "{version}");
        analytics.capture_one("Early");
        world.server.heal();
        eventually(analytics.recheck()).await.unwrap();
        eventually(analytics.flush_all()).await;
        assert_eq!(recorder.names().len(), usize::from(version == "3.0.0"), "{version}");
    }
}

#[tokio::test]
async fn two_devices_with_different_versions_or_recipients_ask_at_most_once_each() {
    for (ours, theirs) in [
        (Policy::new("3.0.0"), Policy::new("4.0.0")),
        (Policy::new("3").recipients(["eu.example"]), Policy::new("3").recipients(["us.example"])),
        (Policy::new("3"), Policy::new("3").recipients(["us.example"])),
    ] {
        let world = World::new().await;
        let phone = device_with(&world, "PHONE", ours.clone()).await;
        let laptop = world.device("LAPTOP").await;
        let laptop = Device { policy: Some((theirs.clone(), "us.example")), ..laptop };
        let (first, _) = phone.start_opted_in().await;
        let (second, _) = laptop.start().await;
        assert!(eventually(second.should_ask()).await);
        assert_eq!(second.state().gate, NOT_AGREED);
        eventually(second.opt_in()).await.unwrap();

        for (device, analytics) in [(&phone, &first), (&laptop, &second)] {
            settle(device, analytics).await;
            assert!(analytics.is_open(), "{ours:?}, {theirs:?}");
        }
        assert_eq!(id_of(&first), id_of(&second));
        drop((first, second));
        for device in [&phone, &laptop] {
            let (analytics, _) = device.start_confirmed().await;
            assert!(!eventually(analytics.should_ask()).await);
            assert!(analytics.is_open());
        }
    }
}

#[tokio::test]
async fn a_device_asks_once_even_if_another_client_keeps_dropping_the_member() {
    let world = World::new().await;
    let phone = device_with(&world, "PHONE", third()).await;
    let laptop = device_with(&world, "LAPTOP", third()).await;
    let (first, _) = phone.start_opted_in().await;
    let (second, _) = laptop.start_confirmed().await;
    let id = id_of(&first);
    let mut questions = [0, 0];
    for _ in 0..4 {
        // As Element iOS writes both of its members.
        world.set_content(&content(Some(true), Some(&id)));
        for (nth, (device, analytics)) in [(&phone, &first), (&laptop, &second)].iter().enumerate()
        {
            settle(device, analytics).await;
            if eventually(analytics.should_ask()).await {
                questions[nth] += 1;
                eventually(analytics.opt_in()).await.unwrap();
            }
            assert!(analytics.is_open());
            assert_eq!(id_of(analytics), id);
        }
    }
    assert_eq!(questions, [0, 1], "the user had agreed on the phone before");
}

#[tokio::test]
async fn a_second_question_to_another_recipient_keeps_the_first_one() {
    let world = World::new().await;
    let device = device_with(&world, "PHONE", Policy::new("3").recipients(["eu.example"])).await;
    let id = id_of(&device.start_opted_in().await.0);
    let both = Policy::new("3").recipients(["eu.example", "us.example"]);
    let device = asking(device, both);
    let (analytics, _) = device.start().await;
    assert!(eventually(analytics.should_ask()).await);
    eventually(analytics.opt_in()).await.unwrap();
    assert_eq!(id_of(&analytics), id);
    drop(analytics);
    // One that is left out asks nothing.
    let us = Policy::new("3").recipients(["us.example"]);
    let device = Device { policy: Some((us, "us.example")), ..device };
    assert!(device.start_confirmed().await.0.is_open());
    let content: Value = serde_json::from_str(&world.content().unwrap()).unwrap();
    let recipients = content[MEMBER]["agreed"][0]["recipients"].as_object().unwrap();
    assert_eq!(recipients.keys().collect::<Vec<_>>(), ["eu.example", "us.example"]);
}

#[tokio::test]
async fn an_old_agreement_is_renewed_under_the_id() {
    let world = World::new().await;
    let old = super::entry("3.0.0", &["eu.example"], YEAR + Duration::from_secs(60));
    world.set_content(&super::opt_in(Some(FOREIGN_ID), Some(super::member(FOREIGN_ID, &[old]))));
    let (analytics, _) = device_with(&world, "PHONE", third()).await.start().await;
    assert!(eventually(analytics.should_ask()).await);
    eventually(analytics.opt_in()).await.unwrap();
    assert_eq!(id_of(&analytics), FOREIGN_ID);
    assert_eq!(versions(&world), ["3.0.0"]);
    let content: Value = serde_json::from_str(&world.content().unwrap()).unwrap();
    let ts = content[MEMBER]["agreed"][0]["ts"].as_u64().unwrap();
    assert!(ts >= super::millis(Duration::from_secs(3600)));
}

#[tokio::test]
async fn a_failed_renewal_leaves_the_question_open() {
    let world = World::new().await;
    let (device, _) = updated(&world).await;
    let (analytics, _) = device.start_confirmed().await;
    let before = world.content();
    world.server.fail_all(Fault::ResetBefore);
    assert!(eventually(analytics.opt_in()).await.is_err());
    assert!(!analytics.is_open());
    world.server.heal();
    eventually(analytics.recheck()).await.unwrap();
    assert_eq!(analytics.state().gate, NOT_AGREED);
    assert!(eventually(analytics.should_ask()).await);
    assert_eq!(world.content(), before);
}
