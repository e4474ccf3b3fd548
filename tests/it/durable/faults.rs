//! Damage by a disk, another program or a user. Each cell of the table in `docs/durability.md` is a
//! test in this file.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use matrix_analytics::{
    Analytics, BuildError, Detector, DropReason, QueueError, QueueStats, SqliteQueue,
    testing::{DeliveryFailure, FailingBackend},
};
use rusqlite::Connection;
use tempfile::TempDir;

use super::{Durable, counters, dropped, flush, rows};
use crate::support::{AnalyticsExt as _, eventually};

/// Leaves `events` in the file.
async fn leave(durable: &Durable, events: usize) {
    let (analytics, _) = durable.start_offline().await;
    for _ in 0..events {
        analytics.capture_one("Left");
    }
    flush(&analytics).await;
    durable.end(analytics).await;
}

/// Returns the error of a start on `queue`.
async fn refusal(durable: &Durable, queue: SqliteQueue) -> QueueError {
    let backend = FailingBackend::new();
    let builder = durable.device.builder().backend(backend).queue(queue);
    match builder.build().await {
        Err(BuildError::Queue(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// Asserts that a start finds `restored` events, and that new events are durable again.
async fn starts_and_is_durable(durable: &Durable, restored: u64) -> QueueStats {
    let (analytics, _) = durable.start_offline().await;
    let found = analytics.stats().queue;
    assert_eq!(counters(&analytics).restored, restored);
    analytics.capture_one("Next");
    flush(&analytics).await;
    assert_eq!(analytics.stats().queue, found);
    durable.end(analytics).await;
    assert_eq!(durable.rows() as u64, restored + 1);
    found
}

fn overwrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn find(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).position(|window| window == wanted).unwrap()
}

#[tokio::test]
async fn a_damaged_file_is_replaced_by_a_new_one() {
    let everything: fn(&mut Vec<u8>) = |bytes| bytes[100..].fill(0x5a);
    let one_page: fn(&mut Vec<u8>) = |bytes| {
        let page = find(bytes, b"Left") / 4096;
        bytes[page * 4096..][..64].fill(0x5a);
    };
    let second_half: fn(&mut Vec<u8>) = |bytes| bytes.truncate(bytes.len() / 2);
    let all_but_the_header: fn(&mut Vec<u8>) = |bytes| bytes.truncate(100);
    for damage in [everything, one_page, second_half, all_but_the_header] {
        let durable = Durable::new().await;
        leave(&durable, 40).await;
        overwrite(&durable.path(), damage);
        let found = starts_and_is_durable(&durable, 0).await;
        assert_eq!((found.unreadable_files, found.not_durable, found.discarded), (1, 0, 0));
        assert_eq!(files(&durable), ["queue.sqlite3"]);
    }
}

#[tokio::test]
async fn only_the_damaged_row_is_deleted() {
    let durable = Durable::new().await;
    leave(&durable, 3).await;
    overwrite(&durable.path(), |bytes| {
        let name = find(bytes, b"Left");
        bytes[name] ^= 1;
    });
    let found = starts_and_is_durable(&durable, 2).await;
    assert_eq!((found.unreadable_files, found.discarded), (0, 1));
}

#[tokio::test]
async fn a_truncated_log_loses_only_the_rows_after_the_cut() {
    let durable = Durable::new().await;
    let (analytics, _) = durable.start_offline().await;
    for _ in 0..3 {
        analytics.capture_one("Left");
        flush(&analytics).await;
    }
    // The files as a killed process leaves them.
    let killed = Durable { directory: TempDir::new().unwrap(), ..durable };
    for file in ["queue.sqlite3", "queue.sqlite3-wal"] {
        let from = durable.directory.path().join(file);
        fs::copy(from, killed.directory.path().join(file)).unwrap();
    }
    drop(analytics);
    let log = killed.directory.path().join("queue.sqlite3-wal");
    overwrite(&log, |bytes| bytes.truncate(bytes.len() - 1000));
    let (analytics, _) = killed.start_offline().await;
    let restored = counters(&analytics).restored;
    assert!((1..3).contains(&restored), "{restored}");
    assert_eq!(analytics.stats().queue, QueueStats::default());
}

#[tokio::test]
async fn a_file_that_is_not_a_database_is_set_aside() {
    let durable = Durable::new().await;
    fs::write(durable.path(), "a diary, by mistake").unwrap();
    let found = starts_and_is_durable(&durable, 0).await;
    assert_eq!(found.unreadable_files, 1);
    assert_eq!(files(&durable), ["queue.sqlite3", "queue.sqlite3.set-aside"]);
    let aside = durable.directory.path().join("queue.sqlite3.set-aside");
    assert_eq!(fs::read_to_string(aside).unwrap(), "a diary, by mistake");
}

#[tokio::test]
async fn at_most_one_file_is_set_aside() {
    let durable = Durable::new().await;
    for _ in 0..3 {
        fs::write(durable.path(), "no database").unwrap();
        starts_and_is_durable(&durable, 0).await;
    }
    assert_eq!(files(&durable), ["queue.sqlite3", "queue.sqlite3.set-aside"]);
}

#[tokio::test]
async fn the_database_of_another_program_is_refused_and_unchanged() {
    let durable = Durable::new().await;
    let connection = Connection::open(durable.path()).unwrap();
    connection.execute_batch("CREATE TABLE diary (page TEXT)").unwrap();
    drop(connection);
    let before = fs::read(durable.path()).unwrap();
    let error = refusal(&durable, SqliteQueue::new(durable.path())).await;
    assert!(matches!(error, QueueError::NotOurs), "{error:?}");
    assert_eq!(fs::read(durable.path()).unwrap(), before);
    assert_eq!(files(&durable), ["queue.sqlite3"]);
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused_and_unchanged() {
    let durable = Durable::new().await;
    leave(&durable, 1).await;
    Connection::open(durable.path()).unwrap().pragma_update(None, "user_version", 3).unwrap();
    let error = refusal(&durable, SqliteQueue::new(durable.path())).await;
    assert!(matches!(error, QueueError::Newer), "{error:?}");
    assert_eq!(durable.rows(), 1);
}

#[tokio::test]
async fn an_empty_file_is_a_new_one() {
    let durable = Durable::new().await;
    fs::write(durable.path(), "").unwrap();
    assert_eq!(starts_and_is_durable(&durable, 0).await, QueueStats::default());
}

#[tokio::test]
async fn a_path_that_cannot_be_opened_is_refused() {
    let durable = Durable::new().await;
    let missing = durable.directory.path().join("missing/queue.sqlite3");
    for path in [missing, durable.directory.path().join(".."), "/".into()] {
        let error = refusal(&durable, SqliteQueue::new(path)).await;
        assert!(matches!(error, QueueError::Open(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_second_queue_in_this_process_fails_because_the_file_is_in_use() {
    let durable = Durable::new().await;
    let (analytics, _) = durable.start_offline().await;
    // A queue of another client, whose record is separate.
    let device = durable.world.device("TABLET").await;
    let queue = SqliteQueue::new(durable.path());
    let built = device.builder().backend(FailingBackend::new()).queue(queue).build().await;
    assert!(matches!(built, Err(BuildError::Queue(QueueError::InUse))), "{built:?}");
    // The first process continues undisturbed.
    analytics.capture_one("Event");
    flush(&analytics).await;
    assert_eq!(analytics.stats().queue, QueueStats::default());
    durable.end(analytics).await;
    assert_eq!(durable.rows(), 1);
}

/// The name of the other process's test, and the variable with the file that it opens.
const HOLDER: &str = "durable::faults::another_process_holds_a_file";
const HELD: &str = "MATRIX_ANALYTICS_TEST_HELD";

#[tokio::test]
async fn another_process_holds_a_file() {
    #[expect(clippy::disallowed_methods, reason = "the child reads its instructions")]
    let Ok(path) = std::env::var(HELD) else { return };
    let directory = Path::new(&path).parent().unwrap();
    let durable = Durable::new().await;
    let queue = SqliteQueue::new(directory.join("queue.sqlite3"));
    let builder = durable.device.builder().backend(FailingBackend::new()).queue(queue);
    let _analytics = builder.build().await.unwrap();
    let mut stdout = std::io::stdout();
    stdout.write_all(b"@@held\n").and_then(|()| stdout.flush()).unwrap();
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// Another process, killed when the test ends.
struct Holder(Child);

impl Holder {
    fn of(path: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([HOLDER, "--exact", "--nocapture"])
            .env(HELD, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map(Result::unwrap).any(|line| line.contains("@@held")));
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_second_process_fails_until_the_first_one_is_killed() {
    let durable = Durable::new().await;
    let holder = Holder::of(&durable.path());
    let error = refusal(&durable, SqliteQueue::new(durable.path())).await;
    assert!(matches!(error, QueueError::InUse), "{error:?}");
    drop(holder);
    starts_and_is_durable(&durable, 0).await;
}

/// Reports every text as an identifier.
struct Everything;

impl Detector for Everything {
    fn name(&self) -> &'static str {
        "all"
    }

    fn find(&self, text: &str) -> Vec<std::ops::Range<usize>> {
        text.match_indices("Left").map(|(at, word)| at..at + word.len()).collect()
    }
}

#[tokio::test]
async fn without_the_passphrase_nothing_is_read_or_lost() {
    let durable = Durable::new().await;
    let queue = |passphrase: &str| SqliteQueue::new(durable.path()).passphrase(passphrase);
    let start = async |passphrase, detects| {
        let backend = FailingBackend::new();
        backend.fail_always(DeliveryFailure::Transient);
        let builder = durable.device.builder().queue(queue(passphrase)).backend(backend);
        let builder = if detects { builder.detector(Everything) } else { builder };
        let analytics = builder.build().await.unwrap();
        analytics.confirmed().await;
        analytics
    };
    // Rows that were written without a passphrase become encrypted as well.
    leave(&durable, 1).await;
    let analytics = start("correct horse", false).await;
    assert_eq!(counters(&analytics).restored, 1);
    analytics.capture_one("Left");
    flush(&analytics).await;
    durable.end(analytics).await;
    assert!(!fs::read(durable.path()).unwrap().windows(4).any(|window| window == b"Left"));

    for queue in [queue("wrong horse"), SqliteQueue::new(durable.path())] {
        let error = refusal(&durable, queue).await;
        assert!(matches!(error, QueueError::Passphrase), "{error:?}");
    }
    let analytics = start("correct horse", true).await;
    assert_eq!(counters(&analytics).restored, 2);
    durable.end(analytics).await;
    // Rows that the guard changed are encrypted again.
    let connection = Connection::open(durable.path()).unwrap();
    let mut payloads = connection.prepare("SELECT payload FROM events").unwrap();
    let payloads = payloads.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    let payloads: Vec<_> = payloads.map(Result::unwrap).collect();
    assert_eq!(payloads.len(), 2);
    assert!(payloads.iter().all(|payload| payload.starts_with(b"{\"version\"")), "{payloads:?}");
}

#[tokio::test]
async fn another_users_rows_are_deleted_unsent() {
    let durable = Durable::new().await;
    leave(&durable, 2).await;
    let login = durable.world.server.add_device("@bob:example.org", "PHONE");
    let device = durable.world.device_of(login).await;
    let bob = Durable { device, ..durable };
    let backend = FailingBackend::new();
    let analytics = bob.builder().backend(backend.clone()).build().await.unwrap();
    analytics.confirmed().await;
    assert_eq!((analytics.stats().queue.discarded, counters(&analytics).restored), (2, 0));
    eventually(analytics.opt_in()).await.unwrap();
    flush(&analytics).await;
    assert_eq!(backend.attempts(), 0);
    bob.end(analytics).await;
    assert_eq!(bob.rows(), 0);
}

#[tokio::test]
#[cfg(unix)]
async fn only_the_owner_can_read_the_file_and_its_log() {
    use std::os::unix::fs::PermissionsExt as _;

    let durable = Durable::new().await;
    let (analytics, _) = durable.start_offline().await;
    analytics.capture_one("Event");
    flush(&analytics).await;
    assert_eq!(files(&durable), ["queue.sqlite3", "queue.sqlite3-wal"]);
    for file in files(&durable) {
        let metadata = fs::metadata(durable.directory.path().join(file)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }
}

/// A disk of 256 KiB. Mounting may not be permitted, in which case there is none.
#[cfg(target_os = "linux")]
struct SmallDisk(TempDir);

#[cfg(target_os = "linux")]
impl SmallDisk {
    fn mount() -> Option<Self> {
        let disk = Self(TempDir::new().unwrap());
        let mounted = disk.run("mount", &["-t", "tmpfs", "-o", "size=256k", "tmpfs"]);
        mounted.then_some(disk)
    }

    fn run(&self, command: &str, arguments: &[&str]) -> bool {
        let mut command = Command::new(command);
        let command = command.args(arguments).arg(self.0.path()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    fn fill(&self) {
        let mut filler = fs::File::create(self.0.path().join("filler")).unwrap();
        while filler.write_all(&[0; 512]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.0.path().join("filler")).unwrap();
    }

    async fn start(&self, durable: &Durable) -> Analytics {
        let backend = FailingBackend::new();
        backend.fail_always(DeliveryFailure::Transient);
        let builder = durable.builder_on(SqliteQueue::new(self.path())).backend(backend);
        let analytics = builder.build().await.unwrap();
        analytics.confirmed().await;
        analytics
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("queue.sqlite3")
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A failed test may have left a file open.
        self.run("umount", &["--lazy"]);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn on_a_full_disk_events_wait_in_memory_until_there_is_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    let durable = Durable::new().await;
    let analytics = disk.start(&durable).await;
    analytics.capture_one("Before");
    flush(&analytics).await;
    disk.fill();
    for _ in 0..5 {
        for _ in 0..10 {
            analytics.capture_one("Full");
        }
        flush(&analytics).await;
    }
    let not_durable = analytics.stats().queue.not_durable;
    assert!(not_durable > 0);
    assert_eq!(counters(&analytics).queued, 51);

    disk.make_room();
    analytics.capture_one("After");
    flush(&analytics).await;
    assert_eq!(analytics.stats().queue.not_durable, not_durable);
    let report = eventually(analytics.shutdown(std::time::Duration::from_secs(1))).await;
    assert_eq!(
        (report.backends[0].kept, report.backends[0].undelivered),
        (52 - not_durable, not_durable)
    );
    let counted = counters(&analytics);
    assert_eq!(
        (counted.kept, dropped(&counted, DropReason::Shutdown)),
        (52 - not_durable, not_durable)
    );
    drop(analytics);

    let analytics = disk.start(&durable).await;
    assert_eq!(counters(&analytics).restored, 52 - not_durable);
    durable.end(analytics).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn on_a_full_disk_a_withdrawal_still_wipes() {
    let Some(disk) = SmallDisk::mount() else { return };
    let durable = Durable::with_history(100).await;
    let analytics = disk.start(&durable).await;
    for _ in 0..100 {
        analytics.capture_one("Withdrawn");
    }
    flush(&analytics).await;
    disk.fill();
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(receipt.queue.is_done(), "{receipt:?}");
    for entry in fs::read_dir(disk.0.path()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(9).any(|window| window == b"Withdrawn"));
    }
    durable.end(analytics).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_read_only_disk_is_refused() {
    let Some(disk) = SmallDisk::mount() else { return };
    let durable = Durable::new().await;
    let analytics = disk.start(&durable).await;
    analytics.capture_one("Before");
    flush(&analytics).await;
    durable.end(analytics).await;
    assert!(disk.run("mount", &["-o", "remount,ro"]));
    let error = refusal(&durable, SqliteQueue::new(disk.path())).await;
    assert!(matches!(error, QueueError::Open(_)), "{error:?}");
    assert!(disk.run("mount", &["-o", "remount,rw"]));
    assert_eq!(rows(&disk.path()), 1);
}

/// Returns the names of the files in the queue's directory.
fn files(durable: &Durable) -> Vec<String> {
    let entries = fs::read_dir(durable.directory.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}
