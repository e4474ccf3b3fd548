//! The bot, its operator, and a stranger, in a room.

use matrix_analytics_examples::Collector;
use serde_json::{Value, json};

use super::program::Program;
use crate::{
    homeserver::Homeserver,
    user::{User, answer_of},
    waiting::{Result, ensure, eventually},
};

const EVENT_TYPE: &str = "org.example.bot.analytics";
const ROOM_NAME: &str = "The secret garden";

/// A room that the bot has joined.
struct Room {
    id: String,
    bot: String,
}

impl Room {
    async fn say(&self, who: &User, text: &str, transaction: &str) -> Result {
        let path =
            format!("/_matrix/client/v3/rooms/{}/send/m.room.message/{transaction}", self.id);
        let message = json!({ "msgtype": "m.text", "body": text });
        answer_of(who.request("PUT", &path, Some(message.to_string())).await?).map(drop)
    }

    /// Returns the bot's messages, oldest first.
    async fn answers(&self, who: &User) -> Result<Vec<String>> {
        let path = format!("/_matrix/client/v3/rooms/{}/messages?dir=b&limit=100", self.id);
        let messages = answer_of(who.request("GET", &path, None).await?)?;
        let chunk = messages["chunk"].as_array().ok_or("the answer holds no messages")?;
        let notices = chunk.iter().rev().filter(|event| event["sender"] == self.bot);
        let notices = notices.filter_map(|event| event["content"]["body"].as_str());
        Ok(notices.map(str::to_owned).collect())
    }

    /// Sends a message, and waits for the bot's answer.
    async fn ask(&self, who: &User, text: &str) -> Result<String> {
        let before = self.answers(who).await?.len();
        self.say(who, text, &format!("ask{before}")).await?;
        let look = async || Ok(self.answers(who).await?.into_iter().nth(before));
        eventually(format!("an answer to {text}"), look).await
    }
}

pub(super) async fn operator_decides(homeserver: &Homeserver) -> Result<String> {
    let operator = homeserver.register("olga").await?;
    let stranger = homeserver.register("stefan").await?;
    let robot = homeserver.register("robert").await?;
    let collector = Collector::start().await?;
    let bot = Program::start(
        "bot",
        &[
            "--homeserver",
            &homeserver.url,
            "--user",
            "robert",
            "--password",
            homeserver.password(),
            "--operator",
            &operator.id,
            "--posthog",
            &collector.url(),
            "--posthog-key",
            "phc_e2e",
        ],
    )?;
    bot.says("that it listens", 0, |line| line == format!("{} is listening", robot.id)).await?;
    let room = enter(&operator, &stranger, &robot).await?;

    // Consent has not been given yet.
    ensure("pong", room.ask(&operator, "!ping").await? == "pong")?;
    ensure("pong", room.ask(&stranger, "!ping").await? == "pong")?;
    for wish in ["!analytics on", "!analytics off"] {
        let refusal = room.ask(&stranger, wish).await?;
        ensure(
            refusal.clone(),
            refusal.starts_with("Sorry, only my operator can use this command"),
        )?;
    }
    ensure("no connection", collector.connections() == 0)?;

    let thanks = room.ask(&operator, "!analytics on").await?;
    ensure(thanks.clone(), thanks.starts_with("Thank you."))?;
    room.ask(&operator, "!ping").await?;
    room.ask(&stranger, "!ping").await?;
    room.ask(&stranger, "!help").await?;
    arrived(&collector, 1).await?;
    let refusal = room.ask(&stranger, "!analytics off").await?;
    ensure(refusal.clone(), refusal.starts_with("Sorry"))?;
    room.ask(&operator, "!help").await?;
    arrived(&collector, 2).await?;

    let farewell = room.ask(&operator, "!analytics off").await?;
    let expected = "Analytics is off. Removal from my account: done.";
    ensure(farewell.clone(), farewell == expected)?;
    let path = format!("/_matrix/client/v3/user/{}/account_data/{EVENT_TYPE}", robot.id);
    let (_, held) = robot.request("GET", &path, None).await?;
    ensure(held.clone(), held == r#"{"pseudonymousAnalyticsOptIn":false}"#)?;
    let connections = collector.connections();
    room.ask(&operator, "!ping").await?;
    bot.interrupt().await?;
    let ended = bot.end().await?;
    ensure(format!("it ends well: {ended:?}"), ended.code == Some(0))?;
    ensure("nothing more arrived", collector.requests().len() == 2)?;
    ensure("no connection was opened again", collector.connections() == connections)?;

    let personal = [
        "olga",
        "stefan",
        "robert",
        "localhost",
        "garden",
        "pong",
        "ask",
        &operator.id[1..],
        &room.id,
        &room.id[1..],
    ];
    without_a_trace(&collector, &personal)
}

/// Creates a room as the operator, and invites both.
async fn enter(operator: &User, stranger: &User, robot: &User) -> Result<Room> {
    let room = operator.create_room(&[robot, stranger]).await?;
    let name = format!("/_matrix/client/v3/rooms/{room}/state/m.room.name");
    let content = json!({ "name": ROOM_NAME }).to_string();
    answer_of(operator.request("PUT", &name, Some(content)).await?)?;
    let join = format!("/_matrix/client/v3/rooms/{room}/join");
    answer_of(stranger.request("POST", &join, Some("{}".to_owned())).await?)?;
    let look = async || {
        let path = format!("/_matrix/client/v3/rooms/{room}/joined_members");
        let members = answer_of(operator.request("GET", &path, None).await?)?;
        Ok(members["joined"].get(&robot.id).map(drop))
    };
    eventually("the bot to join", look).await?;
    Ok(Room { id: room, bot: robot.id.clone() })
}

async fn arrived(collector: &Collector, count: usize) -> Result {
    let look = async || Ok((collector.requests().len() >= count).then_some(()));
    eventually(format!("{count} batches"), look).await
}

/// Asserts that the events contain the operator's commands, and nothing personal.
fn without_a_trace(collector: &Collector, personal: &[&str]) -> Result<String> {
    let (mut commands, mut ids, mut shown) = (Vec::new(), Vec::new(), String::new());
    for (path, body) in collector.requests() {
        ensure(format!("the protocol's path: {path}"), path == "POST /batch/")?;
        let text = String::from_utf8(body)?;
        for word in personal {
            ensure(format!("no trace of {word} in {text}"), !text.contains(word))?;
        }
        ensure(format!("no Matrix ID in {text}"), !text.contains(['@', '!', '#']))?;
        let batch: Value = serde_json::from_str(&text)?;
        for event in batch["batch"].as_array().ok_or("a batch has events")? {
            ensure("one kind of event", event["event"] == "CommandUsed")?;
            commands.push(event["properties"]["command"].to_string());
            ids.push(event["distinct_id"].to_string());
        }
        shown.push_str(&format!("\n    {text}"));
    }
    ensure(format!("the operator's: {commands:?}"), commands == [r#""Ping""#, r#""Help""#])?;
    ids.dedup();
    ensure("one ID", ids.len() == 1)?;
    Ok(shown)
}
