//! P9, P11: a refusal costs the event at fault alone, and refusals are paced,
//! whatever succeeds between them.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{Rig, most_within};
use crate::{
    backend::{Batch, DeliveryError},
    sink::stats::DropReason,
};

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
enum Fault {
    Refuses,
    Panics,
    TooLarge,
}

impl Fault {
    fn reason(self) -> DropReason {
        match self {
            Self::Refuses => DropReason::Rejected,
            Self::Panics => DropReason::BackendPanicked,
            Self::TooLarge => DropReason::TooLarge,
        }
    }
}

/// A lane whose backend has this fault with each batch that has a bad event.
fn faulty(fault: Fault) -> Rig {
    Rig::new(move |batch: &Batch| {
        if batch.events().all(|event| event.name() != "Bad") {
            return Ok(());
        }
        match fault {
            Fault::Refuses => Err(DeliveryError::Rejected("a bad event".into())),
            Fault::TooLarge => Err(DeliveryError::TooLarge("a bad event".into())),
            // Without the noise of the panic hook.
            Fault::Panics => std::panic::resume_unwind(Box::new("a bad event")),
        }
    })
}

#[tokio::test(start_paused = true)]
async fn one_bad_event_of_a_hundred_is_found_at_once_and_costs_no_other() {
    for fault in [Fault::Refuses, Fault::Panics, Fault::TooLarge] {
        for bad in 0..100 {
            let rig = faulty(fault);
            for number in 0..100 {
                rig.offer(if number == bad { "Bad" } else { "Good" });
            }
            let began = Instant::now();
            rig.run(rig.flush()).await;
            assert_eq!(began.elapsed(), Duration::ZERO, "{fault:?}, {bad}");
            let state = rig.lane.lock();
            assert_eq!((state.delivered, state.drops.total()), (99, 1), "{fault:?}, {bad}");
            assert_eq!(state.drops.count(fault.reason()), 1, "{fault:?}, {bad}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_second_event_bad_costs_a_few_requests_a_minute_and_no_good_event() {
    for fault in [Fault::Refuses, Fault::Panics, Fault::TooLarge] {
        let rig = faulty(fault);
        for number in 0..1_000 {
            rig.offer(if number % 2 == 0 { "Bad" } else { "Good" });
        }
        let began = Instant::now();
        // A flush is no way around the pace.
        rig.run(async {
            while rig.waiting() > 0 {
                rig.flush().await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        })
        .await;
        let (tries, took) = (rig.tries(), began.elapsed());
        let most = most_within(&tries, MINUTE);
        assert!(most <= 40, "{fault:?}: {} tries in {took:?}, {most} in a minute", tries.len());
        assert!(took <= 150 * MINUTE, "{fault:?}: {} tries in {took:?}", tries.len());
        let state = rig.lane.lock();
        assert_eq!((state.delivered, state.drops.count(fault.reason())), (500, 500), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_refuses_everything_is_asked_less_and_less() {
    for fault in [Fault::Refuses, Fault::Panics, Fault::TooLarge] {
        let rig = faulty(fault);
        for _ in 0..1_000 {
            rig.offer("Bad");
        }
        let hour = rig.run(timeout(60 * MINUTE, rig.emptied())).await;
        assert!(hour.is_err(), "{fault:?}: nothing is left");
        let tries = rig.tries().len();
        assert!(tries <= 45, "{fault:?}: {tries} tries");
    }
}
