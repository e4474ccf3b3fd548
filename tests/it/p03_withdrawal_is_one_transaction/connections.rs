//! The receipt's `requests` step is done only when no connection holds a part of a request.

use std::time::Duration;

use matrix_analytics::{
    Analytics, Backend, Batch, DeliveryError, Limits, OptOutReceipt, Properties, WithdrawalStep,
    testing::RecordingBackend,
};
use tokio::sync::watch;

use crate::support::{AnalyticsExt as _, BOUND, World, eventually};

/// A backend whose closed connections are released by the test.
#[derive(Clone, Debug, Default)]
struct Holding {
    recorder: RecordingBackend,
    closed: watch::Sender<Closed>,
}

#[derive(Debug, Default)]
struct Closed {
    /// The number of times that connections were closed.
    times: usize,
    /// The number of those closings that are complete.
    gone: usize,
}

impl Holding {
    fn release(&self) {
        self.closed.send_modify(|closed| closed.gone = closed.times);
    }
}

impl Backend for Holding {
    fn name(&self) -> &'static str {
        "holding"
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        self.recorder.send(batch).await
    }

    fn close(&self) {
        self.closed.send_modify(|closed| closed.times += 1);
    }

    async fn closed(&self) {
        let times = self.closed.borrow().times;
        let mut closed = self.closed.subscribe();
        closed.wait_for(|closed| closed.gone >= times).await.unwrap();
    }
}

/// Opts out, and lets the receipt's time limit elapse once the account is clean.
async fn opt_out_and_run_out_of_time(analytics: &Analytics) -> OptOutReceipt {
    let mut opt_out = analytics.opt_out().into_future();
    assert!(futures_util::poll!(&mut opt_out).is_pending());
    analytics.until(|state| !state.removal_pending).await;
    tokio::time::advance(BOUND + Duration::from_millis(1)).await;
    eventually(opt_out).await
}

async fn start_with_a_connection(world: &World) -> (Analytics, Holding) {
    let backend = Holding::default();
    let device = world.device("PHONE").await;
    let analytics = device.builder().backend(backend.clone()).build().await.unwrap();
    analytics.opt_in_and_settle().await;
    analytics.capture_one("First");
    assert!(eventually(analytics.flush_all()).await.is_complete());
    (analytics, backend)
}

#[tokio::test]
async fn a_connection_that_holds_a_part_of_a_batch_keeps_the_receipt_pending() {
    let world = World::new().await;
    let (analytics, backend) = start_with_a_connection(&world).await;
    let receipt = opt_out_and_run_out_of_time(&analytics).await;
    assert!(matches!(receipt.requests, WithdrawalStep::Pending(None)), "{receipt:?}");
    assert!(receipt.account.is_done() && receipt.record.is_done(), "{receipt:?}");

    backend.release();
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(receipt.is_complete(), "{receipt:?}");
}

#[tokio::test]
async fn the_receipt_is_done_as_soon_as_the_last_connection_has_closed() {
    let world = World::new().await;
    let (analytics, backend) = start_with_a_connection(&world).await;
    let mut opt_out = analytics.opt_out().into_future();
    assert!(futures_util::poll!(&mut opt_out).is_pending());
    analytics.until(|state| !state.removal_pending).await;
    assert!(futures_util::poll!(&mut opt_out).is_pending());
    backend.release();
    assert!(eventually(opt_out).await.is_complete());
}

#[tokio::test]
async fn events_after_the_next_opt_in_do_not_wait_for_old_connections() {
    let world = World::new().await;
    let (analytics, backend) = start_with_a_connection(&world).await;
    let receipt = opt_out_and_run_out_of_time(&analytics).await;
    assert!(!receipt.requests.is_done(), "{receipt:?}");

    analytics.opt_in_and_settle().await;
    analytics.capture_one("Second");
    assert!(eventually(analytics.flush_all()).await.is_complete());
    assert_eq!(backend.recorder.names(), ["First", "Second"]);
}

#[cfg(all(feature = "posthog", target_os = "linux"))]
#[tokio::test]
async fn no_connection_to_a_service_that_stopped_reading_is_open_once_the_receipt_is_done() {
    use crate::support::collector::{Answer, Collector, OK, uncompressed};

    const BYTES: usize = 32 * 1024 * 1024;

    let world = World::new().await;
    let collector = Collector::start();
    collector.set_answer(Answer::Never);
    let device = world.device("PHONE").await;
    let posthog = uncompressed(&collector.url(), "phc_test").build().unwrap();
    let builder = device.builder().backend(posthog);
    let builder = builder.limits(
        Limits::default().queue_max_bytes(BYTES).batch_max_events(1000).batch_max_bytes(BYTES),
    );
    let analytics = builder.build().await.unwrap();
    analytics.opt_in_and_settle().await;
    for _ in 0..150 {
        analytics.capture_named("Long", Properties::new().with("text", "x".repeat(30_000)));
    }
    let mut flush = Box::pin(analytics.flush_all());
    assert!(futures_util::poll!(&mut flush).is_pending());
    eventually(collector.wait_until_blocked()).await;

    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(receipt.requests.is_done(), "{receipt:?}");
    assert_eq!(collector.client_side(), None, "the connection is open, with bytes to send");
    collector.set_answer(OK);
    eventually(collector.wait_until(|seen| seen.ended == 1)).await;
    assert!(collector.seen().requests.is_empty());
}
