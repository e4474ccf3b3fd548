//! The history in the file: it survives a restart under the same consent, and nothing else.

use std::{fs, path::Path, time::Duration};

use matrix_analytics::{
    Analytics, ELEMENT_EVENT_TYPE, Properties, QueueStats, SentEvent, SentOutcome, SqliteQueue,
    UserProperties,
    testing::{DeliveryFailure, FailingBackend, Fault, HangingDisk},
};
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

use super::{Durable, counters, flush, in_time};
use crate::support::{AnalyticsExt as _, FOREIGN_ID, World, content, eventually};

const MARKER: &str = "a-very-personal-value";

/// Returns the entries as JSON.
fn entries(analytics: &Analytics) -> Vec<Value> {
    analytics.history().iter().map(|sent| serde_json::to_value(sent).unwrap()).collect()
}

fn outcomes(analytics: &Analytics) -> Vec<(String, SentOutcome)> {
    let outcome = |sent: &SentEvent| (sent.event().name().to_owned(), sent.outcome());
    analytics.history().iter().map(outcome).collect()
}

/// Returns the number of entries in the file, which must not be open in any process.
fn rows(durable: &Durable) -> i64 {
    let connection = Connection::open(durable.path()).unwrap();
    connection.query_row("SELECT count(*) FROM history", [], |row| row.get(0)).unwrap()
}

/// Returns the names of the files in `directory` that contain the marker.
fn marked(directory: &Path) -> Vec<String> {
    let files = fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    let marked = files.filter(|path| {
        let bytes = fs::read(path).unwrap();
        bytes.windows(MARKER.len()).any(|window| window == MARKER.as_bytes())
    });
    marked.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

/// Delivers events with the marker, of every size, more than the history can hold.
async fn fill(analytics: &Analytics) {
    for round in 0..10 {
        analytics.set_user_properties(UserProperties::new().set(MARKER, MARKER)).unwrap();
        for number in 0..30 {
            let long = MARKER.repeat(1 + number * round % 100);
            analytics.capture_named(MARKER, Properties::new().with("text", long));
        }
        flush(analytics).await;
    }
}

/// Starts a process, which delivers what [`fill`] captures.
async fn filled() -> (Durable, Analytics) {
    let durable = Durable::with_history(50).await;
    let (analytics, _) = durable.start().await;
    fill(&analytics).await;
    assert_eq!(counters(&analytics).delivered, 300);
    (durable, analytics)
}

/// Leaves three entries in the file, of which one has user properties, and returns them.
async fn leave(durable: &Durable) -> Vec<Value> {
    let down = FailingBackend::new();
    down.fail_always(DeliveryFailure::Rejected);
    let builder = durable.builder().backend(FailingBackend::new()).backend(down);
    let analytics = builder.build().await.unwrap();
    analytics.confirmed().await;
    analytics.capture_named("First", Properties::new().with("text", MARKER));
    flush(&analytics).await;
    analytics.set_user_properties(UserProperties::new().set("rooms", 3)).unwrap();
    analytics.capture_named("Second", Properties::new().with("count", 1));
    flush(&analytics).await;
    let left = entries(&analytics);
    assert_eq!(analytics.stats().queue, QueueStats::default());
    durable.end(analytics).await;
    assert_eq!(rows(durable), 4);
    left
}

#[tokio::test]
async fn the_next_process_finds_the_entries_as_they_were_without_asking_the_homeserver() {
    let durable = Durable::with_history(50).await;
    let left = leave(&durable).await;
    let outcomes: Vec<_> = left.iter().map(|sent| &sent["outcome"]).collect();
    assert!(outcomes.contains(&&"delivered".into()) && outcomes.contains(&&"refused".into()));
    assert!(left.iter().any(|sent| sent["set"]["rooms"] == 3));
    durable.world.server.fail_all(Fault::ResetBefore);
    for _ in 0..2 {
        let analytics = durable.builder().backend(FailingBackend::new()).build().await.unwrap();
        assert_eq!(entries(&analytics), left);
        durable.end(analytics).await;
    }
}

#[tokio::test]
async fn an_event_that_is_sent_again_after_a_restart_keeps_one_entry() {
    let durable = Durable::with_history(50).await;
    let (analytics, _) = durable.start_offline().await;
    analytics.capture_one("Again");
    flush(&analytics).await;
    assert_eq!(outcomes(&analytics), [("Again".to_owned(), SentOutcome::Unconfirmed)]);
    durable.end(analytics).await;
    for _ in 0..2 {
        let (analytics, _) = durable.start().await;
        flush(&analytics).await;
        assert_eq!(outcomes(&analytics), [("Again".to_owned(), SentOutcome::Delivered)]);
        durable.end(analytics).await;
        assert_eq!(rows(&durable), 1);
    }
}

#[tokio::test]
async fn an_outcome_during_the_shutdown_is_in_the_file() {
    let durable = Durable::with_history(50).await;
    let (analytics, _) = durable.start().await;
    analytics.capture_one("Last");
    assert!(eventually(analytics.shutdown(Duration::from_secs(1))).await.is_complete());
    drop(analytics);
    let (analytics, _) = durable.start().await;
    assert_eq!(outcomes(&analytics), [("Last".to_owned(), SentOutcome::Delivered)]);
}

/// Returns the files as a process leaves them that is killed now.
fn copied(durable: &Durable) -> TempDir {
    let left = TempDir::new().unwrap();
    for file in ["queue.sqlite3", "queue.sqlite3-wal"] {
        fs::copy(durable.directory.path().join(file), left.path().join(file)).unwrap();
    }
    left
}

#[tokio::test]
async fn entries_that_have_no_room_are_deleted_from_the_file() {
    let durable = Durable::with_history(2).await;
    let (analytics, _) = durable.start().await;
    for name in ["First", "Second", "Third"] {
        analytics.capture_one(name);
        flush(&analytics).await;
    }
    durable.end(analytics).await;
    assert_eq!(rows(&durable), 2);
    // The next process has room for fewer.
    let durable = Durable { history: Some(1), ..durable };
    let (analytics, _) = durable.start().await;
    assert_eq!(outcomes(&analytics), [("Third".to_owned(), SentOutcome::Delivered)]);
    durable.end(analytics).await;
    assert_eq!(rows(&durable), 1);
}

#[tokio::test]
async fn nothing_is_written_before_the_opt_in() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let directory = TempDir::new().unwrap();
    let durable = Durable { world, device, directory, history: Some(50) };
    let (analytics, backend) = durable.start().await;
    fill(&analytics).await;
    assert_eq!(marked(durable.directory.path()), Vec::<String>::new());
    durable.end(analytics).await;
    assert_eq!((rows(&durable), backend.attempts()), (0, 0));

    // A remembered opt-in is no proof: events wait, and none was sent.
    durable.world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let (analytics, _) = durable.start().await;
    durable.end(analytics).await;
    durable.world.server.fail_all(Fault::ResetBefore);
    let analytics = durable.builder().backend(backend.clone()).build().await.unwrap();
    fill(&analytics).await;
    assert!(analytics.history().is_empty());
    durable.end(analytics).await;
    assert_eq!((rows(&durable), backend.attempts()), (0, 0));
}

#[tokio::test]
async fn a_withdrawal_leaves_no_byte_of_it_in_any_file() {
    for case in ["opt-out", "polled once", "session", "elsewhere", "veto", "after a shutdown"] {
        let (durable, analytics) = filled().await;
        assert!(!marked(durable.directory.path()).is_empty());
        match case {
            "opt-out" => {
                let receipt = eventually(analytics.opt_out().into_future()).await;
                assert!(receipt.is_complete(), "{receipt:?}");
                assert_eq!(marked(durable.directory.path()), Vec::<String>::new());
            }
            "polled once" => {
                let mut opt_out = analytics.opt_out().into_future();
                assert!(futures_util::poll!(&mut opt_out).is_pending());
            }
            "session" => assert!(eventually(analytics.end_session()).await.queue.is_done()),
            "elsewhere" => {
                durable.world.set_content(&content(Some(false), None));
                durable.device.sync().await;
            }
            "veto" => eventually(analytics.deny_on_this_device()).await.unwrap(),
            _ => {
                durable.end(analytics.clone()).await;
                let receipt = eventually(analytics.opt_out().into_future()).await;
                assert!(receipt.queue.is_done(), "{receipt:?}");
            }
        }
        assert!(analytics.history().is_empty(), "{case}");
        durable.end(analytics).await;
        assert_eq!(marked(durable.directory.path()), Vec::<String>::new(), "{case}");
        assert_eq!(rows(&durable), 0, "{case}");
    }
}

#[tokio::test]
async fn a_process_that_dies_during_a_withdrawal_leaves_it_to_the_next_which_shows_nothing() {
    let (durable, analytics) = filled().await;
    let left = copied(&durable);
    eventually(analytics.opt_out().into_future()).await;
    durable.end(analytics).await;
    assert!(!marked(left.path()).is_empty());
    // The record in the client's store remembers the withdrawal; the file does not.
    let durable = Durable { directory: left, ..durable };
    let analytics = durable.builder().backend(FailingBackend::new()).build().await.unwrap();
    assert!(analytics.history().is_empty());
    assert_eq!(marked(durable.directory.path()), Vec::<String>::new());
    // A later opt-in does not bring it back.
    analytics.confirmed().await;
    analytics.opt_in_and_settle().await;
    assert!(analytics.history().is_empty());
    durable.end(analytics).await;
    assert_eq!(rows(&durable), 0);
}

#[tokio::test]
async fn a_start_without_it_under_a_veto_or_of_another_user_deletes_it() {
    for case in ["none", "memory only", "do not track", "another user"] {
        let (durable, analytics) = filled().await;
        durable.end(analytics).await;
        assert_eq!(rows(&durable), 50);
        let queue = || SqliteQueue::new(durable.path());
        let builder = match case {
            "none" => durable.device.builder().queue(queue().keep_history()),
            "memory only" => durable.device.builder().queue(queue()).history(50),
            "do not track" => durable.builder().do_not_track(),
            _ => {
                let (bob, opted_in) = ("@bob:example.org", content(Some(true), Some(FOREIGN_ID)));
                durable.world.server.set_content(bob, ELEMENT_EVENT_TYPE, &opted_in);
                let login = durable.world.server.add_device(bob, "PHONE");
                let device = durable.world.device_of(login).await;
                // His recorded opt-in is of the same epoch.
                drop(device.start_confirmed().await);
                device.builder().queue(queue().keep_history()).history(50)
            }
        };
        let analytics = builder.backend(FailingBackend::new()).build().await.unwrap();
        assert!(analytics.history().is_empty(), "{case}");
        assert_eq!(analytics.stats().queue, QueueStats::default());
        assert_eq!(marked(durable.directory.path()), Vec::<String>::new(), "{case}");
        durable.end(analytics).await;
        assert_eq!(rows(&durable), 0, "{case}");
    }
}

#[tokio::test]
async fn another_id_deletes_it() {
    let (durable, analytics) = filled().await;
    durable.end(analytics).await;
    durable.world.set_content(&content(Some(true), Some("another-id")));
    let (analytics, _) = durable.start().await;
    assert!(analytics.history().is_empty());
    durable.end(analytics).await;
    assert_eq!(marked(durable.directory.path()), Vec::<String>::new());
    assert_eq!(rows(&durable), 0);
}

#[tokio::test]
async fn a_recipient_that_is_gone_is_still_named() {
    let durable = Durable::with_history(50).await;
    let left = leave(&durable).await;
    let analytics = durable.builder().build().await.unwrap();
    assert_eq!(entries(&analytics), left);
}

#[tokio::test]
async fn a_passphrase_encrypts_it_even_if_it_was_stored_without_one() {
    let durable = Durable::with_history(50).await;
    let left = leave(&durable).await;
    assert_eq!(marked(durable.directory.path()), ["queue.sqlite3"]);
    for _ in 0..2 {
        let queue = SqliteQueue::new(durable.path()).passphrase("correct horse");
        let analytics = durable.builder_on(queue).build().await.unwrap();
        assert_eq!(entries(&analytics), left);
        durable.end(analytics).await;
        assert_eq!(marked(durable.directory.path()), Vec::<String>::new());
        let connection = Connection::open(durable.path()).unwrap();
        let sql = "SELECT count(*) FROM history WHERE payload LIKE '{\"version\"%'";
        let encrypted: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(encrypted, 4);
    }
}

#[tokio::test]
async fn only_a_damaged_entry_is_deleted_and_counted() {
    let durable = Durable::with_history(50).await;
    let left = leave(&durable).await;
    let connection = Connection::open(durable.path()).unwrap();
    let sql = "UPDATE history SET payload = CAST(replace(payload, ?1, 'x') AS BLOB)";
    connection.execute(sql, [MARKER]).unwrap();
    let sql = "UPDATE history SET id = -1
               WHERE id = (SELECT id FROM history ORDER BY id LIMIT 1 OFFSET 2)";
    connection.execute(sql, []).unwrap();
    drop(connection);
    let analytics = durable.builder().build().await.unwrap();
    assert_eq!(entries(&analytics), left[3..]);
    assert_eq!(analytics.stats().queue.discarded, 3);
    durable.end(analytics).await;
    assert_eq!(rows(&durable), 1);
}

#[tokio::test]
async fn a_file_of_the_first_version_gets_its_table() {
    let durable = Durable::new().await;
    let (analytics, _) = durable.start_offline().await;
    analytics.capture_one("Left");
    flush(&analytics).await;
    durable.end(analytics).await;
    let connection = Connection::open(durable.path()).unwrap();
    connection.execute_batch("DROP TABLE history; PRAGMA user_version = 1").unwrap();
    drop(connection);
    let durable = Durable { history: Some(50), ..durable };
    for _ in 0..2 {
        let (analytics, _) = durable.start().await;
        flush(&analytics).await;
        assert_eq!(outcomes(&analytics), [("Left".to_owned(), SentOutcome::Delivered)]);
        durable.end(analytics).await;
    }
}

#[tokio::test]
async fn a_disk_that_hangs_stops_neither_delivery_nor_the_history_and_gets_it_later() {
    let (durable, disk) = (Durable::with_history(5).await, HangingDisk::new());
    let queue = SqliteQueue::new(durable.path()).on_disk(&disk);
    let backend = FailingBackend::new();
    let builder = durable.builder_on(queue).backend(backend.clone());
    let analytics = builder.build().await.unwrap();
    analytics.confirmed().await;
    disk.hang();
    for number in 1..20 {
        analytics.capture_one("During");
        let delivered = || backend.accepted_events().len() == number;
        in_time("a disk that hangs stops delivery", delivered).await;
    }
    in_time("the outcome waits for the disk", || {
        analytics.history().iter().all(|sent| sent.outcome() == SentOutcome::Delivered)
    })
    .await;
    let left = entries(&analytics);
    assert_eq!(left.len(), 5);
    disk.heal();
    durable.end(analytics).await;
    let (analytics, _) = durable.start().await;
    assert_eq!(entries(&analytics), left);
}

#[tokio::test]
async fn a_history_that_cannot_be_written_costs_no_event_and_is_counted() {
    let durable = Durable::with_history(50).await;
    let (analytics, _) = durable.start_offline().await;
    durable.end(analytics).await;
    let connection = Connection::open(durable.path()).unwrap();
    let full = "BEGIN SELECT raise(FAIL, 'database or disk is full'); END";
    connection
        .execute_batch(&format!("CREATE TRIGGER full BEFORE INSERT ON history {full}"))
        .unwrap();
    drop(connection);
    let (analytics, _) = durable.start_offline().await;
    analytics.capture_one("Kept");
    flush(&analytics).await;
    // Written after the history, and too early to be sent.
    analytics.capture_one("Kept");
    flush(&analytics).await;
    assert_eq!(outcomes(&analytics), [("Kept".to_owned(), SentOutcome::Unconfirmed)]);
    let stats = analytics.stats().queue;
    assert!(stats.history_failures > 0, "{stats:?}");
    assert_eq!(stats.not_durable, 0);
    durable.end(analytics).await;
    assert_eq!((durable.rows(), rows(&durable)), (2, 0));
}
