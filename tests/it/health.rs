//! Health signals of a client with encryption, on a mocked homeserver: one file for each promise.

mod cost;
mod events;
mod p01_silence_before_proof;
mod p02_closing_is_free;
mod p03_withdrawal_is_one_transaction;
mod p08_nothing_personal_leaves;
mod p13_accounts_do_not_mix;
mod traps;

use std::{
    iter,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use matrix_analytics::{
    Analytics, HealthSignals, HealthState, HealthStats, HealthWatch, TextPolicy,
    testing::{ReceivedEvent, RecordingBackend},
};
use matrix_sdk::{
    Client,
    ruma::{MilliSecondsSinceUnixEpoch, OwnedUserId, device_id, room_id, serde::Raw, user_id},
};
use matrix_sdk_base::crypto::{EncryptionSettings, OlmMachine};
use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{method, path},
};

use crate::support::{ALICE, AnalyticsExt as _, Device, World, eventually};

const ROOM: &str = "!health:example.net";
/// A sender on another server.
const BOB: &str = "@bob:example.net";

/// The signals about messages only. Others report that the device is not verified.
const MESSAGES: HealthSignals = HealthSignals::none().undecryptable_messages(true);

/// A device of Alice in an encrypted room, and the homeserver of both.
struct Room {
    world: World,
    server: MockServer,
    device: Device,
    /// The number of syncs with rooms. A client ignores an answer whose token it knows.
    syncs: AtomicU64,
}

impl Room {
    async fn new() -> Self {
        let server = MockServer::builder().start().await;
        let world = World::on(&server).await;
        let device = world.device("QZXJKVBWPL").await;
        Self { world, server, device, syncs: AtomicU64::new(0) }
    }

    /// Builds an `Analytics` under the closed vocabulary, and opts in.
    async fn opted_in(&self) -> (Analytics, RecordingBackend) {
        let (analytics, recorder) = self.start().await;
        analytics.opt_in_and_settle().await;
        (analytics, recorder)
    }

    async fn start(&self) -> (Analytics, RecordingBackend) {
        let recorder = RecordingBackend::new();
        let builder = self.device.builder().backend(recorder.clone());
        let analytics = builder.text_policy(TextPolicy::Refuse).build().await.unwrap();
        analytics.confirmed().await;
        (analytics, recorder)
    }

    /// Opts in, watches the health, and waits until signals are observed.
    async fn watched(&self, signals: HealthSignals) -> (Analytics, RecordingBackend, HealthWatch) {
        let (analytics, recorder) = self.opted_in().await;
        let watch = analytics.watch_health(signals).unwrap();
        is_observing(&watch).await;
        (analytics, recorder, watch)
    }

    /// Lets the device receive `events` in one sync.
    async fn receive(&self, events: impl IntoIterator<Item = Value>) {
        let timeline = json!({"events": events.into_iter().collect::<Vec<_>>(), "limited": false});
        let rooms = json!({"join": {ROOM: {"timeline": timeline}}});
        let token = format!("s{}", 1000 + self.syncs.fetch_add(1, Ordering::Relaxed));
        self.sync_answers(&json!({"next_batch": token, "rooms": rooms})).await;
        self.device.sync().await;
    }

    /// Answers the next sync with `answer`.
    async fn sync_answers(&self, answer: &Value) {
        Mock::given(method("GET"))
            .and(path("/_matrix/client/v3/sync"))
            .respond_with(ResponseTemplate::new(200).set_body_json(answer))
            .with_priority(1)
            .up_to_n_times(1)
            .mount(&self.server)
            .await;
    }
}

/// Waits until signals are observed.
async fn is_observing(watch: &HealthWatch) {
    until(|| matches!(watch.state(), HealthState::WaitingForSync | HealthState::Watching)).await;
}

/// Lets other tasks run until `met`. Fails after one real minute, in which it never happened.
async fn until(met: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !met() {
        assert!(start.elapsed() < Duration::from_secs(60), "the awaited change never happened");
        tokio::task::yield_now().await;
    }
}

/// Waits until the counters of `watch` are as wanted.
async fn counted(watch: &HealthWatch, wanted: impl Fn(&HealthStats) -> bool) {
    until(|| wanted(&watch.stats())).await;
}

/// Lets `time` pass, and other tasks run before and after that.
async fn pass(time: Duration) {
    settle().await;
    tokio::time::advance(time).await;
    settle().await;
}

/// Lets all other tasks run until they wait.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Delivers what was captured, and returns it.
async fn delivered(analytics: &Analytics, recorder: &RecordingBackend) -> Vec<ReceivedEvent> {
    settle().await;
    eventually(analytics.flush_all()).await;
    recorder.events()
}

fn now() -> u64 {
    MilliSecondsSinceUnixEpoch::now().get().into()
}

/// An encrypted message of Bob whose key is not here.
fn without_key(id: &str) -> Value {
    sent_at(id, now())
}

/// As [`without_key`], sent at `time`.
fn sent_at(id: &str, time: u64) -> Value {
    let content = json!({
        "algorithm": "m.megolm.v1.aes-sha2",
        "ciphertext": CIPHERTEXT,
        "session_id": "unknown session",
    });
    event(id, time, &content)
}

fn event(id: &str, time: u64, content: &Value) -> Value {
    json!({
        "type": "m.room.encrypted",
        "event_id": id,
        "sender": BOB,
        "origin_server_ts": time,
        "content": content,
    })
}

/// A well-formed Megolm message.
const CIPHERTEXT: &str = "AwgAEpABpU3KGCUwux1tEyze1iN7LtkeP3IfyxlxF0SU1kk8nVw0YL4xIB5p/tqg7ui5mX\
                          9cfCmZ/a/lkyU81lSvTfrXFCegrrP+6SMvivIhH57kkcWxC+y1Vjv8Hm+TQn7LyP4pVeXN\
                          jkbcjtS3wnZNKlpNdncG+F2GkAJK1r2jQBvpyMvMyTX2zR9hImrhUziuGjQATTO6DSRqwE\
                          yBsbryPjv57vX3nytJNK+H9VILablLDZguhbtVtnKocmN6zXRm/LYODo/xhGOw5LK6KXA0\
                          dPBkrGj3APWwKz3G";

/// Bob's device, which encrypts, and gives keys away when the test says so.
struct Sender {
    machine: OlmMachine,
}

impl Sender {
    async fn new() -> Self {
        Self {
            machine: OlmMachine::new(user_id!("@bob:example.net"), device_id!("BOBDEVICE")).await,
        }
    }

    /// Begins a new session, and encrypts a message.
    async fn encrypts(&self, id: &str) -> Value {
        let (room, no_users) = (room_id!("!health:example.net"), iter::empty::<&OwnedUserId>());
        self.machine.discard_room_key(room).await.unwrap();
        let no_users = no_users.map(|user| &**user);
        self.machine.share_room_key(room, no_users, EncryptionSettings::default()).await.unwrap();
        let content = Raw::new(&json!({"body": "secret words", "msgtype": "m.text"})).unwrap();
        let content = content.cast_unchecked();
        let encrypted =
            self.machine.encrypt_room_event_raw(room, "m.room.message", &content).await.unwrap();
        let content: Value = serde_json::from_str(encrypted.content.json().get()).unwrap();
        event(id, now(), &content)
    }

    /// Gives all keys to `client`.
    async fn gives_keys(&self, client: &Client) {
        let keys = self.machine.store().export_room_keys(|_| true).await.unwrap();
        let machine = client.olm_machine_for_testing().await;
        let store = machine.as_ref().unwrap().store();
        store.import_exported_room_keys(keys, |_, _| {}).await.unwrap();
    }
}
