//! A database that belongs to another program, or to a newer version: no byte of it changes, nor of
//! the files next to it.

use std::{collections::BTreeMap, fs, path::Path};

use matrix_analytics::{BuildError, QueueError, SqliteQueue, testing::FailingBackend};
use rusqlite::Connection;
use tempfile::TempDir;

use super::Durable;

/// Returns the names and contents of the files in `directory`.
fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let name = |entry: &fs::DirEntry| entry.file_name().into_string().unwrap();
    entries.map(|entry| (name(&entry), fs::read(entry.path()).unwrap())).collect()
}

/// Puts a database in the place of the queue's file, as a killed app leaves it: `begin` is in the
/// file, and `end` in its log.
fn put(durable: &Durable, begin: &str, end: &str) {
    let elsewhere = TempDir::new().unwrap();
    let connection = Connection::open(elsewhere.path().join("queue.sqlite3")).unwrap();
    connection.execute_batch(begin).unwrap();
    connection.execute_batch(end).unwrap();
    for entry in fs::read_dir(elsewhere.path()).unwrap().map(Result::unwrap) {
        // Shared memory does not survive its process.
        if !entry.file_name().into_string().unwrap().ends_with("-shm") {
            fs::copy(entry.path(), durable.directory.path().join(entry.file_name())).unwrap();
        }
    }
}

async fn refusal(durable: &Durable) -> QueueError {
    let builder = durable.device.builder().backend(FailingBackend::new());
    match builder.queue(SqliteQueue::new(durable.path())).build().await {
        Err(BuildError::Queue(error)) => error,
        other => panic!("{other:?}"),
    }
}

const DIARY: &str = "CREATE TABLE diary (page TEXT); INSERT INTO diary VALUES ('dear diary');";
const LOG: &str = "PRAGMA journal_mode = WAL;";
/// Spills pages into the file while the transaction is open, which leaves a hot journal.
const SPILL: &str = "PRAGMA cache_size = 1; PRAGMA cache_spill = 1; BEGIN;
    UPDATE diary SET page = 'torn out';
    INSERT INTO diary WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000)
    SELECT hex(randomblob(200)) FROM n;";

#[tokio::test]
async fn the_database_of_another_program_and_its_logs_keep_every_byte() {
    let theirs = "PRAGMA application_id = 7;";
    for (begin, end) in [
        (DIARY.into(), String::new()),
        (LOG.into(), DIARY.into()),
        (format!("{LOG}{DIARY}"), DIARY.replace("CREATE TABLE diary (page TEXT);", "")),
        (theirs.into(), String::new()),
        (format!("{theirs}{LOG}"), DIARY.into()),
        (DIARY.into(), SPILL.into()),
        (format!("{theirs}{DIARY}"), SPILL.into()),
    ] {
        let durable = Durable::new().await;
        put(&durable, &begin, &end);
        let before = contents(durable.directory.path());
        assert_eq!(before.len(), 2 - usize::from(end.is_empty()), "{begin}, {end}");
        let error = refusal(&durable).await;
        assert!(matches!(error, QueueError::NotOurs), "{begin}, {end}: {error:?}");
        assert!(contents(durable.directory.path()) == before, "{begin}, {end}");
    }
}

#[tokio::test]
async fn a_file_of_a_newer_version_and_its_log_keep_every_byte() {
    let ours = format!("PRAGMA application_id = {}; PRAGMA user_version = 3;", 0x4d78_416e);
    for (begin, end) in
        [(format!("{ours}{DIARY}"), String::new()), (format!("{ours}{LOG}"), DIARY.into())]
    {
        let durable = Durable::new().await;
        put(&durable, &begin, &end);
        let before = contents(durable.directory.path());
        let error = refusal(&durable).await;
        assert!(matches!(error, QueueError::Newer), "{begin}, {end}: {error:?}");
        assert!(contents(durable.directory.path()) == before, "{begin}, {end}");
    }
}

/// The file is a database that the app itself has open. Inspecting it must not release the app's
/// locks.
#[cfg(unix)]
#[tokio::test]
async fn a_database_that_this_process_has_open_keeps_its_locks() {
    let durable = Durable::new().await;
    let connection = Connection::open(durable.path()).unwrap();
    connection.execute_batch(DIARY).unwrap();
    connection.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let error = refusal(&durable).await;
    assert!(matches!(error, QueueError::NotOurs), "{error:?}");
    let script = "import fcntl, sys\n\
                  file = open(sys.argv[1], 'r+b')\n\
                  try: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)\n\
                  except OSError: sys.exit(0)\n\
                  sys.exit(1)";
    let mut python = std::process::Command::new("python3");
    let status = python.args(["-c", script]).arg(durable.path()).status();
    assert!(status.is_ok_and(|status| status.success()), "another process can lock it");
    drop(connection);
}
