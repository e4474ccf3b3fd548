//! A no that is said without a network: it stands at once, survives the end of the
//! process, and reaches the homeserver when the network is back.
//!
//!     cargo run --example offline_opt_out
//!
//! Nothing to install or configure. The homeserver and the collector are in this
//! process, the app's store is a real SQLite file in a temporary directory. The first
//! claim that does not hold ends the run with an error.

#![expect(clippy::print_stdout, reason = "an example tells its story")]

use std::{error::Error, path::Path, time::Duration};

use matrix_analytics::{
    Analytics, Consent, PostHog, Properties,
    testing::{AccountDataServer, DeviceLogin, Fault},
};
use matrix_analytics_examples::{Collector, check, describe_step, heading, wait_for};

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

const USER: &str = "@alice:example.org";
const EVENT_TYPE: &str = "org.example.offline.analytics";
const CLEAN: &str = r#"{"pseudonymousAnalyticsOptIn":false}"#;

#[tokio::main]
async fn main() -> Result {
    let homeserver = AccountDataServer::start().await;
    let collector = Collector::start().await?;
    let phone = homeserver.add_device(USER, "PHONE");
    let directory = tempfile::tempdir()?;
    let start = async || start(&homeserver, &phone, directory.path(), &collector).await;

    heading("1. The user said yes, and events are sent");
    let app = start().await?;
    app.opt_in().await?;
    wait_for(&app, "an open gate", |state| state.is_open()).await?;
    app.capture_named("BackendReport", Properties::new());
    check("an event is delivered", app.flush(Duration::from_secs(5)).await.is_complete())?;

    heading("2. The network is cut, and the user opts out");
    homeserver.fail_all(Fault::ResetBefore);
    app.capture_named("Queued", Properties::new());
    let receipt = app.opt_out().await;
    println!("remembered on this device: {}", describe_step(&receipt.record));
    println!("account cleaned: {}", describe_step(&receipt.account));
    check("the opt-out is remembered", receipt.record.is_done())?;
    check("the account is still to be cleaned", app.state().removal_pending)?;
    let queued: u64 = app.stats().backends.iter().map(|backend| backend.queued).sum();
    check("queued events are gone", queued == 0)?;

    heading("3. The process ends, and starts again without a network");
    drop(app);
    let app = start().await?;
    println!("the homeserver still holds an opt-in: {}", holds_opt_in(&homeserver));
    check("the homeserver still holds an opt-in", holds_opt_in(&homeserver))?;
    check("the opt-out still stands", app.state().decision == Consent::Denied)?;
    app.capture_named("Never", Properties::new());
    check("the homeserver cannot be asked", app.recheck().await.is_err())?;
    check(
        "nothing is sent",
        app.flush(Duration::from_secs(5)).await.is_complete() && !app.is_open(),
    )?;

    heading("4. The network is back");
    homeserver.heal();
    wait_for(&app, "a clean account", |state| !state.removal_pending).await?;
    let content = homeserver.content(USER, EVENT_TYPE).ok_or("the homeserver holds nothing")?;
    println!("the homeserver holds {content}");
    check("the account is clean", content == CLEAN)?;
    check("one event was sent in all", collector.requests().len() == 1)
}

/// The app as it starts: a client on its store, and its analytics.
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

fn holds_opt_in(homeserver: &AccountDataServer) -> bool {
    let content = homeserver.content(USER, EVENT_TYPE).unwrap_or_default();
    content.contains(r#""pseudonymousAnalyticsOptIn":true"#)
}
