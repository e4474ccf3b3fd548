//! P9, P11: an outage drops no event before its maximum age, and causes few requests,
//! however often the app flushes.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::{Rig, most_within, shortest_wait};
use crate::{backend::DeliveryError, sink::lane::FlushKind};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The number of events captured in each outage, evenly spread.
const EVENTS: u32 = 40;

/// How often the app flushes.
#[derive(Clone, Copy, Debug)]
enum Flushes {
    Never,
    Every(Duration),
    /// As soon as the last flush has returned.
    InALoop,
}

/// The effects of an outage.
#[derive(Debug)]
struct Outage {
    tries: usize,
    most_in_a_minute: usize,
    shortest_wait: Duration,
    /// The time from the end of the outage to the last delivery.
    recovered_after: Duration,
    delivered: u64,
    dropped: u64,
}

type Failure = fn() -> DeliveryError;

async fn outage(length: Duration, age: Duration, flushes: Flushes, failure: Failure) -> Outage {
    let end = Instant::now() + length;
    let mut rig = Rig::new(move |_| if Instant::now() < end { Err(failure()) } else { Ok(()) });
    rig.limits.queue_age = age;
    rig.limits.batch_events = 5;
    let capture = async {
        for _ in 0..EVENTS {
            rig.offer("Event");
            sleep(length / EVENTS).await;
        }
    };
    let flush = async {
        while Instant::now() < end {
            match flushes {
                Flushes::Never => sleep_until(end).await,
                Flushes::Every(time) => {
                    // Not awaited, so that flushes do not become less frequent.
                    rig.lane.ask_flush(FlushKind::Flush, rig.lane.last_event());
                    sleep_until(end.min(Instant::now() + time)).await;
                }
                Flushes::InALoop => {
                    let began = Instant::now();
                    rig.flush().await;
                    assert_eq!(began.elapsed(), Duration::ZERO, "a flush waited");
                    // Without this pause, a long outage would take too long to simulate.
                    sleep(length / 5_000).await;
                }
            }
        }
    };
    rig.run(async {
        tokio::join!(capture, flush);
        rig.emptied().await;
    })
    .await;
    let state = rig.lane.lock();
    let tries: Vec<_> = rig.tries().into_iter().filter(|time| *time < end).collect();
    Outage {
        tries: tries.len(),
        most_in_a_minute: most_within(&tries, MINUTE),
        shortest_wait: shortest_wait(&tries),
        recovered_after: end.elapsed(),
        delivered: state.delivered,
        dropped: state.drops.total(),
    }
}

fn transient() -> DeliveryError {
    DeliveryError::Transient("the test's outage".into())
}

fn throttled_without_a_wait() -> DeliveryError {
    let source = "the test's outage".into();
    DeliveryError::Throttled { retry_after: Some(Duration::ZERO), source }
}

#[tokio::test(start_paused = true)]
async fn an_outage_drops_no_event_and_causes_few_requests_however_often_the_app_flushes() {
    for (length, without_flush, with_flushes) in
        [(MINUTE, 8, 20), (HOUR, 32, 740), (DAY, 590, 17_400)]
    {
        for flushes in [
            Flushes::Never,
            Flushes::Every(HOUR),
            Flushes::Every(MINUTE),
            Flushes::Every(if length < DAY { Duration::from_millis(100) } else { 10 * SECOND }),
            Flushes::InALoop,
        ] {
            let failures: &[Failure] =
                if length < HOUR { &[transient, throttled_without_a_wait] } else { &[transient] };
            for failure in failures {
                // No event exceeds this age before the outage is over.
                let age = length + HOUR;
                let seen = outage(length, age, flushes, *failure).await;
                let what = format!("{length:?}, {flushes:?}: {seen:?}");
                assert_eq!((seen.delivered, seen.dropped), (u64::from(EVENTS), 0), "{what}");
                assert!(seen.recovered_after <= 5 * MINUTE + SECOND, "{what}");
                assert!(seen.shortest_wait >= Duration::from_millis(500), "{what}");
                assert!(seen.most_in_a_minute <= 20, "{what}");
                let bound = match flushes {
                    Flushes::Never => without_flush,
                    _ => with_flushes,
                };
                assert!(seen.tries <= bound, "{what}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_longer_than_the_maximum_age_drops_only_events_that_are_too_old() {
    for flushes in [Flushes::Never, Flushes::Every(MINUTE), Flushes::InALoop] {
        // Events are spread over two days, so half of them are older than a day.
        let seen = outage(2 * DAY, DAY, flushes, transient).await;
        assert!((19..=21).contains(&seen.delivered), "{flushes:?}: {seen:?}");
        assert_eq!(seen.delivered + seen.dropped, u64::from(EVENTS), "{flushes:?}: {seen:?}");
    }
}
