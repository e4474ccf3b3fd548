//! The guard inspects events written by an earlier process.

use std::{fs, ops::Range, path::Path};

use matrix_analytics::{
    AnalyticsBuilder, Detector, DropReason, GuardPolicy, Properties, UserProperties,
    testing::{DeliveryFailure, FailingBackend},
};

use rusqlite::Connection;

use super::{Durable, counters, dropped, flush};
use crate::support::AnalyticsExt as _;

const CODENAME: &str = "Kingfisher";

/// A detector that earlier versions of the app did not have.
struct Codenames;

impl Detector for Codenames {
    fn name(&self) -> &'static str {
        "codename"
    }

    fn find(&self, text: &str) -> Vec<Range<usize>> {
        text.match_indices(CODENAME).map(|(at, word)| at..at + word.len()).collect()
    }
}

/// Leaves two events. The first contains `secret` in its name, a key, a text and its user
/// properties.
async fn leave(durable: &Durable, secret: &str) {
    let (analytics, _) = durable.start_offline().await;
    analytics.set_user_properties(UserProperties::new().set("project", secret.to_owned())).unwrap();
    let properties =
        Properties::new().with(secret.to_owned(), 1).with("text", format!("on {secret}!"));
    analytics.capture_named(format!("Opened {secret}"), properties);
    analytics.capture_one("Closed");
    flush(&analytics).await;
    durable.end(analytics).await;
    assert!(mentions(durable.directory.path(), secret));
}

/// Returns whether a file in `directory` contains `secret`.
fn mentions(directory: &Path, secret: &str) -> bool {
    fs::read_dir(directory).unwrap().any(|entry| {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
    })
}

/// Returns a backend that is down.
fn down() -> FailingBackend {
    let backend = FailingBackend::new();
    backend.fail_always(DeliveryFailure::Transient);
    backend
}

/// Starts with `builder` while the backend is down, asserts that no file contains the secret, and
/// delivers the restored events.
async fn deliver(durable: &Durable, builder: AnalyticsBuilder, secret: &str) -> FailingBackend {
    let backend = down();
    let analytics = builder.backend(backend.clone()).build().await.unwrap();
    assert!(!mentions(durable.directory.path(), secret));
    analytics.confirmed().await;
    durable.end(analytics).await;
    // The delivered events are those in the file.
    let (analytics, backend) = durable.start().await;
    flush(&analytics).await;
    durable.end(analytics).await;
    backend
}

#[tokio::test]
async fn text_that_a_new_detector_finds_is_redacted_in_the_file_and_in_restored_events() {
    let durable = Durable::new().await;
    leave(&durable, CODENAME).await;
    let backend = deliver(&durable, durable.builder().detector(Codenames), CODENAME).await;
    let [opened, closed] = backend.accepted_events().try_into().unwrap();
    assert_eq!((opened.name, closed.name), ("Opened [codename]".into(), "Closed".into()));
    assert_eq!(opened.properties["[codename]"], 1);
    assert_eq!(opened.properties["text"], "on [codename]!");
    assert_eq!(opened.set["project"], "[codename]");
}

#[tokio::test]
async fn events_that_a_new_detector_finds_are_dropped_under_that_policy() {
    let durable = Durable::new().await;
    leave(&durable, CODENAME).await;
    let builder = durable.builder().detector(Codenames).guard_policy(GuardPolicy::DropEvent);
    let backend = down();
    let analytics = builder.backend(backend.clone()).build().await.unwrap();
    assert!(!mentions(durable.directory.path(), CODENAME));
    let counted = counters(&analytics);
    assert_eq!((counted.restored, dropped(&counted, DropReason::Guarded)), (2, 1));
    durable.end(analytics).await;
    assert_eq!(durable.rows(), 1);

    let (analytics, backend) = durable.start().await;
    flush(&analytics).await;
    let names: Vec<_> = backend.accepted_events().into_iter().map(|event| event.name).collect();
    assert_eq!(names, ["Closed"]);
}

#[tokio::test]
async fn identifiers_of_the_new_session_are_redacted_in_restored_events() {
    let durable = Durable::new().await;
    let device = durable.world.device("QZXJKVBWPL").await;
    let durable = Durable { device, ..durable };
    let (analytics, _) = durable.start_offline().await;
    analytics.capture_named("Opened", Properties::new().with("text", "on QQQQQQQQQQ!"));
    flush(&analytics).await;
    durable.end(analytics).await;
    let connection = Connection::open(durable.path()).unwrap();
    let sql = "SELECT payload FROM events";
    let mut row: Vec<u8> = connection.query_row(sql, [], |row| row.get(0)).unwrap();
    row.truncate(row.len() - 8);
    let at = row.windows(10).position(|window| window == b"QQQQQQQQQQ").unwrap();
    row[at..at + 10].copy_from_slice(b"QZXJKVBWPL");
    row.extend(checksum(&row).to_le_bytes());
    connection.execute("UPDATE events SET payload = ?1", [row]).unwrap();
    drop(connection);

    let (analytics, backend) = durable.start().await;
    flush(&analytics).await;
    assert_eq!(backend.accepted_events()[0].properties["text"], "on [device_id]!");
}

/// The checksum that the queue appends to each payload.
fn checksum(bytes: &[u8]) -> u64 {
    let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let sum = 0xcbf2_9ce4_8422_2325 ^ bytes.len() as u64;
    let sum = words.iter().fold(sum, |sum, word| mix(sum, u64::from_le_bytes(*word)));
    mix(sum, u64::from_le_bytes(last))
}
