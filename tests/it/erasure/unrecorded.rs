//! Withdrawals that only the queue file has: the process ended before the record of consent was
//! saved. The next start makes them.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use futures_util::future::BoxFuture;
use matrix_analytics::{Consent, ConsentState, SqliteQueue, testing::DeviceLogin};
use matrix_sdk::{
    Client, MemoryStore, StoreError,
    store::{DynStateStore, IntoStateStore as _},
};
use tempfile::TempDir;

use super::*;
use crate::{
    crash_points::store::{GatedStore, Moment, StoreGate},
    support::ALICE,
};

/// Fails the writes of the record once it is told to.
#[derive(Default)]
struct Failing(AtomicBool);

impl StoreGate for Failing {
    fn reach(&self, moment: Moment) -> BoxFuture<'_, Result<(), StoreError>> {
        let fails = self.0.load(Ordering::SeqCst) && moment != Moment::AfterWrite;
        Box::pin(async move {
            match fails {
                true => Err(StoreError::Backend("part of the test".into())),
                false => Ok(()),
            }
        })
    }
}

/// A device whose store and queue outlive its processes.
struct Outliving {
    world: World,
    login: DeviceLogin,
    store: Arc<DynStateStore>,
    /// The client and the gate of each process. The last writes of one that ended fail as well.
    processes: Mutex<Vec<(Client, Arc<Failing>)>>,
    endpoint: EndpointDouble,
    directory: TempDir,
}

impl Outliving {
    async fn new(content: Option<&str>) -> Self {
        let world = World::new().await;
        world.set(content);
        let login = world.server.add_device(ALICE, "PHONE");
        Self {
            login,
            store: MemoryStore::new().into_state_store(),
            processes: Mutex::default(),
            endpoint: EndpointDouble::start().await,
            directory: TempDir::new().unwrap(),
            world,
        }
    }

    /// Starts a process whose store has what the last one could write.
    async fn start(&self) -> (Analytics, RecordingBackend) {
        let device = self.device().await;
        let recorder = RecordingBackend::new();
        let queue = SqliteQueue::new(self.directory.path().join("queue")).passphrase("secret");
        let builder = device.builder().backend(recipient(&recorder, &self.endpoint)).queue(queue);
        (builder.build().await.unwrap(), recorder)
    }

    /// Returns the device of a new process.
    async fn device(&self) -> Device {
        let gate = Arc::<Failing>::default();
        let config = GatedStore::config(self.store.clone(), gate.clone());
        let client = self.world.server.client_with(&self.login, |b| b.store_config(config)).await;
        let client = client.unwrap();
        self.processes.lock().unwrap().push((client.clone(), gate));
        Device { client, login: self.login.clone(), policy: None }
    }

    /// Ends the process once it has saved everything that it can.
    async fn end(&self, analytics: Analytics) {
        let saved = eventually(analytics.allow_on_this_device()).await;
        assert_eq!(saved.is_err(), self.gate().0.load(Ordering::SeqCst));
        eventually(analytics.shutdown(Duration::ZERO)).await;
        drop(analytics);
        self.world.server.heal();
    }

    fn fail(&self) {
        self.gate().0.store(true, Ordering::SeqCst);
        self.world.server.fail_all(Fault::ResetBefore);
    }

    /// Returns the gate of the last process.
    fn gate(&self) -> Arc<Failing> {
        self.processes.lock().unwrap().last().unwrap().1.clone()
    }
}

async fn erase(analytics: &Analytics) {
    let receipt = eventually(analytics.opt_out().erase_recipients().into_future()).await;
    assert!(!receipt.record.is_done(), "{receipt:?}");
    assert_eq!(receipt.erasures[0].kept_in, ErasureStorage::File);
}

/// Withdraws before the withdrawal of an earlier call can be saved.
async fn poll_and_drop(analytics: &Analytics) {
    let mut opt_out = analytics.opt_out().erase_recipients().into_future();
    assert!(poll!(&mut opt_out).is_pending());
}

/// Checks that the next process makes the withdrawal of `id`, which `withdraw` made while nothing
/// could be saved, and that nothing is sent under that ID once it is erased.
async fn is_made_at_the_next_start(
    outliving: &Outliving,
    analytics: Analytics,
    id: &str,
    withdraw: impl AsyncFnOnce(&Analytics),
) {
    outliving.fail();
    withdraw(&analytics).await;
    outliving.end(analytics).await;
    let (analytics, recorder) = outliving.start().await;
    assert_eq!(analytics.state().decision, Consent::Denied);
    analytics.until(|state| !state.removal_pending).await;
    until_settled(&analytics).await;
    assert_eq!(outliving.endpoint.erased(), [id]);
    assert_eq!(outliving.world.content().unwrap(), content(Some(false), None));
    analytics.capture_one("After");
    eventually(analytics.flush_all()).await;
    assert!(recorder.ids().is_empty());
    outliving.end(analytics).await;

    // It is made once: a later opt-in holds in each later process.
    let (analytics, _) = outliving.start().await;
    analytics.opt_in_and_settle().await;
    outliving.end(analytics).await;
    let (analytics, recorder) = outliving.start().await;
    analytics.until(ConsentState::is_open).await;
    analytics.capture_one("Later");
    eventually(analytics.flush_all()).await;
    assert_eq!(recorder.ids().len(), 1);
    assert_eq!(outliving.endpoint.erased(), [id]);
}

/// Starts a process whose opt-in is confirmed and saved.
async fn opted_in() -> (Outliving, Analytics) {
    let outliving = Outliving::new(Some(&content(Some(true), Some(FOREIGN_ID)))).await;
    let (analytics, _) = outliving.start().await;
    analytics.until(ConsentState::is_open).await;
    eventually(analytics.allow_on_this_device()).await.unwrap();
    (outliving, analytics)
}

#[tokio::test]
async fn an_opt_out_that_only_the_queue_has_is_made_at_the_next_start() {
    let (outliving, analytics) = opted_in().await;
    let withdraw = async |analytics: &Analytics| erase(analytics).await;
    is_made_at_the_next_start(&outliving, analytics, FOREIGN_ID, withdraw).await;
}

#[tokio::test]
async fn two_opt_outs_that_only_the_queue_has_are_made_at_the_next_start() {
    let (outliving, analytics) = opted_in().await;
    let withdraw = async |analytics: &Analytics| {
        poll_and_drop(analytics).await;
        erase(analytics).await;
    };
    is_made_at_the_next_start(&outliving, analytics, FOREIGN_ID, withdraw).await;
}

#[tokio::test]
async fn an_opt_out_after_a_veto_that_only_the_queue_has_is_made_at_the_next_start() {
    let (outliving, analytics) = opted_in().await;
    let withdraw = async |analytics: &Analytics| {
        eventually(analytics.deny_on_this_device()).await.unwrap_err();
        erase(analytics).await;
    };
    is_made_at_the_next_start(&outliving, analytics, FOREIGN_ID, withdraw).await;
}

#[tokio::test]
async fn an_opt_out_while_an_id_settles_that_only_the_queue_has_is_made_at_the_next_start() {
    let outliving = Outliving::new(None).await;
    let (analytics, _) = outliving.start().await;
    analytics.confirmed().await;
    eventually(analytics.opt_in().into_future()).await.unwrap();
    assert!(!analytics.state().is_open());
    let id = id_in(&outliving.world.content().unwrap()).unwrap();
    let withdraw = async |analytics: &Analytics| erase(analytics).await;
    is_made_at_the_next_start(&outliving, analytics, &id, withdraw).await;
}

#[tokio::test]
async fn an_opt_out_that_was_made_at_the_next_start_leaves_nothing_to_erase() {
    let (outliving, analytics) = opted_in().await;
    outliving.fail();
    erase(&analytics).await;
    outliving.end(analytics).await;
    let (analytics, _) = outliving.start().await;
    analytics.until(|state| !state.removal_pending).await;
    until_settled(&analytics).await;
    let receipt = eventually(analytics.opt_out().erase_recipients().into_future()).await;
    assert!(receipt.erasures.is_empty(), "{receipt:?}");
    assert_eq!(outliving.endpoint.erased(), [FOREIGN_ID]);
}

#[tokio::test]
async fn an_opt_out_that_erases_the_event_is_made_as_such_at_the_next_start() {
    let (outliving, analytics) = opted_in().await;
    outliving.fail();
    let opt_out = analytics.opt_out().erase_event().erase_recipients();
    assert!(!eventually(opt_out.into_future()).await.record.is_done());
    outliving.end(analytics).await;
    let (analytics, _) = outliving.start().await;
    analytics.until(|state| !state.removal_pending).await;
    until_settled(&analytics).await;
    assert_eq!(outliving.world.content().as_deref(), Some("{}"));
    assert_eq!(outliving.endpoint.erased(), [FOREIGN_ID]);
}

#[tokio::test]
async fn an_opt_out_whose_record_became_unreadable_before_the_id_was_found_is_made_again() {
    let (outliving, analytics) = opted_in().await;
    outliving.end(analytics).await;
    outliving.world.server.fail_all(Fault::ResetBefore);
    let (analytics, _) = outliving.start().await;
    let receipt = eventually(analytics.opt_out().erase_recipients().into_future()).await;
    assert!(receipt.record.is_done() && !receipt.account.is_done(), "{receipt:?}");
    outliving.end(analytics).await;
    let device = outliving.device().await;
    device.overwrite_record("garbage").await;
    let (analytics, _) = outliving.start().await;
    assert_eq!(analytics.state().decision, Consent::Denied);
    analytics.until(|state| !state.removal_pending).await;
    until_settled(&analytics).await;
    assert_eq!(outliving.endpoint.erased(), [FOREIGN_ID]);
    assert_eq!(outliving.world.content().unwrap(), content(Some(false), None));
}

#[tokio::test]
async fn an_opt_out_is_made_even_if_another_process_has_begun_an_epoch_since() {
    let (outliving, analytics) = opted_in().await;
    // Another process on the same store, without the queue.
    let device = outliving.device().await;
    let other = device.builder().build().await.unwrap();
    other.until(ConsentState::is_open).await;
    // The first one is that which fails and ends.
    outliving.processes.lock().unwrap().swap(0, 1);
    outliving.fail();
    erase(&analytics).await;
    outliving.end(analytics).await;
    for _ in 0..2 {
        eventually(other.deny_on_this_device()).await.unwrap();
        eventually(other.allow_on_this_device()).await.unwrap();
    }
    drop(other);
    let (analytics, _) = outliving.start().await;
    assert_eq!(analytics.state().decision, Consent::Denied);
    analytics.until(|state| !state.removal_pending).await;
    until_settled(&analytics).await;
    assert_eq!(outliving.endpoint.erased(), [FOREIGN_ID]);
}

#[tokio::test]
async fn an_id_that_a_new_store_cannot_recognise_is_lost() {
    let (mut outliving, analytics) = opted_in().await;
    outliving.end(analytics).await;
    outliving.world.server.fail_all(Fault::ResetBefore);
    let (analytics, _) = outliving.start().await;
    let receipt = eventually(analytics.opt_out().erase_recipients().into_future()).await;
    assert!(receipt.record.is_done() && !receipt.account.is_done(), "{receipt:?}");
    outliving.end(analytics).await;
    outliving.store = MemoryStore::new().into_state_store();
    let (analytics, _) = outliving.start().await;
    let stats = analytics.stats().erasures;
    assert_eq!((stats.pending, stats.failed), (0, [(ErasureCause::Lost, 1)].into()));
}

#[tokio::test]
async fn a_withdrawal_that_is_recorded_is_not_made_again_in_a_new_store() {
    let (mut outliving, analytics) = opted_in().await;
    outliving.endpoint.react(Reaction::Page);
    let receipt = eventually(analytics.opt_out().erase_recipients().into_future()).await;
    assert!(receipt.is_complete(), "{receipt:?}");
    outliving.end(analytics).await;
    // The app has lost its store, and the user has opted in elsewhere. The erasure still waits.
    outliving.store = MemoryStore::new().into_state_store();
    let other = "00000000-0000-4000-8000-000000000001";
    outliving.world.set_content(&content(Some(true), Some(other)));
    let (analytics, _) = outliving.start().await;
    analytics.until(ConsentState::is_open).await;
    assert_eq!(analytics.stats().erasures.pending, 1);
    outliving.end(analytics).await;
    let (analytics, _) = outliving.start().await;
    analytics.until(ConsentState::is_open).await;
    assert_eq!(analytics.state().decision, Consent::Granted);
}
