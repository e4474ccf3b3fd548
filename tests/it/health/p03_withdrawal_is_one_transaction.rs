//! P3: an opt-out drops what waits to be reported.

use super::*;

#[tokio::test]
async fn opting_out_forgets_the_messages_that_wait_for_their_keys() {
    let room = Room::new().await;
    let (analytics, recorder, watch) = room.watched(MESSAGES).await;
    let sender = Sender::new().await;
    room.receive([sender.encrypts("$a").await, without_key("$b")]).await;
    counted(&watch, |stats| stats.undecryptable.pending == 2).await;
    pass(Duration::from_secs(10)).await;

    // The key arrives and the gate shuts before the watch runs again.
    sender.gives_keys(&room.device.client).await;
    let captured = analytics.stats().backends[0].captured;
    let mut opt_out = Box::pin(analytics.opt_out().into_future());
    assert!(futures_util::poll!(&mut opt_out).is_pending());
    counted(&watch, |stats| stats.undecryptable.forgotten == 2).await;
    assert_eq!(watch.stats().undecryptable.pending, 0);
    eventually(opt_out).await;
    pass(Duration::from_secs(100)).await;
    assert_eq!(analytics.stats().backends[0].captured, captured);
    assert!(delivered(&analytics, &recorder).await.is_empty());
}
