//! P11: every wait ends, and the session's tokens are never put at risk.

mod outside_a_runtime;
mod panics;

use std::{sync::Arc, time::Duration};

use hyper::Method;
use matrix_analytics::{
    Analytics, Backend, Batch, ConsentState, DeliveryError, ELEMENT_EVENT_TYPE, Limits,
    testing::{AccountDataMethod, FailingBackend, Fault, FaultRule},
};
use tokio::sync::Semaphore;

use crate::support::{ALICE, AnalyticsExt as _, BOUND, World, content, eventually};

#[tokio::test]
async fn the_wait_for_a_silent_homeserver_ends_at_the_request_timeout() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
    world.server.fail_all(Fault::StallBefore);

    let mut opt_in = Box::pin(analytics.opt_in());
    assert!(futures_util::poll!(&mut opt_in).is_pending());
    eventually(world.server.wait_for(|requests| requests.len() == 2)).await;
    tokio::time::advance(BOUND + Duration::from_millis(1)).await;
    assert!(eventually(opt_in).await.is_err());

    // An opt-out is bounded as well, and counts although the account could not be cleaned.
    let mut opt_out = analytics.opt_out().into_future();
    assert!(futures_util::poll!(&mut opt_out).is_pending());
    eventually(world.server.wait_for(|requests| requests.len() == 3)).await;
    tokio::time::advance(BOUND + Duration::from_millis(1)).await;
    let receipt = eventually(opt_out).await;
    assert!(!receipt.account.is_done());
    assert!(analytics.state().removal_pending);
}

#[tokio::test]
async fn dropping_a_call_during_a_token_refresh_does_not_end_the_session() {
    let world = World::new().await;
    let login = world.server.add_device_with_refresh(ALICE, "PHONE");
    let client = world.server.client(&login).await.unwrap();
    let analytics = Analytics::builder(client.clone(), ELEMENT_EVENT_TYPE).build().await.unwrap();
    analytics.confirmed().await;
    world.server.expire_token(&login);
    world.take_requests();

    // The call uses the expired token, and is dropped while the SDK refreshes it.
    let mut opt_in = Box::pin(analytics.opt_in());
    assert!(futures_util::poll!(&mut opt_in).is_pending());
    eventually(world.server.wait_for(|requests| !requests.is_empty())).await;
    drop(opt_in);

    // The refresh was not cancelled: the session has new tokens, and works.
    eventually(analytics.opt_in()).await.unwrap();
    assert_eq!(world.server.refreshes(), 1);
    tokio::time::advance(crate::support::SETTLE).await;
    analytics.until(ConsentState::is_open).await;
    assert!(client.session_tokens().unwrap().refresh_token != login.refresh_token);
}

#[tokio::test]
async fn dropping_the_last_handle_ends_its_tasks_and_its_event_handler() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    // The first request opens the client's own connection, which has a task.
    eventually(device.client.whoami()).await.unwrap();
    let before = tasks();

    let (analytics, _) = device.start_confirmed().await;
    assert_eq!(tasks(), before + 2);
    let clone = analytics.clone();
    drop(analytics);
    eventually(clone.recheck()).await.unwrap();
    assert_eq!(tasks(), before + 2);
    drop(clone);
    eventually(async {
        while tasks() > before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // The handler is gone: a change in sync triggers no request.
    world.take_requests();
    world.set_content(&content(Some(true), None));
    device.sync().await;
    assert_eq!(world.take_requests(), "");
}

#[tokio::test]
async fn dropping_the_last_handle_releases_the_client_even_if_work_is_left() {
    let world = World::new().await;
    let (mut proxy, device) = world.gated_device("PHONE").await;
    // The client holds this value for as long as it lives.
    let alive = Arc::new(());
    device.client.add_event_handler_context(alive.clone());
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let backend = FailingBackend::new();
    let analytics = device.builder().backend(backend.clone()).build().await.unwrap();
    proxy.next(Method::GET).await.pass().await;
    analytics.confirmed().await;

    // A write is in flight, with a withdrawal behind it. The caller waits for neither.
    let mut opt_in = Box::pin(analytics.opt_in());
    assert!(futures_util::poll!(&mut opt_in).is_pending());
    proxy.next(Method::GET).await.pass().await;
    let write = proxy.next(Method::PUT).await;
    drop(opt_in);
    let mut opt_out = analytics.opt_out().into_future();
    assert!(futures_util::poll!(&mut opt_out).is_pending());
    drop(opt_out);
    drop((analytics, device));
    write.pass().await;

    eventually(async {
        while Arc::strong_count(&alive) > 1 {
            // Only bounded work is left: the requests in flight, and the waits for them.
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    })
    .await;
    drop(proxy);
    eventually(async {
        while tasks() > before {
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    })
    .await;
}

/// Accepts one batch per permit.
struct OneByOne(Semaphore);

impl Backend for OneByOne {
    fn name(&self) -> &'static str {
        "one-by-one"
    }

    async fn send(&self, _batch: &Batch) -> Result<(), DeliveryError> {
        self.0.acquire().await.expect("the semaphore is never closed").forget();
        Ok(())
    }
}

#[tokio::test]
async fn a_flush_covers_only_the_events_captured_before_it() {
    let world = World::new().await;
    let backend = Arc::new(OneByOne(Semaphore::new(0)));
    let device = world.device("PHONE").await;
    let analytics = device
        .builder()
        .backend(backend.clone())
        .limits(Limits::default().batch_max_events(1))
        .build()
        .await
        .unwrap();
    analytics.opt_in_and_settle().await;
    analytics.capture_one("First");
    let mut flush = Box::pin(analytics.flush_all());
    assert!(futures_util::poll!(&mut flush).is_pending());
    // While it waits, more events are captured.
    for _ in 0..5 {
        analytics.capture_one("Later");
    }
    let mut later = Box::pin(analytics.flush_all());
    assert!(futures_util::poll!(&mut later).is_pending());
    backend.0.add_permits(1);
    assert_eq!(eventually(flush).await.backends[0].delivered, 1);
    backend.0.add_permits(5);
    assert!(eventually(later).await.is_complete());
}

#[tokio::test]
async fn a_flush_returns_at_its_deadline_if_a_backend_never_answers() {
    let world = World::new().await;
    let backend = Arc::new(OneByOne(Semaphore::new(0)));
    let device = world.device("PHONE").await;
    let analytics = device.builder().backend(backend.clone()).build().await.unwrap();
    analytics.opt_in_and_settle().await;
    analytics.capture_one("First");
    let mut flush = Box::pin(analytics.flush(Duration::from_secs(2)));
    for _ in 0..20 {
        assert!(futures_util::poll!(&mut flush).is_pending());
        tokio::task::yield_now().await;
    }
    tokio::time::advance(Duration::from_millis(2001)).await;
    let report = eventually(flush).await;
    assert_eq!((report.backends[0].delivered, report.backends[0].undelivered), (0, 1));
    // Delivery goes on.
    backend.0.add_permits(1);
    assert!(eventually(analytics.flush_all()).await.is_complete());
    assert_eq!(analytics.stats().backends[0].delivered, 1);
}

#[test]
fn a_flush_after_the_runtime_has_ended_returns_and_every_event_is_counted() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let analytics = runtime.block_on(async {
        let world = World::new().await;
        let analytics = world.device("PHONE").await.start_opted_in().await.0;
        analytics.capture_one("Left");
        analytics
    });
    drop(runtime);
    let report = futures_util::FutureExt::now_or_never(analytics.flush_all()).unwrap();
    assert!(report.is_complete());
    let stats = analytics.stats();
    assert_eq!(stats.backends[0].dropped[&matrix_analytics::DropReason::Shutdown], 1);
    assert!(stats.backends[0].is_balanced());
}

#[tokio::test]
async fn the_largest_settings_do_no_harm() {
    let world = World::new().await;
    let recorder = matrix_analytics::testing::RecordingBackend::new();
    let device = world.device("PHONE").await;
    let analytics = device
        .builder()
        .backend(recorder.clone())
        .request_timeout(Duration::MAX)
        .limits(
            Limits::default()
                .batch_max_events(usize::MAX)
                .batch_max_bytes(usize::MAX)
                .batch_max_age(Duration::MAX)
                .queue_max_events(usize::MAX)
                .queue_max_bytes(usize::MAX)
                .queue_max_age(Duration::MAX)
                .send_timeout(Duration::MAX),
        )
        .build()
        .await
        .unwrap();
    eventually(analytics.opt_in()).await.unwrap();
    tokio::time::advance(Duration::from_secs(1201)).await;
    analytics.until(ConsentState::is_open).await;
    for _ in 0..3 {
        analytics.capture_one("Event");
        assert!(eventually(analytics.flush_all()).await.is_complete());
    }
    assert_eq!(recorder.events().len(), 3);
    assert!(eventually(analytics.opt_out().into_future()).await.is_complete());
    eventually(analytics.shutdown(Duration::MAX)).await;
}

#[tokio::test]
async fn a_backend_that_rejects_everything_gets_few_requests() {
    let world = World::new().await;
    let backend = FailingBackend::new();
    let device = world.device("PHONE").await;
    let analytics = device.builder().backend(backend.clone()).build().await.unwrap();
    analytics.opt_in_and_settle().await;
    backend.fail_always(matrix_analytics::testing::DeliveryFailure::Rejected);
    for _ in 0..1000 {
        analytics.capture_one("Refused");
    }
    eventually(analytics.flush_all()).await;
    assert!(backend.attempts() <= 12, "{} tries", backend.attempts());
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_retry_after_date_is_obeyed() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_opted_in().await;
    // By the system clock, which a test cannot freeze.
    let date = std::time::SystemTime::now() + Duration::from_secs(500);
    world.server.fail_all(Fault::RateLimitedUntil(date));
    assert!(!eventually(analytics.opt_out().into_future()).await.account.is_done());
    world.take_requests();

    world.pass(Duration::from_secs(380), Duration::from_secs(10)).await;
    assert_eq!(world.take_requests(), "");
    world.pass(Duration::from_secs(130), Duration::from_secs(10)).await;
    assert_ne!(world.take_requests(), "");
}

#[tokio::test]
async fn a_failing_removal_costs_at_most_forty_requests_an_hour_and_fewer_over_time() {
    for fault in [
        Some(Fault::ServerError(503)),
        Some(Fault::RateLimited { retry_after: None }),
        Some(Fault::Forbidden),
        // The requests succeed, but the content cannot be merged.
        None,
    ] {
        let world = World::new().await;
        let (analytics, _) = world.device("PHONE").await.start_opted_in().await;
        match &fault {
            Some(fault) => {
                let rule = FaultRule::always(fault.clone()).on(AccountDataMethod::Put);
                world.server.fail(rule);
            }
            None => world.set_content("[]"),
        }
        assert!(!eventually(analytics.opt_out().into_future()).await.account.is_done());

        let mut hours = Vec::new();
        for _ in 0..2 {
            world.server.clear_requests();
            world.pass(HOUR, Duration::from_secs(5)).await;
            hours.push(world.server.requests().len());
        }
        assert!(hours[0] <= 40 && hours[1] <= hours[0], "{fault:?}: {hours:?} requests");
        assert!(hours[1] > 0, "{fault:?}: the removal goes on");
    }
}

#[tokio::test]
async fn sync_does_not_shorten_a_wait_requested_by_the_homeserver() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_opted_in().await;
    let retry_after = Some(Duration::from_secs(300));
    world.server.fail_all(Fault::RateLimited { retry_after });
    assert!(!eventually(analytics.opt_out().into_future()).await.account.is_done());
    world.take_requests();

    for round in 0..25 {
        world.server.set_content(ALICE, "org.example.other", &format!(r#"{{"round":{round}}}"#));
        device.sync().await;
        world.pass(Duration::from_secs(10), Duration::from_secs(10)).await;
    }
    assert_eq!(world.take_requests(), "");
    world.pass(Duration::from_secs(60), Duration::from_secs(10)).await;
    assert_ne!(world.take_requests(), "");
}

#[tokio::test]
async fn a_requested_wait_of_an_hour_is_obeyed() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_opted_in().await;
    // A wait of more than an hour is cut to one hour.
    let retry_after = Some(24 * HOUR);
    world.server.fail_all(Fault::RateLimited { retry_after });
    assert!(!eventually(analytics.opt_out().into_future()).await.account.is_done());
    world.take_requests();

    world.pass(HOUR - Duration::from_secs(60), Duration::from_secs(60)).await;
    assert_eq!(world.take_requests(), "");
    world.pass(Duration::from_secs(120), Duration::from_secs(60)).await;
    assert_ne!(world.take_requests(), "");
}
