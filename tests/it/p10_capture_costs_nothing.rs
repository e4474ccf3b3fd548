//! P10: capture never blocks, waits or panics, on any thread, inside or outside a runtime. The
//! benchmarks measure its time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _};
use matrix_analytics::{
    Analytics, BackendStats, DropReason, Properties,
    testing::{DeliveryFailure, FailingBackend, RecordingBackend},
};

use crate::support::{AnalyticsExt as _, World, eventually};

#[tokio::test]
async fn threads_without_a_runtime_can_capture() {
    let world = World::new().await;
    let (analytics, recorder) = world.device("PHONE").await.start_opted_in().await;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let analytics = &analytics;
            scope.spawn(move || {
                for number in 0..500 {
                    let properties = Properties::new().with("thread", thread).with("n", number);
                    analytics.capture_named("Event", properties);
                }
            });
        }
    });
    assert!(eventually(analytics.flush()).await.is_complete());
    assert_eq!(recorder.events().len(), 2000);
    assert!(analytics.stats().backends.iter().all(BackendStats::is_balanced));
}

#[test]
fn capturing_after_the_runtime_has_ended_is_counted() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let analytics = runtime.block_on(async {
        let world = World::new().await;
        world.device("PHONE").await.start_opted_in().await.0
    });
    drop(runtime);
    for _ in 0..10_005 {
        analytics.capture_one("Orphan");
    }
    let stats = analytics.stats();
    assert_eq!(stats.backends[0].captured, 10_005);
    assert_eq!(stats.backends[0].dropped[&DropReason::AfterShutdown], 10_005);
    assert!(stats.backends[0].is_balanced());
}

#[tokio::test]
async fn a_denied_capture_takes_nothing() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
    let before = analytics.stats();
    for _ in 0..100 {
        analytics.capture_named("Denied", Properties::new().with("a", 1));
    }
    assert_eq!(analytics.stats(), before);
}

/// A waker that calls every method that can be called from a waker.
struct Caller {
    analytics: Analytics,
    calls: AtomicUsize,
}

impl Wake for Caller {
    fn wake(self: Arc<Self>) {
        let analytics = &self.analytics;
        let stats = analytics.stats();
        assert!(stats.backends.iter().all(BackendStats::is_balanced), "{stats:?}");
        analytics.capture_one("FromWaker");
        analytics.set_super_properties(Properties::new()).unwrap();
        analytics.set_user_properties(&Properties::new().with("a", 1)).unwrap();
        let _ = (analytics.state(), analytics.analytics_id(), analytics.prompt());
        drop(analytics.drops());
        drop(analytics.state_stream());
        // Polled once, as by an executor that runs a woken task in place.
        drop(analytics.flush().now_or_never());
        self.calls.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_apps_waker_may_call_any_method_wherever_an_event_is_dropped() {
    let (done, is_done) = std::sync::mpsc::channel();
    // A separate thread, so that a deadlock can be noticed.
    #[expect(clippy::disallowed_methods, reason = "the test uses a plain thread")]
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(every_drop_wakes_a_caller());
        done.send(()).unwrap();
    });
    is_done
        .recv_timeout(Duration::from_secs(60))
        .expect("a waker is blocked by a lock of this crate");
}

async fn every_drop_wakes_a_caller() {
    let world = World::new().await;
    let backend = FailingBackend::new();
    let device = world.device("PHONE").await;
    let builder = device.builder().backend(backend.clone()).backend(RecordingBackend::new());
    let analytics = builder.intake_max_events(5).queue_max_events(3).build().await.unwrap();
    analytics.opt_in_and_settle().await;

    let caller = Arc::new(Caller { analytics: analytics.clone(), calls: AtomicUsize::new(0) });
    let waker = Waker::from(caller.clone());
    let mut context = Context::from_waker(&waker);
    let (mut drops, mut states) = (analytics.drops(), analytics.state_stream());
    let mut seen_calls = 0;
    // Drains both streams, so that the next item wakes the caller, and checks that it was woken
    // since the last time.
    let mut check_woken = |what: &str| {
        while let Poll::Ready(Some(_)) = drops.poll_next_unpin(&mut context) {}
        while let Poll::Ready(Some(_)) = states.poll_next_unpin(&mut context) {}
        let calls = caller.calls.load(Ordering::Relaxed);
        assert!(what.is_empty() || calls > seen_calls, "{what}");
        seen_calls = calls;
    };

    check_woken("");
    analytics.capture_one("");
    check_woken("an invalid event");
    for _ in 0..6 {
        analytics.capture_one("Full");
    }
    check_woken("a full intake");
    backend.fail_always(DeliveryFailure::Transient);
    eventually(analytics.flush()).await;
    check_woken("a full queue");
    backend.fail_always(DeliveryFailure::Rejected);
    // Long enough for a flush to retry.
    tokio::time::advance(Duration::from_secs(6)).await;
    eventually(analytics.flush()).await;
    check_woken("a refusal");
    eventually(analytics.opt_out().into_future()).await;
    check_woken("a withdrawal");
    analytics.opt_in_and_settle().await;
    check_woken("a change of the state");
    eventually(analytics.shutdown(Duration::ZERO)).await;
    analytics.capture_one("Late");
    check_woken("the end");
}
