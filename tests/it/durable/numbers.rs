//! The number of a row is not reused while the file still refers to it.

use std::fs;

use matrix_analytics::{
    DropReason, Limits, OverflowPolicy,
    testing::{DeliveryFailure, FailingBackend},
};

use super::{Durable, counters, dropped, flush};
use crate::support::{AnalyticsExt as _, eventually};

#[tokio::test]
async fn events_captured_after_an_overflow_and_a_restart_survive_the_next_restart() {
    let durable = Durable::new().await;
    let offline = FailingBackend::new();
    offline.fail_always(DeliveryFailure::Transient);
    let builder = durable.builder();
    let builder = builder
        .limits(Limits::default().queue_max_events(3).overflow_policy(OverflowPolicy::DropNewest))
        .backend(offline);
    let analytics = builder.build().await.unwrap();
    analytics.confirmed().await;
    for _ in 0..2 {
        for _ in 0..3 {
            analytics.capture_one("Old");
        }
        flush(&analytics).await;
    }
    assert_eq!(dropped(&counters(&analytics), DropReason::QueueFull), 3);
    durable.end(analytics).await;
    assert_eq!(durable.rows(), 3);

    let (analytics, _) = durable.start_offline().await;
    assert_eq!(counters(&analytics).restored, 3);
    for _ in 0..3 {
        analytics.capture_one("New");
    }
    flush(&analytics).await;
    durable.end(analytics).await;
    assert_eq!(durable.rows(), 6);

    let (analytics, backend) = durable.start().await;
    flush(&analytics).await;
    let names: Vec<_> = backend.accepted_events().iter().map(|e| e.name.to_string()).collect();
    assert_eq!(names, ["Old", "Old", "Old", "New", "New", "New"]);
    durable.end(analytics).await;
}

/// Runs processes on one file with random queues, backends, failures and exits. Each start restores
/// for each backend the events that the previous process left for it.
#[tokio::test]
async fn waiting_events_are_restored_over_random_overflows_wipes_and_restarts() {
    for seed in 0..12 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut durable = Durable::new().await;
        let (mut waits, mut killed) = (None::<Vec<u64>>, false);
        for process in 0..8 {
            let case = format!("seed {seed}, process {process}");
            let backends: [_; 2] = std::array::from_fn(|_| FailingBackend::new());
            let policies = [OverflowPolicy::DropOldest, OverflowPolicy::DropNewest];
            // At least as many as the last process left, so that the start drops none.
            let least = waits.iter().flatten().max().copied().unwrap_or_default() as usize;
            let builder = durable.builder();
            let mut builder = builder.limits(
                Limits::default()
                    .queue_max_events(least.max(1) + random.usize(..6))
                    .overflow_policy(policies[random.usize(..2)]),
            );
            for backend in &backends {
                backend.fail_always(DeliveryFailure::Transient);
                builder = builder.backend(backend.clone());
            }
            let analytics = builder.build().await.unwrap();
            let stats = analytics.stats();
            let restored: Vec<_> = stats.backends.iter().map(|backend| backend.restored).collect();
            for (restored, waits) in restored.iter().zip(waits.unwrap_or_else(|| vec![0; 2])) {
                // A kill may come before a dropped event is deleted from the disk.
                let as_left = *restored == waits || killed && *restored > waits;
                assert!(as_left, "{case}: {restored}, not {waits}, killed: {killed}");
            }
            analytics.confirmed().await;
            for backend in &backends {
                if random.u8(..4) == 0 {
                    backend.heal();
                }
            }
            for _ in 0..random.usize(..4) {
                for _ in 0..random.usize(..6) {
                    analytics.capture_one("Event");
                }
                flush(&analytics).await;
                if random.u8(..8) == 0 {
                    assert!(eventually(analytics.opt_out().into_future()).await.is_complete());
                    analytics.opt_in_and_settle().await;
                }
            }
            flush(&analytics).await;
            let stats = analytics.stats();
            waits = Some(stats.backends.iter().map(|b| b.queued + b.in_flight).collect());
            // Some processes are killed, which is simulated by a copy of the files as they are.
            killed = random.bool();
            if !killed {
                durable.end(analytics).await;
            } else {
                let copy = tempfile::TempDir::new().unwrap();
                for entry in fs::read_dir(durable.directory.path()).unwrap() {
                    let entry = entry.unwrap();
                    fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
                }
                durable.end(analytics).await;
                durable.directory = copy;
            }
        }
    }
}
