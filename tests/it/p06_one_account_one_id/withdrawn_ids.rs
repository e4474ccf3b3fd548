//! IDs that are withdrawn while this device does not use them. A client that restores such an ID
//! does not make this device send under it.

use hyper::Method;
use matrix_analytics::{
    Consent,
    testing::{AccountDataMethod, Fault},
};

use crate::support::{
    AnalyticsExt as _, BOUND, FOREIGN_ID, SETTLE, World, content, eventually, id_in, lost_write,
    pass_everything, sent_under,
};

#[tokio::test]
async fn the_id_that_a_receipt_names_is_not_used_again() {
    let world = World::new().await;
    world.set_content(&content(None, Some(FOREIGN_ID)));
    let device = world.device("PHONE").await;
    let (analytics, recorder) = device.start_confirmed().await;
    world.set_content(&content(Some(false), None));
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(receipt.is_complete(), "{receipt:?}");
    assert_eq!(receipt.analytics_id().unwrap().reveal(), FOREIGN_ID);
    // Another client restores its cached content.
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    assert_eq!(sent_under(&device, &analytics, &recorder).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_id_that_was_withdrawn_elsewhere_while_it_settled_is_not_used_again() {
    for by_sync in [true, false] {
        let world = World::new().await;
        let device = world.device("PHONE").await;
        let (analytics, recorder) = device.start_confirmed().await;
        eventually(analytics.opt_in()).await.unwrap();
        let written = world.content().unwrap();
        // Another device has followed, and opts out.
        world.set_content(&content(Some(false), None));
        if by_sync {
            device.sync().await;
        }
        tokio::time::advance(SETTLE + BOUND).await;
        analytics.until(|state| state.decision == Consent::Denied).await;
        eventually(analytics.recheck()).await.unwrap();
        assert_eq!(analytics.state().decision, Consent::Denied);
        // A third client restores its cached content.
        world.set_content(&written);
        let sent = sent_under(&device, &analytics, &recorder).await;
        assert_eq!(sent, Vec::<String>::new(), "by sync: {by_sync}");
    }
}

#[tokio::test]
async fn an_opt_in_does_not_keep_an_id_that_was_withdrawn_while_it_was_written() {
    let world = World::new().await;
    world.set_content(&content(None, Some(FOREIGN_ID)));
    let (mut proxy, device) = world.gated_device("PHONE").await;
    let (analytics, recorder) = device.start().await;
    proxy.next(Method::GET).await.pass().await;
    analytics.confirmed().await;
    let mut opt_in = Box::pin(analytics.opt_in());
    assert!(futures_util::poll!(&mut opt_in).is_pending());
    proxy.next(Method::GET).await.pass().await;
    let write = proxy.next(Method::PUT).await;
    // Another device opts out, and sync shows it here.
    world.set_content(&content(Some(false), None));
    device.sync().await;
    write.pass().await;
    let passes = pass_everything(proxy);
    eventually(opt_in).await.unwrap();
    let sent = sent_under(&device, &analytics, &recorder).await;
    passes.abort();
    assert!(!sent.contains(&FOREIGN_ID.to_owned()), "{sent:?}");
}

/// A lost session forgets the ID. Then the user opts out, and another device cleans the account
/// before this one can.
#[tokio::test]
async fn an_id_that_was_in_use_before_the_session_was_lost_is_not_used_after_an_opt_out() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let device = world.device("PHONE").await;
    let (analytics, recorder) = device.start_confirmed().await;
    analytics.capture_one("Before");
    eventually(analytics.flush_all()).await;
    assert_eq!(recorder.ids(), [FOREIGN_ID]);
    world.server.fail_all(Fault::UnknownToken);
    let _ = eventually(analytics.recheck()).await;
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(!receipt.account.is_done());
    assert_eq!(receipt.analytics_id().unwrap().reveal(), FOREIGN_ID);
    // Another device opts out as well.
    world.set_content(&content(Some(false), None));
    world.server.heal();
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(receipt.is_complete(), "{receipt:?}");
    // A third client restores its cached content.
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    assert_eq!(sent_under(&device, &analytics, &recorder).await, Vec::<String>::new());
}

/// The write of the first call is applied after that of the second.
#[tokio::test]
async fn a_retried_opt_in_creates_no_second_id() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, recorder) = device.start_confirmed().await;
    world.server.fail_next_on(AccountDataMethod::Put, Fault::ServerError(504));
    assert!(eventually(analytics.opt_in()).await.is_err());
    let first = lost_write(&world);
    analytics.opt_in_and_settle().await;
    assert_eq!(id_in(&first), id_in(&world.content().unwrap()));
    world.set_content(&first);
    let id = id_in(&first).unwrap();
    assert_eq!(sent_under(&device, &analytics, &recorder).await, [id]);
}
