//! Traps of matrix-sdk's signals, and of an app that uses them.

use matrix_analytics::WatchHealthError;

use super::*;

#[tokio::test]
async fn a_watch_says_that_the_client_does_not_sync() {
    let room = Room::new().await;
    let (_analytics, _, watch) = room.watched(MESSAGES).await;
    pass(Duration::from_secs(100)).await;
    assert_eq!(watch.state(), HealthState::WaitingForSync);
    room.receive([]).await;
    until(|| watch.state() == HealthState::Watching).await;
}

#[tokio::test]
async fn a_watch_ends_with_the_last_handle_and_with_a_shutdown() {
    for is_shutdown in [true, false] {
        let room = Room::new().await;
        let (analytics, recorder, watch) = room.watched(MESSAGES).await;
        room.receive([without_key("$a")]).await;
        counted(&watch, |stats| stats.undecryptable.pending == 1).await;
        if is_shutdown {
            eventually(analytics.shutdown(Duration::from_secs(1))).await;
            let refused = analytics.watch_health(HealthSignals::all());
            assert_eq!(refused.unwrap_err(), WatchHealthError::ShutDown);
        } else {
            drop(analytics);
        }
        until(|| watch.state() == HealthState::Stopped).await;
        assert_eq!(watch.stats().undecryptable.forgotten, 1);
        room.receive([without_key("$b")]).await;
        pass(Duration::from_secs(100)).await;
        assert_eq!(watch.stats().syncs, 1);
        assert!(recorder.events().is_empty());
    }
}

#[test]
fn a_watch_ends_with_its_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (watch, analytics) = runtime().block_on(async {
        let room = Room::new().await;
        let (analytics, _, watch) = room.watched(MESSAGES).await;
        (watch, analytics)
    });
    assert_eq!(watch.state(), HealthState::Stopped);
    drop(analytics);
    runtime().block_on(watch.stop());
}

#[tokio::test]
async fn an_event_cache_that_works_reports_late_decryptions_and_is_not_called_stalled() {
    let room = Room::new().await;
    room.device.client.event_cache().subscribe().unwrap();
    assert_eq!(room.late_decryption().await, (1, false));
}

#[tokio::test]
async fn late_decryptions_are_noticed_if_the_event_cache_was_subscribed_before_the_login() {
    let room = Room::new().await;
    let login = room.world.server.add_device(ALICE, "EARLY");
    let client = Client::builder().homeserver_url(room.world.server.uri());
    let client = client.build().await.unwrap();
    client.event_cache().subscribe().unwrap();
    settle().await;
    let session = matrix_sdk::authentication::matrix::MatrixSession {
        meta: matrix_sdk::SessionMeta {
            user_id: ALICE.try_into().unwrap(),
            device_id: "EARLY".into(),
        },
        tokens: matrix_sdk::SessionTokens {
            access_token: login.access_token.clone(),
            refresh_token: None,
        },
    };
    client.restore_session(session).await.unwrap();
    let room = Room { device: Device { client, login }, ..room };
    assert_eq!(room.late_decryption().await, (1, true));
}

impl Room {
    /// Lets a message be decrypted after 10 s. Returns the number of reports, and whether the
    /// event cache was found to be stalled.
    async fn late_decryption(&self) -> (usize, bool) {
        let (analytics, recorder, watch) = self.watched(MESSAGES).await;
        let sender = Sender::new().await;
        self.receive([sender.encrypts("$late").await]).await;
        counted(&watch, |stats| stats.undecryptable.pending == 1).await;
        pass(Duration::from_secs(10)).await;
        sender.gives_keys(&self.device.client).await;
        counted(&watch, |stats| stats.undecryptable.reported_late == 1).await;
        pass(Duration::from_secs(6)).await;
        let events = delivered(&analytics, &recorder).await;
        assert!(events.iter().all(|event| event.properties["timeToDecryptMillis"] == 10_000));
        (events.len(), watch.stats().redecryption_stalled)
    }
}

#[tokio::test]
async fn nothing_panics_and_nothing_is_sent_when_the_client_logs_out_without_a_word() {
    let room = Room::new().await;
    let (analytics, recorder, watch) = room.watched(MESSAGES).await;
    room.receive([without_key("$a")]).await;
    counted(&watch, |stats| stats.undecryptable.pending == 1).await;
    eventually(room.device.client.matrix_auth().logout()).await.unwrap();
    assert!(eventually(analytics.recheck()).await.is_err());
    until(|| watch.state() == HealthState::SessionEnded).await;
    pass(Duration::from_secs(100)).await;
    assert!(delivered(&analytics, &recorder).await.is_empty());
}
