//! Stores that can be read but not written, that hang, or whose content is unreadable.

use std::{
    error::Error,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use futures_util::future::BoxFuture;
use matrix_analytics::{
    Analytics, BuildError, Consent, ConsentState, ELEMENT_EVENT_TYPE, WithdrawalStep,
    testing::{AccountDataMethod, AccountDataRequest, AccountDataServer, DeviceLogin, Fault},
};
use matrix_sdk::{
    Client, MemoryStore, STATE_STORE_DATABASE_NAME, SqliteStateStore, StoreError,
    store::{DynStateStore, IntoStateStore as _},
};
use tempfile::TempDir;
use tokio::sync::{Notify, Semaphore};

use super::store::{GatedStore, Moment, Passing, StoreGate};
use crate::support::{
    ALICE, AnalyticsExt as _, BOUND, Device, FOREIGN_ID, World, content, eventually, id_in,
};

/// Logs in a device of Alice with an SQLite store in `directory`.
async fn device_on_disk(world: &World, directory: &TempDir) -> Device {
    let login = world.server.add_device(ALICE, "PHONE");
    let client = client_on_disk(world, &login, directory).await;
    Device { client, login, policy: None }
}

async fn client_on_disk(world: &World, login: &DeviceLogin, directory: &TempDir) -> Client {
    let store = SqliteStateStore::open(directory.path(), None).await.unwrap();
    let store = GatedStore::config(store.into_state_store(), Arc::new(Passing));
    world.server.client_with(login, |builder| builder.store_config(store)).await.unwrap()
}

/// Runs SQL on the database without the client's knowledge.
fn sql(directory: &TempDir, statement: &str) {
    let path = directory.path().join(STATE_STORE_DATABASE_NAME);
    rusqlite::Connection::open(path).unwrap().execute_batch(statement).unwrap();
}

const FILL_DISK: &str = "CREATE TRIGGER disk_full BEFORE INSERT ON kv_blob
    BEGIN SELECT RAISE(ABORT, 'the disk is full'); END";
const FREE_DISK: &str = "DROP TRIGGER disk_full";

fn causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[tokio::test]
async fn an_opt_out_that_cannot_be_saved_holds_in_this_process_and_cleans_the_server() {
    let world = World::new().await;
    let directory = TempDir::new().unwrap();
    let device = device_on_disk(&world, &directory).await;
    let (analytics, recorder) = device.start_opted_in().await;
    recorder.clear();
    sql(&directory, FILL_DISK);

    let receipt = eventually(analytics.opt_out().into_future()).await;
    let WithdrawalStep::Failed(cause) = &receipt.record else { panic!("{receipt:?}") };
    assert!(causes(cause).contains("the disk is full"), "{}", causes(cause));
    // The account is clean, but the device could not save that.
    assert!(matches!(receipt.account, WithdrawalStep::Pending(None)), "{receipt:?}");
    assert_eq!(world.content().unwrap(), content(Some(false), None));

    // The gate stays closed whatever the homeserver answers later.
    assert_eq!(analytics.state().decision, Consent::Denied);
    analytics.capture_one("Never");
    eventually(analytics.flush_all()).await;
    assert!(recorder.events().is_empty());
}

#[tokio::test]
async fn an_opt_out_that_can_be_neither_saved_nor_sent_is_done_later() {
    let world = World::new().await;
    let directory = TempDir::new().unwrap();
    let device = device_on_disk(&world, &directory).await;
    let (analytics, _) = device.start_opted_in().await;
    sql(&directory, FILL_DISK);
    world.server.fail_all(Fault::ResetBefore);

    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(matches!(receipt.record, WithdrawalStep::Failed(_)), "{receipt:?}");
    assert!(matches!(receipt.account, WithdrawalStep::Pending(Some(_))), "{receipt:?}");
    assert!(!analytics.is_open());

    sql(&directory, FREE_DISK);
    tokio::time::advance(std::time::Duration::from_secs(601)).await;
    // The recheck fails offline, after the record is written.
    assert!(eventually(analytics.recheck()).await.is_err());
    drop(analytics);
    let client = client_on_disk(&world, &device.login, &directory).await;
    let device = Device { client, ..device };
    let (analytics, _) = device.start().await;
    assert!(analytics.state().removal_pending);
    assert_eq!(analytics.state().decision, Consent::Denied);

    world.server.heal();
    eventually(analytics.recheck()).await.unwrap();
    assert_eq!(world.content().unwrap(), content(Some(false), None));
}

/// A store whose writes never finish.
struct Hanging;

impl StoreGate for Hanging {
    fn reach(&self, _: Moment) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(pending())
    }
}

#[tokio::test]
async fn an_opt_out_returns_even_if_the_store_hangs() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let login = world.server.add_device(ALICE, "PHONE");
    let store = GatedStore::config(MemoryStore::new().into_state_store(), Arc::new(Hanging));
    let client =
        world.server.client_with(&login, |builder| builder.store_config(store)).await.unwrap();
    let analytics = Analytics::builder(client, ELEMENT_EVENT_TYPE).build().await.unwrap();
    analytics.until(ConsentState::is_open).await;

    let mut opt_out = analytics.opt_out().into_future();
    let receipt = loop {
        tokio::select! {
            receipt = &mut opt_out => break receipt,
            () = tokio::task::yield_now() => tokio::time::advance(BOUND / 100).await,
        }
    };
    let WithdrawalStep::Failed(cause) = &receipt.record else { panic!("{receipt:?}") };
    assert!(causes(cause).contains("did not answer in time"), "{}", causes(cause));
    assert!(!analytics.is_open());
    // The account is cleaned nevertheless.
    while world.content().unwrap() != content(Some(false), None) {
        tokio::time::advance(BOUND / 100).await;
        tokio::task::yield_now().await;
    }
}

/// Holds every write of the record after the first PUT to the homeserver.
struct HoldingAfterPut {
    server: AccountDataServer,
    held: Notify,
    released: Semaphore,
}

impl StoreGate for HoldingAfterPut {
    fn reach(&self, moment: Moment) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let is_put = |request: &AccountDataRequest| request.method == AccountDataMethod::Put;
            if matches!(moment, Moment::BeforeWrite { .. })
                && self.server.requests().iter().any(is_put)
            {
                self.held.notify_one();
                self.released.acquire().await.unwrap().forget();
            }
            Ok(())
        })
    }
}

#[tokio::test]
async fn a_receipt_is_complete_only_after_the_removal_is_saved_as_done() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let login = world.server.add_device(ALICE, "PHONE");
    let gate = Arc::new(HoldingAfterPut {
        server: world.server.clone(),
        held: Notify::new(),
        released: Semaphore::new(0),
    });
    let store = GatedStore::config(MemoryStore::new().into_state_store(), gate.clone());
    let client =
        world.server.client_with(&login, |builder| builder.store_config(store)).await.unwrap();
    let device = Device { client, login, policy: None };
    let (analytics, _) = device.start_confirmed().await;

    // A process killed here removes the ID again at its next start, whatever the account then
    // holds.
    let opt_out = tokio::spawn(analytics.opt_out().into_future());
    eventually(gate.held.notified()).await;
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
    assert!(!opt_out.is_finished(), "{:?}", opt_out.await);
    gate.released.add_permits(Semaphore::MAX_PERMITS);
    assert!(eventually(opt_out).await.unwrap().is_complete());
    let record: serde_json::Value = serde_json::from_str(&device.record().await.unwrap()).unwrap();
    assert!(record["removal"].is_null(), "{record}");
}

/// Holds the next write after it is armed, before the write is applied.
#[derive(Default)]
struct HoldingNext {
    armed: AtomicBool,
    held: Notify,
    released: Notify,
}

impl StoreGate for HoldingNext {
    fn reach(&self, moment: Moment) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if matches!(moment, Moment::BeforeWrite { .. })
                && self.armed.swap(false, Ordering::Relaxed)
            {
                self.held.notify_one();
                self.released.notified().await;
            }
            Ok(())
        })
    }
}

#[tokio::test]
async fn an_opt_out_that_another_process_writes_between_a_read_and_a_write_survives() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let login = world.server.add_device(ALICE, "PHONE");
    let store: Arc<DynStateStore> = MemoryStore::new().into_state_store();
    let gate = Arc::new(HoldingNext::default());
    let on_the_store = async |gate: Arc<dyn StoreGate>| {
        let store = GatedStore::config(store.clone(), gate);
        let client =
            world.server.client_with(&login, |builder| builder.store_config(store)).await.unwrap();
        Device { client, login: login.clone(), policy: None }
    };
    let (one, other) = (on_the_store(gate.clone()).await, on_the_store(Arc::new(Passing)).await);
    let (here, _) = one.start_confirmed().await;
    let (there, _) = other.start_confirmed().await;
    assert!(here.is_open() && there.is_open());
    // Wait until the save triggered by the opening gate is stored.
    eventually(here.recheck()).await.unwrap();
    eventually(there.recheck()).await.unwrap();

    gate.armed.store(true, Ordering::Relaxed);
    let veto = tokio::spawn(async move { here.deny_on_this_device().await });
    eventually(gate.held.notified()).await;
    world.opt_out_offline(&there).await;
    gate.released.notify_one();
    eventually(veto).await.unwrap().unwrap();

    let record: serde_json::Value = serde_json::from_str(&one.record().await.unwrap()).unwrap();
    assert_eq!(record["decision"], "denied", "{record}");
    assert_eq!(record["removal"], "id", "{record}");
    assert_eq!(record["device_veto"], true, "{record}");
}

#[tokio::test]
async fn an_opt_out_that_could_not_be_saved_is_known_to_the_next_handle_of_the_process() {
    let world = World::new().await;
    let directory = TempDir::new().unwrap();
    let device = device_on_disk(&world, &directory).await;
    let (analytics, _) = device.start_opted_in().await;
    sql(&directory, FILL_DISK);
    world.server.fail_all(Fault::ResetBefore);
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(matches!(receipt.record, WithdrawalStep::Failed(_)), "{receipt:?}");
    drop(analytics);

    let (analytics, _) = device.start().await;
    assert_eq!(analytics.state().decision, Consent::Denied);
    assert!(analytics.state().removal_pending);
    // It is written as soon as the store accepts writes.
    sql(&directory, FREE_DISK);
    eventually(analytics.deny_on_this_device()).await.unwrap();
    assert!(device.record().await.unwrap().contains(r#""removal":"id""#));
}

/// A store whose reads never finish.
struct HangingReads;

impl StoreGate for HangingReads {
    fn reach(&self, _: Moment) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn read(&self) -> BoxFuture<'_, ()> {
        Box::pin(pending())
    }
}

#[tokio::test]
async fn a_build_fails_if_the_store_cannot_be_read_in_time() {
    let world = World::new().await;
    let login = world.server.add_device(ALICE, "PHONE");
    let store = GatedStore::config(MemoryStore::new().into_state_store(), Arc::new(HangingReads));
    let client =
        world.server.client_with(&login, |builder| builder.store_config(store)).await.unwrap();
    let device = Device { client, login, policy: None };
    for _ in 0..2 {
        let mut build = Box::pin(device.builder().build());
        assert!(futures_util::poll!(&mut build).is_pending());
        tokio::time::advance(BOUND + std::time::Duration::from_millis(1)).await;
        assert!(matches!(futures_util::poll!(build), Poll::Ready(Err(BuildError::StoreTimeout))));
    }
}

#[tokio::test]
async fn a_record_that_was_cut_or_damaged_opens_nothing() {
    let world = World::new().await;
    let directory = TempDir::new().unwrap();
    let device = device_on_disk(&world, &directory).await;
    let (analytics, _) = device.start_opted_in().await;
    world.server.fail_all(Fault::ResetBefore);
    eventually(analytics.opt_out().into_future()).await;
    drop(analytics);
    world.server.heal();
    let record = device.record().await.unwrap().into_bytes();
    let held = world.content().unwrap();

    let mut damaged: Vec<_> = (0..record.len()).map(|length| record[..length].to_vec()).collect();
    damaged.push(vec![0xff; 64]);
    damaged.push(b"[]".to_vec());
    for damaged in damaged {
        device.overwrite_record(&damaged).await;
        let (analytics, recorder) = device.start().await;
        analytics.capture_one("Never");
        assert!(!analytics.is_open());
        eventually(analytics.recheck()).await.unwrap();
        assert!(!analytics.is_open());
        eventually(analytics.flush_all()).await;
        assert!(recorder.events().is_empty());
        assert_eq!(world.content().unwrap(), held);
    }
}

#[tokio::test]
async fn a_build_fails_if_the_store_cannot_be_read() {
    let world = World::new().await;
    let directory = TempDir::new().unwrap();
    let device = device_on_disk(&world, &directory).await;
    drop(device.start_opted_in().await);
    sql(&directory, "DROP TABLE kv_blob");
    assert!(matches!(device.builder().build().await, Err(BuildError::Store(_))));
}

#[tokio::test]
async fn the_record_of_another_user_in_the_same_store_is_ignored() {
    const BOB: &str = "@bob:example.org";

    // A store that the app did not clear between two users.
    let world = World::new().await;
    let store: Arc<DynStateStore> = MemoryStore::new().into_state_store();
    let on_the_store = async |login| {
        let store = GatedStore::config(store.clone(), Arc::new(Passing));
        let client =
            world.server.client_with(&login, |builder| builder.store_config(store)).await.unwrap();
        Device { client, login, policy: None }
    };
    let alice = on_the_store(world.server.add_device(ALICE, "PHONE")).await;
    drop(alice.start_opted_in().await);
    let theirs = alice.record().await;
    assert!(theirs.is_some());
    drop(alice);

    let bob = on_the_store(world.server.add_device(BOB, "PHONE")).await;
    let (analytics, recorder) = bob.start_confirmed().await;
    assert_eq!(analytics.state().decision, Consent::Undecided);
    analytics.capture_one("Never");
    eventually(analytics.flush_all()).await;
    assert!(recorder.events().is_empty());

    analytics.opt_in_and_settle().await;
    let id = world.server.content(BOB, ELEMENT_EVENT_TYPE).as_deref().and_then(id_in);
    assert_ne!(id, id_in(&world.content().unwrap()));
    // `record` reads Alice's record, which is unchanged.
    assert_eq!(bob.record().await, theirs);
}

/// Fails each write that would remove a pending removal from the record.
struct FailsTheDischarge(AtomicBool);

impl StoreGate for FailsTheDischarge {
    fn reach(&self, moment: Moment) -> BoxFuture<'_, Result<(), StoreError>> {
        let fails = match moment {
            Moment::BeforeWrite { has_removal: true } => {
                self.0.store(true, Ordering::SeqCst);
                false
            }
            Moment::BeforeWrite { has_removal: false } => self.0.load(Ordering::SeqCst),
            Moment::AfterWrite => false,
        };
        let result =
            if fails { Err(StoreError::Backend("the disk is full".into())) } else { Ok(()) };
        Box::pin(std::future::ready(result))
    }
}

#[tokio::test]
async fn a_receipt_is_not_complete_while_the_removal_is_pending_on_disk() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let login = world.server.add_device(ALICE, "PHONE");
    let gate = Arc::new(FailsTheDischarge(false.into()));
    let store = GatedStore::config(MemoryStore::new().into_state_store(), gate);
    let client =
        world.server.client_with(&login, |builder| builder.store_config(store)).await.unwrap();
    let device = Device { client, login, policy: None };
    let (analytics, _) = device.start_confirmed().await;
    let receipt = eventually(analytics.opt_out().into_future()).await;
    let record: serde_json::Value = serde_json::from_str(&device.record().await.unwrap()).unwrap();
    assert_eq!(record["removal"], "id", "{record}");
    assert!(!receipt.account.is_done() && !receipt.is_complete(), "{record}\n{receipt:?}");
}
