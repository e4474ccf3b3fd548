//! The time that an app waits for its telemetry when it starts.

use std::{
    error::Error,
    path::Path,
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use matrix_analytics::SqliteQueue;
use tokio::runtime::Runtime;

use crate::{large_account, ours, peer, process::report};

/// Measures the start of a client with the store in a directory, and of a peer.
pub(crate) fn measure(
    name: &str,
    collector: &str,
    homeserver: &str,
    store: &Path,
) -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::new()?;
    let began = Instant::now();
    let client = runtime.block_on(large_account::client(homeserver, store));
    report("client", milliseconds(began.elapsed()));
    report("rooms", client.rooms().len() as f64);

    let is_durable = name == "durable";
    if !is_durable && name != "ours" {
        let began = Instant::now();
        let _peer = peer::start(name, collector, &runtime, &client);
        report("build", milliseconds(began.elapsed()));
        std::process::exit(0);
    }
    let queue = is_durable.then(|| SqliteQueue::new(store.join("queue.sqlite")));
    let builder = ours::builder(client, collector, None, queue);
    runtime.block_on(async {
        let began = Instant::now();
        let analytics = builder.build().await?;
        report("build", milliseconds(began.elapsed()));
        let mut states = analytics.state_stream();
        while !analytics.is_open() {
            states.next().await.ok_or("the states have ended")?;
        }
        report("open", milliseconds(began.elapsed()));
        Ok(())
    })
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
