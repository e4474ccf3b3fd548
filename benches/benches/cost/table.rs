//! Runs the cases and prints the results next to the targets.

use std::{collections::BTreeMap, error::Error, io::Write as _, process::ExitCode};

use crate::{
    numbers::{median, number, shown},
    process,
    servers::{Servers, Urls},
};

/// One line of the table.
struct Row {
    title: &'static str,
    unit: &'static str,
    /// Our result: the case, and the name of the value.
    ours: (&'static str, &'static str),
    target: Target,
    /// The results of posthog-rs, OpenTelemetry and the minimum.
    others: [Option<(&'static str, &'static str)>; 3],
}

#[derive(Clone, Copy)]
enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// As fast as the faster peer, or slower by at most a tenth: runs differ by as much.
    NotBehindPeers,
    /// There is no target for this row.
    Unset,
}

use Target::{AtLeast, AtMost, NotBehindPeers, Unset};

const POSTHOG: usize = 0;
const OTEL: usize = 1;
const FLOOR: usize = 2;

const fn row(
    title: &'static str,
    unit: &'static str,
    ours: (&'static str, &'static str),
    target: Target,
    others: [Option<(&'static str, &'static str)>; 3],
) -> Row {
    Row { title, unit, ours, target, others }
}

fn rows() -> Vec<Row> {
    let calls = |title, case, most, others| row(title, "ns", (case, "ns"), AtMost(most), others);
    let call = |title, case, others| row(title, "ns", (case, "ns"), NotBehindPeers, others);
    let allocations = |title, case, most, others| {
        row(title, "allocations", (case, "allocations"), AtMost(most), others)
    };
    let all = |what, posthog, otel, floor| {
        [Some((posthog, what)), Some((otel, what)), Some((floor, what))]
    };
    let none = [None; 3];
    vec![
        calls(
            "capture, denied",
            "ours/denied",
            1.5,
            all("ns", "posthog/denied", "otel/denied", "floor/denied"),
        ),
        allocations(
            "capture, denied",
            "ours/denied",
            0.0,
            all("allocations", "posthog/denied", "otel/denied", "floor/denied"),
        ),
        calls(
            "capture, typed event of 5 fields",
            "ours/typed",
            100.0,
            all("ns", "posthog/named", "otel/typed", "floor/typed"),
        ),
        allocations(
            "capture, typed event of 5 fields",
            "ours/typed",
            1.0,
            all("allocations", "posthog/named", "otel/typed", "floor/typed"),
        ),
        calls(
            "capture, name + 5 properties",
            "ours/named",
            250.0,
            all("ns", "posthog/named", "otel/typed", "floor/typed"),
        ),
        calls(
            "capture, sparse, timer armed",
            "ours/sparse",
            150.0,
            all("ns", "posthog/sparse", "otel/sparse", "floor/sparse"),
        ),
        row(
            "capture, sparse, the thread asleep before",
            "ns",
            ("ours/cold", "ns"),
            Unset,
            all("ns", "posthog/cold", "otel/cold", "floor/cold"),
        ),
        calls(
            "capture, first after idle",
            "ours/after_idle",
            3_000.0,
            all("ns", "posthog/cold", "otel/cold", "floor/cold"),
        ),
        calls(
            "capture, 2 threads at once",
            "ours/two_threads",
            250.0,
            all("ns", "posthog/two_threads", "otel/two_threads", "floor/two_threads"),
        ),
        call(
            "capture behind a trait, denied",
            "ours/boxed_denied",
            all("ns", "posthog/boxed_denied", "otel/boxed_denied", "floor/boxed_denied"),
        ),
        call(
            "capture behind a trait, denied, name + 5 properties",
            "ours/boxed_denied_named",
            all("ns", "posthog/boxed_denied", "otel/boxed_denied", "floor/boxed_denied"),
        ),
        call(
            "capture behind a trait, typed event of 5 fields",
            "ours/boxed_typed",
            all("ns", "posthog/boxed_typed", "otel/boxed_typed", "floor/boxed_typed"),
        ),
        call(
            "capture behind a trait, name + 5 properties",
            "ours/boxed_named",
            all("ns", "posthog/boxed_typed", "otel/boxed_typed", "floor/boxed_typed"),
        ),
        call(
            "capture behind a trait, sparse, all threads asleep before",
            "ours/boxed_sparse",
            all("ns", "posthog/boxed_sparse", "otel/boxed_sparse", "floor/boxed_sparse"),
        ),
        row(
            "memory per queued event, resident",
            "B",
            ("ours/queued", "resident"),
            AtMost(330.0),
            [Some(("posthog/queued", "resident")), Some(("otel/queued", "resident")), None],
        ),
        row(
            "200,000 events to a null backend, as JSON",
            "µs CPU/event",
            ("ours/to_nowhere", "us"),
            AtMost(1.2),
            none,
        ),
        row(
            "200,000 events through the durable queue",
            "events/s",
            ("ours/durable", "per_second"),
            AtLeast(150_000.0),
            none,
        ),
        row(
            "200,000 events through the durable queue",
            "µs CPU/event",
            ("ours/durable", "us"),
            AtMost(6.0),
            none,
        ),
        row(
            "200,000 events to a PostHog endpoint",
            "µs CPU/event",
            ("ours/to_collector", "us"),
            AtMost(2.0),
            [Some(("posthog/to_collector", "us")), Some(("otel/to_collector", "us")), None],
        ),
        row(
            "200,000 events at the defaults: lost without a word",
            "events",
            ("ours/burst", "unaccounted"),
            AtMost(0.0),
            none,
        ),
        row(
            "200,000 events at the defaults: lost by a stated bound",
            "%",
            ("ours/burst", "lost_percent"),
            AtMost(100.0),
            [Some(("posthog/burst", "lost_percent")), Some(("otel/burst", "lost_percent")), None],
        ),
        row(
            "shutdown(1 s), black hole, 10 events",
            "s",
            ("ours/shutdown_10", "seconds"),
            AtMost(1.1),
            [Some(("posthog/shutdown_10", "seconds")), Some(("otel/shutdown_10", "seconds")), None],
        ),
        row(
            "shutdown(1 s), black hole, 10,000 events",
            "s",
            ("ours/shutdown_10000", "seconds"),
            AtMost(1.1),
            none,
        ),
        row("idle: wake-ups", "", ("ours/idle", "wake_ups"), AtMost(0.0), none),
        row(
            "many idle accounts: memory of each, on the heap",
            "KiB",
            ("ours/accounts", "heap"),
            AtMost(8.0),
            none,
        ),
        row(
            "many idle accounts: memory of each, resident",
            "KiB",
            ("ours/accounts", "resident"),
            AtMost(8.0),
            none,
        ),
        row("many idle accounts: tasks of each", "", ("ours/accounts", "tasks"), AtMost(2.0), none),
    ]
}

/// The results of all runs of one case, by name.
type Found = BTreeMap<String, Vec<f64>>;

/// Measures and prints. Fails if a target is missed, unless the run is a quick one.
pub(crate) fn print(quick: bool, only: &str) -> Result<ExitCode, Box<dyn Error>> {
    let rows: Vec<_> = rows().into_iter().filter(|row| row.title.contains(only)).collect();
    let mut cases: Vec<_> = rows
        .iter()
        .flat_map(|row| [Some(row.ours)].into_iter().chain(row.others))
        .flatten()
        .map(|(case, _)| case)
        .collect();
    cases.sort_unstable();
    cases.dedup();

    let servers = Servers::start()?;
    let mut found: BTreeMap<&str, Found> = BTreeMap::new();
    for run in 0..if quick { 1 } else { 5 } {
        for case in &cases {
            // These cases take long and hardly vary between runs.
            let is_slow =
                case.contains("shutdown") || ["ours/accounts", "ours/idle"].contains(case);
            let is_peer = !case.starts_with("ours");
            if (is_slow && run > 0) || (is_slow && is_peer && quick) {
                continue;
            }
            eprint!("\r\x1b[Krun {}: {case}", run + 1);
            std::io::stderr().flush()?;
            for (name, value) in run_case(case, quick, &servers.urls)? {
                found.entry(case).or_default().entry(name).or_default().push(value);
            }
        }
    }
    eprint!("\r\x1b[K");

    let mut value = |(case, name): (&str, &str)| {
        let values = found.get_mut(case)?.get_mut(name)?;
        Some(median(values))
    };
    println!("| | target | ours | | posthog-rs | OpenTelemetry | floor | best peer / ours |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut missed = 0;
    for row in &rows {
        // Memory is measured in bytes and may be shown in KiB.
        let scale = if row.unit == "KiB" { 1024.0 } else { 1.0 };
        let ours = value(row.ours).map(|value| value / scale);
        let others = row.others.map(|other| other.and_then(&mut value).map(|value| value / scale));
        // Rounded as displayed: a buffer that grows once in a thousand calls is not an
        // allocation per call.
        let rounded = ours.map(|ours| (ours * 100.0).round() / 100.0);
        let best = [others[POSTHOG], others[OTEL]].into_iter().flatten().reduce(f64::min);
        let verdict = match (rounded, row.target) {
            (None, _) => "not measured",
            (Some(ours), NotBehindPeers) if best.is_some_and(|best| ours <= 1.1 * best) => "pass",
            (Some(ours), AtMost(most)) if ours <= most => "pass",
            (Some(ours), AtLeast(least)) if ours >= least => "pass",
            (Some(_), Unset) => "–",
            _ => "**miss**",
        };
        missed += usize::from(verdict == "**miss**");
        let target = match row.target {
            AtMost(most) => format!("≤ {}", number(most)),
            AtLeast(least) => format!("≥ {}", number(least)),
            NotBehindPeers => "≤ peers".to_owned(),
            Unset => "–".to_owned(),
        };
        let ratio = match (best, ours) {
            (Some(best), Some(ours)) if ours > 0.0 => format!("{:.1}", best / ours),
            _ => "–".to_owned(),
        };
        let [posthog, otel, floor] = [others[POSTHOG], others[OTEL], others[FLOOR]].map(shown);
        let title = if row.unit.is_empty() {
            row.title.to_owned()
        } else {
            format!("{}, {}", row.title, row.unit)
        };
        let ours = shown(ours);
        println!(
            "| {title} | {target} | {ours} | {verdict} | {posthog} | {otel} | {floor} | {ratio} |"
        );
    }
    if quick {
        println!("\nA quick run: too short to judge by.");
    }
    Ok(if missed > 0 && !quick { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Runs a case in its own process.
fn run_case(case: &str, quick: bool, urls: &Urls) -> Result<Vec<(String, f64)>, Box<dyn Error>> {
    let length = if quick { "quick" } else { "full" };
    process::run(&["case", case, length, &urls.homeserver, &urls.collector, &urls.black_hole])
}
