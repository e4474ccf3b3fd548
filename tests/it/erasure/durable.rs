//! Erasures in the encrypted file of a durable queue.

use std::{fs, path::PathBuf, task::Poll};

use matrix_analytics::{SqliteQueue, testing::HangingDisk};
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::support::{ALICE, log::Log};

const PASSPHRASE: &str = "correct horse battery staple";

/// A device with a store and a queue on disk, whose account has opted in.
struct OnDisk {
    erasing: Erasing,
    directory: TempDir,
}

impl OnDisk {
    async fn new() -> Self {
        let world = World::new().await;
        world.set_content(&content(Some(true), Some(FOREIGN_ID)));
        let login = world.server.add_device(ALICE, "PHONE");
        let directory = TempDir::new().unwrap();
        let device = world.device_on_disk(&login, &directory.path().join("store")).await;
        let (endpoint, recorder) = (EndpointDouble::start().await, RecordingBackend::new());
        Self { erasing: Erasing { world, device, endpoint, recorder }, directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("queue.sqlite3")
    }

    fn queue(&self) -> SqliteQueue {
        SqliteQueue::new(self.path()).passphrase(PASSPHRASE)
    }

    async fn start(&self) -> Analytics {
        let analytics = self.erasing.builder().queue(self.queue()).build().await.unwrap();
        analytics.confirmed().await;
        analytics
    }

    async fn end(&self, analytics: Analytics) {
        eventually(analytics.shutdown(Duration::ZERO)).await;
    }

    /// Returns the number of rows, of a file that no process has open.
    fn rows(&self) -> i64 {
        let connection = Connection::open(self.path()).unwrap();
        connection.query_row("SELECT count(*) FROM erasures", [], |row| row.get(0)).unwrap()
    }

    /// Returns the bytes of all files of the queue.
    fn bytes(&self) -> Vec<u8> {
        let files = fs::read_dir(self.directory.path()).unwrap().map(|file| file.unwrap().path());
        files.filter(|file| file.is_file()).flat_map(|file| fs::read(file).unwrap()).collect()
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn another_process_carries_it_out_under_the_same_key_and_leaves_no_row() {
    let on_disk = OnDisk::new().await;
    let endpoint = &on_disk.erasing.endpoint;
    let analytics = on_disk.start().await;
    endpoint.react(Reaction::Page);
    let erasures = on_disk.erasing.erase(&analytics).await;
    let found = (erasures[0].state, erasures[0].kept_in);
    assert_eq!(found, (ErasureState::Pending, ErasureStorage::File));
    on_disk.end(analytics).await;
    assert_eq!(on_disk.rows(), 1);
    assert!(!contains(&on_disk.bytes(), FOREIGN_ID));

    // The next process asks again after the wait, even if it has no proof of consent.
    endpoint.react(Reaction::Accept);
    on_disk.erasing.world.server.fail_all(Fault::ResetBefore);
    let analytics = on_disk.erasing.builder().queue(on_disk.queue()).build().await.unwrap();
    assert_eq!(analytics.stats().erasures.pending, 1);
    tokio::time::advance(Duration::from_secs(60)).await;
    eventually(endpoint.wait_for(2)).await;
    until_settled(&analytics).await;
    let received = endpoint.received();
    assert_eq!(received[0].key, received[1].key);
    assert_eq!(endpoint.erased(), [FOREIGN_ID]);
    on_disk.end(analytics).await;
    assert_eq!(on_disk.rows(), 0);
    assert!(!contains(&on_disk.bytes(), FOREIGN_ID));
}

/// A customer of a service, whose key is in the label as that of PostHog is.
struct Customer(&'static str);

impl Backend for Customer {
    fn name(&self) -> &'static str {
        "customer"
    }

    fn host(&self) -> Option<String> {
        Some("eu.example.org".to_owned())
    }

    fn default_label(&self) -> Option<String> {
        Some(format!("eu.example.org/{}", self.0))
    }

    fn default_identity(&self) -> Identity {
        Identity::Pseudonym
    }

    async fn send(&self, _batch: &Batch) -> Result<(), DeliveryError> {
        Ok(())
    }
}

#[tokio::test]
async fn recipients_on_one_host_are_told_apart_when_their_order_changes() {
    let on_disk = OnDisk::new().await;
    let (one, two) = (EndpointDouble::start().await, EndpointDouble::start().await);
    let customers = || {
        let customer =
            |key, to: &EndpointDouble| Recipient::new(Customer(key)).erasure(to.erasure());
        [customer("one", &one), customer("two", &two)]
    };
    let start = |recipients: Vec<Recipient>| {
        let builder = on_disk.erasing.device.builder().queue(on_disk.queue());
        recipients.into_iter().fold(builder, AnalyticsBuilder::backend).build()
    };
    let analytics = start(customers().into()).await.unwrap();
    analytics.confirmed().await;
    one.react(Reaction::Page);
    two.react(Reaction::Page);
    on_disk.erasing.erase(&analytics).await;
    on_disk.end(analytics).await;
    let of_one = one.received()[0].identifier.clone();
    let of_two = two.received()[0].identifier.clone();
    assert_ne!(of_one, of_two);

    // The first recipient is gone.
    let [_, second] = customers();
    let analytics = start(vec![second]).await.unwrap();
    tokio::time::advance(Duration::from_secs(60)).await;
    eventually(two.wait_for(2)).await;
    on_disk.end(analytics).await;
    // It is back, as the second one.
    let [first, second] = customers();
    one.react(Reaction::Accept);
    two.react(Reaction::Accept);
    let analytics = start(vec![second, first]).await.unwrap();
    tokio::time::advance(HALF_A_DAY).await;
    until_settled(&analytics).await;
    assert_eq!((one.erased(), two.erased()), (vec![of_one.clone()], vec![of_two.clone()]));
    assert!(one.received().iter().all(|request| request.identifier == of_one));
    assert!(two.received().iter().all(|request| request.identifier == of_two));
}

#[tokio::test]
async fn without_a_passphrase_no_identifier_is_in_the_file_and_the_receipt_says_so() {
    let on_disk = OnDisk::new().await;
    let queue = || SqliteQueue::new(on_disk.path());
    let analytics = on_disk.erasing.builder().queue(queue()).build().await.unwrap();
    analytics.confirmed().await;
    on_disk.erasing.endpoint.react(Reaction::Page);
    let erasures = on_disk.erasing.erase(&analytics).await;
    let found = (erasures[0].state, erasures[0].kept_in);
    assert_eq!(found, (ErasureState::Pending, ErasureStorage::Memory));
    on_disk.end(analytics).await;
    assert_eq!(on_disk.rows(), 0);
    let analytics = on_disk.erasing.builder().queue(queue()).build().await.unwrap();
    assert_eq!(analytics.stats().erasures.pending, 0);
}

#[tokio::test]
async fn after_a_shutdown_it_is_still_recorded_and_sent() {
    let on_disk = OnDisk::new().await;
    let analytics = on_disk.start().await;
    eventually(analytics.shutdown(Duration::ZERO)).await;
    on_disk.erasing.endpoint.react(Reaction::Page);
    let erasures = on_disk.erasing.erase(&analytics).await;
    assert_eq!((erasures[0].tries, erasures[0].kept_in), (1, ErasureStorage::File));
    on_disk.erasing.endpoint.react(Reaction::Accept);
    drop(analytics);
    let analytics = on_disk.start().await;
    tokio::time::advance(Duration::from_secs(60)).await;
    until_settled(&analytics).await;
    assert_eq!(on_disk.erasing.endpoint.erased(), [FOREIGN_ID]);
}

#[tokio::test]
async fn a_failure_is_reported_by_a_later_process() {
    let on_disk = OnDisk::new().await;
    let start = || async {
        let limits = Limits::default().erasure_max_age(Duration::ZERO);
        let builder = on_disk.erasing.builder().limits(limits).queue(on_disk.queue());
        builder.build().await.unwrap()
    };
    on_disk.erasing.endpoint.react(Reaction::Page);
    let analytics = start().await;
    analytics.confirmed().await;
    on_disk.erasing.world.server.fail_all(Fault::ResetBefore);
    on_disk.erasing.erase(&analytics).await;
    tokio::time::advance(Duration::from_secs(10 * 60 + 1)).await;
    until_settled(&analytics).await;
    on_disk.end(analytics).await;
    let analytics = start().await;
    assert_eq!(analytics.stats().erasures.failed, [(ErasureCause::Misconfigured, 1)].into());
    let next = eventually(analytics.opt_out().into_future()).await.erasures;
    assert_eq!(next.len(), 1, "{next:?}");
    assert_eq!(next[0].state, ErasureState::Failed);
    assert!(eventually(analytics.opt_out().into_future()).await.erasures.is_empty());
}

#[tokio::test]
async fn a_request_that_cannot_be_read_any_more_has_failed_as_lost() {
    let on_disk = OnDisk::new().await;
    let analytics = on_disk.start().await;
    on_disk.erasing.endpoint.react(Reaction::Page);
    on_disk.erasing.erase(&analytics).await;
    on_disk.end(analytics).await;
    let connection = Connection::open(on_disk.path()).unwrap();
    assert_eq!(connection.execute("UPDATE erasures SET payload = x'00'", []).unwrap(), 1);
    drop(connection);
    let analytics = on_disk.start().await;
    assert_eq!(analytics.stats().erasures.failed, [(ErasureCause::Lost, 1)].into());
    on_disk.end(analytics).await;
    // It is told to a receipt, of whichever process.
    let analytics = on_disk.start().await;
    let next = eventually(analytics.opt_out().into_future()).await.erasures;
    assert_eq!((next.len(), next[0].cause), (1, Some(ErasureCause::Lost)));
    assert_eq!((next[0].state, &*next[0].recipient), (ErasureState::Failed, LABEL));
}

#[tokio::test]
async fn the_record_of_a_dropped_handle_waits_for_the_file() {
    let on_disk = OnDisk::new().await;
    let disk = HangingDisk::new();
    let queue = on_disk.queue().on_disk(&disk);
    let analytics = on_disk.erasing.builder().queue(queue).build().await.unwrap();
    analytics.confirmed().await;
    eventually(analytics.allow_on_this_device()).await.unwrap();
    disk.hang();
    let mut opt_out = analytics.opt_out().erase_recipients().into_future();
    assert!(poll!(&mut opt_out).is_pending());
    drop((opt_out, analytics));
    let is_denied = async || on_disk.erasing.device.record().await.unwrap().contains("denied");
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
        assert!(!is_denied().await);
    }
    disk.heal();
    eventually(async {
        while !is_denied().await {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_handle_that_is_dropped_says_that_no_file_has_the_erasures() {
    let on_disk = OnDisk::new().await;
    let disk = HangingDisk::new();
    let queue = on_disk.queue().on_disk(&disk);
    let analytics = on_disk.erasing.builder().queue(queue).build().await.unwrap();
    analytics.confirmed().await;
    disk.hang();
    let mut opt_out = analytics.opt_out().erase_recipients().into_future();
    assert!(poll!(&mut opt_out).is_pending());
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).finish();
    let logging = tracing::subscriber::set_default(subscriber);
    drop((opt_out, analytics));
    drop(logging);
    assert!(log.text().contains("erasure requests"), "{}", log.text());
    disk.heal();
}

#[tokio::test]
async fn another_withdrawal_wipes_events_and_not_the_erasures() {
    let on_disk = OnDisk::new().await;
    let analytics = on_disk.start().await;
    on_disk.erasing.endpoint.react(Reaction::Hang);
    on_disk.erasing.erase(&analytics).await;
    analytics.opt_in_and_settle().await;
    eventually(analytics.opt_out().into_future()).await;
    eventually(analytics.end_session()).await;
    on_disk.end(analytics).await;
    assert_eq!(on_disk.rows(), 1);
}

#[tokio::test]
async fn an_opt_in_that_waits_for_the_file_is_not_written_late() {
    // Less than the wait for a disk that hangs.
    let limit = Duration::from_secs(3);
    let (erasing, directory, disk) =
        (Erasing::new().await, TempDir::new().unwrap(), HangingDisk::new());
    let queue = SqliteQueue::new(directory.path().join("queue")).passphrase(PASSPHRASE);
    let builder = erasing.builder().queue(queue.on_disk(&disk)).request_timeout(limit);
    let analytics = builder.build().await.unwrap();
    analytics.confirmed().await;
    disk.hang();
    let mut opt_out = analytics.opt_out().erase_recipients().into_future();
    assert!(poll!(&mut opt_out).is_pending());
    let mut opt_in = analytics.opt_in().into_future();
    let mut steps = 0;
    while poll!(&mut opt_in).is_pending() {
        steps += 1;
        assert!(steps < 100_000, "the opt-in ends");
        if steps % 1_000 == 0 {
            tokio::time::advance(Duration::from_millis(500)).await;
        }
        tokio::task::yield_now().await;
    }
    let id = id_in(&erasing.world.content().unwrap());
    assert!(id.is_none_or(|id| id == FOREIGN_ID));
    disk.heal();
}

#[tokio::test]
async fn a_disk_that_hangs_stops_neither_the_opt_out_nor_the_erasure() {
    let on_disk = OnDisk::new().await;
    let disk = HangingDisk::new();
    let queue = on_disk.queue().on_disk(&disk);
    // So long that no request ends in the time that passes here.
    let timeout = Duration::from_secs(600);
    let builder = on_disk.erasing.builder().queue(queue).request_timeout(timeout);
    let analytics = builder.build().await.unwrap();
    analytics.confirmed().await;
    on_disk.erasing.endpoint.react(Reaction::Page);
    disk.hang();
    let mut opt_out = analytics.opt_out().erase_recipients().into_future();
    let mut receipt = None;
    for _ in 0..4 * timeout.as_secs() {
        for _ in 0..1_000 {
            if let Poll::Ready(ready) = poll!(&mut opt_out) {
                receipt = Some(ready);
                break;
            }
            tokio::task::yield_now().await;
        }
        if receipt.is_some() {
            break;
        }
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let receipt = receipt.expect("the opt-out ends without the disk");
    assert!(receipt.account.is_done() && receipt.record.is_done(), "{receipt:?}");
    assert_eq!(receipt.erasures[0].kept_in, ErasureStorage::Memory);
    // The file gets them once the disk is back.
    disk.heal();
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert_eq!(receipt.erasures[0].kept_in, ErasureStorage::File);
    assert!(receipt.queue.is_done(), "{receipt:?}");
}
