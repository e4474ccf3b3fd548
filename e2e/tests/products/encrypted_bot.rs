//! The bot in an encrypted room, with the signals of health.

use std::sync::Arc;

use matrix_analytics_examples::Collector;
use matrix_sdk::{
    Room,
    room::MessagesOptions,
    ruma::{
        UserId,
        events::{
            AnySyncMessageLikeEvent, AnySyncTimelineEvent, SyncMessageLikeEvent,
            room::member::MembershipState,
        },
    },
};
use serde_json::{Value, json};

use super::program::Program;
use crate::{
    health::{
        peer::{Keys, Peer},
        stage::Stage,
    },
    homeserver::Homeserver,
    syncing::SyncKind,
    waiting::{Result, ensure, eventually},
};

pub(super) async fn reports_its_health(homeserver: &Arc<Homeserver>) -> Result<String> {
    let stage = Stage::new(homeserver.clone(), SyncKind::Classic, 0);
    let operator = stage.register("ophelia").await?;
    let operator = Peer::start(&stage, &operator, Keys::default()).await?;
    let robot = stage.register("robertina").await?;
    let collector = Collector::start().await?;
    let url = collector.url();
    let login = ["--homeserver", &homeserver.url, "--user", &robot.name, "--password"];
    let others = [
        homeserver.password(),
        "--operator",
        operator.id.as_str(),
        "--posthog",
        &url,
        "--posthog-key",
        "phc_e2e",
        "--health",
    ];
    let bot = Program::start("bot", &[&login[..], &others].concat())?;
    bot.says("that it listens", 0, |line| line == format!("{} is listening", robot.id)).await?;

    let room = operator.create_room(None).await?;
    let id = <&UserId>::try_from(robot.id.as_str())?;
    room.invite_user_by_id(id).await?;
    let look = async || {
        operator.catch_up().await?;
        let member = room.get_member_no_sync(id).await?;
        Ok(member.filter(|member| *member.membership() == MembershipState::Join))
    };
    eventually("the bot to join", look).await?;

    operator.say(&room, "!ping").await?;
    ensure("pong", answer(&operator, &room, id, 0).await? == "pong")?;
    ensure("no connection", collector.connections() == 0)?;
    operator.say(&room, "!analytics on").await?;
    let thanks = answer(&operator, &room, id, 1).await?;
    ensure(thanks.clone(), thanks.starts_with("Thank you."))?;
    let look = async || Ok(events(&collector)?.into_iter().next());
    let event = eventually("an event about the bot's device", look).await?;
    let expected = json!({ "verificationState": "NotVerified", "recoveryState": "Disabled" });
    ensure(event.to_string(), event["event"] == "CryptoSessionState")?;
    for (key, value) in expected.as_object().ok_or("an object")? {
        ensure(format!("{key} of {event}"), event["properties"][key] == *value)?;
    }

    bot.interrupt().await?;
    let ended = bot.end().await?;
    ensure(format!("it ends well: {ended:?}"), ended.code == Some(0))?;
    let text = collector.requests().into_iter().map(|(_, body)| String::from_utf8(body));
    let text = text.collect::<Result<Vec<_>, _>>()?.join("\n");
    stage.personal.sweep(&text)?;
    Ok(format!("    {text}"))
}

fn events(collector: &Collector) -> Result<Vec<Value>> {
    let mut events = Vec::new();
    for (_, body) in collector.requests() {
        let batch: Value = serde_json::from_slice(&body)?;
        events.extend(batch["batch"].as_array().ok_or("a batch has events")?.iter().cloned());
    }
    Ok(events)
}

/// Waits until the bot has sent more than `before` messages, and returns the next one's text.
async fn answer(peer: &Peer<'_>, room: &Room, bot: &UserId, before: usize) -> Result<String> {
    let look = async || {
        peer.catch_up().await?;
        let messages = room.messages(MessagesOptions::backward()).await?;
        let texts = messages.chunk.iter().rev().filter_map(|event| {
            match event.raw().deserialize().ok()? {
                AnySyncTimelineEvent::MessageLike(AnySyncMessageLikeEvent::RoomMessage(
                    SyncMessageLikeEvent::Original(message),
                )) if message.sender == bot => Some(message.content.body().to_owned()),
                _ => None,
            }
        });
        Ok(texts.into_iter().nth(before))
    };
    eventually("the bot's answer", look).await
}
