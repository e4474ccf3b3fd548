//! The client under test, whose health is watched.

use std::time::Duration;

use matrix_analytics::{
    Analytics, ELEMENT_EVENT_TYPE, HealthSignals, HealthState, HealthWatch, PostHog,
};
use matrix_sdk::{
    Client, Room,
    ruma::{EventId, RoomId},
    sync::RoomUpdates,
};
use tokio::sync::broadcast;

use super::{
    peer::{Keys, Peer, Sent, uploads_keys},
    recorder::Recorder,
    report::{Expected, Report, check},
    stage::Stage,
};
use crate::{
    device::REQUEST_TIMEOUT,
    syncing::Syncing,
    user::User,
    waiting::{Result, ensure, eventually, within},
};

/// Times for tests. A busy machine needs a second for what takes milliseconds.
pub(super) const IGNORED: Duration = Duration::from_secs(1);
pub(super) const GRACE: Duration = Duration::from_secs(4);

const OPTED_IN: &str =
    r#"{"id":"9f1c2d7e-0a4b-4c1d-9e2f-3a4b5c6d7e8f","pseudonymousAnalyticsOptIn":true}"#;

pub(super) struct Watcher<'a> {
    pub(super) client: Client,
    pub(super) analytics: Analytics,
    stage: &'a Stage,
    recorder: Recorder,
    watch: HealthWatch,
    updates: broadcast::Receiver<RoomUpdates>,
    syncing: Option<Syncing>,
}

/// Only undecryptable messages, with times for tests.
pub(super) fn messages() -> HealthSignals {
    HealthSignals::none().undecryptable_messages(true).ignore_under(IGNORED).grace(GRACE)
}

/// Opts in, as another client of the user.
pub(super) async fn opt_in_elsewhere(user: &User) -> Result {
    user.overwrite(OPTED_IN).await
}

impl<'a> Watcher<'a> {
    /// Starts the app of a user who has opted in, and waits until the watch has begun.
    pub(super) async fn start(
        stage: &'a Stage,
        user: &User,
        keys: Keys,
        signals: HealthSignals,
    ) -> Result<Self> {
        opt_in_elsewhere(user).await?;
        let client = keys.log_in(stage, user).await?;
        let mut watcher = Self::build(stage, client, signals).await?;
        watcher.sync().await?;
        watcher.begins().await?;
        Ok(watcher)
    }

    /// Starts the watch, but not sync.
    pub(super) async fn build(
        stage: &'a Stage,
        client: Client,
        signals: HealthSignals,
    ) -> Result<Self> {
        let recorder = Recorder::start().await?;
        let posthog = PostHog::builder(&recorder.url(), "phc_e2e").gzip(false).build()?;
        let analytics = Analytics::builder(client.clone(), ELEMENT_EVENT_TYPE)
            .request_timeout(REQUEST_TIMEOUT)
            .backend(posthog)
            .build()
            .await?;
        let watch = analytics.watch_health(signals)?;
        let updates = client.subscribe_to_all_room_updates();
        Ok(Self { client, analytics, stage, recorder, watch, updates, syncing: None })
    }

    /// Starts to sync, and waits until others can encrypt for this device.
    pub(super) async fn sync(&mut self) -> Result {
        self.syncing = Some(Syncing::start(&self.client, self.stage.kind).await?);
        uploads_keys(&self.client).await
    }

    pub(super) fn state(&self) -> HealthState {
        self.watch.state()
    }

    /// Waits until signals are observed.
    pub(super) async fn begins(&self) -> Result {
        let begun = |state| matches!(state, HealthState::WaitingForSync | HealthState::Watching);
        let look = async || Ok(begun(self.state()).then_some(()));
        let began = eventually("the watch to begin", look).await;
        began.map_err(|error| format!("{error}; it is {:?}", self.watch).into())
    }

    /// Joins a room of `host`, who then knows this device.
    pub(super) async fn joins(&self, room: &Room, host: &Peer<'_>) -> Result {
        let id = self.client.user_id().ok_or("it is logged in")?;
        room.invite_user_by_id(id).await?;
        self.client.join_room_by_id(room.room_id()).await?;
        self.opens(room.room_id()).await?;
        host.catch_up().await
    }

    /// Opens a room as an app does: a sliding sync carries more than the last message of a room
    /// only then.
    pub(super) async fn opens(&self, room: &RoomId) -> Result {
        let syncing = self.syncing.as_ref().ok_or("it syncs")?;
        syncing.open_room(room).await;
        Ok(())
    }

    /// Waits until sync has carried a message, and returns whether it could be decrypted.
    pub(super) async fn receives(&mut self, message: &Sent) -> Result<Readable> {
        within("a message", async {
            loop {
                let updates = self.updates.recv().await?;
                if let Some(readable) = find(&updates, &message.event) {
                    return Ok(readable);
                }
            }
        })
        .await?
    }

    /// Waits until syncs have carried all of these messages, and asserts that none of them could
    /// be decrypted.
    pub(super) async fn receives_all_unreadable(&mut self, messages: &[Sent]) -> Result {
        let mut left: Vec<_> = messages.iter().collect();
        within("messages", async {
            while !left.is_empty() {
                let updates = self.updates.recv().await?;
                left.retain(|sent| find(&updates, &sent.event) != Some(Readable::No));
            }
            Ok(())
        })
        .await?
    }

    /// Waits until a message can be decrypted. A sliding sync may carry its key a little later.
    pub(super) async fn reads(&mut self, room: &Room, message: &Sent) -> Result {
        self.receives(message).await?;
        let room = self.client.get_room(room.room_id()).ok_or("the room is known")?;
        let look = async || {
            let event = room.event(&message.event, None).await?;
            Ok((!event.kind.is_utd()).then_some(()))
        };
        eventually("a readable message", look).await
    }

    /// Waits until `count` events have arrived.
    pub(super) async fn arrived(&self, count: usize) -> Result<Vec<Report>> {
        let look = async || {
            self.analytics.flush(Duration::from_secs(5)).await;
            let reports = self.recorder.reports()?;
            Ok((reports.len() >= count).then_some(reports))
        };
        let arrived = eventually(format!("{count} events"), look).await;
        arrived.map_err(|error| {
            let so_far = self.recorder.reports();
            format!("{error}; {so_far:?} arrived; it is {:?}", self.watch).into()
        })
    }

    pub(super) fn has_sent_nothing(&self) -> bool {
        self.recorder.everything().is_empty()
    }

    /// Waits for the expected events, ends the app, and checks that nothing else has arrived, and
    /// that no identifier is in the bytes. Returns the events.
    pub(super) async fn finish(self, expected: &[Expected]) -> Result<Vec<Report>> {
        self.arrived(expected.len()).await?;
        let id = self.analytics.analytics_id();
        self.watch.stop().await;
        self.analytics.shutdown(Duration::from_secs(5)).await;
        if let Some(syncing) = self.syncing {
            syncing.stop().await;
        }
        let reports = self.recorder.reports()?;
        check(&reports, expected)?;
        let everything = self.recorder.everything();
        self.stage.personal.sweep(&everything)?;
        // The sweep has read the bytes that were sent.
        let id = id.ok_or("there is an analytics ID")?;
        ensure("the analytics ID is there", everything.contains(id.reveal()))?;
        Ok(reports)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readable {
    Yes,
    No,
}

fn find(updates: &RoomUpdates, event: &EventId) -> Option<Readable> {
    let mut timeline = updates.joined.values().flat_map(|room| &room.timeline.events);
    let found = timeline.find(|found| found.event_id().as_deref() == Some(event))?;
    Some(if found.kind.is_utd() { Readable::No } else { Readable::Yes })
}
