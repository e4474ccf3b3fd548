//! The client's store fails, hangs, or recovers, while the record is read and written.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::future::BoxFuture;
use matrix_analytics::{ConsentStatus, DecisionPlace};
use matrix_sdk::{
    MemoryStore, StoreError,
    store::{DynStateStore, IntoStateStore as _},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{entries, given_at, key};
use crate::{
    crash_points::store::{GatedStore, Moment, StoreGate},
    support::{ALICE, BOUND, Device, FOREIGN_ID, World, content, eventually},
};

/// How the store treats the record of decisions.
#[derive(Default)]
struct Faulty {
    fails_to_read: AtomicBool,
    hangs: AtomicBool,
    /// What another process stores just before the next write.
    concurrent: Mutex<Option<Concurrent>>,
}

struct Concurrent {
    store: Arc<DynStateStore>,
    value: Vec<u8>,
}

impl StoreGate for Faulty {
    fn reach(&self, _: Moment) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn decisions(&self, is_write: bool) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if self.hangs.load(Ordering::Relaxed) {
                pending::<()>().await;
            }
            let concurrent = if is_write { self.concurrent.lock().unwrap().take() } else { None };
            if let Some(Concurrent { store, value }) = concurrent {
                store.set_custom_value(&key(), value).await?;
            }
            match !is_write && self.fails_to_read.load(Ordering::Relaxed) {
                true => Err(StoreError::Backend("the disk is broken".into())),
                false => Ok(()),
            }
        })
    }
}

/// A device with a store that the test can break.
struct Broken {
    world: World,
    device: Device,
    /// The store behind the faults.
    store: Arc<DynStateStore>,
    faults: Arc<Faulty>,
}

impl Broken {
    async fn new() -> Self {
        let world = World::new().await;
        let login = world.server.add_device(ALICE, "PHONE");
        let (store, faults) = (MemoryStore::new().into_state_store(), Arc::new(Faulty::default()));
        let gated = GatedStore::config(store.clone(), faults.clone());
        let client = world.server.client_with(&login, |builder| builder.store_config(gated));
        let device = Device { client: client.await.unwrap(), login, policy: None };
        Self { world, device, store, faults }
    }

    fn fail_to_read(&self, fails: bool) {
        self.faults.fails_to_read.store(fails, Ordering::Relaxed);
    }

    fn hang(&self, hangs: bool) {
        self.faults.hangs.store(hangs, Ordering::Relaxed);
    }

    async fn stored(&self) -> Vec<Value> {
        let stored = self.store.get_custom_value(&key()).await.unwrap();
        stored.map(|stored| serde_json::from_slice(&stored).unwrap()).unwrap_or_default()
    }

    async fn store(&self, decisions: &Value) {
        let json = serde_json::to_vec(decisions).unwrap();
        self.store.set_custom_value(&key(), json).await.unwrap();
    }
}

fn statuses(stored: &[Value]) -> Vec<&str> {
    stored.iter().map(|decision| decision["status"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_opt_out_while_the_record_cannot_be_read_is_a_withdrawal() {
    let broken = Broken::new().await;
    broken.world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let (analytics, _) = broken.device.start_confirmed().await;
    drop(analytics);
    broken.fail_to_read(true);
    let (analytics, _) = broken.device.start_confirmed().await;
    eventually(analytics.opt_out().into_future()).await;
    let last = *entries(&analytics).last().unwrap();
    assert_eq!(last, (ConsentStatus::Withdrawn, DecisionPlace::ThisDevice));
    // The stored opt-in is not repeated once the store can be read.
    broken.fail_to_read(false);
    eventually(analytics.opt_in()).await.unwrap();
    assert_eq!(statuses(&broken.stored().await), ["given", "withdrawn", "given"]);
    assert_eq!(entries(&analytics)[0].1, DecisionPlace::Elsewhere);
}

#[tokio::test]
async fn a_read_that_fails_later_deletes_nothing_of_another_process() {
    let broken = Broken::new().await;
    let (analytics, _) = broken.device.start_confirmed().await;
    let theirs = json!([given_at(1_700_000_000_000)]);
    broken.store(&theirs).await;
    broken.fail_to_read(true);
    eventually(analytics.opt_in()).await.unwrap();
    assert_eq!(broken.stored().await, *theirs.as_array().unwrap());
    broken.fail_to_read(false);
    eventually(analytics.opt_out().into_future()).await;
    assert_eq!(statuses(&broken.stored().await), ["given", "renewed", "withdrawn"]);
}

#[tokio::test]
async fn what_another_process_stores_at_the_same_time_is_kept() {
    let broken = Broken::new().await;
    let (analytics, _) = broken.device.start_confirmed().await;
    let value = serde_json::to_vec(&json!([given_at(1_700_000_000_000)])).unwrap();
    let concurrent = Concurrent { store: broken.store.clone(), value };
    *broken.faults.concurrent.lock().unwrap() = Some(concurrent);
    eventually(analytics.opt_in()).await.unwrap();
    assert_eq!(statuses(&broken.stored().await), ["given", "renewed"]);
}

#[tokio::test]
async fn an_opt_out_waits_for_a_store_that_hangs_no_longer_after_many_decisions() {
    let broken = Broken::new().await;
    let (analytics, _) = broken.device.start_confirmed().await;
    broken.hang(true);
    let until_recorded = async |decisions: usize| {
        eventually(async {
            while entries(&analytics).len() < decisions {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    for toggles in 0..5 {
        tokio::spawn(analytics.opt_in());
        until_recorded(2 * toggles + 1).await;
        tokio::spawn(analytics.opt_out().into_future());
        until_recorded(2 * toggles + 2).await;
    }
    tokio::spawn(analytics.opt_in());
    until_recorded(11).await;
    let begun = Instant::now();
    let opt_out = tokio::spawn(analytics.opt_out().into_future());
    while !opt_out.is_finished() {
        tokio::time::advance(BOUND / 10).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
    assert!(begun.elapsed() <= 5 * BOUND, "{:?}", begun.elapsed());
    // Nothing is lost if the store goes on.
    broken.hang(false);
    tokio::time::advance(BOUND).await;
    assert_eq!(entries(&analytics).len(), 12);
}
