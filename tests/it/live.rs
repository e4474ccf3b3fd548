//! Changes made by another device arrive through classic sync and through sliding sync.

use futures_util::StreamExt as _;
use matrix_analytics::{Consent, ConsentState};
use matrix_sdk::{SlidingSyncList, config::SyncSettings, ruma::api::client::sync::sync_events};

use crate::support::{AnalyticsExt as _, FOREIGN_ID, World, content, eventually};

#[tokio::test]
async fn a_change_on_another_device_arrives_through_classic_sync() {
    let world = World::new().await;
    let (phone, laptop) = (world.device("PHONE").await, world.device("LAPTOP").await);
    let (here, _) = phone.start_confirmed().await;
    let (there, _) = laptop.start_confirmed().await;
    assert_eq!(here.state().prompt(), matrix_analytics::Prompt::Ask);

    there.opt_in_and_settle().await;
    phone.sync().await;
    here.until(ConsentState::is_open).await;
    assert_eq!(here.analytics_id(), there.analytics_id());

    eventually(there.opt_out().into_future()).await;
    phone.sync().await;
    assert_eq!(here.state().decision, Consent::Denied);
}

#[tokio::test]
async fn a_change_on_another_device_arrives_through_sliding_sync() {
    let world = World::new().await;
    let phone = world.device("PHONE").await;
    let (here, _) = phone.start_confirmed().await;
    let sync = phone
        .client
        .sliding_sync("test")
        .unwrap()
        .version(matrix_sdk::sliding_sync::Version::Native)
        // The SDK handles global account data only in a response with a list (0.18).
        .add_list(SlidingSyncList::builder("all"))
        .with_account_data_extension(matrix_sdk::ruma::assign!(
            sync_events::v5::request::AccountData::default(),
            { enabled: Some(true) }
        ))
        .build()
        .await
        .unwrap();
    let mut updates = Box::pin(sync.sync());
    eventually(updates.next()).await.unwrap().unwrap();

    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    eventually(updates.next()).await.unwrap().unwrap();
    here.until(ConsentState::is_open).await;

    world.set_content(&content(Some(false), None));
    eventually(updates.next()).await.unwrap().unwrap();
    assert_eq!(here.state().decision, Consent::Denied);
}

#[tokio::test]
async fn a_running_sync_loop_keeps_the_state_up_to_date() {
    let world = World::new().await;
    let phone = world.device("PHONE").await;
    let (here, _) = phone.start_confirmed().await;
    let client = phone.client.clone();
    let running = tokio::spawn(async move { client.sync(SyncSettings::new()).await });

    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let mut states = here.state_stream();
    let opened = async {
        while let Some(state) = states.next().await {
            if state.is_open() {
                return;
            }
            // The SDK pauses for a second between two empty syncs.
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
        }
    };
    eventually(opened).await;
    running.abort();
}

const LONGEST_RECHECK: std::time::Duration = std::time::Duration::from_secs(12 * 3600);

#[tokio::test]
async fn the_homeserver_is_asked_from_time_to_time_if_sync_carries_no_account_data() {
    let world = World::new().await;
    let (here, _) = world.device("PHONE").await.start_opted_in().await;
    world.set_content(&content(Some(false), None));
    world.take_requests();

    tokio::time::advance(LONGEST_RECHECK / 2 - std::time::Duration::from_secs(60)).await;
    tokio::task::yield_now().await;
    assert_eq!(world.take_requests(), "");
    tokio::time::advance(LONGEST_RECHECK / 2 + std::time::Duration::from_secs(60)).await;
    here.until(|state| state.decision == Consent::Denied).await;
    assert_eq!(world.take_requests(), "GET");
}

#[tokio::test]
async fn the_homeserver_is_not_asked_again_while_sync_carries_account_data() {
    let world = World::new().await;
    let phone = world.device("PHONE").await;
    let (here, _) = phone.start_opted_in().await;
    world.take_requests();
    for n in 0..10 {
        tokio::time::advance(LONGEST_RECHECK / 3).await;
        // Any event type counts.
        world.server.set_content(crate::support::ALICE, &format!("org.example.{n}"), "{}");
        phone.sync().await;
    }
    // Answered after all work that the elapsed time triggered.
    eventually(here.recheck()).await.unwrap();
    assert_eq!(world.take_requests(), "GET");
}
