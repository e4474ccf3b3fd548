//! P9, P11: a refusal drops only the event at fault, and refusals are paced, even if there
//! are successes between them.

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

/// Returns a lane whose backend shows `fault` for each batch with a bad event.
fn faulty(fault: Fault) -> Rig {
    Rig::new(move |batch: &Batch| {
        if batch.events().all(|event| event.name() != "Bad") {
            return Ok(());
        }
        match fault {
            Fault::Refuses => Err(DeliveryError::Rejected("a bad event".into())),
            Fault::TooLarge => Err(DeliveryError::TooLarge("a bad event".into())),
            // Does not run the panic hook, which would print.
            Fault::Panics => std::panic::resume_unwind(Box::new("a bad event")),
        }
    })
}

#[tokio::test(start_paused = true)]
async fn one_bad_event_of_a_hundred_is_found_at_once_and_no_other_is_dropped() {
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
async fn every_second_event_bad_causes_few_requests_a_minute_and_drops_no_good_event() {
    for fault in [Fault::Refuses, Fault::Panics, Fault::TooLarge] {
        let rig = faulty(fault);
        for number in 0..1_000 {
            rig.offer(if number % 2 == 0 { "Bad" } else { "Good" });
        }
        let began = Instant::now();
        // Flushes do not get around the pace.
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
async fn a_backend_that_refuses_everything_gets_fewer_and_fewer_requests() {
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
