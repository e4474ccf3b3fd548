//! Attacks on the promises of consent: each of these fails today.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use hyper::Method;
use matrix_analytics::{
    Analytics, Consent, OptInError,
    testing::{AccountDataMethod, Fault, RecordingBackend},
};
use matrix_sdk::{MemoryStore, StoreError, store::IntoStateStore as _};

use super::store::{GatedStore, Moment, StoreGate};
use crate::support::{
    ALICE, AnalyticsExt as _, BOUND, Device, FOREIGN_ID, SETTLE, World, content, eventually, id_in,
};

/// What the device does when sync shows what the account holds, after all timers.
async fn sends(device: &Device, analytics: &Analytics, recorder: &RecordingBackend) -> Vec<String> {
    recorder.clear();
    for _ in 0..3 {
        device.sync().await;
        let _ = eventually(analytics.recheck()).await;
        tokio::time::advance(SETTLE + BOUND).await;
    }
    analytics.capture_one("Sent");
    eventually(analytics.flush()).await;
    recorder.ids()
}

/// The body of the write that was not applied.
fn lost_write(world: &World) -> String {
    let puts = world.server.requests().into_iter();
    puts.filter(|request| request.method == AccountDataMethod::Put && !request.applied)
        .last()
        .unwrap()
        .body
}

/// One device. A gateway answers 504 to the first opt-in, the second succeeds, the user opts
/// out, and the receipt is complete. Then the homeserver applies the first write.
#[tokio::test]
async fn a1_a_late_write_of_an_opt_in_before_the_last_one_undoes_an_opt_out() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, recorder) = device.start_confirmed().await;
    world.server.fail_next_on(AccountDataMethod::Put, Fault::ServerError(504));
    assert!(matches!(eventually(analytics.opt_in()).await, Err(OptInError::AccountData(_))));
    let late = lost_write(&world);
    analytics.opt_in_and_settle().await;
    assert_ne!(id_in(&late), id_in(&world.content().unwrap()));
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(receipt.is_complete(), "{receipt:?}");

    world.set_content(&late);
    assert_eq!(sends(&device, &analytics, &recorder).await, Vec::<String>::new());
    assert_eq!(analytics.state().decision, Consent::Denied);
}

/// No request is late or lost: the handle is rebuilt while the write of its opt-in is out.
#[tokio::test]
async fn a2_a_write_that_is_out_at_a_rebuild_undoes_an_opt_out() {
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
    proxy.next(Method::GET).await.pass().await;
    analytics.confirmed().await;
    let opt_out = tokio::spawn(analytics.opt_out().into_future());
    for method in [Method::GET, Method::PUT, Method::GET] {
        proxy.next(method).await.pass().await;
    }
    let receipt = eventually(opt_out).await.unwrap();
    assert!(receipt.is_complete(), "{receipt:?}");
    assert_eq!(world.content().unwrap(), content(Some(false), None));

    // Within its bound: no time has passed.
    write.pass().await;
    device.sync().await;
    let passes = tokio::spawn(async move {
        loop {
            proxy.next_of_any_method().await.pass().await;
        }
    });
    let sent = sends(&device, &analytics, &recorder).await;
    passes.abort();
    assert_eq!(sent, Vec::<String>::new());
    assert_eq!(analytics.state().decision, Consent::Denied);
}

/// The opt-in keeps an ID of the account; another device opts out too, so that the removal has
/// nothing to read; then the write is applied.
#[tokio::test]
async fn a3_a_late_write_of_an_opt_in_that_keeps_an_id_undoes_an_opt_out() {
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
    assert_eq!(receipt.analytics_id.unwrap().reveal(), FOREIGN_ID);

    world.set_content(&late);
    assert_eq!(sends(&device, &analytics, &recorder).await, Vec::<String>::new());
}

/// The receipt names an ID as withdrawn that this device does not remember as retired.
#[tokio::test]
async fn a4_the_id_that_a_receipt_names_is_used_again() {
    let world = World::new().await;
    world.set_content(&content(None, Some(FOREIGN_ID)));
    let device = world.device("PHONE").await;
    let (analytics, recorder) = device.start_confirmed().await;
    world.set_content(&content(Some(false), None));
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(receipt.is_complete(), "{receipt:?}");
    assert_eq!(receipt.analytics_id.unwrap().reveal(), FOREIGN_ID);
    // Another client restores what it had cached.
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    assert_eq!(sends(&device, &analytics, &recorder).await, Vec::<String>::new());
}

/// This device wrote the ID, the homeserver said so, another device withdrew it within the
/// settle time, and a GET of this device proved that.
#[tokio::test]
async fn a5_an_id_that_was_withdrawn_elsewhere_while_it_settled_is_used_again() {
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
        // A third client restores what it had cached.
        world.set_content(&written);
        let sent = sends(&device, &analytics, &recorder).await;
        assert_eq!(sent, Vec::<String>::new(), "by sync: {by_sync}");
    }
}

/// Sync shows that the ID is withdrawn while the opt-in that keeps it is being written.
#[tokio::test]
async fn a6_an_opt_in_keeps_an_id_that_was_withdrawn_while_it_was_written() {
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
    // Another device opts out, and this one hears of it.
    world.set_content(&content(Some(false), None));
    device.sync().await;
    write.pass().await;
    let passes = tokio::spawn(async move {
        loop {
            proxy.next_of_any_method().await.pass().await;
        }
    });
    eventually(opt_in).await.unwrap();
    let sent = sends(&device, &analytics, &recorder).await;
    passes.abort();
    assert!(!sent.contains(&FOREIGN_ID.to_owned()), "{sent:?}");
}

/// A captive portal, or a proxy that lost the request, answers 200 to the write.
#[tokio::test]
async fn b1_an_opt_in_opens_on_the_word_of_a_write() {
    for lie in [Fault::Html(200), Fault::Empty] {
        let world = World::new().await;
        world.set_content(&content(None, Some(FOREIGN_ID)));
        let device = world.device("PHONE").await;
        let (analytics, recorder) = device.start_confirmed().await;
        world.server.fail_next_on(AccountDataMethod::Put, lie);
        let state = eventually(analytics.opt_in()).await;
        analytics.capture_one("Unproven");
        eventually(analytics.flush()).await;
        assert_eq!(world.content().unwrap(), content(None, Some(FOREIGN_ID)));
        assert!(recorder.events().is_empty(), "{state:?}, sent {:?}", recorder.ids());
    }
}

/// The same lie to a clean-up: it counts, and nothing mends the account.
#[tokio::test]
async fn b2_a_clean_up_counts_on_the_word_of_a_write() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_opted_in().await;
    let opted_in = world.content().unwrap();
    assert!(eventually(analytics.opt_out().into_future()).await.is_complete());
    world.set_content(&opted_in);
    world.server.fail_next_on(AccountDataMethod::Put, Fault::Html(200));
    for _ in 0..3 {
        device.sync().await;
        eventually(analytics.recheck()).await.unwrap();
        tokio::time::advance(Duration::from_secs(13 * 3600)).await;
    }
    drop(analytics);
    let (analytics, _) = device.start_confirmed().await;
    eventually(analytics.recheck()).await.unwrap();
    assert_eq!(world.content().unwrap(), content(Some(false), None));
}

/// Fails every write of a record without a removal, once it had one.
struct FailsTheDischarge(std::sync::atomic::AtomicBool);

impl StoreGate for FailsTheDischarge {
    fn reach(&self, moment: Moment) -> BoxFuture<'_, Result<(), StoreError>> {
        use std::sync::atomic::Ordering;
        let fails = match moment {
            Moment::BeforeWrite { has_no: true } => {
                self.0.store(true, Ordering::SeqCst);
                false
            }
            Moment::BeforeWrite { has_no: false } => self.0.load(Ordering::SeqCst),
            Moment::AfterWrite => false,
        };
        let result =
            if fails { Err(StoreError::Backend("the disk is full".into())) } else { Ok(()) };
        Box::pin(std::future::ready(result))
    }
}

/// "This device remembers that nothing is left to remove": it could not be written.
#[tokio::test]
async fn c1_a_receipt_is_complete_although_the_removal_is_still_pending_on_disk() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let login = world.server.add_device(ALICE, "PHONE");
    let gate = Arc::new(FailsTheDischarge(false.into()));
    let store = GatedStore::config(MemoryStore::new().into_state_store(), gate);
    let client =
        world.server.client_with(&login, |builder| builder.store_config(store)).await.unwrap();
    let device = Device { client, login };
    let (analytics, _) = device.start_confirmed().await;
    let receipt = eventually(analytics.opt_out().into_future()).await;
    let record: serde_json::Value = serde_json::from_str(&device.record().await.unwrap()).unwrap();
    assert_eq!(record["removal"], "id", "{record}");
    assert!(!receipt.account.is_done() && !receipt.is_complete(), "{record}\n{receipt:?}");
}

mod waker {
    use std::{
        panic::AssertUnwindSafe,
        sync::Arc,
        task::{Context, Wake, Waker},
    };

    use futures_util::{FutureExt as _, StreamExt as _};

    use super::*;

    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a waker of the app");
        }
    }

    fn arm(analytics: &Analytics) -> impl Sized + use<> {
        let waker = Waker::from(Arc::new(Panics));
        let mut states = analytics.state_stream();
        assert!(states.next().poll_unpin(&mut Context::from_waker(&waker)).is_ready());
        assert!(states.next().poll_unpin(&mut Context::from_waker(&waker)).is_pending());
        states
    }

    /// A reader of states panics once, in the consent task: no opt-out is carried out after it.
    #[tokio::test]
    async fn d1_a_reader_of_states_whose_waker_panics_ends_consent() {
        let world = World::new().await;
        world.set_content(&content(Some(true), Some(FOREIGN_ID)));
        let device = world.device("PHONE").await;
        let (analytics, _) = device.start_confirmed().await;
        let states = arm(&analytics);
        // The timer wakes the consent task.
        tokio::time::advance(Duration::from_secs(13 * 3600)).await;
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
        drop(states);
        let opt_out = tokio::spawn(analytics.opt_out().into_future());
        for _ in 0..64 {
            tokio::time::advance(BOUND).await;
            for _ in 0..64 {
                tokio::task::yield_now().await;
            }
        }
        let receipt = eventually(opt_out).await;
        assert!(receipt.as_ref().is_ok_and(|r| r.is_complete()), "{receipt:?}");
    }

    /// It panics in the caller's poll of `opt_out()`: the task is never woken.
    #[tokio::test]
    async fn d2_an_opt_out_whose_reader_of_states_panics_is_carried_out() {
        let world = World::new().await;
        world.set_content(&content(Some(true), Some(FOREIGN_ID)));
        let device = world.device("PHONE").await;
        let (analytics, _) = device.start_confirmed().await;
        eventually(analytics.recheck()).await.unwrap();
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
        let states = arm(&analytics);
        let mut opt_out = analytics.opt_out().into_future();
        let polled = AssertUnwindSafe(async { futures_util::poll!(&mut opt_out).is_pending() });
        assert!(polled.catch_unwind().await.is_err());
        drop((opt_out, states));
        assert_eq!(analytics.state().decision, Consent::Denied);
        world.pass(Duration::from_secs(3600), Duration::from_secs(60)).await;
        assert!(device.record().await.unwrap().contains("denied"));
        assert_eq!(world.content().unwrap(), content(Some(false), None));
    }
}

/// The runtime ends before the no was saved; the handle knows of it, and is dropped later.
#[test]
fn e1_an_opt_out_is_lost_with_the_runtime_and_not_with_the_process() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let one = runtime();
    let (world, device, analytics) = one.block_on(async {
        let world = World::new().await;
        world.set_content(&content(Some(true), Some(FOREIGN_ID)));
        let device = world.device("PHONE").await;
        let (analytics, _) = device.start_confirmed().await;
        eventually(analytics.recheck()).await.unwrap();
        let mut opt_out = analytics.opt_out().into_future();
        assert!(futures_util::poll!(&mut opt_out).is_pending());
        (world, device, analytics)
    });
    std::mem::forget(world);
    one.shutdown_background();
    assert_eq!(analytics.state().decision, Consent::Denied);
    drop(analytics);

    runtime().block_on(async {
        let (analytics, _) = device.start().await;
        assert_eq!(analytics.state().decision, Consent::Denied, "{:?}", analytics.state());
    });
}

/// The session was lost once, which forgets the ID without retiring it; then the user opts out,
/// and another device cleans the account before this one can.
#[tokio::test]
async fn a7_an_id_that_was_in_use_before_the_session_was_lost_is_used_again_after_an_opt_out() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let device = world.device("PHONE").await;
    let (analytics, recorder) = device.start_confirmed().await;
    analytics.capture_one("Before");
    eventually(analytics.flush()).await;
    assert_eq!(recorder.ids(), [FOREIGN_ID]);
    world.server.fail_all(Fault::UnknownToken);
    let _ = eventually(analytics.recheck()).await;
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(!receipt.account.is_done());
    assert_eq!(receipt.analytics_id.unwrap().reveal(), FOREIGN_ID);
    // Another device opts out too.
    world.set_content(&content(Some(false), None));
    world.server.heal();
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(receipt.is_complete(), "{receipt:?}");
    // A third client restores what it had cached.
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    assert_eq!(sends(&device, &analytics, &recorder).await, Vec::<String>::new());
}

/// Two processes on one record: the user opts out in one of them while an opt-in of the other is
/// being written. The opt-in fails as withdrawn, and takes effect.
#[tokio::test]
async fn a8_an_opt_in_that_another_process_voided_takes_effect() {
    let world = World::new().await;
    let directory = tempfile::tempdir().unwrap();
    let login = world.server.add_device(ALICE, "PHONE");
    let one = world.device_on_disk(&login, directory.path()).await;
    let mut proxy = crate::support::GatedProxy::start(world.server.uri()).await;
    let client = world
        .server
        .client_with(&login, |builder| {
            builder.sqlite_store(directory.path(), None).homeserver_url(proxy.uri())
        })
        .await
        .unwrap();
    let other = Device { client, login };
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
    let voided = eventually(opt_in).await;
    assert!(matches!(voided, Err(OptInError::Withdrawn)), "{voided:?}");
    write.pass().await;
    let passes = tokio::spawn(async move {
        loop {
            proxy.next_of_any_method().await.pass().await;
        }
    });
    let sent = sends(&other, &there, &recorder).await;
    passes.abort();
    assert_eq!(sent, Vec::<String>::new());
    let _ = eventually(here.recheck()).await;
    assert_eq!(here.state().decision, Consent::Denied);
}

/// The receipt says that the account is clean, and it holds a yes.
#[tokio::test]
async fn c2_a_receipt_is_complete_although_the_account_holds_a_yes() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_opted_in().await;
    world.server.after_next(AccountDataMethod::Put, |server| {
        server.set_content(
            ALICE,
            matrix_analytics::ELEMENT_EVENT_TYPE,
            &content(Some(true), Some(FOREIGN_ID)),
        );
    });
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert_eq!(id_in(&world.content().unwrap()).as_deref(), Some(FOREIGN_ID));
    assert!(!receipt.account.is_done(), "{receipt:?}");
}

/// The store refused the no. The app makes a new client on the same directory, in the same
/// process, before the next `build()`.
#[tokio::test]
async fn e2_a_no_that_could_not_be_written_is_lost_with_the_client() {
    use matrix_sdk::STATE_STORE_DATABASE_NAME;
    let sql = |directory: &std::path::Path, statement: &str| {
        let path = directory.join(STATE_STORE_DATABASE_NAME);
        rusqlite::Connection::open(path).unwrap().execute_batch(statement).unwrap();
    };
    let world = World::new().await;
    let directory = tempfile::tempdir().unwrap();
    let login = world.server.add_device(ALICE, "PHONE");
    let device = world.device_on_disk(&login, directory.path()).await;
    let (analytics, _) = device.start_opted_in().await;
    eventually(analytics.recheck()).await.unwrap();
    sql(
        directory.path(),
        "CREATE TRIGGER disk_full BEFORE INSERT ON kv_blob
         BEGIN SELECT RAISE(ABORT, 'the disk is full'); END",
    );
    world.server.fail_all(Fault::ResetBefore);
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(matches!(receipt.record, matrix_analytics::Step::Failed(_)), "{receipt:?}");
    drop(analytics);
    // The last save is tried, and fails.
    let sleep = || std::thread::sleep(Duration::from_millis(500));
    tokio::task::spawn_blocking(sleep).await.unwrap();
    assert!(device.record().await.unwrap().contains("granted"));
    sql(directory.path(), "DROP TRIGGER disk_full");
    // Before the first is gone: its store may else happen to be at the same address.
    let next = world.device_on_disk(&login, directory.path()).await;
    drop(device);
    let (analytics, _) = next.start().await;
    assert_eq!(analytics.state().decision, Consent::Denied, "{:?}", analytics.state());
}

/// Calls in any order from two threads, on a homeserver that answers: after a last opt-out the
/// device is closed and the account is clean.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn z1_stress_of_calls() {
    use matrix_analytics::testing::AccountDataServer;
    let server = AccountDataServer::start().await;
    let login = server.add_device(ALICE, "PHONE");
    let client = server.client(&login).await.unwrap();
    let device = Device { client, login };
    let bound = Duration::from_millis(200);
    let recorder = RecordingBackend::new();
    let builder = device.builder().request_timeout(bound).backend(recorder.clone());
    let analytics = builder.build().await.unwrap();
    let mut seed = 12345_u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for round in 0..60 {
        let mut tasks = Vec::new();
        for _ in 0..2 + random(6) {
            let (analytics, device_client) = (analytics.clone(), device.client.clone());
            let (kind, wait, cut) = (random(9), random(4), random(3) == 0);
            tasks.push(tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(wait)).await;
                let limit = Duration::from_millis(if cut { 2 } else { 20_000 });
                let call = async {
                    match kind {
                        0..=2 => drop(analytics.opt_in().await),
                        3 => drop(analytics.opt_out().await),
                        4 => drop(analytics.opt_out().erase_event().await),
                        5 => drop(analytics.recheck().await),
                        6 => {
                            let settings =
                                matrix_sdk::config::SyncSettings::new().timeout(Duration::ZERO);
                            drop(device_client.sync_once(settings).await);
                        }
                        7 => drop(analytics.deny_on_this_device().await),
                        _ => drop(analytics.allow_on_this_device().await),
                    }
                };
                let _ = tokio::time::timeout(limit, call).await;
                analytics.capture_one("Event");
            }));
        }
        if random(2) == 0 {
            tokio::time::sleep(Duration::from_millis(random(10))).await;
        } else {
            for task in tasks.drain(..) {
                task.await.unwrap();
            }
        }
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        let receipt =
            tokio::time::timeout(Duration::from_secs(10), analytics.opt_out().into_future());
        let receipt = receipt.await.expect("an opt-out ends");
        assert!(receipt.account.is_done() && receipt.record.is_done(), "{round}: {receipt:?}");
        recorder.clear();
        for _ in 0..2 {
            let settings = matrix_sdk::config::SyncSettings::new().timeout(Duration::ZERO);
            device.client.sync_once(settings).await.unwrap();
            analytics.recheck().await.unwrap();
        }
        let state = analytics.state();
        assert_eq!(state.decision, Consent::Denied, "{round}: {state:?}");
        assert!(!state.removal_pending);
        let held = server.content(ALICE, matrix_analytics::ELEMENT_EVENT_TYPE).unwrap_or_default();
        assert!(!held.contains("true") && !held.contains("id"), "{round}: {held}");
        assert!(recorder.events().is_empty());
    }
}

/// Calls in any order from two threads, on a homeserver that answers: after a last opt-out the
/// device is closed and the account is clean.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn z2_stress_of_calls_that_fail_and_of_rebuilds() {
    use matrix_analytics::testing::AccountDataServer;
    let server = AccountDataServer::start().await;
    let login = server.add_device(ALICE, "PHONE");
    let client = server.client(&login).await.unwrap();
    let device = Device { client, login };
    let bound = Duration::from_millis(200);
    let recorder = RecordingBackend::new();
    let builder = device.builder().request_timeout(bound).backend(recorder.clone());
    let mut analytics = builder.build().await.unwrap();
    let mut seed = 12345_u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for round in 0..80 {
        for _ in 0..random(5) {
            let fault = match random(7) {
                0 => Fault::ResetBefore,
                1 => Fault::ResetAfter,
                2 => Fault::ServerError(502),
                3 => Fault::RateLimited { retry_after: Some(Duration::from_secs(1)) },
                4 => Fault::Empty,
                5 => Fault::Slow(Duration::from_millis(30)),
                _ => Fault::Forbidden,
            };
            server.fail_next(fault);
        }
        let mut tasks = Vec::new();
        for _ in 0..2 + random(6) {
            let (analytics, device_client) = (analytics.clone(), device.client.clone());
            let (kind, wait, cut) = (random(9), random(4), random(3) == 0);
            tasks.push(tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(wait)).await;
                let limit = Duration::from_millis(if cut { 2 } else { 20_000 });
                let call = async {
                    match kind {
                        0..=2 => drop(analytics.opt_in().await),
                        3 => drop(analytics.opt_out().await),
                        4 => drop(analytics.opt_out().erase_event().await),
                        5 => drop(analytics.recheck().await),
                        6 => {
                            let settings =
                                matrix_sdk::config::SyncSettings::new().timeout(Duration::ZERO);
                            drop(device_client.sync_once(settings).await);
                        }
                        7 => drop(analytics.deny_on_this_device().await),
                        _ => drop(analytics.allow_on_this_device().await),
                    }
                };
                let _ = tokio::time::timeout(limit, call).await;
                analytics.capture_one("Event");
            }));
        }
        if random(2) == 0 {
            tokio::time::sleep(Duration::from_millis(random(10))).await;
        } else {
            for task in tasks.drain(..) {
                task.await.unwrap();
            }
        }
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        // No write of an opt-in is out: that is a2.
        let watched = analytics.clone();
        let idle = async move {
            while matches!(watched.state().gate, matrix_analytics::GateState::Holding(_)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let is_idle = tokio::time::timeout(Duration::from_secs(2), idle).await.is_ok();
        let rebuilds = random(3) == 0 && is_idle;
        if rebuilds {
            if random(2) == 0 {
                let mut opt_out = analytics.opt_out().into_future();
                assert!(futures_util::poll!(&mut opt_out).is_pending());
            }
            drop(analytics);
            tokio::time::sleep(Duration::from_millis(60)).await;
            let builder = device.builder().request_timeout(bound).backend(recorder.clone());
            analytics = builder.build().await.unwrap();
        }
        server.heal();
        let receipt =
            tokio::time::timeout(Duration::from_secs(10), analytics.opt_out().into_future());
        let receipt = receipt.await.expect("an opt-out ends");
        assert!(receipt.account.is_done() && receipt.record.is_done(), "{round}: {receipt:?}");
        recorder.clear();
        for _ in 0..2 {
            let settings = matrix_sdk::config::SyncSettings::new().timeout(Duration::ZERO);
            device.client.sync_once(settings).await.unwrap();
            analytics.recheck().await.unwrap();
        }
        let state = analytics.state();
        assert_eq!(state.decision, Consent::Denied, "{round}: {state:?}");
        assert!(!state.removal_pending);
        let held = server.content(ALICE, matrix_analytics::ELEMENT_EVENT_TYPE).unwrap_or_default();
        assert!(!held.contains("true") && !held.contains("id"), "{round}: {held}");
        assert!(recorder.events().is_empty());
    }
}

/// One process. The user opts out; elsewhere they opt in again, and here they opt out again,
/// while the first removal is being written. The second no is lost.
#[tokio::test]
async fn f1_a_second_opt_out_is_taken_for_the_first() {
    let world = World::new().await;
    let (mut proxy, device) = world.gated_device("PHONE").await;
    world.set_content(&content(Some(true), Some("first-id")));
    let (analytics, recorder) = device.start().await;
    proxy.next(Method::GET).await.pass().await;
    analytics.until(matrix_analytics::ConsentState::is_open).await;

    let first = tokio::spawn(analytics.opt_out().into_future());
    proxy.next(Method::GET).await.pass().await;
    let answer = proxy.next(Method::PUT).await.apply().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let mut second = analytics.opt_out().into_future();
    assert!(futures_util::poll!(&mut second).is_pending());
    answer.deliver();
    let passes = tokio::spawn(async move {
        loop {
            proxy.next_of_any_method().await.pass().await;
        }
    });
    let (first, second) = (eventually(first).await.unwrap(), eventually(second).await);
    let sent = sends(&device, &analytics, &recorder).await;
    passes.abort();
    assert_eq!(sent, Vec::<String>::new(), "{first:?}\n{second:?}\n{:?}", world.content());
    assert_eq!(analytics.state().decision, Consent::Denied);
}

/// The user opts out, and then has the event erased, while the first is being written: what the
/// first wrote counts as erased.
#[tokio::test]
async fn f2_an_erasure_after_an_opt_out_is_not_carried_out() {
    let world = World::new().await;
    let (mut proxy, device) = world.gated_device("PHONE").await;
    world.set_content(r#"{"id":"first-id","pseudonymousAnalyticsOptIn":true,"other":1}"#);
    let (analytics, _) = device.start().await;
    proxy.next(Method::GET).await.pass().await;
    analytics.until(matrix_analytics::ConsentState::is_open).await;

    let first = tokio::spawn(analytics.opt_out().into_future());
    proxy.next(Method::GET).await.pass().await;
    let write = proxy.next(Method::PUT).await;
    let mut second = analytics.opt_out().erase_event().into_future();
    assert!(futures_util::poll!(&mut second).is_pending());
    write.pass().await;
    let passes = tokio::spawn(async move {
        loop {
            proxy.next_of_any_method().await.pass().await;
        }
    });
    let _ = eventually(first).await;
    let second = eventually(second).await;
    passes.abort();
    assert!(second.is_complete(), "{second:?}");
    assert_eq!(world.content().unwrap(), "{}", "{second:?}");
}
