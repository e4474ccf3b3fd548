//! What is written into the account's event, and who may change it.

use std::time::Duration;

use matrix_analytics::{BuildError, InvalidPolicy, JsonLines, Policy, Recipient};
use serde_json::{Value, json};

use super::{MEMBER, device_with, entry, id_of, member, opt_in, third, versions};
use crate::support::{FOREIGN_ID, World, eventually};

#[tokio::test]
async fn an_opt_in_writes_the_version_the_time_and_the_recipients() {
    let world = World::new().await;
    world.set_content(r#"{"theirs":[1.0]}"#);
    let before = super::millis(Duration::ZERO);
    let (analytics, _) = device_with(&world, "PHONE", third()).await.start_opted_in().await;
    let after = super::millis(Duration::ZERO);
    let held = world.content().unwrap();
    assert!(held.starts_with(r#"{"theirs":[1.0],"#), "{held}");
    let content: Value = serde_json::from_str(&held).unwrap();
    let ts = content[MEMBER]["agreed"][0]["ts"].as_u64().unwrap();
    assert!((before..=after).contains(&ts));
    let expected = json!({ "version": "3.0.0", "ts": ts, "recipients": { "eu.example": ts } });
    assert_eq!(content[MEMBER], member(&id_of(&analytics), &[expected]));
}

#[tokio::test]
async fn without_a_policy_the_entries_are_kept_and_open_nothing_less() {
    let world = World::new().await;
    let held = opt_in(Some(FOREIGN_ID), Some(member(FOREIGN_ID, &[json!({ "other": 1 })])));
    world.set_content(&held);
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_confirmed().await;
    assert!(analytics.is_open());
    eventually(analytics.opt_in()).await.unwrap();
    assert_eq!(world.content(), Some(held.clone()));
    // An opt-in without its flag is one that has to write.
    let flagless = held.replace(r#""pseudonymousAnalyticsOptIn":true"#, r#""x":0"#);
    world.set_content(&flagless);
    eventually(analytics.opt_in()).await.unwrap();
    let of = |content: &str| serde_json::from_str::<Value>(content).unwrap()[MEMBER].clone();
    assert_eq!(of(&world.content().unwrap()), of(&held));

    eventually(analytics.opt_out().into_future()).await;
    assert_eq!(of(&world.content().unwrap()), Value::Null);
}

#[tokio::test]
async fn the_newest_eight_versions_are_kept() {
    let world = World::new().await;
    let entries: Vec<_> =
        (0..9).map(|number| entry(&format!("{number}"), &[], Duration::ZERO)).collect();
    world.set_content(&opt_in(Some(FOREIGN_ID), Some(member(FOREIGN_ID, &entries))));
    let (analytics, _) =
        device_with(&world, "PHONE", Policy::new("9")).await.start_confirmed().await;
    eventually(analytics.opt_in()).await.unwrap();
    assert!(analytics.is_open());
    assert_eq!(versions(&world), ["2", "3", "4", "5", "6", "7", "8", "9"]);
}

#[tokio::test]
async fn an_invalid_policy_is_refused_at_build() {
    let world = World::new().await;
    for (policy, reason) in [
        (Policy::new(""), InvalidPolicy::Empty),
        (Policy::new("3\u{7}"), InvalidPolicy::ControlCharacter),
        (Policy::new("3".repeat(100)), InvalidPolicy::LongVersion { length: 100 }),
        (Policy::new("é".repeat(20)), InvalidPolicy::LongVersion { length: 120 }),
    ] {
        let device = device_with(&world, "PHONE", policy).await;
        let built = device.builder().build().await;
        assert!(matches!(built, Err(BuildError::Policy(found)) if found == reason), "{reason:?}");
    }
}

#[tokio::test]
async fn a_recipient_that_the_policy_does_not_name_is_refused_at_build() {
    let world = World::new().await;
    let device = device_with(&world, "PHONE", third()).await;
    let recipient = || Recipient::new(JsonLines::new(tokio::io::sink())).name("Example");
    for unnamed in [recipient(), recipient().label("us.example")] {
        let built = device.builder().backend(unnamed).build().await;
        let Err(BuildError::NotInPolicy { recipient: name }) = built else { panic!("built") };
        assert_eq!(name, "Example");
    }
    assert!(device.builder().backend(recipient().label("eu.example")).build().await.is_ok());
}
