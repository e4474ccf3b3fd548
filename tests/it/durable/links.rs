//! Links and other files that are not ours, in the place of a file of the queue.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
};

use matrix_analytics::{BuildError, QueueError, SqliteQueue, testing::FailingBackend};

use super::{Durable, flush};
use crate::support::{AnalyticsExt as _, eventually};

/// The names of all files that the queue may open, create or delete.
const NAMES: [&str; 8] = [
    "queue.sqlite3",
    "queue.sqlite3-wal",
    "queue.sqlite3-shm",
    "queue.sqlite3-journal",
    "queue.sqlite3.set-aside",
    "queue.sqlite3.set-aside-wal",
    "queue.sqlite3.set-aside-shm",
    "queue.sqlite3.set-aside-journal",
];

const DIARY: &str = "a diary, of which every page counts";

/// A file of another program, in its own directory.
struct Victim {
    directory: tempfile::TempDir,
}

impl Victim {
    fn new() -> Self {
        let victim = Self { directory: tempfile::TempDir::new().unwrap() };
        fs::write(victim.path(), DIARY).unwrap();
        victim
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("diary")
    }

    /// Creates a link to the file at `place`.
    fn link(&self, place: &Path, hard: bool) {
        if hard { fs::hard_link(self.path(), place) } else { symlink(self.path(), place) }.unwrap();
    }

    fn is_untouched(&self) -> bool {
        fs::read_to_string(self.path()).unwrap() == DIARY
    }
}

/// Starts on the queue, and returns the error.
async fn refusal(durable: &Durable) -> QueueError {
    match durable.builder().backend(FailingBackend::new()).build().await {
        Err(BuildError::Queue(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_start_refuses_a_link_at_any_of_its_names_and_leaves_the_target_alone() {
    for name in NAMES {
        for hard in [false, true] {
            let (durable, victim) = (Durable::new().await, Victim::new());
            let place = durable.directory.path().join(name);
            victim.link(&place, hard);
            let error = refusal(&durable).await;
            assert!(matches!(error, QueueError::NotARegularFile), "{name}, {hard}: {error:?}");
            assert!(victim.is_untouched(), "{name}, {hard}");
            assert!(fs::symlink_metadata(&place).is_ok(), "{name}, {hard}");
        }
    }
}

#[tokio::test]
async fn a_withdrawal_overwrites_no_file_behind_a_link() {
    for name in NAMES.into_iter().filter(|name| name.contains("set-aside")) {
        for hard in [false, true] {
            let (durable, victim) = (Durable::new().await, Victim::new());
            let (analytics, _) = durable.start_offline().await;
            analytics.capture_one("Event");
            flush(&analytics).await;
            victim.link(&durable.directory.path().join(name), hard);
            let receipt = eventually(analytics.opt_out().into_future()).await;
            assert!(victim.is_untouched(), "{name}, {hard}");
            assert!(!receipt.queue.is_done(), "{name}, {hard}");
            // The events are deleted nevertheless.
            durable.end(analytics).await;
            assert_eq!(durable.rows(), 0);
            assert!(victim.is_untouched(), "{name}, {hard}");
        }
    }
}

#[tokio::test]
async fn an_unreadable_file_is_not_overwritten_through_its_second_name() {
    let durable = Durable::new().await;
    let (analytics, _) = durable.start_offline().await;
    durable.end(analytics).await;
    // The header is valid and the rest is not, so the file would be deleted.
    let mut bytes = fs::read(durable.path()).unwrap();
    bytes[100..].fill(0x5a);
    fs::write(durable.path(), &bytes).unwrap();
    let second = durable.directory.path().join("second-name");
    fs::hard_link(durable.path(), &second).unwrap();
    let error = refusal(&durable).await;
    assert!(matches!(error, QueueError::NotARegularFile), "{error:?}");
    assert_eq!(fs::read(second).unwrap(), bytes);
}

#[tokio::test]
async fn a_dangling_link_creates_no_file() {
    let durable = Durable::new().await;
    let target = durable.directory.path().join("elsewhere");
    symlink(&target, durable.path()).unwrap();
    let error = refusal(&durable).await;
    assert!(matches!(error, QueueError::NotARegularFile), "{error:?}");
    assert!(!target.exists());
}

#[tokio::test]
async fn a_pipe_or_a_directory_in_place_of_a_file_is_refused_without_blocking() {
    for name in NAMES {
        for pipe in [true, false] {
            let durable = Durable::new().await;
            let place = durable.directory.path().join(name);
            if pipe {
                let made = std::process::Command::new("mkfifo").arg(&place).status().unwrap();
                assert!(made.success());
            } else {
                fs::create_dir(&place).unwrap();
            }
            let error = refusal(&durable).await;
            assert!(matches!(error, QueueError::NotARegularFile), "{name}: {error:?}");
        }
    }
}

#[tokio::test]
async fn the_directory_is_resolved_once() {
    let (durable, victim) = (Durable::new().await, Victim::new());
    let link = durable.directory.path().join("link");
    let own = durable.directory.path().join("own");
    fs::create_dir(&own).unwrap();
    symlink(&own, &link).unwrap();
    fs::write(own.join("queue.sqlite3"), "set aside at the start").unwrap();
    let queue = SqliteQueue::new(link.join("queue.sqlite3"));
    let builder = durable.device.builder().queue(queue).backend(FailingBackend::new());
    let analytics = builder.build().await.unwrap();
    analytics.confirmed().await;

    // The link now leads to another directory, which has a file of the same name.
    fs::remove_file(&link).unwrap();
    symlink(victim.directory.path(), &link).unwrap();
    let same_name = victim.directory.path().join("queue.sqlite3.set-aside");
    fs::write(&same_name, DIARY).unwrap();
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(receipt.queue.is_done(), "{receipt:?}");
    assert_eq!(fs::read_to_string(same_name).unwrap(), DIARY);
    assert!(!own.join("queue.sqlite3.set-aside").exists());
    assert_eq!(fs::metadata(own.join("queue.sqlite3")).unwrap().nlink(), 1);
}
