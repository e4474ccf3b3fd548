//! This example is a bot that counts its operator's commands, if the operator has opted in.
//!
//!     cargo run --example bot -- --homeserver https://matrix.example.org \
//!         --user bot --password - --operator @me:example.org --jsonl events.jsonl
//!
//! Invite the bot to a room, and send `!help`. With `--health`, it also reports which messages it
//! cannot decrypt, and why.
//!
//! The bot's operator decides for the bot's account. Other users have not been asked, so their
//! commands are answered but not counted.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the bot logs to its terminal")]

use std::{error::Error, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use matrix_analytics::{Analytics, AnalyticsEvent, HealthSignals, JsonLines, PostHog};
use matrix_analytics_examples::{
    Session, chain, describe_gate, describe_step, is_session_lost, secret,
};
use matrix_sdk::{
    Client, Room, RoomState,
    config::SyncSettings,
    event_handler::Ctx,
    ruma::{
        OwnedUserId, UserId,
        events::room::{
            member::StrippedRoomMemberEvent,
            message::{MessageType, OriginalSyncRoomMessageEvent, RoomMessageEventContent},
        },
    },
};
use serde::Serialize;
use tokio::time::sleep;

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

/// A bot that counts its operator's commands, if the operator has opted in
#[derive(Parser)]
#[command(name = "bot")]
struct Arguments {
    /// Base URL of the homeserver
    #[arg(long, value_name = "URL")]
    homeserver: String,
    /// User name of the bot's account
    #[arg(long)]
    user: String,
    /// Password of the account; `-` reads a line from standard input
    #[arg(long, value_parser = secret)]
    password: String,
    /// The user who may invite the bot and turn analytics on or off
    #[arg(long, value_name = "@USER:SERVER")]
    operator: OwnedUserId,
    /// Send events to this PostHog server
    #[arg(long, value_name = "URL", requires = "posthog_key")]
    posthog: Option<String>,
    /// Key of the PostHog project
    #[arg(long, value_name = "KEY", requires = "posthog")]
    posthog_key: Option<String>,
    /// Append events to this file
    #[arg(long, value_name = "FILE", conflicts_with = "posthog")]
    jsonl: Option<PathBuf>,
    /// Also report the health of encryption
    #[arg(long)]
    health: bool,
    /// Type of the account-data event that stores the decision; use a type of your own
    #[arg(long, value_name = "TYPE", default_value = "org.example.bot.analytics")]
    event_type: String,
    /// Stop after this time; by default, run until Ctrl-C
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
}

/// The age, by the homeserver's clock, from which a message is ignored.
const MAX_AGE_MS: i64 = 60_000;

// Commands

/// An event that names the command, but neither the user nor the room.
#[derive(Debug, PartialEq, Serialize)]
struct CommandUsed {
    command: CommandName,
}

#[derive(Debug, PartialEq, Serialize)]
enum CommandName {
    Help,
    Ping,
}

impl AnalyticsEvent for CommandUsed {
    const NAME: &'static str = "CommandUsed";
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Asker {
    Operator,
    Other,
}

#[derive(Debug, PartialEq)]
enum Decision {
    /// Do nothing, because the message is not a command.
    Ignore,
    /// Reply with a list of the commands, and capture the event, if any.
    Help(Option<CommandUsed>),
    /// Reply, and capture the event, if any.
    Ping(Option<CommandUsed>),
    OptIn,
    OptOut,
    Status,
    Refuse,
}

fn decide(text: &str, asker: Asker) -> Decision {
    let used = |command| (asker == Asker::Operator).then_some(CommandUsed { command });
    let words: Vec<_> = text.split_whitespace().collect();
    match (words.as_slice(), asker) {
        (["!ping"], _) => Decision::Ping(used(CommandName::Ping)),
        (["!help"], _) => Decision::Help(used(CommandName::Help)),
        (["!analytics", ..], Asker::Other) => Decision::Refuse,
        // Commands about consent are not counted.
        (["!analytics", "on"], Asker::Operator) => Decision::OptIn,
        (["!analytics", "off"], Asker::Operator) => Decision::OptOut,
        (["!analytics", "status"], Asker::Operator) => Decision::Status,
        (["!analytics", ..], Asker::Operator) => Decision::Help(None),
        _ => Decision::Ignore,
    }
}

// Bot

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bot: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result {
    let session =
        Session::with_password(&arguments.homeserver, &arguments.user, &arguments.password, "bot")
            .await?;
    let client = session.client.clone();
    let done = serve(arguments, &client).await;
    // Each start logs in as a new device, so this one is no longer needed.
    session.log_out().await?;
    done
}

async fn serve(arguments: Arguments, client: &Client) -> Result {
    let analytics = analytics(&arguments, client).await?;
    // Nothing is reported before the operator opts in.
    let watch =
        if arguments.health { Some(analytics.watch_health(HealthSignals::all())?) } else { None };
    let ended = tokio::select! {
        ended = listen(client, &analytics, arguments.operator) => ended,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Into::into),
        () = wait(arguments.seconds) => Ok(()),
    };

    if let Some(watch) = watch {
        watch.stop().await;
    }
    let report = analytics.shutdown(Duration::from_secs(5)).await;
    if !report.is_complete() {
        println!("Some events were not delivered.");
    }
    // Call this before the logout, because the SDK does not announce a logout. It also makes a
    // last attempt at a pending removal, which would otherwise be lost with the in-memory store.
    let receipt = analytics.end_session().await;
    if !receipt.account.is_done() {
        eprintln!("bot: the removal from the account is pending: send `!analytics off` again");
    }
    ended
}

async fn analytics(arguments: &Arguments, client: &Client) -> Result<Analytics> {
    let mut builder = Analytics::builder(client.clone(), &arguments.event_type);
    if let (Some(url), Some(key)) = (&arguments.posthog, &arguments.posthog_key) {
        builder = builder.backend(PostHog::new(url, key)?);
    }
    if let Some(path) = &arguments.jsonl {
        let mut options = tokio::fs::OpenOptions::new();
        let file = options.append(true).create(true).open(path).await?;
        builder = builder.backend(JsonLines::new(file));
    }
    Ok(builder.build().await?)
}

async fn wait(seconds: Option<u64>) {
    match seconds {
        Some(seconds) => sleep(Duration::from_secs(seconds)).await,
        None => std::future::pending().await,
    }
}

#[derive(Clone)]
struct Bot {
    analytics: Analytics,
    operator: OwnedUserId,
}

/// Syncs until the session ends.
async fn listen(client: &Client, analytics: &Analytics, operator: OwnedUserId) -> Result {
    let bot = Bot { analytics: analytics.clone(), operator };
    // Add the handlers after the first sync, so that older messages are not answered.
    let first = client.sync_once(SyncSettings::new()).await?;
    for room in client.invited_rooms() {
        let inviter = room.invite_details().await?.inviter_id;
        join(room, &inviter, &bot.operator);
    }
    client.add_event_handler_context(bot);
    client.add_event_handler(on_invite);
    client.add_event_handler(on_message);
    println!("{} is listening", client.user_id().map_or("bot", UserId::as_str));

    let mut settings = SyncSettings::new().token(first.next_batch);
    loop {
        match client.sync(settings.clone()).await {
            Err(error) if is_session_lost(&error) => return Err(error.into()),
            Err(error) => eprintln!("bot: cannot sync, will retry: {}", chain(&error)),
            Ok(()) => return Ok(()),
        }
        // The client has stored the token of its last sync.
        settings = SyncSettings::new();
        sleep(Duration::from_secs(5)).await;
    }
}

async fn on_invite(event: StrippedRoomMemberEvent, room: Room, Ctx(bot): Ctx<Bot>) {
    if event.state_key == room.own_user_id() {
        join(room, &event.sender, &bot.operator);
    }
}

/// Joins the room in a new task. `Room::join` waits for the next sync, which waits for the event
/// handlers, so a handler that awaited it would block.
fn join(room: Room, inviter: &UserId, operator: &UserId) {
    if inviter == operator && room.state() == RoomState::Invited {
        tokio::spawn(async move {
            if let Err(error) = room.join().await {
                eprintln!("bot: cannot join: {}", chain(&error));
            }
        });
    }
}

async fn on_message(event: OriginalSyncRoomMessageEvent, room: Room, Ctx(bot): Ctx<Bot>) {
    // Bots send notices. Ignoring them keeps two bots from answering each other.
    let MessageType::Text(text) = event.content.msgtype else {
        return;
    };
    let asker = if event.sender == bot.operator { Asker::Operator } else { Asker::Other };
    // Sync delivers the last messages of a room that was just joined, and messages delayed by a
    // network outage. Only a recent message may opt in.
    let age = event.unsigned.age.map_or(0, i64::from);
    if event.sender == room.own_user_id() || age > MAX_AGE_MS {
        return;
    }
    let Some(answer) = bot.answer(decide(&text.body, asker)).await else {
        return;
    };
    let notice = RoomMessageEventContent::notice_plain(answer);
    if let Err(error) = room.send(notice).await {
        eprintln!("bot: cannot answer: {}", chain(&error));
    }
}

impl Bot {
    async fn answer(&self, decision: Decision) -> Option<String> {
        Some(match decision {
            Decision::Ignore => return None,
            Decision::Help(used) => {
                self.count(used);
                "!ping, !help, and for my operator: !analytics on|off|status".to_owned()
            }
            Decision::Ping(used) => {
                self.count(used);
                "pong".to_owned()
            }
            Decision::Refuse => {
                "Sorry, only my operator can use this command. Your commands are not counted."
                    .to_owned()
            }
            Decision::OptIn => match self.analytics.opt_in().await {
                Ok(_) => format!("Thank you. {}", self.status()),
                Err(error) => format!("The opt-in failed: {}", chain(&error)),
            },
            Decision::OptOut => {
                let account = self.analytics.opt_out().await.account;
                format!("Analytics is off. Removal from my account: {}.", describe_step(&account))
            }
            Decision::Status => self.status(),
        })
    }

    fn count(&self, used: Option<CommandUsed>) {
        if let Some(used) = used {
            self.analytics.capture(&used);
        }
    }

    /// Returns a summary for the operator, without the ID, which members of the room must not see.
    fn status(&self) -> String {
        let gate = self.analytics.state().gate;
        let mut status = format!("Analytics is {}.", describe_gate(gate));
        for backend in self.analytics.stats().backends {
            let (delivered, dropped) = (backend.delivered, backend.dropped_total());
            let waiting = backend.queued + backend.in_flight;
            let name = backend.name;
            status.push_str(&format!(
                " {name}: {delivered} sent, {waiting} waiting, {dropped} dropped."
            ));
        }
        status
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

    #[test]
    fn the_operator_decides_about_analytics() {
        for (text, decision) in [
            ("!analytics on", Decision::OptIn),
            (" !analytics   off ", Decision::OptOut),
            ("!analytics status", Decision::Status),
            ("!analytics", Decision::Help(None)),
            ("!analytics on please", Decision::Help(None)),
        ] {
            assert_eq!(decide(text, Asker::Operator), decision, "{text}");
        }
    }

    #[test]
    fn other_users_are_refused() {
        for text in ["!analytics on", "!analytics off", "!analytics status", "!analytics x"] {
            assert_eq!(decide(text, Asker::Other), Decision::Refuse, "{text}");
        }
    }

    #[test]
    fn only_the_operators_commands_are_counted() {
        let used = CommandUsed { command: CommandName::Ping };
        assert_eq!(decide("!ping", Asker::Operator), Decision::Ping(Some(used)));
        assert_eq!(decide("!ping", Asker::Other), Decision::Ping(None));
        assert_eq!(decide("!help", Asker::Other), Decision::Help(None));
    }

    #[test]
    fn other_messages_are_ignored() {
        for text in ["", "ping", "say !ping", "!pingpong", "!Analytics on"] {
            assert_eq!(decide(text, Asker::Operator), Decision::Ignore, "{text}");
        }
    }
}
