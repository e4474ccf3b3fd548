//! Files whose rows are rewritten: encrypted for the first time, or redacted.

use std::{fs, ops::Range, path::Path};

use matrix_analytics::{
    AnalyticsBuilder, Detector, Limits, OverflowPolicy, Properties, SqliteQueue,
    testing::{DeliveryFailure, FailingBackend},
};
use rusqlite::Connection;

use super::{Durable, counters, flush, rows};
use crate::support::AnalyticsExt as _;

fn down() -> FailingBackend {
    let backend = FailingBackend::new();
    backend.fail_always(DeliveryFailure::Transient);
    backend
}

/// Leaves five unencrypted rows.
async fn leave(durable: &Durable) {
    let (analytics, _) = durable.start_offline().await;
    for _ in 0..5 {
        analytics.capture_one("Left");
    }
    flush(&analytics).await;
    durable.end(analytics).await;
    assert_eq!(durable.rows(), 5);
}

fn encrypted(durable: &Durable) -> AnalyticsBuilder {
    let queue = SqliteQueue::new(durable.path()).passphrase("open sesame");
    durable.builder_on(queue).backend(down())
}

/// The key is committed together with the rows. If the first encryption fails, the rows stay
/// readable.
#[tokio::test]
async fn a_first_encryption_that_fails_halfway_loses_nothing() {
    let durable = Durable::with_history(100).await;
    leave(&durable).await;
    let connection = Connection::open(durable.path()).unwrap();
    connection
        .execute_batch(
            "CREATE TRIGGER full BEFORE UPDATE OF payload ON events WHEN OLD.id = 3
             BEGIN SELECT raise(FAIL, 'database or disk is full'); END",
        )
        .unwrap();
    drop(connection);
    encrypted(&durable).build().await.unwrap_err();

    let connection = Connection::open(durable.path()).unwrap();
    connection.execute_batch("DROP TRIGGER full").unwrap();
    drop(connection);
    let analytics = encrypted(&durable).build().await.unwrap();
    assert_eq!((counters(&analytics).restored, analytics.stats().queue.discarded), (5, 0));
    durable.end(analytics).await;
}

const MARKER: &str = "very-personal-value";

/// Reports each match of its first field as an identifier of the kind named by its second.
struct Finds(&'static str, &'static str);

impl Detector for Finds {
    fn name(&self) -> &'static str {
        self.1
    }

    fn find(&self, text: &str) -> Vec<Range<usize>> {
        text.match_indices(self.0).map(|(at, found)| at..at + found.len()).collect()
    }
}

/// Counts the marker in the files of `directory`.
fn marked(directory: &Path) -> usize {
    let count = |bytes: Vec<u8>| {
        bytes.windows(MARKER.len()).filter(|window| *window == MARKER.as_bytes()).count()
    };
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| count(fs::read(entry.unwrap().path()).unwrap())).sum()
}

/// Leaves rows of random sizes, some of which an overflowing queue has deleted.
async fn leave_marked(durable: &Durable, random: &mut fastrand::Rng) {
    let policy = random.choice([OverflowPolicy::DropOldest, OverflowPolicy::DropNewest]).unwrap();
    let builder = durable.builder();
    let builder = builder
        .limits(
            Limits::default().queue_max_events(20 + random.usize(..300)).overflow_policy(policy),
        )
        .backend(down());
    let analytics = builder.build().await.unwrap();
    analytics.confirmed().await;
    let longest = random.choice([3, 8, 20, 60, 300]).unwrap();
    for _ in 0..1 + random.usize(..12) {
        for _ in 0..1 + random.usize(..60) {
            let word = random.choice(["one-", "two-"]).unwrap();
            let text = format!("{word}{MARKER} ").repeat(1 + random.usize(..longest));
            analytics.capture_named("Event", Properties::new().with("text", text));
        }
        flush(&analytics).await;
    }
    durable.end(analytics).await;
    assert!(marked(durable.directory.path()) > 0);
}

#[tokio::test]
async fn no_plain_byte_is_left_of_an_encrypted_file() {
    let mut left = Vec::new();
    // Only two, because deriving a key from a passphrase takes seconds.
    for seed in 0..2 {
        let durable = Durable::with_history(100).await;
        leave_marked(&durable, &mut fastrand::Rng::with_seed(seed)).await;
        let analytics = encrypted(&durable).build().await.unwrap();
        left.push(marked(durable.directory.path()));
        durable.end(analytics).await;
        left.push(marked(durable.directory.path()));
    }
    assert!(left.iter().all(|left| *left == 0), "{left:?}");
}

/// Rows also move in the file: one replacement is longer than the redacted text, one shorter.
#[tokio::test]
async fn no_byte_is_left_of_a_text_that_a_new_detector_redacted() {
    const LONG: &str = "a_kind_with_quite_a_long_name_to_make_rows_grow_by_some_bytes";
    let mut left = Vec::new();
    for seed in 0..SEEDS {
        let durable = Durable::new().await;
        leave_marked(&durable, &mut fastrand::Rng::with_seed(seed)).await;
        let builder = durable.builder().backend(down());
        let builder = builder.detector(Finds("one-very-personal-value", "s"));
        let builder = builder.detector(Finds("two-very-personal-value", LONG));
        let analytics = builder.build().await.unwrap();
        left.push(marked(durable.directory.path()));
        durable.end(analytics).await;
        left.push(marked(durable.directory.path()));
    }
    assert!(left.iter().all(|left| *left == 0), "{left:?}");
}

#[tokio::test]
async fn no_byte_is_left_of_rows_of_random_sizes_that_were_withdrawn() {
    let mut left = Vec::new();
    for seed in 0..SEEDS {
        let durable = Durable::with_history(100).await;
        leave_marked(&durable, &mut fastrand::Rng::with_seed(seed)).await;
        let analytics = durable.builder().do_not_track().build().await.unwrap();
        durable.end(analytics).await;
        left.push(marked(durable.directory.path()));
        assert_eq!(rows(&durable.path()), 0);
    }
    assert!(left.iter().all(|left| *left == 0), "{left:?}");
}

/// The number of files per test: enough for leftovers to occur in the gaps of pages.
const SEEDS: u64 = 12;
