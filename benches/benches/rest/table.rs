//! Runs the cases and prints the results.

use std::{collections::BTreeMap, error::Error, io::Write as _, thread};

use crate::{
    collector, large_account,
    numbers::{median, number, shown},
    process,
};

/// The columns, by the name of the peer.
const COLUMNS: [(&str, &str); 5] = [
    ("ours", "ours"),
    ("durable", "ours, durable queue"),
    ("posthog", "posthog-rs"),
    ("otel", "OpenTelemetry"),
    ("bare", "Matrix client alone"),
];

/// No peer, where a row has no value in a column.
const NONE: &str = "";

/// How long a run takes.
struct Length {
    /// The processes that start with each store.
    starts: usize,
    /// The seconds without an event.
    idle: u32,
    /// The minutes with an event each.
    minutes: u32,
}

const FULL: Length = Length { starts: 11, idle: 60, minutes: 5 };
const QUICK: Length = Length { starts: 1, idle: 5, minutes: 1 };

/// The results of all runs: the values of one name, by the case and the peer.
#[derive(Default)]
struct Found(BTreeMap<(&'static str, String, String), Vec<f64>>);

type Results = Result<Vec<(String, f64)>, Box<dyn Error>>;

impl Found {
    fn add(
        &mut self,
        case: &'static str,
        peer: &str,
        results: Results,
    ) -> Result<(), Box<dyn Error>> {
        for (name, value) in results? {
            self.0.entry((case, peer.to_owned(), name)).or_default().push(value);
        }
        Ok(())
    }

    fn value(&mut self, case: &'static str, peer: &str, name: &str) -> Option<f64> {
        self.0.get_mut(&(case, peer.to_owned(), name.to_owned())).map(|values| median(values))
    }

    /// Prints a row whose values come from the peers in `columns`.
    fn row(
        &mut self,
        title: &str,
        case: &'static str,
        columns: [&str; 5],
        name: &str,
        factor: f64,
    ) {
        let values = columns.map(|peer| self.value(case, peer, name));
        let values = values.map(|value| shown(value.map(|value| value * factor)));
        println!("| {title} | {} |", values.join(" | "));
    }
}

/// Measures and prints.
pub(crate) fn print(quick: bool) -> Result<(), Box<dyn Error>> {
    let length = if quick { QUICK } else { FULL };
    let homeserver = large_account::serve()?;
    let mut found = Found::default();
    starts(&mut found, &length, &homeserver)?;
    sizes(&mut found, &homeserver)?;
    windows(&mut found, &length, &homeserver)?;
    eprint!("\r\x1b[K");

    println!("| | {} |", COLUMNS.map(|(_, title)| title).join(" | "));
    println!("|---|{}", "---|".repeat(COLUMNS.len()));
    start_rows(&mut found);
    window_rows(&mut found, &length);
    size_rows(&mut found);
    if quick {
        println!("\nA quick run: too short to judge by.");
    }
    Ok(())
}

/// Starts each peer with an empty store and with that of a large account.
fn starts(found: &mut Found, length: &Length, homeserver: &str) -> Result<(), Box<dyn Error>> {
    for case in ["start, empty", "start, large"] {
        let directory = tempfile::tempdir()?;
        let store = directory.path().to_str().ok_or("a path that is not UTF-8")?;
        if case == "start, large" {
            progress("a large account");
            found.add("fill", "bare", process::run(&["fill", homeserver, store]))?;
            let rooms = found.value("fill", "bare", "rooms");
            if rooms != Some(large_account::ROOMS as f64) {
                return Err(format!("{rooms:?} rooms").into());
            }
        }
        for run in 0..length.starts {
            for (peer, _) in COLUMNS {
                progress(&format!("{case}: {peer}, {}", run + 1));
                let collector = collector::start()?;
                let results = process::run(&["start", peer, &collector, homeserver, store]);
                found.add(case, peer, results)?;
            }
        }
    }
    Ok(())
}

/// Measures the bytes of events, with and without compression.
fn sizes(found: &mut Found, homeserver: &str) -> Result<(), Box<dyn Error>> {
    for peer in
        ["ours+plain", "ours+gzip", "posthog+plain", "posthog+gzip", "otel+plain", "otel+gzip"]
    {
        progress(&format!("bytes on the wire: {peer}"));
        let collector = collector::start()?;
        found.add("size", peer, process::run(&["size", peer, &collector, homeserver]))?;
    }
    Ok(())
}

/// Measures all peers in the same minutes, each in its own process.
fn windows(found: &mut Found, length: &Length, homeserver: &str) -> Result<(), Box<dyn Error>> {
    progress("one event a minute");
    let minutes = length.minutes;
    let windows = [("idle", length.idle, 0), ("minutes", 60 * minutes, minutes)];
    thread::scope(|scope| {
        let mut running = Vec::new();
        for (case, seconds, events) in windows {
            for (peer, _) in COLUMNS {
                let collector = collector::start()?;
                let (seconds, events) = (seconds.to_string(), events.to_string());
                let window = move || {
                    let arguments = ["window", peer, &collector, homeserver, &seconds, &events];
                    process::run(&arguments).map_err(|error| error.to_string())
                };
                running.push((case, peer, scope.spawn(window)));
            }
        }
        for (case, peer, window) in running {
            let results = window.join().map_err(|_| "a thread panicked")?;
            found.add(case, peer, results.map_err(Box::from))?;
        }
        Ok(())
    })
}

fn start_rows(found: &mut Found) {
    let all = COLUMNS.map(|(peer, _)| peer);
    let large = format!(
        "the store of {} rooms with {} state events",
        large_account::ROOMS,
        number(large_account::STATE_EVENTS as f64),
    );
    for (case, store) in [("start, empty", "an empty store"), ("start, large", &large)] {
        let mut row = |title: &str, columns, name| {
            found.row(&format!("{title}, {store}, ms"), case, columns, name, 1.0);
        };
        row("start of the Matrix client", [NONE, NONE, NONE, NONE, "bare"], "client");
        row("start of the telemetry", ["ours", "durable", "posthog", "otel", NONE], "build");
        row("… until the homeserver has confirmed the opt-in", all, "open");
    }
}

fn window_rows(found: &mut Found, length: &Length) {
    let all = COLUMNS.map(|(peer, _)| peer);
    let peers = ["ours", "durable", "posthog", "otel", NONE];
    found.row("threads", "idle", peers, "threads", 1.0);
    found.row("tasks of the runtime", "idle", peers, "tasks", 1.0);
    for (title, name) in
        [("memory, heap and stacks, KiB", "private"), ("memory, with code, KiB", "resident")]
    {
        found.row(title, "idle", peers, name, 1.0 / 1024.0);
    }

    let idle = format!("{} s without an event", length.idle);
    found.row(&format!("{idle}: wake-ups"), "idle", all, "wake_ups", 1.0);
    found.row(&format!("{idle}: packets"), "idle", peers, "packets", 1.0);

    let per_hour = 60.0 / f64::from(length.minutes);
    let mut row = |what: &str, columns, name| {
        found.row(
            &format!("an event a minute: {what} in an hour"),
            "minutes",
            columns,
            name,
            per_hour,
        );
    };
    row("wake-ups", all, "wake_ups");
    row("processor time, ms,", all, "processor");
    row("connections after the first", peers, "connections");
    row("packets", peers, "packets");
    row("bytes of requests", peers, "bytes");
}

fn size_rows(found: &mut Found) {
    for (compression, columns) in [
        ("not compressed", ["ours+plain", NONE, "posthog+plain", "otel+plain", NONE]),
        ("compressed", ["ours+gzip", NONE, "posthog+gzip", "otel+gzip", NONE]),
    ] {
        for size in ["1", "20", "100"] {
            let title = format!("bytes of an event in a request of {size}, {compression}");
            found.row(&title, "size", columns, size, 1.0);
        }
    }
}

fn progress(what: &str) {
    eprint!("\r\x1b[K{what}");
    let _ = std::io::stderr().flush();
}
