//! Calls in many orders, some of them dropped, some failing, some on rebuilt handles: after the
//! last opt-out the account is clean, and the decision is Denied.

use std::time::Duration;

use matrix_analytics::{
    Analytics, Consent,
    testing::{Fault, RecordingBackend},
};
use tokio::task::yield_now;

use crate::support::{AnalyticsExt as _, Device, World, eventually};

/// A deterministic random generator.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, below: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn is_one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// Yields `times` times.
async fn give_way(times: u64) {
    for _ in 0..times {
        yield_now().await;
    }
}

async fn call(kind: u64, analytics: &Analytics, device: &Device) {
    match kind {
        0..=2 => drop(analytics.opt_in().await),
        3 => drop(analytics.opt_out().await),
        4 => drop(analytics.opt_out().erase_event().await),
        5 => drop(analytics.recheck().await),
        6 => device.sync().await,
        7 => drop(analytics.deny_on_this_device().await),
        _ => drop(analytics.allow_on_this_device().await),
    }
}

/// Begins several calls at different times, drops some of them after a while, and awaits the
/// others.
async fn calls(numbers: &mut Numbers, analytics: &Analytics, device: &Device) {
    let calls = (0..2 + numbers.below(6)).map(|_| {
        let (kind, begins_after) = (numbers.below(9), numbers.below(40));
        let dropped_after = numbers.is_one_in(3).then(|| numbers.below(30));
        async move {
            give_way(begins_after).await;
            let limit = async {
                match dropped_after {
                    Some(times) => give_way(times).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = call(kind, analytics, device) => {}
                () = limit => {}
            }
            analytics.capture_one("Event");
        }
    });
    let all = futures_util::future::join_all(calls);
    if numbers.is_one_in(2) {
        let limit = numbers.below(200);
        tokio::select! {
            _ = all => {}
            () = give_way(limit) => {}
        }
    } else {
        eventually(all).await;
    }
}

async fn the_last_opt_out_stands(rounds: usize, fails: bool, rebuilds: bool) {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let recorder = RecordingBackend::new();
    let build = async || device.builder().backend(recorder.clone()).build().await.unwrap();
    let mut analytics = build().await;
    let mut numbers = Numbers(12_345);
    for round in 0..rounds {
        for _ in 0..if fails { numbers.below(5) } else { 0 } {
            world.server.fail_next(match numbers.below(6) {
                0 => Fault::ResetBefore,
                1 => Fault::ResetAfter,
                2 => Fault::ServerError(502),
                3 => Fault::RateLimited { retry_after: Some(Duration::from_secs(1)) },
                4 => Fault::Empty,
                _ => Fault::Forbidden,
            });
        }
        calls(&mut numbers, &analytics, &device).await;
        if rebuilds && numbers.is_one_in(3) {
            if numbers.is_one_in(2) {
                let mut opt_out = analytics.opt_out().into_future();
                assert!(futures_util::poll!(&mut opt_out).is_pending());
            }
            drop(analytics);
            analytics = build().await;
        }
        world.server.heal();

        let receipt = eventually(analytics.opt_out().into_future()).await;
        assert!(receipt.account.is_done() && receipt.record.is_done(), "{round}: {receipt:?}");
        recorder.clear();
        for _ in 0..2 {
            device.sync().await;
            eventually(analytics.recheck()).await.unwrap();
        }
        let state = analytics.state();
        assert_eq!(state.decision, Consent::Denied, "{round}: {state:?}");
        assert!(!state.removal_pending, "{round}");
        let held = world.content().unwrap_or_default();
        assert!(!held.contains("true") && !held.contains("id"), "{round}: {held}");
        assert!(recorder.events().is_empty(), "{round}");
    }
}

#[tokio::test]
async fn the_last_opt_out_stands_after_calls_in_any_order() {
    the_last_opt_out_stands(60, false, false).await;
}

#[tokio::test]
async fn the_last_opt_out_stands_after_calls_that_fail_and_rebuilds() {
    the_last_opt_out_stands(80, true, true).await;
}
