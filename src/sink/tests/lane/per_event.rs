//! P9, P11: where a service answers for each event, each is counted as it says. An event that it
//! asks for again is sent again, after a wait.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use EventOutcome::{
    Delivered, Expired, OverQuota, Rejected, SendAgain, TooLarge, WithoutUserProperties,
};
use tokio::time::{Instant, sleep, timeout};

use super::{Rig, most_within, shortest_wait};
use crate::{
    backend::{Batch, DeliveryError, EventOutcome},
    event::{Properties, UserProperties, UserUpdate},
    sink::stats::DropReason,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

type Names = Arc<Mutex<Vec<Vec<String>>>>;

/// Returns a lane whose service gives each event the outcome that `outcome` returns for its name
/// and the number of the attempt, from 1, and the names of the events of each request.
fn rig(
    retry_after: Option<Duration>,
    outcome: impl Fn(&str, usize) -> EventOutcome + Send + Sync + 'static,
) -> (Rig, Names) {
    let names = Names::default();
    let log = names.clone();
    let rig = Rig::new(move |batch: &Batch| {
        let mut all = log.lock().unwrap();
        all.push(batch.events().map(|event| event.name().to_owned()).collect());
        let attempt = all.len();
        let outcomes = batch.events().map(|event| outcome(event.name(), attempt)).collect();
        Err(DeliveryError::PerEvent { outcomes, retry_after })
    });
    (rig, names)
}

fn offer_all(rig: &Rig, names: &[&'static str]) {
    for name in names {
        rig.offer(name);
    }
}

fn of_name(name: &str) -> EventOutcome {
    match name {
        "Expired" => Expired,
        "OverQuota" => OverQuota,
        "Rejected" => Rejected,
        "TooLarge" => TooLarge,
        "WithoutUserProperties" => WithoutUserProperties,
        _ => Delivered,
    }
}

#[tokio::test(start_paused = true)]
async fn each_outcome_is_counted_under_its_name_and_needs_no_wait() {
    let (rig, names) = rig(None, |name, _| of_name(name));
    let all = [
        "Rejected",
        "Delivered",
        "OverQuota",
        "TooLarge",
        "OverQuota",
        "Delivered",
        "Expired",
        "WithoutUserProperties",
    ];
    offer_all(&rig, &all);
    let began = Instant::now();
    rig.run(rig.flush()).await;
    assert_eq!((names.lock().unwrap().len(), began.elapsed()), (1, Duration::ZERO));
    let state = rig.lane.lock();
    assert_eq!((state.delivered, state.drops.total(), state.queue.len()), (3, 5, 0));
    for (reason, events) in [
        (DropReason::Expired, 1),
        (DropReason::OverQuota, 2),
        (DropReason::Rejected, 1),
        (DropReason::TooLarge, 1),
    ] {
        assert_eq!(state.drops.count(reason), events, "{reason:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn events_to_be_sent_again_keep_their_order_and_go_first() {
    let (rig, names) = rig(None, |name, attempt| match (name, attempt) {
        ("B" | "D", ..3) | ("F", 2) => SendAgain,
        _ => Delivered,
    });
    offer_all(&rig, &["A", "B", "C", "D", "E"]);
    let later = async {
        rig.flush().await;
        offer_all(&rig, &["F", "G"]);
        rig.emptied().await;
    };
    rig.run(later).await;
    let requests: Vec<_> = names.lock().unwrap().iter().map(|names| names.concat()).collect();
    assert_eq!(requests, ["ABCDE", "BDFG", "BDF"]);
    assert!(shortest_wait(&rig.tries()) >= SECOND / 2, "{:?}", rig.tries());
    let state = rig.lane.lock();
    assert_eq!((state.delivered, state.drops.total()), (7, 0));
}

#[tokio::test(start_paused = true)]
async fn an_event_without_an_outcome_is_sent_again() {
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let log = sizes.clone();
    let rig = Rig::new(move |batch: &Batch| {
        let mut sizes = log.lock().unwrap();
        sizes.push(batch.len());
        // The second answer has more outcomes than the request has events.
        let outcomes = vec![Delivered; [2, 100][sizes.len() - 1]];
        Err(DeliveryError::PerEvent { outcomes, retry_after: None })
    });
    offer_all(&rig, &["A", "B", "C"]);
    rig.run(rig.emptied()).await;
    assert_eq!(*sizes.lock().unwrap(), [3, 1]);
    assert_eq!(rig.lane.lock().delivered, 3);
}

#[tokio::test(start_paused = true)]
async fn not_even_a_flush_comes_before_the_wait_that_the_service_asks_for() {
    let (rig, _) = rig(Some(30 * SECOND), |_, attempt| match attempt {
        1 => SendAgain,
        _ => Delivered,
    });
    rig.offer("A");
    let flushes = async {
        while rig.waiting() > 0 {
            rig.flush().await;
            sleep(SECOND).await;
        }
    };
    rig.run(flushes).await;
    let wait = shortest_wait(&rig.tries());
    assert!((30 * SECOND..32 * SECOND).contains(&wait), "{wait:?}");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_a_service_wants_again_for_ever_expires_and_holds_no_other_up() {
    let (mut rig, names) = rig(Some(SECOND), |name, _| match name {
        "Wanted" => SendAgain,
        _ => Delivered,
    });
    rig.limits.queue_age = 6 * HOUR;
    rig.offer("Wanted");
    let app = async {
        for _ in 0..5 * 60 {
            rig.offer("Other");
            sleep(MINUTE).await;
        }
        // An attempt is never more than five minutes away.
        sleep(6 * MINUTE).await;
        let delivered = rig.lane.lock().delivered;
        assert_eq!((delivered, rig.waiting()), (5 * 60, 1));
        sleep(HOUR).await;
        assert_eq!(rig.waiting(), 0);
    };
    rig.run(app).await;
    let tries = rig.tries();
    assert!(most_within(&tries, MINUTE) <= 7, "{}", most_within(&tries, MINUTE));
    assert!(tries.len() <= 12 * 12 + 10, "{} tries", tries.len());
    assert!(names.lock().unwrap().iter().all(|names| names[0] == "Wanted"));
    assert_eq!(rig.lane.lock().drops.count(DropReason::Expired), 1);
}

#[tokio::test(start_paused = true)]
async fn a_service_over_its_quota_gets_fewer_and_fewer_requests() {
    let (mut rig, _) = rig(None, |_, _| OverQuota);
    rig.limits.batch_events = 5;
    for _ in 0..1_000 {
        rig.offer("Event");
    }
    let hour = rig.run(timeout(HOUR, rig.emptied())).await;
    assert!(hour.is_err(), "nothing is left");
    let tries = rig.tries();
    assert!(tries.len() <= 45, "{} tries", tries.len());
    assert!(most_within(&tries, MINUTE) <= 20);
    let state = rig.lane.lock();
    assert_eq!(state.drops.count(DropReason::OverQuota), 5 * tries.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn user_properties_are_delivered_with_the_event_that_carried_them() {
    // For each outcome of the first event: which of the next requests carry them.
    for (outcome, carried) in [
        (Delivered, [true, false, false]),
        // The same event carries them again.
        (SendAgain, [true, true, false]),
        (OverQuota, [true, true, false]),
        (Expired, [true, true, false]),
        // They could be the cause, so the next request goes without them.
        (Rejected, [true, false, true]),
        (TooLarge, [true, false, true]),
        (WithoutUserProperties, [true, false, true]),
    ] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let rig = Rig::new(move |batch: &Batch| {
            let carries = batch.events().map(|event| !event.user_properties().is_empty());
            let carries: Vec<_> = carries.collect();
            let mut seen = log.lock().unwrap();
            seen.push(carries.contains(&true));
            assert!(!carries[1..].contains(&true));
            // Whatever becomes of the others.
            let first = if seen.len() == 1 { outcome } else { Delivered };
            let mut outcomes = vec![Rejected; batch.len()];
            outcomes[0] = first;
            Err(DeliveryError::PerEvent { outcomes, retry_after: None })
        });
        let set = Properties::from([("app", "desktop")]);
        let user = UserProperties { set, set_once: Properties::new() };
        rig.lane.lock().user.add(&UserUpdate { user, epoch: 1 });
        for _ in 0..3 {
            offer_all(&rig, &["First", "Second"]);
            rig.run(rig.emptied()).await;
        }
        assert_eq!(seen.lock().unwrap()[..3], carried, "{outcome:?}");
    }
}
