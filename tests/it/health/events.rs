//! Which events the signals become.

use matrix_analytics::testing::Fault;

use super::*;

#[tokio::test]
async fn a_message_without_its_key_is_reported_once_as_permanent() {
    let room = Room::new().await;
    let (analytics, recorder, watch) = room.watched(MESSAGES).await;
    room.receive([without_key("$a"), without_key("$a")]).await;
    room.receive([without_key("$a")]).await;
    counted(&watch, |stats| stats.syncs == 2 && stats.undecryptable.pending == 1).await;
    assert_eq!(watch.state(), HealthState::Watching);
    pass(Duration::from_millis(59_900)).await;
    assert!(delivered(&analytics, &recorder).await.is_empty());
    pass(Duration::from_millis(200)).await;
    room.receive([without_key("$a")]).await;
    pass(Duration::from_secs(100)).await;

    let events = delivered(&analytics, &recorder).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].name, "Error");
    let expected = json!({
        "domain": "E2EE",
        "name": "OlmKeysNotSentError",
        "timeToDecryptMillis": -1,
        "cryptoSDK": "Rust",
        "eventLocalAgeMillis": 0,
        "userTrustsOwnIdentity": false,
        "isFederated": true,
    });
    assert_eq!(Value::Object(events[0].properties.clone()), expected);
    assert_eq!(watch.stats().undecryptable.reported_permanent, 1);
}

#[tokio::test]
async fn a_message_whose_key_comes_late_is_reported_with_its_time() {
    let room = Room::new().await;
    let (analytics, recorder, watch) = room.watched(MESSAGES).await;
    let sender = Sender::new().await;
    room.receive([sender.encrypts("$late").await, without_key("$never")]).await;
    counted(&watch, |stats| stats.undecryptable.pending == 2).await;
    pass(Duration::from_secs(10)).await;
    sender.gives_keys(&room.device.client).await;
    counted(&watch, |stats| stats.undecryptable.reported_late == 1).await;
    // The same keys once more.
    sender.gives_keys(&room.device.client).await;
    pass(Duration::from_secs(100)).await;

    let events = delivered(&analytics, &recorder).await;
    let times: Vec<_> =
        events.iter().map(|event| &event.properties["timeToDecryptMillis"]).collect();
    assert_eq!(times, [&json!(10_000), &json!(-1)]);
}

#[tokio::test]
async fn a_message_whose_key_comes_soon_is_not_reported() {
    let room = Room::new().await;
    let (analytics, recorder, watch) = room.watched(MESSAGES).await;
    let sender = Sender::new().await;
    room.receive([sender.encrypts("$soon").await]).await;
    counted(&watch, |stats| stats.undecryptable.pending == 1).await;
    pass(Duration::from_millis(3_900)).await;
    sender.gives_keys(&room.device.client).await;
    counted(&watch, |stats| stats.undecryptable.decrypted_soon == 1).await;
    pass(Duration::from_secs(100)).await;
    assert!(delivered(&analytics, &recorder).await.is_empty());
}

#[tokio::test]
async fn the_cause_follows_membership_and_withheld_keys() {
    let room = Room::new().await;
    let (analytics, recorder, watch) = room.watched(MESSAGES).await;
    let mut before_joining = without_key("$a");
    before_joining["unsigned"] = json!({"membership": "leave"});
    room.receive([before_joining]).await;
    counted(&watch, |stats| stats.undecryptable.pending == 1).await;
    pass(Duration::from_secs(61)).await;
    let events = delivered(&analytics, &recorder).await;
    assert_eq!(events[0].properties["name"], "ExpectedDueToMembership");
}

#[tokio::test]
async fn times_and_signals_are_the_apps_choice() {
    let room = Room::new().await;
    let signals = MESSAGES.ignore_under(Duration::ZERO).grace(Duration::from_secs(2));
    let (analytics, recorder, watch) = room.watched(signals).await;
    let sender = Sender::new().await;
    room.receive([sender.encrypts("$late").await, without_key("$never")]).await;
    counted(&watch, |stats| stats.undecryptable.pending == 2).await;
    pass(Duration::from_secs(1)).await;
    sender.gives_keys(&room.device.client).await;
    counted(&watch, |stats| stats.undecryptable.reported_late == 1).await;
    // A timer is up to a millisecond late.
    pass(Duration::from_millis(1_001)).await;
    counted(&watch, |stats| stats.undecryptable.reported_permanent == 1).await;
    assert_eq!(delivered(&analytics, &recorder).await.len(), 2);
    eventually(watch.stop()).await;

    recorder.clear();
    let watch = analytics.watch_health(HealthSignals::none()).unwrap();
    until(|| watch.state() == HealthState::Watching).await;
    room.receive([without_key("$b")]).await;
    pass(Duration::from_secs(100)).await;
    assert_eq!(watch.stats(), HealthStats::default());
    assert!(delivered(&analytics, &recorder).await.is_empty());
}

#[tokio::test]
async fn a_soft_logout_is_reported_and_so_is_the_return_of_the_session() {
    let room = Room::new().await;
    let signals = HealthSignals::none().sessions(true);
    let (analytics, recorder, watch) = room.watched(signals).await;
    for _ in 0..3 {
        room.world.server.fail_next(Fault::SoftLogout);
        assert!(eventually(analytics.recheck()).await.is_err());
        until(|| watch.state() == HealthState::WaitingForConsent).await;
    }
    eventually(analytics.recheck()).await.unwrap();
    until(|| watch.state() == HealthState::Watching).await;

    let events = delivered(&analytics, &recorder).await;
    let names: Vec<_> = events.iter().map(|event| &*event.name).collect();
    assert_eq!(names, ["UnauthenticatedError", "SessionRenewed"]);
    let expected = json!({
        "refreshTokenAuth": false,
        "softLogout": true,
        "errorCode": "M_UNKNOWN_TOKEN",
        "errorReason": "soft logout",
    });
    assert_eq!(Value::Object(events[0].properties.clone()), expected);
}
