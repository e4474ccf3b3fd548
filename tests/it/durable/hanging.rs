//! A simulated disk that hangs: delivery, withdrawal, and the end of the app.

use std::{collections::BTreeSet, sync::mpsc, time::Duration};

use matrix_analytics::{
    Analytics, SqliteQueue, WithdrawalStep,
    testing::{DeliveryFailure, FailingBackend, HangingDisk},
};

use super::{Durable, counters, flush, in_time};
use crate::support::{AnalyticsExt as _, eventually};

/// Starts a process whose file is on `disk`.
async fn start(durable: &Durable, disk: &HangingDisk, backend: &FailingBackend) -> Analytics {
    let queue = SqliteQueue::new(durable.path()).on_disk(disk);
    let builder = durable.device.builder().queue(queue).backend(backend.clone());
    let analytics = builder.build().await.unwrap();
    analytics.confirmed().await;
    analytics
}

/// Captures an event, and waits until the backend has accepted `events`.
async fn deliver(analytics: &Analytics, backend: &FailingBackend, events: usize) {
    analytics.capture_one("During");
    let delivered = || backend.accepted_events().len() == events;
    in_time("a disk that hangs stops delivery", delivered).await;
}

#[tokio::test]
async fn events_are_delivered_from_memory_and_each_arrives_once() {
    let (durable, disk, backend) =
        (Durable::new().await, HangingDisk::new(), FailingBackend::new());
    let analytics = start(&durable, &disk, &backend).await;
    analytics.capture_one("Before");
    flush(&analytics).await;
    disk.hang();
    for events in 2..20 {
        deliver(&analytics, &backend, events).await;
    }
    assert_eq!(analytics.stats().queue.not_durable, 18);
    assert!(counters(&analytics).is_balanced());

    disk.heal();
    // New events are durable again once the disk has caught up.
    backend.fail_always(DeliveryFailure::Transient);
    eventually(async {
        loop {
            let not_durable = analytics.stats().queue.not_durable;
            analytics.capture_one("After");
            analytics.flush_all().await;
            if analytics.stats().queue.not_durable == not_durable {
                return;
            }
        }
    })
    .await;
    durable.end(analytics).await;
    let restored = durable.rows() as u64;

    let (analytics, after) = durable.start().await;
    assert_eq!(counters(&analytics).restored, restored);
    flush(&analytics).await;
    let (first, second) = (backend.accepted_events(), after.accepted_events());
    let all = first.len() + second.len();
    let ids: BTreeSet<_> = first.into_iter().chain(second).map(|event| event.uuid).collect();
    assert_eq!(ids.len(), all);
}

#[tokio::test]
async fn a_withdrawal_is_pending_until_the_disk_recovers_and_then_leaves_nothing() {
    let (durable, disk, backend) =
        (Durable::new().await, HangingDisk::new(), FailingBackend::new());
    backend.fail_always(DeliveryFailure::Transient);
    let analytics = start(&durable, &disk, &backend).await;
    analytics.capture_one("Written");
    flush(&analytics).await;
    disk.hang();
    analytics.capture_one("Late");
    let flushing = analytics.clone();
    let flushing = tokio::spawn(async move { flushing.flush_all().await });
    disk.until_access_hangs().await;

    let receipt = tokio::spawn(analytics.opt_out().into_future());
    in_time("an opt-out waits for the disk", || receipt.is_finished()).await;
    let receipt = receipt.await.unwrap();
    assert!(matches!(receipt.queue, WithdrawalStep::Pending(None)), "{receipt:?}");
    assert_eq!(counters(&analytics).queued, 0);
    in_time("a flush waits for the disk", || flushing.is_finished()).await;

    disk.heal();
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(receipt.queue.is_done(), "{receipt:?}");
    durable.end(analytics).await;
    assert_eq!(durable.rows(), 0);
}

#[tokio::test]
async fn a_shutdown_ends_in_time_and_the_next_start_finds_the_stored_events() {
    let (durable, disk, backend) =
        (Durable::new().await, HangingDisk::new(), FailingBackend::new());
    backend.fail_always(DeliveryFailure::Transient);
    let analytics = start(&durable, &disk, &backend).await;
    analytics.capture_one("Written");
    flush(&analytics).await;
    disk.hang();
    analytics.capture_one("Late");
    let ending = analytics.clone();
    let shutdown = tokio::spawn(async move { ending.shutdown(Duration::from_secs(1)).await });
    in_time("a shutdown waits for the disk", || shutdown.is_finished()).await;
    assert_eq!(shutdown.await.unwrap().backends[0].kept, 1);
    in_time("the task waits for the disk", || counters(&analytics).queued == 0).await;
    assert_eq!(counters(&analytics).kept, 1);

    disk.heal();
    drop(analytics);
    let (analytics, backend) = durable.start().await;
    flush(&analytics).await;
    let names: Vec<_> = backend.accepted_events().into_iter().map(|event| event.name).collect();
    assert_eq!(names, ["Written"]);
}

#[test]
fn the_end_of_the_runtime_does_not_wait_for_the_disk() {
    let disk = HangingDisk::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let analytics = runtime.block_on(async {
        let (durable, backend) = (Durable::new().await, FailingBackend::new());
        let analytics = start(&durable, &disk, &backend).await;
        disk.hang();
        analytics.capture_one("Late");
        let flushing = analytics.clone();
        tokio::spawn(async move { flushing.flush_all().await });
        disk.until_access_hangs().await;
        analytics
    });
    let (ended, end) = mpsc::channel();
    #[expect(clippy::disallowed_methods, reason = "the test uses a plain thread")]
    let dropping = std::thread::spawn(move || {
        drop(runtime);
        ended.send(()).unwrap();
    });
    let ended = end.recv_timeout(Duration::from_secs(20));
    disk.heal();
    dropping.join().unwrap();
    assert!(ended.is_ok(), "the runtime's end waits for the disk");
    // Events in flight are accounted for.
    assert_eq!(counters(&analytics).queued, 0);
}
