//! Runs the crate against a real Synapse, with the ways in which apps sync, and with other clients.
//! `scripts/e2e` sets everything up and runs it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it prints its results")]

mod device;
mod health;
mod homeserver;
mod peer;
mod products;
mod rounds;
mod scenarios;
mod syncing;
mod table;
mod user;
mod waiting;
mod wire;
mod witness;

use std::{panic::AssertUnwindSafe, process::ExitCode, sync::Arc, time::Duration};

use clap::{Parser, ValueEnum};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::{Instant, timeout};

use self::{
    health::Row,
    homeserver::{Homeserver, Msc3391, root},
    products::Story,
    rounds::Tally,
    syncing::SyncKind,
    table::{Cell, Entry, Scenario, render},
    waiting::Result,
};

/// The end-to-end suite.
#[derive(Parser)]
// `scripts/e2e` sets the number of rounds before its own arguments.
#[command(args_override_self = true)]
struct Arguments {
    /// Run only these parts (default: all)
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Run only scenarios whose name contains this
    #[arg(long, default_value = "")]
    scenario: String,
    /// Number of rounds of races at each homeserver
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seed of the rounds
    #[arg(long)]
    seed: Option<u64>,
    /// Number of scenarios that run in parallel at one homeserver
    #[arg(long, default_value_t = 3)]
    jobs: usize,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Part {
    /// The table of scenarios
    Scenarios,
    /// The races
    Rounds,
    /// The races, with devices that ask for different policies
    Policies,
    /// The examples
    Examples,
    /// The health of encryption
    Health,
}

impl Arguments {
    fn want(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }
}

/// The time limit of a scenario. None takes longer, even on a busy machine.
pub(crate) const LONGEST: Duration = Duration::from_secs(180);

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("e2e: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the chosen parts. Returns whether all passed.
async fn run(arguments: &Arguments) -> Result<bool> {
    let began = Instant::now();
    let (off, on, stories, rows) = tokio::try_join!(
        against(arguments, Msc3391::Off),
        against(arguments, Msc3391::On),
        examples(arguments),
        health(arguments),
    )?;
    let mut entries = Vec::new();
    let mut tallies = Vec::new();
    for (more, tally) in [off, on] {
        entries.extend(more);
        tallies.extend(tally);
    }
    let mut report = String::new();
    if arguments.want(Part::Scenarios) {
        report.push_str(&render(scenarios::ALL, &entries));
    }
    for tally in &tallies {
        match tally {
            Ok(tally) => report.push_str(&format!("\n{}", tally.render())),
            Err(error) => report.push_str(&format!("\nthe rounds failed: {error}\n")),
        }
    }
    report.push_str(&format!("\n{}", products::render(&stories)));
    if arguments.want(Part::Health) {
        report.push_str(&format!("\n{}", health::render(&rows)));
    }
    let rows_failed = rows.iter().filter(|row| row.failed()).count();
    let stories_failed = stories.iter().any(|story| story.result.is_err());
    let clean = tallies.iter().all(|tally| tally.as_ref().is_ok_and(Tally::is_clean));
    println!("\n{report}");
    let failed = entries.iter().filter(|entry| entry.result.is_err()).count();
    println!(
        "{} of {} cells failed, after {:.0} s",
        failed + rows_failed,
        entries.len() + rows.len(),
        began.elapsed().as_secs_f64()
    );
    let file = root().join("target/e2e.md");
    std::fs::write(&file, report)?;
    Ok(failed == 0 && clean && !stories_failed && rows_failed == 0)
}

async fn examples(arguments: &Arguments) -> Result<Vec<Story>> {
    if arguments.want(Part::Examples) { products::run().await } else { Ok(Vec::new()) }
}

async fn health(arguments: &Arguments) -> Result<Vec<Row>> {
    if !arguments.want(Part::Health) {
        return Ok(Vec::new());
    }
    health::run(&arguments.scenario, 2 * arguments.jobs).await
}

/// Runs every scenario with every kind of sync against one homeserver.
async fn against(
    arguments: &Arguments,
    msc3391: Msc3391,
) -> Result<(Vec<Entry>, Vec<Result<Tally>>)> {
    let parts = [Part::Scenarios, Part::Rounds, Part::Policies];
    if !parts.into_iter().any(|part| arguments.want(part)) {
        return Ok((Vec::new(), Vec::new()));
    }
    let homeserver = Arc::new(Homeserver::start("e2e", msc3391).await?);
    let wanted = |scenario: &&Scenario| {
        arguments.want(Part::Scenarios) && scenario.name.contains(&arguments.scenario)
    };
    let (alone, others): (Vec<_>, Vec<_>) =
        scenarios::ALL.iter().filter(wanted).partition(|scenario| scenario.is_alone);
    let mut entries = Vec::new();
    for (scenarios, jobs) in [(others, arguments.jobs), (alone, 1)] {
        let cells = scenarios.into_iter().flat_map(|scenario| {
            SyncKind::ALL.map(|kind| run_one(homeserver.clone(), scenario, kind))
        });
        let done = futures_util::stream::iter(cells).buffer_unordered(jobs);
        entries.extend(done.collect::<Vec<_>>().await);
    }
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    let mut tallies = Vec::new();
    for (part, has_policies) in [(Part::Rounds, false), (Part::Policies, true)] {
        if arguments.want(part) {
            let run = rounds::run(homeserver.clone(), arguments.rounds, seed, has_policies);
            tallies.push(run.await);
        }
    }
    Ok((entries, tallies))
}

async fn run_one(
    homeserver: Arc<Homeserver>,
    scenario: &'static Scenario,
    kind: SyncKind,
) -> Entry {
    let msc3391 = homeserver.msc3391;
    let began = Instant::now();
    let number = scenarios::ALL.iter().position(|one| std::ptr::eq(one, scenario));
    let user_name = format!("user{}-{}", number.unwrap_or_default(), kind as usize);
    let cell = Cell { homeserver, kind, user_name };
    // A panic fails one cell, not the run.
    let run = AssertUnwindSafe((scenario.run)(cell)).catch_unwind();
    let result = match timeout(LONGEST, run).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err("it panicked".into()),
        Err(_) => Err("it takes too long".into()),
    };
    let took = began.elapsed();
    let (kind_name, seconds) = (kind.name(), took.as_secs_f64());
    let outcome = result.as_ref().err().map_or("ok".to_owned(), |error| format!("FAILED: {error}"));
    println!(
        "{seconds:5.1} s  {}; {kind_name}, MSC3391 {}: {outcome}",
        scenario.name,
        msc3391.name()
    );
    Entry { scenario: scenario.name, kind, msc3391, result, took }
}
