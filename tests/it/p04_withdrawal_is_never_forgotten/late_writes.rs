//! Writes that are in flight when the user opts out, or that are applied long after.

use futures_util::FutureExt as _;
use hyper::Method;
use matrix_analytics::{
    Consent, ConsentState, OptInError,
    testing::{AccountDataMethod, Fault},
};

use crate::support::{
    ALICE, AnalyticsExt as _, Device, FOREIGN_ID, GatedProxy, World, content, eventually, id_in,
    lost_write, pass_everything, sent_under,
};

/// A gateway answers 504 to an opt-in, and the process ends. The next opt-in succeeds, the user
/// opts out, and the receipt is complete. Then the homeserver applies the first write.
#[tokio::test]
async fn a_late_write_of_an_earlier_opt_in_undoes_no_opt_out() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_confirmed().await;
    world.server.fail_next_on(AccountDataMethod::Put, Fault::ServerError(504));
    assert!(matches!(eventually(analytics.opt_in()).await, Err(OptInError::AccountData(_))));
    let late = lost_write(&world);
    drop(analytics);
    let (analytics, recorder) = device.start_confirmed().await;
    analytics.opt_in_and_settle().await;
    assert_ne!(id_in(&late), id_in(&world.content().unwrap()));
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(receipt.is_complete(), "{receipt:?}");

    world.set_content(&late);
    assert_eq!(sent_under(&device, &analytics, &recorder).await, Vec::<String>::new());
    assert_eq!(analytics.state().decision, Consent::Denied);
}

/// The handle is rebuilt while the write of its opt-in is in flight. The new handle sends no
/// request before that write has ended.
#[tokio::test]
async fn a_write_in_flight_at_a_rebuild_undoes_no_opt_out() {
    let world = World::new().await;
    let (mut proxy, device) = world.gated_device("PHONE").await;
    let (analytics, _) = device.start().await;
    proxy.next(Method::GET).await.pass().await;
    analytics.confirmed().await;
    let mut opt_in = Box::pin(analytics.opt_in());
    assert!(futures_util::poll!(&mut opt_in).is_pending());
    proxy.next(Method::GET).await.pass().await;
    let write = proxy.next(Method::PUT).await;
    drop(opt_in);
    drop(analytics);

    let (analytics, recorder) = device.start().await;
    let opt_out = tokio::spawn(analytics.opt_out().into_future());
    // A round trip to the homeserver: a request of ours would have arrived by now.
    device.sync().await;
    assert!(proxy.next(Method::GET).now_or_never().is_none());
    write.pass().await;
    let passes = pass_everything(proxy);
    let receipt = eventually(opt_out).await.unwrap();
    assert!(receipt.is_complete(), "{receipt:?}");
    assert_eq!(world.content().unwrap(), content(Some(false), None));
    let sent = sent_under(&device, &analytics, &recorder).await;
    passes.abort();
    assert_eq!(sent, Vec::<String>::new());
    assert_eq!(analytics.state().decision, Consent::Denied);
}

/// Another device opts out as well, so the removal finds no ID.
#[tokio::test]
async fn a_late_write_of_an_opt_in_that_keeps_an_id_undoes_no_opt_out() {
    let world = World::new().await;
    world.set_content(&content(None, Some(FOREIGN_ID)));
    let device = world.device("PHONE").await;
    let (analytics, recorder) = device.start_confirmed().await;
    world.server.fail_next_on(AccountDataMethod::Put, Fault::ServerError(504));
    assert!(eventually(analytics.opt_in()).await.is_err());
    let late = lost_write(&world);
    world.set_content(&content(Some(false), None));
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(receipt.is_complete(), "{receipt:?}");
    assert_eq!(receipt.analytics_id().unwrap().reveal(), FOREIGN_ID);

    world.set_content(&late);
    assert_eq!(sent_under(&device, &analytics, &recorder).await, Vec::<String>::new());
}

/// Two processes share one record. One opts out while the other writes an opt-in.
#[tokio::test]
async fn an_opt_in_that_another_process_voided_has_no_effect() {
    let world = World::new().await;
    let directory = tempfile::tempdir().unwrap();
    let login = world.server.add_device(ALICE, "PHONE");
    let one = world.device_on_disk(&login, directory.path()).await;
    let mut proxy = GatedProxy::start(world.server.uri()).await;
    let client = world
        .server
        .client_with(&login, |builder| {
            builder.sqlite_store(directory.path(), None).homeserver_url(proxy.uri())
        })
        .await
        .unwrap();
    let other = Device { client, login, policy: None };
    let (here, _) = one.start_confirmed().await;
    let (there, recorder) = other.start().await;
    proxy.next(Method::GET).await.pass().await;
    there.confirmed().await;

    let mut opt_in = Box::pin(there.opt_in());
    assert!(futures_util::poll!(&mut opt_in).is_pending());
    proxy.next(Method::GET).await.pass().await;
    let write = proxy.next(Method::PUT).await;
    let receipt = eventually(here.opt_out().into_future()).await;
    assert!(receipt.is_complete(), "{receipt:?}");
    other.sync().await;
    assert_eq!(eventually(opt_in).await.unwrap().decision, Consent::Denied);
    write.pass().await;
    let passes = pass_everything(proxy);
    let sent = sent_under(&other, &there, &recorder).await;
    passes.abort();
    assert_eq!(sent, Vec::<String>::new());
    let _ = eventually(here.recheck()).await;
    assert_eq!(here.state().decision, Consent::Denied);
}

/// The user opts out here, opts in elsewhere, and opts out here again while the first removal is
/// being written.
#[tokio::test]
async fn a_second_opt_out_during_the_first_removal_removes_an_opt_in_between_them() {
    let world = World::new().await;
    let (mut proxy, device) = world.gated_device("PHONE").await;
    world.set_content(&content(Some(true), Some("first-id")));
    let (analytics, recorder) = device.start().await;
    proxy.next(Method::GET).await.pass().await;
    analytics.until(ConsentState::is_open).await;

    let first = tokio::spawn(analytics.opt_out().into_future());
    proxy.next(Method::GET).await.pass().await;
    let answer = proxy.next(Method::PUT).await.apply().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let mut second = analytics.opt_out().into_future();
    assert!(futures_util::poll!(&mut second).is_pending());
    answer.deliver();
    let passes = pass_everything(proxy);
    let (first, second) = (eventually(first).await.unwrap(), eventually(second).await);
    let sent = sent_under(&device, &analytics, &recorder).await;
    passes.abort();
    assert_eq!(sent, Vec::<String>::new(), "{first:?}\n{second:?}\n{:?}", world.content());
    assert_eq!(analytics.state().decision, Consent::Denied);
}

#[tokio::test]
async fn an_erasure_ordered_while_an_opt_out_is_written_is_carried_out() {
    let world = World::new().await;
    let (mut proxy, device) = world.gated_device("PHONE").await;
    world.set_content(r#"{"id":"first-id","pseudonymousAnalyticsOptIn":true,"other":1}"#);
    let (analytics, _) = device.start().await;
    proxy.next(Method::GET).await.pass().await;
    analytics.until(ConsentState::is_open).await;

    let first = tokio::spawn(analytics.opt_out().into_future());
    proxy.next(Method::GET).await.pass().await;
    let write = proxy.next(Method::PUT).await;
    let mut second = analytics.opt_out().erase_event().into_future();
    assert!(futures_util::poll!(&mut second).is_pending());
    write.pass().await;
    let passes = pass_everything(proxy);
    let _ = eventually(first).await;
    let second = eventually(second).await;
    passes.abort();
    assert!(second.is_complete(), "{second:?}");
    assert_eq!(world.content().unwrap(), "{}", "{second:?}");
}
