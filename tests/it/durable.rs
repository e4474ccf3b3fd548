//! The durable queue, over restarts, crashes, disk failures and withdrawals.

mod arrays;
mod contract;
mod encryption;
mod faults;
mod foreign;
#[cfg(target_os = "linux")]
mod frozen;
mod guarded;
mod hanging;
mod history;
mod identity;
#[cfg(unix)]
mod kill;
#[cfg(unix)]
mod links;
mod numbers;
mod per_event;
mod text_policy;
mod user_properties;
mod wiped;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use matrix_analytics::{
    Analytics, AnalyticsBuilder, BackendStats, DropReason, SqliteQueue,
    testing::{DeliveryFailure, FailingBackend},
};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::{AnalyticsExt as _, Device, FOREIGN_ID, World, content, eventually};

/// A device whose app has a durable queue, on an account that has opted in.
struct Durable {
    world: World,
    device: Device,
    directory: TempDir,
    /// The size of the history in the file, if there is one.
    history: Option<usize>,
}

impl Durable {
    async fn new() -> Self {
        let world = World::new().await;
        world.set_content(&content(Some(true), Some(FOREIGN_ID)));
        let device = world.device("PHONE").await;
        Self { world, device, directory: TempDir::new().unwrap(), history: None }
    }

    /// Returns a device whose file has a history of at most `events`.
    async fn with_history(events: usize) -> Self {
        Self { history: Some(events), ..Self::new().await }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("queue.sqlite3")
    }

    fn builder(&self) -> AnalyticsBuilder {
        self.builder_on(SqliteQueue::new(self.path()))
    }

    fn builder_on(&self, queue: SqliteQueue) -> AnalyticsBuilder {
        match self.history {
            Some(events) => self.device.builder().history(events).queue(queue.keep_history()),
            None => self.device.builder().queue(queue),
        }
    }

    /// Starts a process with one backend, and waits for the homeserver's answer.
    async fn start(&self) -> (Analytics, FailingBackend) {
        self.start_with(FailingBackend::new()).await
    }

    async fn start_with(&self, backend: FailingBackend) -> (Analytics, FailingBackend) {
        let analytics = self.builder().backend(backend.clone()).build().await.unwrap();
        analytics.confirmed().await;
        (analytics, backend)
    }

    /// Starts a process whose backend is down.
    async fn start_offline(&self) -> (Analytics, FailingBackend) {
        let backend = FailingBackend::new();
        backend.fail_always(DeliveryFailure::Transient);
        self.start_with(backend).await
    }

    /// Shuts `analytics` down, and waits until its file is free.
    async fn end(&self, analytics: Analytics) {
        eventually(analytics.shutdown(Duration::ZERO)).await;
    }

    /// Returns the number of events in the file, which must not be open in any process.
    fn rows(&self) -> i64 {
        rows(&self.path())
    }
}

fn rows(path: &Path) -> i64 {
    let connection = Connection::open(path).unwrap();
    connection.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap()
}

/// Returns the counters of the first backend, and asserts that those of all backends balance.
fn counters(analytics: &Analytics) -> BackendStats {
    let stats = analytics.stats();
    assert!(stats.backends.iter().all(BackendStats::is_balanced), "{stats:?}");
    stats.backends[0].clone()
}

fn dropped(counters: &BackendStats, reason: DropReason) -> u64 {
    counters.dropped.get(&reason).copied().unwrap_or_default()
}

#[test]
fn every_test_named_in_the_documentation_exists() {
    let sources = [
        ("contract", include_str!("durable/contract.rs")),
        ("encryption", include_str!("durable/encryption.rs")),
        ("faults", include_str!("durable/faults.rs")),
        ("foreign", include_str!("durable/foreign.rs")),
        ("frozen", include_str!("durable/frozen.rs")),
        ("guarded", include_str!("durable/guarded.rs")),
        ("hanging", include_str!("durable/hanging.rs")),
        ("history", include_str!("durable/history.rs")),
        ("identity", include_str!("durable/identity.rs")),
        ("kill", include_str!("durable/kill.rs")),
        ("links", include_str!("durable/links.rs")),
        ("numbers", include_str!("durable/numbers.rs")),
        ("per_event", include_str!("durable/per_event.rs")),
        ("text_policy", include_str!("durable/text_policy.rs")),
        ("user_properties", include_str!("durable/user_properties.rs")),
        ("wiped", include_str!("durable/wiped.rs")),
        ("erasure::durable", include_str!("erasure/durable.rs")),
        ("erasure::kill", include_str!("erasure/kill.rs")),
        ("erasure::unrecorded", include_str!("erasure/unrecorded.rs")),
        ("disk::tests", include_str!("../../src/sink/queue/sqlite/disk/tests.rs")),
        ("tests::hanging", include_str!("../../src/sink/queue/sqlite/tests.rs")),
    ];
    let mut named = 0;
    for name in include_str!("../../docs/durability.md").split('`') {
        for (module, source) in sources {
            if let Some(test) = name.strip_prefix(&format!("{module}::")) {
                assert!(
                    source.contains(&format!("async fn {test}("))
                        || source.contains(&format!("fn {test}(")),
                    "{name}"
                );
                named += 1;
            }
        }
    }
    assert!(named > 50, "{named}");
}

async fn flush(analytics: &Analytics) {
    eventually(analytics.flush_all()).await;
}

/// Advances time until `done`, for a day at most.
async fn in_time(what: &str, done: impl Fn() -> bool) {
    for _ in 0..24 * 360 {
        if done() {
            return;
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        tokio::task::yield_now().await;
    }
    panic!("{what}");
}
