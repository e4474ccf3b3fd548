//! This example is a settings page in a terminal: the switch, the state and its reason, the veto of
//! a device, counters, what was sent, what is stored and sent, and a bug report.
//!
//!     cargo run --example settings
//!
//! It shows two devices of one account, on a homeserver and a collector in this process. With
//! `--homeserver`, `--user` and `--password`, it is the settings page of a real account.
//!
//! `update.rs` and `view.rs` decide what a key does and what is drawn, without any I/O. `app.rs`
//! connects them to the devices and the terminal.

// For the futures of a client with encryption.
#![recursion_limit = "256"]

mod account;
mod app;
mod arguments;
mod device;
mod embedded;
mod input;
mod model;
mod report;
mod screen;
#[cfg(test)]
mod tests;
mod text;
mod update;
mod view;

use std::{
    error::Error,
    io::{IsTerminal as _, Write as _, stderr, stdout},
    process::ExitCode,
    time::Duration,
};

use clap::Parser as _;
use matrix_analytics::{Rageshake, RecentLogs};
use matrix_analytics_examples::{LoginError, Session, chain};
use tracing::{level_filters::LevelFilter, subscriber::set_global_default};
use tracing_subscriber::{Layer as _, layer::SubscriberExt as _, registry};

use self::{
    app::App,
    arguments::Arguments,
    embedded::{Embedded, USER},
    input::inputs,
    screen::Screen,
};

/// The number of sent events that the history keeps.
const HISTORY: usize = 100;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // The terminal may be closed.
            let _ = writeln!(stderr(), "settings: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    // Before the login, so that none is made in vain.
    if !stdout().is_terminal() {
        return Err(Failure::no_terminal("standard output is not a terminal"));
    }
    let (Some(homeserver), Some(user), Some(password)) =
        (&arguments.homeserver, &arguments.user, &arguments.password)
    else {
        let embedded = Embedded::start().await?;
        install(&embedded.logs)?;
        let app = App::new(
            USER.to_owned(),
            embedded.devices().await?,
            embedded.logs.clone(),
            Some(embedded.rageshake()?),
        );
        return show(app).await;
    };
    let server = arguments.bug_reports.as_deref().map(Rageshake::new).transpose();
    let server = server.map_err(|error| Failure::new(format!("--bug-reports: {error}")))?;
    let logs = recent_logs();
    install(&logs)?;
    let session = Session::with_password(homeserver, user, password, "settings").await?;
    let client = session.client.clone();
    let user = client.user_id().map(ToString::to_string).unwrap_or_default();
    let shown = match account::device(arguments, client, logs.clone()).await {
        Ok(device) => show(App::new(user, vec![device], logs, server)).await,
        Err(error) => Err(error.into()),
    };
    // Log out even after an error, so that no unused device stays in the user's list.
    let logged_out = session.log_out().await;
    shown?;
    logged_out.map_err(|error| Failure::new(format!("cannot log out: {}", chain(&error))))
}

/// Returns the lines for a bug report, of which nothing is kept before `install`.
fn recent_logs() -> RecentLogs {
    RecentLogs::new(256 * 1024, Duration::from_secs(3600))
}

/// Keeps the lines that this process logs from now on, in memory.
fn install(logs: &RecentLogs) -> Result<(), Box<dyn Error>> {
    set_global_default(registry().with(logs.clone().with_filter(LevelFilter::INFO)))?;
    Ok(())
}

/// Shows the page until the user quits, and ends the sessions of the devices.
async fn show(mut app: App) -> Result<(), Failure> {
    let shown = on_screen(&mut app).await;
    let lines = app.end().await;
    shown?;
    // The terminal may be closed.
    let _ = writeln!(stdout(), "{}", lines.join("\n"));
    Ok(())
}

async fn on_screen(app: &mut App) -> Result<(), Failure> {
    let mut screen = Screen::enter().map_err(|error| Failure::no_terminal(&error.to_string()))?;
    let mut inputs = inputs().map_err(|error| Failure::new(error.to_string()))?;
    app.run(&mut screen.terminal, &mut inputs).await;
    Ok(())
}

struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn new(message: String) -> Self {
        Self { code: 1, message }
    }

    fn no_terminal(cause: &str) -> Self {
        Self { code: 2, message: format!("this page needs a terminal: {cause}") }
    }
}

impl From<LoginError> for Failure {
    fn from(error: LoginError) -> Self {
        Self { code: error.exit_code(), message: error.to_string() }
    }
}

impl From<Box<dyn Error>> for Failure {
    fn from(error: Box<dyn Error>) -> Self {
        Self::new(chain(&*error))
    }
}
