//! P8: the events name no person, device, room, message or server, and no text is computed.

use matrix_analytics::{JsonLines, testing::Fault};
use matrix_sdk::{
    ruma::{events::room::message::RoomMessageEventContent, room_id},
    send_queue::RoomSendQueueUpdate,
};
use tracing_subscriber::{
    Layer as _,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
};

use super::*;
use crate::support::log::Log;

#[tokio::test]
async fn no_identifier_is_sent_or_logged_and_the_closed_vocabulary_removes_nothing() {
    let log = Log::default();
    // matrix-sdk's own lines and spans name the user and the room.
    let ours = Targets::new().with_target("matrix_analytics", LevelFilter::TRACE);
    let layer = tracing_subscriber::fmt::layer().with_writer(log.clone());
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(ours));
    let _log = tracing::subscriber::set_default(subscriber);
    tracing::info!(target: "matrix_analytics", "this line shows that lines are recorded");
    let room = Room::new().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("events.jsonl");
    let lines = tokio::fs::File::create(&file).await.unwrap();
    let builder = room.device.builder().backend(JsonLines::new(lines));
    let analytics = builder.text_policy(TextPolicy::Refuse).build().await.unwrap();
    analytics.opt_in_and_settle().await;
    let watch = analytics.watch_health(HealthSignals::all()).unwrap();
    is_observing(&watch).await;

    let sender = Sender::new().await;
    let late = sender.encrypts("$latemessage").await;
    let session = late["content"]["session_id"].as_str().unwrap().to_owned();
    room.receive([late, without_key("$permanentmessage")]).await;
    counted(&watch, |stats| stats.undecryptable.pending == 2).await;
    room.fails_to_send().await;
    pass(Duration::from_secs(10)).await;
    sender.gives_keys(&room.device.client).await;
    counted(&watch, |stats| stats.undecryptable.reported_late == 1).await;
    pass(Duration::from_secs(100)).await;
    room.world.server.fail_next(Fault::SoftLogout);
    assert!(eventually(analytics.recheck()).await.is_err());
    until(|| watch.state() == HealthState::WaitingForConsent).await;
    eventually(analytics.recheck()).await.unwrap();
    is_observing(&watch).await;
    settle().await;
    assert!(eventually(analytics.flush_all()).await.is_complete());

    let stats = analytics.stats();
    assert_eq!((stats.refused_texts, stats.guarded.len()), (0, 0));
    let sent = std::fs::read_to_string(&file).unwrap();
    for name in
        ["CryptoSessionState", "Error", "SendFailure", "UnauthenticatedError", "SessionRenewed"]
    {
        assert!(sent.contains(name), "{name} is not in {sent}");
    }
    let log = log.text();
    assert!(log.contains("lines are recorded"));
    let seen = format!("{sent}{log}{watch:?}{stats:?}");
    let personal = [
        ALICE,
        BOB,
        ROOM,
        "alice",
        "bob",
        "example",
        "health:",
        "latemessage",
        "permanentmessage",
        "BOBDEVICE",
        &*room.device.login.device_id,
        &*room.device.login.access_token,
        &*session,
        "unknown session",
        "secret words",
        "an answer of the server",
    ];
    for text in personal {
        assert!(!seen.contains(text), "{text} is in {seen}");
    }
}

impl Room {
    /// Sends a message by the send queue, which the homeserver refuses.
    async fn fails_to_send(&self) {
        Mock::given(method("PUT"))
            .and(wiremock::matchers::path_regex("/send/m.room.message/"))
            .respond_with(ResponseTemplate::new(403).set_body_json(
                json!({"errcode": "M_FORBIDDEN", "error": "an answer of the server"}),
            ))
            .mount(&self.server)
            .await;
        let room = self.device.client.get_room(room_id!("!health:example.net")).unwrap();
        let mut updates = self.device.client.send_queue().subscribe();
        room.send_queue()
            .send(RoomMessageEventContent::text_plain("secret words").into())
            .await
            .unwrap();
        eventually(async {
            let is_error = |update: &RoomSendQueueUpdate| {
                matches!(update, RoomSendQueueUpdate::SendError { .. })
            };
            while !is_error(&updates.recv().await.unwrap().update) {}
        })
        .await;
    }
}
