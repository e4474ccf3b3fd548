//! A panic in the app's code does not end the delivery of other backends.

use std::{
    sync::Arc,
    task::{Context, Wake, Waker},
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _};
use matrix_analytics::{
    Analytics, Backend, Batch, DeliveryError, Limits,
    testing::{DeliveryFailure, FailingBackend, RecordingBackend},
};

use crate::support::{AnalyticsExt as _, World, eventually};

/// Never answers, and panics when its request is cancelled.
struct PanicsWhenCut;

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the request was cut");
    }
}

impl Backend for PanicsWhenCut {
    fn name(&self) -> &'static str {
        "panics"
    }

    async fn send(&self, _batch: &Batch) -> Result<(), DeliveryError> {
        let _bomb = Bomb;
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_backend_that_panics_when_it_is_cut_does_not_stop_the_others() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let other = RecordingBackend::new();
    let builder = device.builder().backend(PanicsWhenCut).backend(other.clone());
    let analytics = builder
        .limits(Limits::default().send_timeout(Duration::from_secs(5)))
        .build()
        .await
        .unwrap();
    analytics.opt_in_and_settle().await;
    for events in 1..=2 {
        analytics.capture_one("Event");
        let mut flush = Box::pin(analytics.flush_all());
        assert!(futures_util::poll!(&mut flush).is_pending());
        eventually(other.wait_for(events)).await;
        // Up to the next attempt, which a flush does not bring forward, and to its end.
        while futures_util::poll!(&mut flush).is_pending() {
            world.pass(Duration::from_secs(6), Duration::from_secs(6)).await;
        }
    }
    eventually(analytics.opt_out().into_future()).await;
    assert!(analytics.stats().backends.iter().all(|backend| backend.is_balanced()));
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker of the app");
    }
}

#[tokio::test]
async fn a_reader_of_drops_whose_waker_panics_does_not_stop_delivery() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (refusing, other) = (FailingBackend::new(), RecordingBackend::new());
    refusing.fail_always(DeliveryFailure::Rejected);
    let builder = device.builder().backend(refusing).backend(other.clone());
    let analytics = builder.build().await.unwrap();
    analytics.opt_in_and_settle().await;
    let waker = Waker::from(Arc::new(Panics));
    for events in 1..=2 {
        let mut drops = analytics.drops();
        let first = drops.next().poll_unpin(&mut Context::from_waker(&waker));
        assert!(first.is_pending());
        analytics.capture_one("Event");
        eventually(analytics.flush_all()).await;
        assert_eq!(other.events().len(), events);
    }
}

/// Returns a reader of states that panics when it is woken by the next transition.
fn a_reader_that_panics(analytics: &Analytics) -> impl Sized + use<> {
    let waker = Waker::from(Arc::new(Panics));
    let mut states = analytics.state_stream();
    assert!(states.next().poll_unpin(&mut Context::from_waker(&waker)).is_ready());
    assert!(states.next().poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    states
}

#[tokio::test]
async fn a_reader_of_states_that_panics_in_the_background_does_not_end_consent() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_opted_in().await;
    let _states = a_reader_that_panics(&analytics);
    // A timer makes the task ask the homeserver again.
    world.take_requests();
    tokio::time::advance(Duration::from_secs(13 * 3600)).await;
    eventually(world.server.wait_for(|requests| !requests.is_empty())).await;
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(receipt.is_complete(), "{receipt:?}");
}

#[tokio::test]
async fn a_reader_of_states_that_panics_in_an_opt_out_does_not_stop_it() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_opted_in().await;
    // The task is idle.
    eventually(analytics.recheck()).await.unwrap();
    let _states = a_reader_that_panics(&analytics);
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(receipt.is_complete(), "{receipt:?}");
}
