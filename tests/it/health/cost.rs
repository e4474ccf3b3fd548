//! What a watch costs.

use super::*;

#[tokio::test]
async fn a_flood_of_undecryptable_messages_is_bounded_and_counted() {
    let room = Room::new().await;
    let (analytics, recorder, watch) = room.watched(MESSAGES).await;
    room.receive((0..10_000).map(|number| without_key(&format!("$flood{number}")))).await;
    counted(&watch, |stats| stats.undecryptable.seen == 10_000).await;
    let stats = watch.stats().undecryptable;
    assert_eq!((stats.pending, stats.overflowed), (500, 9_500));
    pass(Duration::from_secs(61)).await;
    counted(&watch, |stats| stats.undecryptable.pending == 0).await;
    let events = delivered(&analytics, &recorder).await;
    let (overflow, errors): (Vec<_>, Vec<_>) =
        events.iter().partition(|event| event.name == "UndecryptableOverflow");
    assert_eq!((errors.len(), overflow.len()), (500, 1));
    assert_eq!(overflow[0].properties["messages"], 9_500);
}
