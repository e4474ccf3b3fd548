//! This example opts out while offline. The opt-out takes effect immediately, survives a
//! restart, and is written to the account once the network is back.
//!
//!     cargo run --example offline_opt_out
//!
//! Nothing needs to be installed or configured. The homeserver and the collector are local
//! servers in this process, and the app's store is an SQLite file in a temporary directory. The
//! first check that fails ends the run with an error.

#![expect(clippy::print_stdout, reason = "an example prints its progress")]

use std::{error::Error, path::Path, time::Duration};

use matrix_analytics::{
    Analytics, Consent, PostHog, Properties,
    testing::{AccountDataServer, DeviceLogin, Fault},
};
use matrix_analytics_examples::{Collector, check, describe_step, heading, wait_for};

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

const USER: &str = "@alice:example.org";
const EVENT_TYPE: &str = "org.example.offline.analytics";
const OPTED_OUT: &str = r#"{"pseudonymousAnalyticsOptIn":false}"#;

#[tokio::main]
async fn main() -> Result {
    let homeserver = AccountDataServer::start().await;
    let collector = Collector::start().await?;
    let phone = homeserver.add_device(USER, "PHONE");
    let directory = tempfile::tempdir()?;
    let start = async || start(&homeserver, &phone, directory.path(), &collector).await;

    heading("1. The user opts in, and an event is sent");
    let app = start().await?;
    app.opt_in().await?;
    wait_for(&app, "an open gate", |state| state.is_open()).await?;
    app.capture_named("RoomJoined", Properties::new());
    check("the event is delivered", app.flush(Duration::from_secs(5)).await.is_complete())?;

    heading("2. The network is cut, and the user opts out");
    homeserver.fail_all(Fault::ResetBefore);
    app.capture_named("Queued", Properties::new());
    let receipt = app.opt_out().await;
    println!("saved on this device: {}", describe_step(&receipt.record));
    println!("removal from the account: {}", describe_step(&receipt.account));
    check("the opt-out is saved on this device", receipt.record.is_done())?;
    check("the removal from the account is pending", app.state().removal_pending)?;
    let queued: u64 = app.stats().backends.iter().map(|backend| backend.queued).sum();
    check("the queue is empty", queued == 0)?;

    heading("3. The app restarts while offline");
    drop(app);
    let app = start().await?;
    check("the account still has the opt-in", has_opt_in(&homeserver))?;
    check("the opt-out is remembered", app.state().decision == Consent::Denied)?;
    app.capture_named("NotCaptured", Properties::new());
    check("the homeserver cannot be reached", app.recheck().await.is_err())?;
    check(
        "nothing is sent",
        app.flush(Duration::from_secs(5)).await.is_complete() && !app.is_open(),
    )?;

    heading("4. The network is back");
    homeserver.heal();
    wait_for(&app, "the removal to complete", |state| !state.removal_pending).await?;
    let content = homeserver.content(USER, EVENT_TYPE).ok_or("the account has no such event")?;
    println!("account data: {content}");
    check("the account has an opt-out and no ID", content == OPTED_OUT)?;
    check("the collector received one request in total", collector.requests().len() == 1)
}

/// Starts the app: opens a client on its store, and builds analytics.
async fn start(
    homeserver: &AccountDataServer,
    login: &DeviceLogin,
    directory: &Path,
    collector: &Collector,
) -> Result<Analytics> {
    let client =
        homeserver.client_with(login, |builder| builder.sqlite_store(directory, None)).await?;
    let posthog = PostHog::new(&collector.url(), "phc_offline")?;
    Ok(Analytics::builder(client, EVENT_TYPE)
        .backend(posthog)
        .request_timeout(Duration::from_millis(250))
        .build()
        .await?)
}

fn has_opt_in(homeserver: &AccountDataServer) -> bool {
    let content = homeserver.content(USER, EVENT_TYPE).unwrap_or_default();
    content.contains(r#""pseudonymousAnalyticsOptIn":true"#)
}
