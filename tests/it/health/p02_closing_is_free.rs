//! P2: any sign of withdrawal ends the observation.

use super::*;
use crate::support::content;

#[tokio::test]
async fn nothing_is_observed_after_a_veto_or_a_withdrawal_on_another_device() {
    for is_veto in [true, false] {
        let room = Room::new().await;
        let (analytics, recorder, watch) = room.watched(MESSAGES).await;
        room.receive([without_key("$a")]).await;
        counted(&watch, |stats| stats.undecryptable.pending == 1).await;
        if is_veto {
            eventually(analytics.deny_on_this_device()).await.unwrap();
        } else {
            room.world.set_content(&content(Some(false), None));
            assert!(!eventually(analytics.recheck()).await.unwrap().is_open());
        }
        counted(&watch, |stats| stats.undecryptable.forgotten == 1).await;
        let stats = watch.stats();
        room.receive([without_key("$b")]).await;
        pass(Duration::from_secs(100)).await;
        assert_eq!((watch.state(), watch.stats()), (HealthState::WaitingForConsent, stats));
        assert!(delivered(&analytics, &recorder).await.is_empty());
    }
}

#[tokio::test]
async fn a_message_of_one_epoch_is_not_reported_in_the_next() {
    let room = Room::new().await;
    let (analytics, recorder, watch) = room.watched(MESSAGES).await;
    let sender = Sender::new().await;
    let event = sender.encrypts("$a").await;
    room.receive([event.clone(), without_key("$b")]).await;
    counted(&watch, |stats| stats.undecryptable.pending == 2).await;
    pass(Duration::from_secs(10)).await;
    eventually(analytics.opt_out().into_future()).await;
    analytics.opt_in_and_settle().await;
    is_observing(&watch).await;

    sender.gives_keys(&room.device.client).await;
    room.receive([without_key("$c")]).await;
    counted(&watch, |stats| stats.undecryptable.pending == 1).await;
    pass(Duration::from_secs(100)).await;
    let stats = watch.stats().undecryptable;
    assert_eq!((stats.seen, stats.forgotten, stats.reported_permanent), (3, 2, 1));
    assert_eq!(delivered(&analytics, &recorder).await.len(), 1);
}
