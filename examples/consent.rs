//! This example shows and changes the analytics consent of a Matrix account, on any homeserver
//! and for any event type.
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
    Session, chain, describe_gate, describe_step, only_event, secret, wait_for,
};
use matrix_sdk::Client;
use serde::Serialize;
use serde_json::json;

const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  failure, or incomplete; see the message
  2  invalid arguments
  3  the homeserver refused the login or the token
  4  the server cannot be reached, or is not a homeserver
  5  this account cannot store a decision: it is a guest, or the homeserver forbids it";

/// Show and change the analytics consent of a Matrix account
#[derive(Parser)]
#[command(name = "consent", after_help = EXIT_CODES)]
struct Arguments {
    /// Action to perform
    action: Action,
    /// Base URL of the homeserver, such as https://matrix.example.org
    #[arg(long, value_name = "URL")]
    homeserver: String,
    /// Log in as this user, and log out at the end
    #[arg(long, requires = "password", required_unless_present = "token")]
    user: Option<String>,
    /// The user's password; `-` reads a line from standard input
    #[arg(long, requires = "user", value_parser = secret)]
    password: Option<String>,
    /// Use the session of this access token; `-` reads a line from standard input
    #[arg(long, conflicts_with = "user", value_parser = secret)]
    token: Option<String>,
    /// Type of the account-data event that stores the decision
    #[arg(long, value_name = "TYPE", default_value = ELEMENT_EVENT_TYPE)]
    event_type: String,
    /// Print a JSON object; `watch` prints one per line
    #[arg(long)]
    json: bool,
    /// Print the analytics ID, not only whether there is one
    #[arg(long)]
    show_id: bool,
    /// Timeout of a request to the homeserver, in seconds. A new ID settles for twice this time,
    /// so no app of the account should use a longer timeout
    #[arg(long, value_name = "SECONDS", default_value_t = 3,
        value_parser = clap::value_parser!(u64).range(1..=10))]
    request_timeout: u64,
    /// Stop watching after this time; by default, watch until Ctrl-C
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    /// Show the decision stored in the account
    Status,
    /// Opt in, and create an ID if the account has none
    OptIn,
    /// Opt out, and remove the ID from the account
    OptOut,
    /// Opt out, and remove the decision as well, so that apps may ask again
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
    // Log out even after an error, so that no unused device stays in the user's list.
    let logged_out = session.log_out().await;
    done?;
    logged_out.map_err(|error| Failure::incomplete(format!("cannot log out: {}", chain(&error))))
}

async fn log_in(arguments: &Arguments) -> Result<Session, Failure> {
    let session = match (&arguments.token, &arguments.user, &arguments.password) {
        (Some(token), ..) => Session::with_token(&arguments.homeserver, token).await,
        (None, Some(user), Some(password)) => {
            Session::with_password(&arguments.homeserver, user, password, "consent").await
        }
        // The parser requires one or the other.
        (None, ..) => return Err(Failure::incomplete("no user and password, and no token")),
    };
    session.map_err(|error| Failure {
        code: error.exit_code(),
        ..Failure::incomplete(error.to_string())
    })
}

async fn act(arguments: &Arguments, client: Client) -> Result<(), Failure> {
    // This tool has no backend, because it sends no events.
    let analytics = Analytics::builder(client.clone(), &arguments.event_type)
        .request_timeout(Duration::from_secs(arguments.request_timeout))
        .build()
        .await?;
    let done = match arguments.action {
        Action::Status => status(arguments, &analytics).await,
        Action::OptIn => opt_in(arguments, &analytics).await,
        Action::OptOut => {
            let receipt = analytics.opt_out().await;
            report_withdrawal(arguments, &analytics, &receipt)
        }
        Action::Erase => {
            let receipt = analytics.opt_out().erase_event().await;
            report_withdrawal(arguments, &analytics, &receipt)
        }
        Action::Watch => watch(arguments, &analytics, &client).await,
    };
    // Call this before the logout, because the SDK does not announce a logout.
    analytics.end_session().await;
    done
}

async fn status(arguments: &Arguments, analytics: &Analytics) -> Result<(), Failure> {
    // Unlike the state, this returns the error if the homeserver cannot be asked.
    let state = analytics.recheck().await?;
    report(arguments, analytics, state, None);
    if state.confirmed {
        return Ok(());
    }
    // The decision is not confirmed by the account. Under DO_NOT_TRACK the homeserver is not asked.
    Err(Failure::unconfirmed(state))
}

async fn opt_in(arguments: &Arguments, analytics: &Analytics) -> Result<(), Failure> {
    let started = analytics.opt_in().await?;
    let settled = |state: ConsentState| !matches!(state.gate, GateState::Holding(_));
    if started.gate == GateState::Holding(HoldReason::Settling) && !arguments.json {
        println!("A new ID has been written; waiting for it to settle...");
    }
    let state = wait_for(analytics, "the new ID to settle", settled)
        .await
        .map_err(|error| Failure::incomplete(format!("{error}; see `consent status`")))?;
    report(arguments, analytics, state, None);
    // Under DO_NOT_TRACK the gate stays closed here, but the account has opted in, which is a
    // success.
    if state.decision == Consent::Granted {
        Ok(())
    } else {
        Err(Failure::reported("another device opted out in the meantime"))
    }
}

fn report_withdrawal(
    arguments: &Arguments,
    analytics: &Analytics,
    receipt: &OptOutReceipt,
) -> Result<(), Failure> {
    report(arguments, analytics, analytics.state(), Some(receipt));
    if receipt.is_complete() {
        return Ok(());
    }
    // An app would resume the removal, even after a restart. This tool ends here, and its
    // in-memory store with it.
    let failure = match &receipt.account {
        WithdrawalStep::Pending(Some(cause)) | WithdrawalStep::Failed(cause) => {
            Failure::from_account_data(cause)
        }
        _ => Failure::incomplete("the withdrawal is incomplete"),
    };
    let advice = match failure.code {
        5 => "there is nothing to remove",
        _ => "the removal is incomplete: run this command again",
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
    let timer = async {
        match arguments.seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = changes => ended,
        Err(error) = client.sync(only_event(&arguments.event_type)) => {
            Err(Failure::incomplete(format!("cannot sync: {}", chain(&error))))
        }
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.map_err(|error| Failure::incomplete(error.to_string()))
        }
        () = timer => Ok(()),
    }
}

// Output

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
        println!("  gate closed, queue wiped: done");
        for (step, progress) in [
            ("requests closed:", describe_step(&receipt.requests)),
            ("saved on this device:", describe_step(&receipt.record)),
            ("removal from account:", describe_step(&receipt.account)),
        ] {
            println!("  {step:<25} {progress}");
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
            Prompt::Unavailable =>
                "do not ask: the session has ended, or the account cannot store a decision",
            _ => "wait",
        }
    );
    let presence = if id.is_some() { "in use" } else { "none" };
    println!("analytics ID: {}", shown_id.unwrap_or(presence));
    if matches!(arguments.action, Action::Watch) {
        println!();
    }
}

/// A report as a JSON object.
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
    /// Omitted without `--show-id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    complete: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<&'a OptOutReceipt>,
}

// Errors

struct Failure {
    code: u8,
    message: String,
    /// Whether a JSON object has already been printed.
    is_reported: bool,
}

impl Failure {
    fn incomplete(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into(), is_reported: false }
    }

    fn reported(message: &str) -> Self {
        Self { is_reported: true, ..Self::incomplete(message) }
    }

    /// Creates the failure for a state that the homeserver has not confirmed.
    fn unconfirmed(state: ConsentState) -> Self {
        let unavailable = GateState::Closed(ClosedReason::Unavailable);
        Self {
            code: if state.gate == unavailable { 5 } else { 1 },
            ..Self::reported(&format!(
                "the homeserver did not confirm the decision; {}",
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
        Self { code, ..Self::incomplete(chain(error)) }
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
            other => Self::incomplete(chain(&other)),
        }
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        let code = if matches!(error, BuildError::EventType) { 2 } else { 1 };
        let error: &dyn Error = &error;
        Self { code, ..Self::incomplete(chain(error)) }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_valid() {
        Arguments::command().debug_assert();
    }
}
