//! A bot that counts which of its commands its operator uses, if the operator agrees.
//!
//!     cargo run --example bot -- --homeserver https://matrix.example.org \
//!         --user bot --password - --operator @me:example.org --jsonl events.jsonl
//!
//! Invite it to a room without encryption and say `!help`.
//!
//! The consent is that of the bot's account, and its operator decides it. Nobody else
//! was asked: what others do is answered, but neither counted nor described.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bot says at its terminal what it does"
)]

use std::{error::Error, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use matrix_analytics::{Analytics, AnalyticsEvent, JsonLines, PostHog};
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

/// A bot that counts which of its commands its operator uses, if the operator agrees.
#[derive(Parser)]
#[command(name = "bot")]
struct Arguments {
    /// Base URL of the homeserver
    #[arg(long, value_name = "URL")]
    homeserver: String,
    /// The bot's account
    #[arg(long)]
    user: String,
    /// Its password; `-` reads a line from standard input
    #[arg(long, value_parser = secret)]
    password: String,
    /// Who may invite the bot and decide about analytics
    #[arg(long, value_name = "@USER:SERVER")]
    operator: OwnedUserId,
    /// Send events to this PostHog
    #[arg(long, value_name = "URL", requires = "posthog_key")]
    posthog: Option<String>,
    /// The key of the PostHog project
    #[arg(long, value_name = "KEY", requires = "posthog")]
    posthog_key: Option<String>,
    /// Append events to this file
    #[arg(long, value_name = "FILE", conflicts_with = "posthog")]
    jsonl: Option<PathBuf>,
    /// Type of the account-data event that holds the decision: each vendor's own
    #[arg(long, value_name = "TYPE", default_value = "org.example.bot.analytics")]
    event_type: String,
    /// End after this time; without it, Ctrl-C does
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
}

/// The age at which a message is no command any more, by the homeserver's clock.
const LONGEST_AGE_MS: i64 = 60_000;

// Who may do what.

/// The one event: which command it was, and no word of who said it where.
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
    /// No command of ours.
    Ignore,
    /// Answer, and count it if there is something to count.
    Help(Option<CommandUsed>),
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
        // Talk about consent is not itself counted.
        (["!analytics", "on"], Asker::Operator) => Decision::OptIn,
        (["!analytics", "off"], Asker::Operator) => Decision::OptOut,
        (["!analytics", "status"], Asker::Operator) => Decision::Status,
        (["!analytics", ..], Asker::Operator) => Decision::Help(None),
        _ => Decision::Ignore,
    }
}

// The bot.

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
    // It logs in again at each start, so this device is not needed any more.
    session.log_out().await?;
    done
}

async fn serve(arguments: Arguments, client: &Client) -> Result {
    let analytics = analytics(&arguments, client).await?;
    let ended = tokio::select! {
        ended = listen(client, &analytics, arguments.operator) => ended,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Into::into),
        () = over(arguments.seconds) => Ok(()),
    };

    let report = analytics.shutdown(Duration::from_secs(5)).await;
    if !report.is_complete() {
        println!("some events were not delivered");
    }
    // Before the logout, for the SDK does not announce that. A withdrawal that the
    // homeserver has not taken yet gets its last try: the store was in memory.
    let receipt = analytics.end_session().await;
    if !receipt.account.is_done() {
        eprintln!("the account still has to be cleaned: say `!analytics off` again");
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

async fn over(seconds: Option<u64>) {
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

/// Syncs for as long as there is a session.
async fn listen(client: &Client, analytics: &Analytics, operator: OwnedUserId) -> Result {
    let bot = Bot { analytics: analytics.clone(), operator };
    // Messages from before the bot joined are not answered: its handlers are added later.
    let first = client.sync_once(SyncSettings::new()).await?;
    for room in client.invited_rooms() {
        let inviter = room.invite_details().await?.inviter_id;
        join(room, &inviter, &bot.operator);
    }
    client.add_event_handler_context(bot);
    client.add_event_handler(on_invite);
    client.add_event_handler(on_message);
    println!("{} listens", client.user_id().map_or("bot", UserId::as_str));

    let mut settings = SyncSettings::new().token(first.next_batch);
    loop {
        match client.sync(settings.clone()).await {
            Err(error) if is_session_lost(&error) => return Err(error.into()),
            Err(error) => eprintln!("bot: cannot sync, trying again: {}", chain(&error)),
            Ok(()) => return Ok(()),
        }
        // From here on the client knows where it was.
        settings = SyncSettings::new();
        sleep(Duration::from_secs(5)).await;
    }
}

async fn on_invite(event: StrippedRoomMemberEvent, room: Room, Ctx(bot): Ctx<Bot>) {
    if event.state_key == room.own_user_id() {
        join(room, &event.sender, &bot.operator);
    }
}

/// Joins in the background: the SDK waits for the next sync in it, and that for us.
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
    // Notices are what bots say, this one too: they never answer one another.
    let MessageType::Text(text) = event.content.msgtype else {
        return;
    };
    let asker = if event.sender == bot.operator { Asker::Operator } else { Asker::Other };
    // A room that was just joined shows its last messages, and an outage of the network delays
    // messages: an opt-in counts only if it is new.
    let age = event.unsigned.age.map_or(0, i64::from);
    if event.sender == room.own_user_id() || age > LONGEST_AGE_MS {
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
                "Sorry, only my operator decides about that. What you do here is not counted."
                    .to_owned()
            }
            Decision::OptIn => match self.analytics.opt_in().await {
                Ok(_) => format!("Thank you. {}", self.status()),
                Err(error) => format!("That did not work: {}", chain(&error)),
            },
            Decision::OptOut => {
                let account = self.analytics.opt_out().await.account;
                format!(
                    "Nothing is sent any more. Cleaning my account: {}.",
                    describe_step(&account)
                )
            }
            Decision::Status => self.status(),
        })
    }

    fn count(&self, used: Option<CommandUsed>) {
        if let Some(used) = used {
            self.analytics.capture(&used);
        }
    }

    /// What a settings page would show. The ID is not for a room to read.
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
    fn the_arguments_make_sense() {
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
    fn anybody_else_is_refused() {
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
    fn talk_is_ignored() {
        for text in ["", "ping", "say !ping", "!pingpong", "!Analytics on"] {
            assert_eq!(decide(text, Asker::Operator), Decision::Ignore, "{text}");
        }
    }
}
