//! Tests of the journal, also on a disk that hangs.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use matrix_sdk::ruma::user_id;
use tokio::time::{Instant, pause, resume};
use uuid::Uuid;

use super::{SqliteQueue, journal::Journal, open_settings::OpenSettings};
use crate::{
    backend::unique_names::unique_names,
    event::{OutgoingEvent, Process, Properties, UserProperties, UserUpdate},
    history::sent_event::{Addressee, SentEvent, SentOutcome},
    sink::{
        queue::{Marks, Queued, Restored},
        stats::DropReason,
    },
};

/// An empty list of rows.
const NONE: [u64; 0] = [];
const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) fn setup() -> OpenSettings {
    let user = user_id!("@alice:example.org");
    OpenSettings::new("type", user, unique_names(&["one", "one"]), DAY, Arc::default())
}

/// Returns the settings of a file with a passphrase.
pub(super) fn encrypted_setup() -> OpenSettings {
    OpenSettings { passphrase: Some("secret".to_owned().into()), ..setup() }
}

pub(super) fn event() -> Arc<OutgoingEvent> {
    Arc::new(OutgoingEvent {
        uuid: Uuid::new_v4(),
        name: "Event".into(),
        at: SystemTime::now(),
        properties: Properties::new(),
        user: None,
        epoch: 1,
        process: Process::random(),
    })
}

/// Returns an entry of the history, of an event of the epoch 1.
pub(super) fn sent() -> SentEvent {
    let to = Addressee { backend: "one#0".to_owned(), name: "One".to_owned() };
    let outcome = SentOutcome::Delivered;
    SentEvent { to: Arc::new(to), event: event(), sent_at: SystemTime::now(), outcome }
}

/// Returns some user properties of the epoch `epoch`.
pub(super) fn update(epoch: u64) -> UserUpdate {
    let set = Properties::new().with("rooms", 5);
    UserUpdate { user: UserProperties { set, ..UserProperties::default() }, epoch }
}

fn events(number: usize) -> Vec<Result<Queued, DropReason>> {
    let queued = || Queued::new(event(), Instant::now());
    (0..number).map(|_| Ok(queued())).collect()
}

fn rows(events: &[Result<Queued, DropReason>]) -> Vec<u64> {
    events.iter().flatten().filter_map(|queued| queued.durable_row(0)).collect()
}

async fn open(queue: SqliteQueue) -> (Arc<Journal>, Restored) {
    Journal::open(queue, setup(), Some(1)).await.unwrap()
}

async fn close(journal: &Journal) {
    journal.begin_close(Marks::new());
    journal.closed().await;
}

async fn restored(path: &Path) -> Vec<u64> {
    let (journal, restored) = open(SqliteQueue::new(path)).await;
    close(&journal).await;
    restored.rows.iter().map(|(row, _)| *row).collect()
}

#[tokio::test]
async fn no_event_of_an_earlier_epoch_is_written_after_a_wipe() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("queue");
    let (journal, _) = open(SqliteQueue::new(&path)).await;
    journal.write(&mut events(3)).await;
    journal.begin_wipe(2);
    // Prepared before the wipe, and written after it.
    let mut late = events(2);
    journal.write(&mut late).await;
    assert_eq!(rows(&late), NONE);
    journal.wiped().await.unwrap();
    close(&journal).await;
    assert_eq!(restored(&path).await, NONE);
}

#[tokio::test]
async fn no_user_properties_of_an_earlier_epoch_are_written_after_a_wipe() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("queue");
    let (journal, _) = open(SqliteQueue::new(&path)).await;
    journal.keep_user(0, update(1));
    journal.begin_wipe(2);
    journal.wiped().await.unwrap();
    // Taken from the lane before the wipe, and ordered after it.
    journal.keep_user(1, update(1));
    close(&journal).await;
    let (_, restored) = open(SqliteQueue::new(&path)).await;
    assert!(restored.users.is_empty(), "{restored:?}");
}

#[tokio::test]
async fn every_withdrawal_after_a_close_wipes_the_file() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("queue");
    let (journal, _) = open(SqliteQueue::new(&path)).await;
    journal.write(&mut events(3)).await;
    close(&journal).await;
    for epoch in 2..5 {
        journal.begin_wipe(epoch);
        journal.wiped().await.unwrap();
    }
    assert_eq!(restored(&path).await, NONE);
}

#[tokio::test]
async fn a_journal_that_is_dropped_closes_its_file() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("queue");
    let (journal, _) = open(SqliteQueue::new(&path)).await;
    journal.write(&mut events(3)).await;
    drop(journal);
    assert_eq!(restored(&path).await, [1, 2, 3]);
}

#[cfg(feature = "testing")]
mod hanging {
    use std::pin::pin;

    use futures_util::poll;

    use super::*;
    use crate::sink::queue::{QueueError, sqlite::HangingDisk};

    /// Opens a file on a disk that can hang.
    async fn on_disk(path: &Path) -> (Arc<Journal>, HangingDisk) {
        let disk = HangingDisk::new();
        let (journal, _) = open(SqliteQueue::new(path).on_disk(&disk)).await;
        (journal, disk)
    }

    /// Writes `number` events while `disk` hangs, until the write is given up.
    async fn write_late(journal: &Journal, disk: &HangingDisk, number: usize) {
        let mut late = events(number);
        {
            let mut write = pin!(journal.write(&mut late));
            assert!(poll!(&mut write).is_pending());
            disk.until_access_hangs().await;
            // Nothing else can run, so paused time jumps to the timeout.
            pause();
            write.await;
            resume();
        }
        assert_eq!(rows(&late), NONE);
    }

    #[tokio::test]
    async fn rows_that_were_written_too_late_are_deleted() {
        // The disk hangs before the rows are written, or after.
        for accesses in [0, 1] {
            let directory = tempfile::TempDir::new().unwrap();
            let path = directory.path().join("queue");
            let (journal, disk) = on_disk(&path).await;
            disk.hang_after(accesses);
            write_late(&journal, &disk, 3).await;
            assert_eq!(journal.stats().not_durable, 3);
            disk.heal();
            // Once this returns, the thread has finished the late write.
            journal.wiped().await.unwrap();
            let mut early = events(2);
            journal.write(&mut early).await;
            assert_eq!(rows(&early).len(), 2);
            assert_eq!(journal.stats().not_durable, 3);
            close(&journal).await;
            assert_eq!(restored(&path).await, rows(&early));
        }
    }

    #[tokio::test]
    async fn only_the_first_write_waits_for_a_disk_that_hangs() {
        let directory = tempfile::TempDir::new().unwrap();
        let (journal, disk) = on_disk(&directory.path().join("queue")).await;
        disk.hang();
        let began = Instant::now();
        write_late(&journal, &disk, 1).await;
        assert!(began.elapsed() >= Duration::from_secs(5));
        pause();
        let began = Instant::now();
        for _ in 0..100 {
            journal.write(&mut events(1)).await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(journal.stats().not_durable, 101);
        disk.heal();
    }

    #[tokio::test]
    async fn a_withdrawal_waits_for_the_disk_and_then_leaves_nothing() {
        for accesses in [0, 1] {
            let directory = tempfile::TempDir::new().unwrap();
            let path = directory.path().join("queue");
            let (journal, disk) = on_disk(&path).await;
            journal.write(&mut events(3)).await;
            disk.hang_after(accesses);
            write_late(&journal, &disk, 3).await;
            journal.begin_wipe(2);
            let mut wiped = pin!(journal.wiped());
            assert!(poll!(&mut wiped).is_pending());
            disk.heal();
            wiped.await.unwrap();
            close(&journal).await;
            assert_eq!(restored(&path).await, NONE);
        }
    }

    #[tokio::test]
    async fn a_close_and_a_wipe_during_a_hang_are_done_once_the_disk_responds() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("queue");
        let (journal, disk) = on_disk(&path).await;
        journal.write(&mut events(3)).await;
        disk.hang();
        journal.mark(0, 2);
        disk.until_access_hangs().await;
        journal.begin_close(vec![3, 1]);
        let wiped = journal.clone();
        journal.begin_wipe(2);
        drop(journal);
        disk.heal();
        wiped.closed().await;
        assert_eq!(restored(&path).await, NONE);
    }

    #[tokio::test]
    async fn opening_the_file_on_a_disk_that_hangs_times_out() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("queue");
        let disk = HangingDisk::new();
        disk.hang();
        pause();
        let queue = SqliteQueue::new(&path).on_disk(&disk);
        let opened = Journal::open(queue, setup(), Some(1)).await;
        assert!(matches!(opened, Err(QueueError::Open(_))), "{opened:?}");
        resume();
        disk.heal();
        // The thread closes the file that it opened too late. Until then, it is in use.
        let (journal, restored) = loop {
            match Journal::open(SqliteQueue::new(&path), setup(), Some(1)).await {
                Err(QueueError::InUse) => {}
                opened => break opened.unwrap(),
            }
        };
        close(&journal).await;
        assert!(restored.rows.is_empty());
    }
}
