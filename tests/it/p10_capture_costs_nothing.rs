//! P10: capture never blocks, waits or panics, from any thread, in a runtime or
//! out of one. What it costs in time is measured in the benchmarks.

use matrix_analytics::{BackendStats, DropReason, Properties};

use crate::support::{AnalyticsExt as _, World, eventually};

#[tokio::test]
async fn threads_without_a_runtime_capture() {
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
fn capturing_after_the_runtime_is_gone_is_counted() {
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
