//! Prints the cost of a capture and of its delivery, next to its peers and the minimum.
//!
//!     cargo bench -p matrix-analytics-benches
//!     cargo bench -p matrix-analytics-benches -- --quick          # a smoke test
//!     cargo bench -p matrix-analytics-benches -- --only sparse    # rows that match
//!
//! Each case runs in its own process and the servers in another. Each row shows the
//! median of several such runs. Times differ between machines and between runs, so
//! compare only the columns of one run.

mod allocator;
mod boxed;
mod client;
mod event;
mod floor;
mod homeserver;
mod http;
mod measure;
mod numbers;
mod otel;
mod ours;
mod posthog;
mod process;
mod servers;
mod table;

use std::{error::Error, process::ExitCode, time::Duration};

use self::servers::Urls;

/// The number of events in cases that measure capture and delivery together.
const BURST: u32 = 200_000;

/// How much a case measures, and the addresses of the servers.
#[derive(Clone, Debug)]
struct Settings {
    rounds: usize,
    /// The peers flush over HTTP between their rounds.
    peer_rounds: usize,
    samples: u32,
    queued: u32,
    accounts: u32,
    idle: Duration,
    homeserver: String,
    collector: String,
    black_hole: String,
}

impl Settings {
    fn new(quick: bool, urls: Urls) -> Self {
        let Urls { homeserver, collector, black_hole } = urls;
        Self {
            rounds: if quick { 20 } else { 200 },
            peer_rounds: if quick { 3 } else { 30 },
            samples: if quick { 200 } else { 2_000 },
            queued: if quick { 10_000 } else { 100_000 },
            accounts: if quick { 200 } else { 10_000 },
            idle: Duration::from_secs(if quick { 2 } else { 60 }),
            homeserver,
            collector,
            black_hole,
        }
    }
}

type Case = fn(&Settings);

/// The cases, named by what is measured.
const CASES: &[(&str, Case)] = &[
    ("floor/boxed_denied", floor::boxed_denied),
    ("floor/boxed_sparse", floor::boxed_sparse),
    ("floor/boxed_typed", floor::boxed_typed),
    ("floor/denied", floor::denied),
    ("floor/cold", |settings| floor::sparse(settings, measure::asleep)),
    ("floor/sparse", |settings| floor::sparse(settings, measure::busy)),
    ("floor/two_threads", floor::two_threads),
    ("floor/typed", floor::typed),
    ("otel/boxed_denied", otel::boxed_denied),
    ("otel/boxed_sparse", otel::boxed_sparse),
    ("otel/boxed_typed", otel::boxed_typed),
    ("otel/burst", otel::burst),
    ("otel/denied", otel::denied),
    ("otel/queued", otel::queued),
    ("otel/shutdown_10", |settings| otel::shutdown(settings, 10)),
    ("otel/cold", |settings| otel::sparse(settings, measure::asleep)),
    ("otel/sparse", |settings| otel::sparse(settings, measure::busy)),
    ("otel/to_collector", otel::to_collector),
    ("otel/two_threads", otel::two_threads),
    ("otel/typed", otel::typed),
    ("ours/accounts", ours::accounts),
    ("ours/after_idle", ours::after_idle),
    ("ours/boxed_denied", ours::boxed_denied),
    ("ours/boxed_denied_named", ours::boxed_denied_named),
    ("ours/boxed_named", ours::boxed_named),
    ("ours/boxed_sparse", ours::boxed_sparse),
    ("ours/boxed_typed", ours::boxed_typed),
    ("ours/burst", ours::burst),
    ("ours/denied", ours::denied),
    ("ours/durable", ours::durable),
    ("ours/idle", ours::idle),
    ("ours/named", ours::named),
    ("ours/queued", ours::queued),
    ("ours/shutdown_10", |settings| ours::shutdown(settings, 10)),
    ("ours/shutdown_10000", |settings| ours::shutdown(settings, 10_000)),
    ("ours/cold", |settings| ours::sparse(settings, measure::asleep)),
    ("ours/sparse", |settings| ours::sparse(settings, measure::busy)),
    ("ours/to_collector", ours::to_collector),
    ("ours/to_nowhere", ours::to_nowhere),
    ("ours/two_threads", ours::two_threads),
    ("ours/typed", ours::typed),
    ("posthog/boxed_denied", posthog::boxed_denied),
    ("posthog/boxed_sparse", posthog::boxed_sparse),
    ("posthog/boxed_typed", posthog::boxed_typed),
    ("posthog/burst", posthog::burst),
    ("posthog/denied", posthog::denied),
    ("posthog/named", posthog::named),
    ("posthog/queued", posthog::queued),
    ("posthog/shutdown_10", |settings| posthog::shutdown(settings, 10)),
    ("posthog/cold", |settings| posthog::sparse(settings, measure::asleep)),
    ("posthog/sparse", |settings| posthog::sparse(settings, measure::busy)),
    ("posthog/to_collector", posthog::to_collector),
    ("posthog/two_threads", posthog::two_threads),
];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match &arguments[..] {
        ["serve"] => servers::serve()?,
        ["case", name, length, homeserver, collector, black_hole] => {
            let urls = [homeserver, collector, black_hole].map(|url| (*url).to_owned());
            let [homeserver, collector, black_hole] = urls;
            let urls = Urls { homeserver, collector, black_hole };
            let case = CASES.iter().find(|(known, _)| known == name).ok_or("no such case")?;
            (case.1)(&Settings::new(*length == "quick", urls));
        }
        _ => {
            let only = arguments.iter().skip_while(|argument| **argument != "--only").nth(1);
            return table::print(arguments.contains(&"--quick"), only.copied().unwrap_or(""));
        }
    }
    Ok(ExitCode::SUCCESS)
}
