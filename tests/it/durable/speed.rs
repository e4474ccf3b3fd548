//! What the durable queue costs, end to end: measured on demand only.
//!
//! ```sh
//! cargo test --release --all-features --test it durable::speed -- --ignored --nocapture
//! ```

#![expect(clippy::print_stdout, reason = "what it is for")]

use std::{
    fs,
    time::{Duration, Instant},
};

use matrix_analytics::{
    Analytics, Backend, Batch, DeliveryError, Event, SqliteQueue, testing::AccountDataServer,
};
use serde::Serialize;
use tempfile::TempDir;

use crate::support::{ALICE, AnalyticsExt as _, FOREIGN_ID, content};

const EVENTS: u64 = 200_000;

#[derive(Serialize)]
struct RoomJoined {
    trigger: &'static str,
    is_dm: bool,
    is_space: bool,
    members: u32,
    seconds: f64,
}

impl Event for RoomJoined {
    const NAME: &'static str = "JoinedRoom";
}

/// Takes everything and does nothing with it.
struct Null;

impl Backend for Null {
    fn name(&self) -> &'static str {
        "null"
    }

    async fn send(&self, _: &Batch) -> Result<(), DeliveryError> {
        Ok(())
    }
}

/// The CPU time of this process so far.
fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(10 * ticks)
}

async fn measure(name: &str, queue: Option<SqliteQueue>) {
    let server = AccountDataServer::start().await;
    let event_type = matrix_analytics::ELEMENT_EVENT_TYPE;
    server.set_content(ALICE, event_type, &content(Some(true), Some(FOREIGN_ID)));
    let client = server.client(&server.add_device(ALICE, "PHONE")).await.unwrap();
    let builder = Analytics::builder(client, event_type).backend(Null);
    let builder = match queue {
        Some(queue) => builder.queue(queue),
        None => builder,
    };
    let analytics = builder.build().await.unwrap();
    analytics.confirmed().await;

    let (begun, cpu_before) = (Instant::now(), cpu());
    let mut captured = 0;
    while captured < EVENTS {
        // As fast as the bound of the intake lets it lose nothing.
        for _ in 0..5_000 {
            let event = RoomJoined {
                trigger: "MessageSent",
                is_dm: true,
                is_space: false,
                members: 12,
                seconds: 0.25,
            };
            analytics.capture(&event);
            captured += 1;
        }
        while analytics.stats().backends[0].queued > 4_000 {
            tokio::task::yield_now().await;
        }
    }
    analytics.flush().await;
    let (time, cpu) = (begun.elapsed(), cpu() - cpu_before);
    let stats = analytics.stats();
    let per_event = |time: Duration| time.as_secs_f64() * 1e6 / EVENTS as f64;
    println!(
        "{name}: {:.0} events/s, {:.2} us CPU per event; delivered {}, dropped {:?}",
        EVENTS as f64 / time.as_secs_f64(),
        per_event(cpu),
        stats.backends[0].delivered,
        stats.backends[0].dropped,
    );
    analytics.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn two_hundred_thousand_events() {
    let directory = TempDir::new().unwrap();
    for round in 0..3 {
        measure("in memory", None).await;
        let path = directory.path().join(format!("{round}.sqlite3"));
        measure("durable", Some(SqliteQueue::new(&path))).await;
        let size = fs::metadata(&path).unwrap().len();
        println!("the file: {size} bytes");
    }
    let queue = SqliteQueue::new(directory.path().join("encrypted")).passphrase("correct horse");
    measure("encrypted", Some(queue)).await;
}
