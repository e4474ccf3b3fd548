//! P13: one `Analytics` serves one session of one user.

use matrix_analytics::{
    Analytics, BuildError, ClosedReason, Consent, ConsentState, ELEMENT_EVENT_TYPE, GateState,
    HoldReason, OptInError, Prompt, Properties, UserProperties,
};
use matrix_sdk::{
    ClientBuilder, SqliteStateStore, config::StoreConfig,
    cross_process_lock::CrossProcessLockConfig,
};

use crate::support::{ALICE, AnalyticsExt as _, Device, World, content, eventually};

const BOB: &str = "@bob:example.org";

#[tokio::test]
async fn ending_the_session_closes_wipes_and_leaves_the_account_alone() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, recorder) = device.start_opted_in().await;
    let held = world.content();
    analytics.set_user_properties(UserProperties::new().set("rooms", 5)).unwrap();
    analytics.capture_one("Queued");

    let mut end = Box::pin(analytics.end_session());
    assert!(futures_util::poll!(&mut end).is_pending());
    assert_eq!(analytics.state().gate, GateState::Closed(ClosedReason::SessionEnded));
    assert!(eventually(end).await.is_complete());
    assert_eq!(analytics.state().prompt(), Prompt::Unavailable);
    assert!(matches!(eventually(analytics.opt_in()).await, Err(OptInError::SessionEnded)));
    eventually(analytics.flush_all()).await;
    assert!(recorder.events().is_empty());
    assert_eq!(world.content(), held);

    // The next login confirms the opt-in again, and holds no event before that.
    drop(analytics);
    let (analytics, _) = device.start().await;
    assert_eq!(analytics.state().gate, GateState::Closed(ClosedReason::Unknown));
    analytics.until(ConsentState::is_open).await;
}

#[tokio::test]
async fn ending_the_session_gives_a_pending_removal_one_attempt() {
    for reachable in [true, false] {
        let world = World::new().await;
        let (analytics, _) = world.device("PHONE").await.start_opted_in().await;
        world.server.fail_all(matrix_analytics::testing::Fault::ResetBefore);
        eventually(analytics.opt_out().into_future()).await;
        if reachable {
            world.server.heal();
        }
        let receipt = eventually(analytics.end_session()).await;
        assert_eq!(receipt.account.is_done(), reachable);
        assert_eq!(analytics.state().removal_pending, !reachable);
    }
}

#[tokio::test]
async fn two_accounts_in_one_process_share_nothing() {
    let world = World::new().await;
    let (alice, alices) = world.device("PHONE").await.start_opted_in().await;
    let login = world.server.add_device(BOB, "TABLET");
    let (bob, bobs) = world.device_of(login).await.start_confirmed().await;
    alice.set_super_properties(Properties::new().with("of", "alice")).unwrap();

    assert_eq!(bob.state().prompt(), Prompt::Ask);
    bob.capture_one("Bob");
    bob.opt_in_and_settle().await;
    assert_ne!(alice.analytics_id(), bob.analytics_id());
    alice.capture_one("Alice");
    bob.capture_one("Bob");
    eventually(alice.opt_out().into_future()).await;
    eventually(alice.flush_all()).await;
    eventually(bob.flush_all()).await;
    assert!(alices.events().is_empty());
    assert_eq!(bobs.names(), ["Bob"]);
    assert!(bobs.events()[0].properties.is_empty());
    assert_eq!(bob.state().decision, Consent::Granted);
    assert!(world.server.content(BOB, ELEMENT_EVENT_TYPE).unwrap().contains("true"));
}

#[tokio::test]
async fn another_user_on_the_same_store_inherits_nothing() {
    let world = World::new().await;
    let directory = tempfile::tempdir().unwrap();
    let start = async |login| {
        // Only the state: matrix-sdk itself refuses the keys of another user.
        let state = SqliteStateStore::open(directory.path(), None).await.unwrap();
        let store = StoreConfig::new(CrossProcessLockConfig::SingleProcess).state_store(state);
        let on_disk = |builder: ClientBuilder| builder.store_config(store);
        let client = world.server.client_with(login, on_disk).await.unwrap();
        Device { client, login: login.clone() }.start().await
    };
    let alices = world.server.add_device(ALICE, "PHONE");
    let bobs = world.server.add_device(BOB, "TABLET");
    let (alice, _) = start(&alices).await;
    alice.confirmed().await;
    alice.opt_in_and_settle().await;
    eventually(alice.deny_on_this_device()).await.unwrap();
    eventually(alice.allow_on_this_device()).await.unwrap();
    alice.until(ConsentState::is_open).await;
    alice.set_super_properties(Properties::new().with("of", "alice")).unwrap();
    drop(alice);

    let (bob, bobs) = start(&bobs).await;
    assert_eq!(bob.state().gate, GateState::Closed(ClosedReason::Unknown));
    bob.confirmed().await;
    assert_eq!((bob.state().decision, bob.state().prompt()), (Consent::Undecided, Prompt::Ask));
    bob.opt_in_and_settle().await;
    bob.capture_one("Bob");
    eventually(bob.flush_all()).await;
    assert!(bobs.events()[0].properties.is_empty());
    eventually(bob.opt_out().into_future()).await;
    drop(bob);

    // Alice's decision is unchanged.
    let (alice, _) = start(&alices).await;
    assert_eq!(alice.state().gate, GateState::Holding(HoldReason::Unverified));
    alice.until(ConsentState::is_open).await;
}

#[tokio::test]
async fn an_event_type_of_the_app_never_touches_elements_event() {
    let world = World::new().await;
    let elements = content(Some(true), Some("elements-own-id"));
    world.set_content(&elements);
    let device = world.device("PHONE").await;
    let analytics =
        Analytics::builder(device.client.clone(), "org.example.analytics").build().await.unwrap();
    analytics.confirmed().await;
    assert_eq!(analytics.state().decision, Consent::Undecided);
    analytics.opt_in_and_settle().await;
    assert_ne!(analytics.analytics_id().unwrap().reveal(), "elements-own-id");
    eventually(analytics.opt_out().into_future()).await;
    assert_eq!(world.content().unwrap(), elements);
    assert!(world.server.requests().iter().all(|r| r.event_type == "org.example.analytics"));
    assert_eq!(
        world.server.content(ALICE, "org.example.analytics").unwrap(),
        content(Some(false), None)
    );
}

#[tokio::test]
async fn a_second_analytics_of_one_account_and_type_is_refused_while_the_first_lives() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_confirmed().await;
    assert!(matches!(device.builder().build().await, Err(BuildError::AlreadyBuilt)));
    let clone = analytics.clone();
    drop(analytics);
    assert!(matches!(device.builder().build().await, Err(BuildError::AlreadyBuilt)));
    // Another event type has a consent of its own.
    let other = Analytics::builder(device.client.clone(), "org.example.analytics");
    let other = other.build().await.unwrap();
    // A session that has ended still has a handle.
    eventually(clone.end_session()).await;
    assert!(matches!(device.builder().build().await, Err(BuildError::AlreadyBuilt)));

    drop((clone, other));
    device.start_confirmed().await;
}

#[tokio::test]
async fn of_two_concurrent_builds_one_is_refused() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (one, other) = tokio::join!(device.builder().build(), device.builder().build());
    assert!(one.is_ok() != other.is_ok(), "{one:?}, {other:?}");
}
