//! P9, P11: what a backend refuses for good is dropped without another attempt, and is counted.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use super::{Rig, most_within};
use crate::{
    backend::{Batch, DeliveryError, PartialDelivery},
    event::{Properties, UserProperties, UserUpdate},
    sink::stats::DropReason,
};

const MINUTE: Duration = Duration::from_secs(60);

fn refused() -> DeliveryError {
    DeliveryError::Refused { status: 404, source: "no such path".into() }
}

fn partial(expired: usize, rejected: usize, too_large: usize) -> DeliveryError {
    DeliveryError::Partial(PartialDelivery { expired, rejected, too_large })
}

fn offer(rig: &Rig, events: usize) {
    for _ in 0..events {
        rig.offer("Event");
    }
}

#[tokio::test(start_paused = true)]
async fn the_missing_events_of_a_partial_delivery_are_counted_and_not_sent_again() {
    for (expired, rejected, too_large) in [(0, 0, 0), (1, 2, 3), (0, 10, 0), (4, 7, 100)] {
        let rig = Rig::new(move |_| Err(partial(expired, rejected, too_large)));
        offer(&rig, 10);
        let began = Instant::now();
        rig.run(rig.flush()).await;
        assert_eq!((rig.tries().len(), began.elapsed()), (1, Duration::ZERO));
        let dropped = (expired + rejected + too_large).min(10);
        let state = rig.lane.lock();
        assert_eq!((state.delivered, state.drops.total()), (10 - dropped as u64, dropped as u64));
        assert_eq!(state.drops.count(DropReason::Rejected), rejected as u64);
        if dropped < 10 {
            assert_eq!(state.drops.count(DropReason::Expired), expired as u64);
            assert_eq!(state.drops.count(DropReason::TooLarge), too_large as u64);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn user_properties_outlive_a_partial_delivery_that_may_have_lost_them() {
    for (rejected, is_carried) in [(0, [true, false, false]), (1, [true, false, true])] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let rig = Rig::new(move |batch: &Batch| {
            let carried = batch.events().any(|event| !event.user_properties().is_empty());
            let mut seen = log.lock().unwrap();
            seen.push(carried);
            if seen.len() == 1 { Err(partial(0, rejected, 0)) } else { Ok(()) }
        });
        let set = Properties::from([("app", "desktop")]);
        let user = UserProperties { set, set_once: Properties::new() };
        rig.lane.lock().user.add(&UserUpdate { user, epoch: 1 });
        for _ in 0..3 {
            offer(&rig, 2);
            rig.run(rig.flush()).await;
        }
        assert_eq!(*seen.lock().unwrap(), is_carried, "{rejected} rejected");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_refused_for_good_costs_one_request_and_no_later_event() {
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let log = sizes.clone();
    let mut rig = Rig::new(move |batch: &Batch| {
        let mut sizes = log.lock().unwrap();
        sizes.push(batch.len());
        if sizes.len() == 2 { Err(refused()) } else { Ok(()) }
    });
    rig.limits.batch_events = 5;
    offer(&rig, 20);
    let began = Instant::now();
    rig.run(rig.flush()).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(*sizes.lock().unwrap(), [5; 4]);
    let state = rig.lane.lock();
    assert_eq!((state.delivered, state.drops.count(DropReason::Rejected)), (15, 5));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_refuses_every_batch_for_good_gets_fewer_and_fewer_requests() {
    let mut rig = Rig::new(|_| Err(refused()));
    rig.limits.batch_events = 5;
    offer(&rig, 1_000);
    let hour = rig.run(timeout(60 * MINUTE, rig.emptied())).await;
    assert!(hour.is_err(), "nothing is left");
    let tries = rig.tries();
    assert!(tries.len() <= 45, "{} tries", tries.len());
    assert!(most_within(&tries, MINUTE) <= 20);
    let state = rig.lane.lock();
    assert_eq!(state.drops.count(DropReason::Rejected), 5 * tries.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn user_properties_leave_although_every_batch_has_a_refused_event() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let rig = Rig::new(move |batch: &Batch| {
        let carried = batch.events().any(|event| !event.user_properties().is_empty());
        log.lock().unwrap().push(carried);
        Err(partial(0, 1, 0))
    });
    let set = |value: &'static str| {
        let set = Properties::from([("app", value)]);
        let user = UserProperties { set, set_once: Properties::new() };
        rig.lane.lock().user.add(&UserUpdate { user, epoch: 1 });
    };
    set("desktop");
    for _ in 0..2 {
        offer(&rig, 2);
        rig.run(rig.flush()).await;
    }
    set("mobile");
    offer(&rig, 2);
    rig.run(rig.flush()).await;
    assert_eq!(*seen.lock().unwrap(), [true, false, true]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_after_refused_events_is_logged() {
    let answers = Arc::new(Mutex::new(vec![refused(), partial(0, 1, 0), partial(0, 1, 0)]));
    let rig = Rig::new(move |_: &Batch| Err(answers.lock().unwrap().pop().unwrap()));
    let log = Arc::new(Mutex::new(Vec::new()));
    let subscriber = tracing_subscriber::fmt().with_writer(Arc::new(Log(log.clone()))).finish();
    let logging = tracing::subscriber::set_default(subscriber);
    let app = async {
        for _ in 0..3 {
            offer(&rig, 2);
            rig.flush().await;
        }
    };
    rig.run(app).await;
    drop(logging);
    let log = String::from_utf8(log.lock().unwrap().clone()).unwrap();
    let lines = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!([lines("some events are refused"), lines("status 404")], [1, 1], "{log}");
}

struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for &Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
