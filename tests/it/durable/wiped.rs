//! After a withdrawal, no byte of a captured event is left in the file, in its log, in a file that
//! was set aside, or in the log of the process.

use std::{fs, path::Path, process::Command};

use matrix_analytics::{
    Analytics, Limits, Properties, UserProperties,
    testing::{FailingBackend, Fault},
};

use super::{Durable, counters, flush};
use crate::support::{AnalyticsExt as _, content, eventually, log::Log};

const MARKER: &str = "a-very-personal-value";

/// Returns the names of the files in `directory` that contain the marker.
fn marked(directory: &Path) -> Vec<String> {
    let mut marked = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if contains_marker(&fs::read(&path).unwrap()) {
            marked.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    marked.sort();
    marked
}

fn contains_marker(bytes: &[u8]) -> bool {
    bytes.windows(MARKER.len()).any(|window| window == MARKER.as_bytes())
}

/// Fills the file and its log with the marker: waiting rows, deleted rows, entries of the history,
/// and rows of every size.
async fn fill(analytics: &Analytics) {
    analytics.set_super_properties(Properties::new().with("super", MARKER)).unwrap();
    for round in 0..20 {
        analytics.set_user_properties(UserProperties::new().set(MARKER, MARKER)).unwrap();
        for number in 0..60 {
            let long = MARKER.repeat(1 + number * round % 300);
            analytics.capture_named(MARKER, Properties::new().with("text", long));
        }
        flush(analytics).await;
    }
}

#[tokio::test]
async fn no_byte_is_left_in_any_file() {
    let durable = Durable::with_history(100).await;
    fs::write(durable.path(), MARKER).unwrap();
    let backend = FailingBackend::new();
    backend.fail_always(matrix_analytics::testing::DeliveryFailure::Transient);
    // So small that most rows are deleted again.
    let builder =
        durable.builder().limits(Limits::default().queue_max_events(300)).backend(backend.clone());
    let analytics = builder.build().await.unwrap();
    analytics.confirmed().await;
    fill(&analytics).await;
    let files = ["queue.sqlite3", "queue.sqlite3-wal", "queue.sqlite3.set-aside"];
    assert_eq!(marked(durable.directory.path()), files);

    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(receipt.is_complete(), "{receipt:?}");
    assert_eq!(marked(durable.directory.path()), Vec::<String>::new());
    assert!(!durable.directory.path().join("queue.sqlite3.set-aside").exists());
    durable.end(analytics).await;
    assert_eq!((marked(durable.directory.path()), durable.rows()), (Vec::new(), 0));
}

#[tokio::test]
async fn a_withdrawal_that_is_polled_once_and_dropped_still_wipes_the_file() {
    let durable = Durable::with_history(100).await;
    let (analytics, _) = durable.start_offline().await;
    fill(&analytics).await;
    durable.world.server.fail_all(Fault::ResetBefore);
    let mut opt_out = analytics.opt_out().into_future();
    assert!(futures_util::poll!(&mut opt_out).is_pending());
    drop(opt_out);
    durable.end(analytics).await;
    assert_eq!((marked(durable.directory.path()), durable.rows()), (Vec::new(), 0));
}

#[tokio::test]
async fn the_end_of_a_session_and_an_opt_out_elsewhere_wipe_the_file() {
    for ends_session in [true, false] {
        let durable = Durable::with_history(100).await;
        let (analytics, _) = durable.start_offline().await;
        fill(&analytics).await;
        if ends_session {
            assert!(eventually(analytics.end_session()).await.queue.is_done());
        } else {
            durable.world.set_content(&content(Some(false), None));
            durable.device.sync().await;
        }
        durable.end(analytics).await;
        assert_eq!((marked(durable.directory.path()), durable.rows()), (Vec::new(), 0));
    }
}

#[tokio::test]
async fn a_process_that_dies_before_its_wipe_wipes_at_the_next_start() {
    let durable = Durable::with_history(100).await;
    let (analytics, _) = durable.start_offline().await;
    fill(&analytics).await;
    let left = tempfile::TempDir::new().unwrap();
    for file in ["queue.sqlite3", "queue.sqlite3-wal"] {
        fs::copy(durable.directory.path().join(file), left.path().join(file)).unwrap();
    }
    eventually(analytics.opt_out().into_future()).await;
    durable.end(analytics).await;
    assert!(!marked(left.path()).is_empty());

    // The record in the client's store remembers the withdrawal; the file does not.
    let durable = Durable { directory: left, ..durable };
    let (analytics, backend) = durable.start().await;
    assert!(counters(&analytics).restored > 0);
    assert_eq!(marked(durable.directory.path()), Vec::<String>::new());
    durable.end(analytics).await;
    assert_eq!((backend.attempts(), durable.rows()), (0, 0));
}

#[tokio::test]
async fn a_file_set_aside_is_deleted_at_the_first_start_under_another_consent() {
    let durable = Durable::new().await;
    let (analytics, _) = durable.start().await;
    durable.end(analytics).await;
    fs::write(durable.path(), MARKER).unwrap();
    let set_aside = durable.directory.path().join("queue.sqlite3.set-aside");
    for _ in 0..2 {
        let (analytics, _) = durable.start().await;
        durable.end(analytics).await;
        assert!(set_aside.exists());
    }
    // Opt out in a process that has no queue.
    let (analytics, _) = durable.device.start_confirmed().await;
    eventually(analytics.opt_out().into_future()).await;
    drop(analytics);
    let (analytics, _) = durable.start().await;
    durable.end(analytics).await;
    assert!(!set_aside.exists());
}

/// The name of the other process's test. A thread of the crate logs only to the process-wide
/// subscriber, which other tests in this process need as well.
const LOGGING: &str = "durable::wiped::another_process_logs_no_byte_of_an_event";
const LOGS: &str = "MATRIX_ANALYTICS_TEST_LOGS";

#[test]
fn the_trace_log_shows_no_byte_of_an_event() {
    let mut child = Command::new(std::env::current_exe().unwrap());
    let child = child.args([LOGGING, "--exact", "--nocapture"]).env(LOGS, "").status().unwrap();
    assert!(child.success());
}

/// Opens a damaged file, fails to write it, and wipes it. The log at `TRACE` contains nothing of
/// its content.
#[tokio::test]
async fn another_process_logs_no_byte_of_an_event() {
    #[expect(clippy::disallowed_methods, reason = "the child reads its instructions")]
    if std::env::var_os(LOGS).is_none() {
        return;
    }
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let durable = Durable::with_history(100).await;
    fs::write(durable.path(), MARKER).unwrap();
    let (analytics, _) = durable.start_offline().await;
    fill(&analytics).await;
    durable.end(analytics).await;
    let (analytics, _) = durable.start_offline().await;
    eventually(analytics.opt_out().into_future()).await;
    durable.end(analytics).await;
    let log = log.bytes();
    assert!(String::from_utf8_lossy(&log).contains("setting it aside"));
    assert!(!contains_marker(&log));
}
