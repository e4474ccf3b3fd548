//! P13: a watch belongs to one session.

use matrix_analytics::{WatchHealthError, testing::Fault};

use super::*;

#[tokio::test]
async fn nothing_is_observed_after_the_end_of_the_session() {
    for is_ended_by_app in [true, false] {
        let room = Room::new().await;
        let (analytics, recorder, watch) = room.watched(MESSAGES).await;
        room.receive([without_key("$a")]).await;
        counted(&watch, |stats| stats.undecryptable.pending == 1).await;
        if is_ended_by_app {
            eventually(analytics.end_session()).await;
        } else {
            room.world.server.fail_next(Fault::UnknownToken);
            assert!(eventually(analytics.recheck()).await.is_err());
        }
        until(|| watch.state() == HealthState::SessionEnded).await;
        let stats = watch.stats();
        assert_eq!((stats.undecryptable.pending, stats.undecryptable.forgotten), (0, 1));
        room.receive([without_key("$b")]).await;
        pass(Duration::from_secs(100)).await;
        assert_eq!((watch.state(), watch.stats()), (HealthState::SessionEnded, stats));
        assert!(delivered(&analytics, &recorder).await.is_empty());
    }
}

#[tokio::test]
async fn a_watch_sees_the_messages_of_its_own_session_only() {
    let room = Room::new().await;
    let (analytics, _, watch) = room.watched(MESSAGES).await;
    let login = room.world.server.add_device(BOB, "TABLET");
    let other = room.world.device_of(login).await;
    let (others, _) = other.start_opted_in().await;
    let others_watch = others.watch_health(HealthSignals::all()).unwrap();
    is_observing(&others_watch).await;
    room.receive([without_key("$a")]).await;
    counted(&watch, |stats| stats.undecryptable.pending == 1).await;
    assert_eq!(others_watch.stats(), HealthStats::default());
    assert!(analytics.is_open() && others.is_open());
}

#[tokio::test]
async fn a_second_watch_is_refused_while_the_first_lives() {
    let room = Room::new().await;
    let (analytics, _, watch) = room.watched(MESSAGES).await;
    let second = analytics.clone().watch_health(HealthSignals::none());
    assert_eq!(second.unwrap_err(), WatchHealthError::AlreadyWatching);
    drop(watch);
    let watch = analytics.watch_health(HealthSignals::all()).unwrap();
    eventually(watch.stop()).await;
    let watch = analytics.watch_health(HealthSignals::all()).unwrap();
    is_observing(&watch).await;
}
