//! The health of encryption, watched by a client at a real homeserver.

mod account;
mod hook;
mod messages;
pub(crate) mod peer;
mod personal;
mod recorder;
mod report;
pub(crate) mod stage;
mod watcher;

use std::{fmt::Write as _, panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::{Instant, timeout};

use self::{report::Report, stage::Stage};
use crate::{
    LONGEST,
    homeserver::{Homeserver, Msc3391},
    syncing::SyncKind,
    waiting::Result,
};

type Run = fn(&Stage) -> Pin<Box<dyn Future<Output = Result<Vec<Report>>> + '_>>;

struct Scenario {
    name: &'static str,
    run: Run,
}

macro_rules! scenarios {
    ($($name:literal => $run:path;)*) => {
        const ALL: &[Scenario] = &[$(Scenario {
            name: $name,
            run: |stage| Box::pin($run(stage)),
        }),*];
    };
}

scenarios! {
    "a new device recovers the key from the backup after 10 s" => messages::recovered_late;
    "the device is verified halfway" => account::verified_halfway;
    "an opt-out and a new opt-in while a message waits for its key, and one after them" => messages::opt_out_while_pending;
    "two messages from before the opt-in, and one after it" => messages::before_the_opt_in;
    "the key is withheld" => messages::withheld;
    "the user joins after a message from before the opt-in, and one after it" => messages::joins_late;
    "the sender's device is not signed" => messages::unsigned;
    "the key comes late" => messages::key_comes_late;
    "the key of a message comes at once, and that of another never" => messages::key_comes_at_once;
    "matrix-sdk-ui's hook, next to the watch" => hook::next_to_the_watch;
    "a message that may not be sent" => account::send_failure;
    "the token expires, and the app renews it (soft logout)" => account::soft_logout;
    "the store is lost, but not the session" => account::key_upload_clash;
}

/// The kinds of sync that carry keys.
const KINDS: [SyncKind; 2] = [SyncKind::Classic, SyncKind::Service];

/// The result of one run of a scenario.
pub(crate) struct Row {
    scenario: &'static str,
    kind: SyncKind,
    result: Result<Vec<Report>>,
    took: Duration,
}

impl Row {
    pub(crate) fn failed(&self) -> bool {
        self.result.is_err()
    }
}

/// Runs each scenario whose name contains `name` with each kind of sync, `jobs` at a time.
pub(crate) async fn run(name: &str, jobs: usize) -> Result<Vec<Row>> {
    let homeserver = Arc::new(Homeserver::start("health", Msc3391::Off).await?);
    let wanted = ALL.iter().enumerate().filter(|(_, scenario)| scenario.name.contains(name));
    let runs = wanted.flat_map(|(number, scenario)| {
        KINDS.map(|kind| run_one(Stage::new(homeserver.clone(), kind, number), scenario))
    });
    Ok(futures_util::stream::iter(runs).buffered(jobs).collect().await)
}

async fn run_one(stage: Stage, scenario: &'static Scenario) -> Row {
    let began = Instant::now();
    // A panic fails one row, not the run.
    let run = AssertUnwindSafe((scenario.run)(&stage)).catch_unwind();
    let result = match timeout(LONGEST, run).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err("it panicked".into()),
        Err(_) => Err("it takes too long".into()),
    };
    let took = began.elapsed();
    let (kind, seconds) = (stage.kind, took.as_secs_f64());
    let outcome = result.as_ref().err().map_or("ok".to_owned(), |error| format!("FAILED: {error}"));
    println!("{seconds:5.1} s  health: {}; {}: {outcome}", scenario.name, kind.name());
    Row { scenario: scenario.name, kind, result, took }
}

/// Renders the events of each scenario as Markdown.
pub(crate) fn render(rows: &[Row]) -> String {
    let mut table = "| scenario | sync | event | fields | |\n|---|---|---|---|---|\n".to_owned();
    for Row { scenario, kind, result, took } in rows {
        let (kind, seconds) = (kind.name(), took.as_secs_f64());
        match result {
            Ok(reports) => {
                for report in reports {
                    let _ = writeln!(table, "| {scenario} | {kind} | {report} | {seconds:.1} s |");
                }
            }
            Err(error) => {
                let _ = writeln!(table, "| {scenario} | {kind} | **FAILED** | {error} | |");
            }
        }
    }
    table
}
