//! Runs the senders and prints the results.

use std::{
    collections::BTreeMap,
    error::Error,
    io::{self, Write as _},
    net::TcpListener,
    process::ExitCode,
    thread,
};

use crate::{
    collector,
    homeserver::homeserver,
    http::converse,
    numbers::{median, shown},
    process,
};

/// The rows: what is sent, the name of our sender, and whether there is an official one.
const ROWS: [(&str, &str, bool); 7] = [
    ("PostHog", "posthog", true),
    ("PostHog, gzip", "posthog+gzip", true),
    ("OTLP, protobuf", "otlp", true),
    ("OTLP, protobuf, gzip", "otlp+gzip", true),
    ("OTLP, JSON", "otlp-json", true),
    ("OTLP, JSON, gzip", "otlp-json+gzip", true),
    ("Matomo", "matomo", false),
];

/// The numbers of events in a request: ours by default, and OpenTelemetry's.
const BATCHES: [u32; 2] = [100, 512];

/// How much more processor time ours may take: runs differ by as much.
const TOLERANCE: f64 = 1.1;

/// The results of one sender and one size of requests, by name.
type Found = BTreeMap<(String, u32, String), Vec<f64>>;

/// Measures and prints. Fails if ours is behind, unless the run is a quick one.
pub(crate) fn print(quick: bool) -> Result<ExitCode, Box<dyn Error>> {
    let homeserver = serve_homeserver()?;
    let (runs, events) = if quick { (1, 5_120) } else { (5, 51_200) };
    let senders: Vec<_> = ROWS
        .iter()
        .flat_map(|(_, name, has_peer)| {
            [Some(format!("ours/{name}")), has_peer.then(|| format!("theirs/{name}"))]
        })
        .flatten()
        .collect();
    let mut found = Found::new();
    for run in 0..runs {
        for sender in &senders {
            for batch in BATCHES {
                eprint!("\r\x1b[Krun {}: {sender}, {batch}", run + 1);
                io::stderr().flush()?;
                let (size, requests) = (batch.to_string(), (events / batch).to_string());
                let collector = collector::start()?;
                let arguments = ["send", sender, &size, &requests, &collector, &homeserver];
                for (name, value) in process::run(&arguments)? {
                    found.entry((sender.clone(), batch, name)).or_default().push(value);
                }
            }
        }
    }
    eprint!("\r\x1b[K");

    println!(
        "| | events in a request | bytes of an event: ours | official SDK | \
         processor time of an event: ours, µs | official SDK, µs | |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut behind = false;
    for (title, name, _) in ROWS {
        for batch in BATCHES {
            let mut value = |side: &str, what: &str| {
                found
                    .get_mut(&(format!("{side}/{name}"), batch, what.to_owned()))
                    .map(|v| median(v))
            };
            let bytes = [value("ours", "bytes"), value("theirs", "bytes")];
            let time = [value("ours", "us"), value("theirs", "us")];
            let is_behind = |[ours, theirs]: [Option<f64>; 2], tolerance: f64| {
                ours.zip(theirs).is_some_and(|(ours, theirs)| ours > theirs * tolerance)
            };
            let verdict = match (is_behind(bytes, 1.0), is_behind(time, TOLERANCE)) {
                _ if time[1].is_none() => "–",
                (false, false) => "pass",
                (true, false) => "**more bytes**",
                (false, true) => "**more time**",
                (true, true) => "**more of both**",
            };
            behind |= verdict.starts_with("**");
            let [our_bytes, their_bytes] = bytes.map(shown);
            let [our_time, their_time] = time.map(shown);
            println!(
                "| {title} | {batch} | {our_bytes} | {their_bytes} | {our_time} | {their_time} | \
                 {verdict} |"
            );
        }
    }
    if quick {
        println!("\nA quick run: too short to judge by.");
    }
    Ok(if behind && !quick { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[expect(clippy::disallowed_methods, reason = "no library: a server")]
fn serve_homeserver() -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            thread::spawn(move || {
                connection.set_nodelay(true)?;
                converse(connection, homeserver)
            });
        }
    });
    Ok(url)
}
