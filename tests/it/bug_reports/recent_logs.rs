//! The layer that keeps recent log lines.

use std::{fmt::Write as _, time::Duration};

use matrix_analytics::{Properties, RecentLogs};
use tracing::{Level, error, info, info_span, subscriber::with_default};
use tracing_subscriber::{Layer as _, filter::LevelFilter, layer::SubscriberExt as _, registry};

use super::server::{Config, Server};
use crate::support::{AnalyticsExt as _, World, eventually};

const HOUR: Duration = Duration::from_secs(3600);
const CANARIES: &str = include_str!("../../data/guard/canaries.tsv");

#[test]
fn a_line_has_the_level_the_spans_the_target_and_the_fields() {
    let logs = RecentLogs::new(1 << 20, HOUR);
    with_default(registry().with(logs.clone()), || {
        let _outer = info_span!("sync", room = "!secret:example.org").entered();
        let _inner = info_span!("send").entered();
        error!(target: "app", count = 3, name = "x", "it failed");
    });
    let text = logs.text();
    let (time, rest) = text.split_once(' ').unwrap();
    assert_eq!(rest, "ERROR sync:send:app: it failed count=3 name=\"x\"\n");
    assert!(time.ends_with('Z') && time.len() >= 20, "{time}");
}

#[test]
fn nothing_is_kept_before_the_layer_is_installed_or_behind_its_filter() {
    let logs = RecentLogs::new(1 << 20, HOUR);
    info!("before");
    let layer = logs.clone().with_filter(LevelFilter::from_level(Level::WARN));
    with_default(registry().with(layer), || info!("filtered"));
    assert_eq!(logs.text(), "");
    with_default(registry().with(logs.clone()), || info!("kept"));
    assert!(logs.text().ends_with("kept\n"));
    logs.clear();
    assert_eq!(logs.text(), "");
}

#[test]
fn a_line_that_is_too_long_is_left_out_as_a_whole() {
    let logs = RecentLogs::new(1 << 20, HOUR);
    with_default(registry().with(logs.clone()), || {
        info!(target: "app", "@alice:example.org {}", "x".repeat(40_000));
        info!("next");
    });
    let text = logs.text();
    assert!(text.starts_with("app: [a line of more than 32768 bytes was left out]\n"), "{text}");
    assert!(text.ends_with("next\n") && text.lines().count() == 2);
}

#[test]
fn a_value_that_logs_while_it_is_printed_does_not_block() {
    struct Talkative;

    impl std::fmt::Display for Talkative {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            info!("inner");
            f.write_str("outer")
        }
    }

    let logs = RecentLogs::new(1 << 20, HOUR);
    with_default(registry().with(logs.clone()), || info!("{Talkative}"));
    assert!(logs.text().lines().last().unwrap().ends_with("outer"));
}

#[tokio::test]
async fn the_lines_go_with_the_session_and_not_with_an_opt_out() {
    let world = World::new().await;
    let logs = RecentLogs::new(1 << 20, HOUR);
    let device = world.device("PHONE").await;
    let analytics = device.builder().recent_logs(logs.clone()).build().await.unwrap();
    analytics.confirmed().await;
    analytics.opt_in_and_settle().await;
    with_default(registry().with(logs.clone()), || info!("of this session"));
    eventually(analytics.opt_out().into_future()).await;
    assert!(logs.text().contains("of this session"), "bug reports are no part of analytics");
    eventually(analytics.end_session()).await;
    assert_eq!(logs.text(), "");
    with_default(registry().with(logs.clone()), || info!("of the next session"));
    drop(analytics);
    assert!(logs.text().contains("of the next session"));
}

#[tokio::test]
async fn the_lines_go_with_the_session_of_a_user_who_was_never_asked() {
    let world = World::new().await;
    let logs = RecentLogs::new(1 << 20, HOUR);
    let device = world.device("PHONE").await;
    let analytics = device.builder().recent_logs(logs.clone()).build().await.unwrap();
    with_default(registry().with(logs.clone()), || info!("of this session"));
    eventually(analytics.end_session()).await;
    assert_eq!(logs.text(), "");
}

#[tokio::test]
async fn no_logged_canary_leaves_while_nothing_is_submitted() {
    let world = World::new().await;
    let server = Server::start(Config::default());
    let logs = RecentLogs::new(1 << 24, HOUR);
    // For this thread, which runs all tasks of the test.
    let _installed = tracing::subscriber::set_default(registry().with(logs.clone()));
    let device = world.device("PHONE").await;
    let files = tempfile::tempdir().unwrap();
    let lines = tokio::fs::File::create(files.path().join("events.jsonl")).await.unwrap();
    let recorder = matrix_analytics::testing::RecordingBackend::new();
    let builder = device.builder().recent_logs(logs.clone()).backend(recorder.clone());
    let builder = builder.backend(matrix_analytics::JsonLines::new(lines));
    #[cfg(feature = "sqlite")]
    let builder =
        builder.queue(matrix_analytics::SqliteQueue::new(files.path().join("queue.sqlite")));
    let analytics = builder.build().await.unwrap();
    analytics.opt_in_and_settle().await;
    let canaries: Vec<_> =
        CANARIES.lines().filter_map(|line| Some(line.split_once('\t')?.1)).collect();
    let mut report = analytics.bug_report("example-app", "1");
    for canary in &canaries {
        info!("{canary}");
        analytics
            .capture_named("Logged", Properties::new().with("lines", logs.text().len() as u64));
    }
    report.add_log("recent.log", logs.text()).unwrap();
    eventually(report.preview()).await;
    drop(report.submit(&server.endpoint(), |_, _| {}));
    eventually(analytics.flush_all()).await;

    let mut seen = format!("{analytics:?} {:?} {logs:?} {report:?}", analytics.stats());
    for entry in std::fs::read_dir(files.path()).unwrap() {
        let content = std::fs::read(entry.unwrap().path()).unwrap();
        seen.push_str(&String::from_utf8_lossy(&content));
    }
    write!(seen, "{:?} {:?}", recorder.events(), world.server.requests()).unwrap();
    assert!(seen.contains("Logged"));
    let kept = logs.text();
    for canary in canaries {
        assert!(kept.contains(canary), "the layer has not seen {canary}");
        assert!(!seen.contains(canary), "{canary} has left");
    }
    assert_eq!(server.seen().opened, 0);
    eventually(analytics.end_session()).await;
    assert!(!logs.text().contains("canary"));
}
