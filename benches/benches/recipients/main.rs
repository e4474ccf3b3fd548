//! Prints what an event costs on its way to each recipient, next to the official SDKs: bytes of
//! requests, and processor time from the call of the app to the answer.
//!
//!     cargo bench -p matrix-analytics-benches --bench recipients
//!     cargo bench -p matrix-analytics-benches --bench recipients -- --quick   # a smoke test
//!
//! Both sides send the same events in requests of the same size. Each sender runs in its own
//! process, and the servers are threads of the process that prints, so that only the sender's
//! processor time counts. It includes all that a sender does with an event: for ours, also the
//! guard and the queue.

mod otel;
mod ours;
mod posthog;
mod sender;
mod table;

#[path = "../cost/client.rs"]
mod client;
#[path = "../rest/collector.rs"]
#[expect(dead_code, reason = "another benchmark reads all of it")]
mod collector;
#[path = "../cost/event.rs"]
mod event;
#[path = "../cost/homeserver.rs"]
mod homeserver;
#[path = "../cost/http.rs"]
mod http;
#[path = "../cost/numbers.rs"]
mod numbers;
#[path = "../cost/process.rs"]
#[expect(dead_code, reason = "another benchmark reads all of it")]
mod process;
#[path = "../rest/tcp_info.rs"]
mod tcp_info;

use std::{error::Error, process::ExitCode};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match &arguments[..] {
        ["send", name, batch, requests, collector, homeserver] => {
            sender::measure(name, batch.parse()?, requests.parse()?, collector, homeserver)?;
            Ok(ExitCode::SUCCESS)
        }
        _ => table::print(arguments.contains(&"--quick")),
    }
}
