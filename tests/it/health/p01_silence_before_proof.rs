//! P1: nothing is observed before the opt-in is confirmed, and nothing from before it is reported.

use matrix_analytics::testing::Fault;

use super::*;

#[tokio::test]
async fn nothing_is_observed_before_the_opt_in() {
    let room = Room::new().await;
    let (analytics, recorder) = room.start().await;
    let watch = analytics.watch_health(MESSAGES).unwrap();
    room.receive([without_key("$a")]).await;
    pass(Duration::from_secs(100)).await;
    assert_eq!(watch.state(), HealthState::WaitingForConsent);

    analytics.opt_in_and_settle().await;
    is_observing(&watch).await;
    // A subscription from before would have kept the sync.
    settle().await;
    assert_eq!(watch.stats(), HealthStats::default());
    pass(Duration::from_secs(100)).await;
    assert!(delivered(&analytics, &recorder).await.is_empty());
}

#[tokio::test]
async fn nothing_is_observed_while_a_remembered_opt_in_is_not_confirmed() {
    let room = Room::new().await;
    drop(room.opted_in().await);
    settle().await;
    room.world.server.fail_next(Fault::ServerError(503));
    let recorder = RecordingBackend::new();
    let analytics = room.device.builder().backend(recorder.clone()).build().await.unwrap();
    let watch = analytics.watch_health(MESSAGES).unwrap();
    room.receive([without_key("$a")]).await;
    settle().await;
    assert_eq!(watch.state(), HealthState::WaitingForConsent);
    assert_eq!(watch.stats(), HealthStats::default());

    eventually(analytics.recheck()).await.unwrap();
    is_observing(&watch).await;
    settle().await;
    assert_eq!(watch.stats(), HealthStats::default());
}

#[tokio::test]
async fn a_message_from_before_the_opt_in_is_not_reported_even_if_it_is_decrypted_later() {
    let room = Room::new().await;
    let (analytics, recorder) = room.start().await;
    let sender = Sender::new().await;
    let mut before = [sender.encrypts("$a").await, without_key("$b")];
    before.iter_mut().for_each(|event| event["origin_server_ts"] = json!(now() - 1));
    let watch = analytics.watch_health(MESSAGES).unwrap();
    analytics.opt_in_and_settle().await;
    is_observing(&watch).await;
    room.receive(before).await;
    counted(&watch, |stats| stats.undecryptable.ignored == 2).await;
    pass(Duration::from_secs(10)).await;
    sender.gives_keys(&room.device.client).await;
    pass(Duration::from_secs(100)).await;
    assert!(delivered(&analytics, &recorder).await.is_empty());
    assert_eq!(watch.stats().undecryptable.seen, 0);
}

#[tokio::test]
async fn a_message_that_was_reported_is_not_reported_again_after_a_restart() {
    let room = Room::new().await;
    let (analytics, recorder, watch) = room.watched(MESSAGES).await;
    let event = without_key("$a");
    room.receive([event.clone()]).await;
    counted(&watch, |stats| stats.undecryptable.pending == 1).await;
    pass(Duration::from_secs(61)).await;
    assert_eq!(delivered(&analytics, &recorder).await.len(), 1);
    drop((analytics, watch));
    settle().await;

    let (analytics, recorder) = room.start().await;
    let watch = analytics.watch_health(MESSAGES).unwrap();
    is_observing(&watch).await;
    room.receive([event]).await;
    counted(&watch, |stats| stats.undecryptable.ignored == 1).await;
    pass(Duration::from_secs(100)).await;
    assert!(delivered(&analytics, &recorder).await.is_empty());
}

#[tokio::test]
async fn a_message_that_claims_to_be_from_the_future_is_not_reported_in_any_epoch() {
    let room = Room::new().await;
    let (analytics, recorder, watch) = room.watched(MESSAGES).await;
    let event = sent_at("$a", now() + 120_000);
    room.receive([event.clone()]).await;
    counted(&watch, |stats| stats.undecryptable.ignored == 1).await;
    eventually(analytics.opt_out().into_future()).await;
    analytics.opt_in_and_settle().await;
    is_observing(&watch).await;
    room.receive([event]).await;
    counted(&watch, |stats| stats.undecryptable.ignored == 2).await;
    pass(Duration::from_secs(100)).await;
    assert!(delivered(&analytics, &recorder).await.is_empty());
}
