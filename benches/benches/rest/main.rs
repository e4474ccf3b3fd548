//! Prints what an app pays while little happens, next to its peers: time to start, memory,
//! wake-ups, packets, and bytes on the wire.
//!
//!     cargo bench -p matrix-analytics-benches --bench rest
//!     cargo bench -p matrix-analytics-benches --bench rest -- --quick   # a smoke test
//!
//! Each case runs in its own process. The servers are threads of the process that prints.

mod collector;
mod large_account;
mod otel;
mod ours;
mod peer;
mod posthog;
mod size;
mod starting;
mod table;
mod tcp_info;
mod window;

#[path = "../cost/client.rs"]
mod client;
#[path = "../cost/event.rs"]
mod event;
#[path = "../cost/homeserver.rs"]
mod homeserver;
#[path = "../cost/http.rs"]
mod http;
#[path = "../cost/numbers.rs"]
mod numbers;
#[path = "../cost/process.rs"]
mod process;

use std::{error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match &arguments[..] {
        ["fill", homeserver, store] => large_account::fill(homeserver, Path::new(store)),
        ["size", peer, collector, homeserver] => size::measure(peer, collector, homeserver),
        ["start", peer, collector, homeserver, store] => {
            starting::measure(peer, collector, homeserver, Path::new(store))
        }
        ["window", peer, collector, homeserver, seconds, events] => {
            window::measure(peer, collector, homeserver, seconds.parse()?, events.parse()?)
        }
        _ => table::print(arguments.contains(&"--quick")),
    }
}
