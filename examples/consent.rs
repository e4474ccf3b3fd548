//! Looks at the analytics consent of a Matrix account, and changes it: at any
//! homeserver, for any app's event type.
//!
//!     cargo run --example consent -- status \
//!         --homeserver https://matrix.example.org --user alice --password -

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool prints")]

use std::{error::Error, process::ExitCode, time::Duration};

use clap::{Parser, ValueEnum};
use futures_util::StreamExt as _;
use matrix_analytics::{
    AccountDataError, Analytics, AnalyticsId, BuildError, ClosedReason, Consent, ConsentState,
    ELEMENT_EVENT_TYPE, GateState, HoldReason, Note, OptInError, OptOutReceipt, Prompt, Switch,
    WithdrawalStep,
};
use matrix_analytics_examples::{
    LoginError, Session, chain, describe_gate, describe_step, secret, wait_for,
};
use matrix_sdk::{
    Client,
    config::SyncSettings,
    ruma::api::client::{
        filter::{Filter, FilterDefinition},
        sync::sync_events::v3::Filter as SyncFilter,
    },
};
use serde::Serialize;
use serde_json::json;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  not done, or not done completely; the message says what is left
  2  wrong arguments
  3  the homeserver refuses the login or the token
  4  the homeserver cannot be reached, or is none
  5  this account cannot hold a decision: a guest, or the homeserver forbids it";

/// Looks at the analytics consent of a Matrix account, and changes it.
#[derive(Parser)]
#[command(name = "consent", after_help = EXIT_CODES)]
struct Arguments {
    /// What to do
    action: Action,
    /// Base URL of the homeserver, such as https://matrix.example.org
    #[arg(long, value_name = "URL")]
    homeserver: String,
    /// Log in as this user, and out again at the end
    #[arg(long, requires = "password", required_unless_present = "token")]
    user: Option<String>,
    /// The user's password; `-` reads a line from standard input
    #[arg(long, requires = "user", value_parser = secret)]
    password: Option<String>,
    /// Use the session of this access token; `-` reads a line from standard input
    #[arg(long, conflicts_with = "user", value_parser = secret)]
    token: Option<String>,
    /// Type of the account-data event that holds the decision
    #[arg(long, value_name = "TYPE", default_value = ELEMENT_EVENT_TYPE)]
    event_type: String,
    /// Print one JSON object (watch: one a line)
    #[arg(long)]
    json: bool,
    /// Print the analytics ID; else only whether there is one
    #[arg(long)]
    show_id: bool,
    /// Bound on one request to the homeserver, in seconds. A new ID settles for twice
    /// this time: the account's apps should have no longer bounds
    #[arg(long, value_name = "SECONDS", default_value_t = 3,
        value_parser = clap::value_parser!(u64).range(1..=10))]
    request_timeout: u64,
    /// End watching after this time; without it, Ctrl-C does
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    /// Show what the account holds
    Status,
    /// Opt in: keep the account's ID, or create one
    OptIn,
    /// Opt out: the account keeps the decision and loses its ID
    OptOut,
    /// Opt out and remove the whole event: apps may ask again
    Erase,
    /// Show each change until Ctrl-C
    Watch,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if arguments.json && !failure.is_reported {
                println!("{}", json!({ "error": failure.message }));
            }
            eprintln!("consent: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let session = log_in(arguments).await?;
    let done = act(arguments, session.client.clone()).await;
    // Whatever happened, so that no unused device stays in the list.
    let logged_out = session.log_out().await;
    done?;
    logged_out.map_err(|error| Failure::not_done(format!("cannot log out: {}", chain(&error))))
}

async fn log_in(arguments: &Arguments) -> Result<Session, Failure> {
    let session = match (&arguments.token, &arguments.user, &arguments.password) {
        (Some(token), ..) => Session::with_token(&arguments.homeserver, token).await,
        (None, Some(user), Some(password)) => {
            Session::with_password(&arguments.homeserver, user, password, "consent").await
        }
        // The parser has seen to it that one or the other is there.
        (None, ..) => return Err(Failure::not_done("there is nothing to log in with")),
    };
    session.map_err(|error| Failure {
        code: match error {
            LoginError::NotAUrl(_) => 2,
            LoginError::Refused(_) => 3,
            LoginError::Unreachable(_) | LoginError::NotAHomeserver(_) => 4,
            _ => 1,
        },
        ..Failure::not_done(error.to_string())
    })
}

async fn act(arguments: &Arguments, client: Client) -> Result<(), Failure> {
    // No backend: there is nothing to send, and nowhere to send it.
    let analytics = Analytics::builder(client.clone(), &arguments.event_type)
        .request_timeout(Duration::from_secs(arguments.request_timeout))
        .build()
        .await?;
    let done = match arguments.action {
        Action::Status => status(arguments, &analytics).await,
        Action::OptIn => opt_in(arguments, &analytics).await,
        Action::OptOut => {
            let receipt = analytics.opt_out().await;
            withdrawn(arguments, &analytics, &receipt)
        }
        Action::Erase => {
            let receipt = analytics.opt_out().erase_event().await;
            withdrawn(arguments, &analytics, &receipt)
        }
        Action::Watch => watch(arguments, &analytics, &client).await,
    };
    // Before the logout, which the SDK does not announce.
    analytics.end_session().await;
    done
}

async fn status(arguments: &Arguments, analytics: &Analytics) -> Result<(), Failure> {
    // Asks the homeserver, and says why not where the state would only be unconfirmed.
    let state = analytics.recheck().await?;
    report(arguments, analytics, state, None);
    if state.confirmed {
        return Ok(());
    }
    // Then the decision is not the account's. Under DO_NOT_TRACK nothing is even asked.
    Err(Failure::unconfirmed(state))
}

async fn opt_in(arguments: &Arguments, analytics: &Analytics) -> Result<(), Failure> {
    let begun = analytics.opt_in().await?;
    let settled = |state: ConsentState| !matches!(state.gate, GateState::Holding(_));
    if begun.gate == GateState::Holding(HoldReason::Settling) && !arguments.json {
        println!("a new ID is written, and settles...");
    }
    let state = wait_for(analytics, "the new ID to settle", settled)
        .await
        .map_err(|error| Failure::not_done(format!("{error}; see `consent status`")))?;
    report(arguments, analytics, state, None);
    // Under DO_NOT_TRACK the account holds an opt-in and the gate here stays closed: that is a
    // success.
    if state.decision == Consent::Granted {
        Ok(())
    } else {
        Err(Failure::reported("another device withdrew meanwhile"))
    }
}

fn withdrawn(
    arguments: &Arguments,
    analytics: &Analytics,
    receipt: &OptOutReceipt,
) -> Result<(), Failure> {
    report(arguments, analytics, analytics.state(), Some(receipt));
    if receipt.is_complete() {
        return Ok(());
    }
    // The crate would go on by itself, after a restart too: but this tool ends here, and
    // its store was in memory.
    let failure = match &receipt.account {
        WithdrawalStep::Pending(Some(cause)) | WithdrawalStep::Failed(cause) => {
            Failure::from_account_data(cause)
        }
        _ => Failure::not_done("the withdrawal is not complete"),
    };
    let advice = match failure.code {
        5 => "there is nothing to clean",
        _ => "the account is not clean: run this again",
    };
    Err(Failure { message: format!("{}; {advice}", failure.message), is_reported: true, ..failure })
}

async fn watch(
    arguments: &Arguments,
    analytics: &Analytics,
    client: &Client,
) -> Result<(), Failure> {
    let changes = async {
        let mut states = analytics.state_stream();
        while let Some(state) = states.next().await {
            report(arguments, analytics, state, None);
            if state.prompt() == Prompt::Unavailable {
                return Err(Failure::unconfirmed(state));
            }
        }
        Ok(())
    };
    let over = async {
        match arguments.seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = changes => ended,
        Err(error) = client.sync(only_event(&arguments.event_type)) => {
            Err(Failure::not_done(format!("cannot sync: {}", chain(&error))))
        }
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.map_err(|error| Failure::not_done(error.to_string()))
        }
        () = over => Ok(()),
    }
}

/// Returns settings of a sync that carries our event and nothing else.
fn only_event(event_type: &str) -> SyncSettings {
    let mut account_data = Filter::empty();
    account_data.types = Some(vec![event_type.to_owned()]);
    let mut filter = FilterDefinition::ignore_all();
    filter.account_data = account_data;
    SyncSettings::new().filter(SyncFilter::FilterDefinition(filter))
}

// Output.

fn report(
    arguments: &Arguments,
    analytics: &Analytics,
    state: ConsentState,
    receipt: Option<&OptOutReceipt>,
) {
    let id = analytics.analytics_id();
    let shown_id = id.as_ref().filter(|_| arguments.show_id).map(AnalyticsId::reveal);
    if arguments.json {
        let report = Report {
            action: arguments.action,
            event_type: &arguments.event_type,
            state,
            prompt: state.prompt(),
            switch: state.switch(),
            note: state.note(),
            id_held: id.is_some(),
            id: arguments.show_id.then_some(shown_id),
            complete: receipt.map(OptOutReceipt::is_complete),
            receipt,
        };
        println!("{}", json!(report));
        return;
    }
    if let Some(receipt) = receipt {
        println!("withdrawal");
        println!("  gate shut, queue wiped: done");
        for (step, progress) in [
            ("requests cut:", describe_step(&receipt.requests)),
            ("remembered here:", describe_step(&receipt.record)),
            ("account cleaned:", describe_step(&receipt.account)),
        ] {
            println!("  {step:<23} {progress}");
        }
    }
    println!("decision:     {}", state.decision);
    println!("confirmed:    {}", state.confirmed);
    println!("gate:         {}", describe_gate(state.gate));
    println!(
        "prompt:       {}",
        match state.prompt() {
            Prompt::Ask => "ask the user",
            Prompt::DontAsk => "do not ask",
            Prompt::Unavailable => "there is no account to ask for",
            _ => "wait",
        }
    );
    let held = if id.is_some() { "held" } else { "none in use" };
    println!("analytics ID: {}", shown_id.unwrap_or(held));
    if matches!(arguments.action, Action::Watch) {
        println!();
    }
}

/// The JSON object of a report.
#[derive(Serialize)]
struct Report<'a> {
    action: Action,
    event_type: &'a str,
    #[serde(flatten)]
    state: ConsentState,
    prompt: Prompt,
    switch: Switch,
    note: Option<Note>,
    id_held: bool,
    /// Left out unless it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    complete: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<&'a OptOutReceipt>,
}

// Errors.

struct Failure {
    code: u8,
    message: String,
    /// Whether the JSON object was printed already.
    is_reported: bool,
}

impl Failure {
    fn not_done(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into(), is_reported: false }
    }

    fn reported(message: &str) -> Self {
        Self { is_reported: true, ..Self::not_done(message) }
    }

    /// The homeserver has not said what the account holds.
    fn unconfirmed(state: ConsentState) -> Self {
        let unavailable = GateState::Closed(ClosedReason::Unavailable);
        Self {
            code: if state.gate == unavailable { 5 } else { 1 },
            ..Self::reported(&format!(
                "the homeserver did not say what the account holds; {}",
                describe_gate(state.gate)
            ))
        }
    }

    fn from_account_data(error: &AccountDataError) -> Self {
        let code = match error {
            AccountDataError::Forbidden(_) => 5,
            AccountDataError::SessionLost(_) => 3,
            _ => 1,
        };
        Self { code, ..Self::not_done(chain(error)) }
    }
}

impl From<AccountDataError> for Failure {
    fn from(error: AccountDataError) -> Self {
        Self::from_account_data(&error)
    }
}

impl From<OptInError> for Failure {
    fn from(error: OptInError) -> Self {
        match error {
            OptInError::AccountData(error) => error.into(),
            other => Self::not_done(chain(&other)),
        }
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        let code = if matches!(error, BuildError::EventType) { 2 } else { 1 };
        let error: &dyn Error = &error;
        Self { code, ..Self::not_done(chain(error)) }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_make_sense() {
        Arguments::command().debug_assert();
    }
}
