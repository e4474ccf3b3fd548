//! This crate.

use std::time::Duration;

use matrix_analytics::{Analytics, AnalyticsBuilder, PostHog, SqliteQueue};
use matrix_sdk::Client;
use tempfile::TempDir;
use tokio::runtime::Handle;

use crate::{
    event::RoomJoined,
    peer::{Peer, Setup},
};

struct Ours {
    runtime: Handle,
    analytics: Analytics,
    /// Has the file of the durable queue.
    _directory: TempDir,
}

/// Returns a builder as an app has it, with a durable queue in `queue` if there is one.
pub(crate) fn builder(
    client: Client,
    collector: &str,
    compressed: Option<bool>,
    queue: Option<SqliteQueue>,
) -> AnalyticsBuilder {
    let posthog = PostHog::builder(collector, "phc_bench");
    let posthog = match compressed {
        Some(compressed) => posthog.gzip(compressed),
        None => posthog,
    };
    let backend = posthog.build().expect("a backend");
    let builder = Analytics::builder(client, "org.example.analytics").backend(backend);
    match queue {
        Some(queue) => builder.queue(queue),
        None => builder,
    }
}

/// Starts with an opt-in that the homeserver has confirmed.
pub(crate) fn start(setup: Setup<'_>, client: Client, durable: bool) -> impl Peer + use<> {
    let directory = tempfile::tempdir().expect("a directory");
    let queue = durable.then(|| SqliteQueue::new(directory.path().join("queue.sqlite")));
    let builder = builder(client, setup.collector, setup.compressed, queue);
    let analytics = setup.runtime.block_on(async {
        let analytics = builder.build().await.expect("analytics");
        analytics.recheck().await.expect("an answer");
        assert!(analytics.is_open(), "{analytics:?}");
        analytics
    });
    Ours { runtime: setup.runtime.handle().clone(), analytics, _directory: directory }
}

impl Peer for Ours {
    fn capture(&self, n: u32) {
        self.analytics.capture(&RoomJoined::new(n));
    }

    fn flush(&self) {
        self.runtime.block_on(self.analytics.flush(Duration::from_secs(30)));
        let stats = self.analytics.stats();
        assert!(stats.backends.iter().all(|backend| backend.dropped.is_empty()), "{stats:?}");
    }
}
