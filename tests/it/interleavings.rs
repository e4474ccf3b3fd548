//! P6: two devices that opt in at the same time end on the ID that the homeserver holds, whatever
//! the order of their reads and writes, and send under no other.
//!
//! The orders are enumerated, not sampled. A proxy in front of each device holds every request
//! until its turn.

mod calls;

use std::collections::BTreeSet;

use hyper::Method;
use matrix_analytics::{Analytics, ConsentState, OptInError, testing::RecordingBackend};
use tokio::{task::JoinHandle, time::Instant};

use crate::support::{
    AnalyticsExt as _, FOREIGN_ID, GatedProxy, HeldRequest, SETTLE, World, content, eventually,
    id_in,
};

/// A step of one device: read, write, and read again after the settle time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RaceStep {
    Read,
    Write,
    ReadBack,
}

type Order = Vec<(usize, RaceStep)>;

/// Returns all orders of three steps of two devices.
fn orders() -> Vec<Order> {
    fn extend(order: &Order, done: [usize; 2], orders: &mut Vec<Order>) {
        const STEPS: [RaceStep; 3] = [RaceStep::Read, RaceStep::Write, RaceStep::ReadBack];
        if order.len() == 6 {
            orders.push(order.clone());
        }
        for device in 0..2 {
            if let Some(step) = STEPS.get(done[device]) {
                let mut order = order.clone();
                order.push((device, *step));
                let mut done = done;
                done[device] += 1;
                extend(&order, done, orders);
            }
        }
    }
    let mut orders = Vec::new();
    extend(&Vec::new(), [0, 0], &mut orders);
    orders
}

fn position(order: &Order, step: (usize, RaceStep)) -> usize {
    order.iter().position(|other| *other == step).unwrap()
}

/// Returns whether `device` would write after the other has read back, although it read before the
/// other wrote. Its request timeouts rule that out: the other waits at least as long before it
/// reads back.
fn outlasts_the_settle_time(order: &Order, device: usize) -> bool {
    let other = 1 - device;
    position(order, (device, RaceStep::Read)) < position(order, (other, RaceStep::Write))
        && position(order, (device, RaceStep::Write)) > position(order, (other, RaceStep::ReadBack))
}

struct Racer {
    proxy: GatedProxy,
    analytics: Analytics,
    recorder: RecordingBackend,
    /// The held write.
    write: Option<(HeldRequest, JoinHandle<Result<ConsentState, OptInError>>)>,
    /// The time at which the write is read back.
    settled_at: Option<Instant>,
}

#[tokio::test]
async fn two_devices_that_opt_in_at_once_end_on_the_id_that_the_homeserver_holds() {
    let all = orders();
    assert_eq!(all.len(), 20);
    let possible: Vec<_> = all
        .iter()
        .filter(|order| !(0..2).any(|device| outlasts_the_settle_time(order, device)))
        .collect();
    assert_eq!(possible.len(), 16);

    let starts = [
        None,
        Some("{}".to_owned()),
        Some(content(Some(true), None)),
        Some(content(Some(false), None)),
        Some(content(Some(false), Some(FOREIGN_ID))),
        Some(content(None, Some(FOREIGN_ID))),
    ];
    let mut both_wrote = 0;
    for start in &starts {
        for order in &possible {
            both_wrote += usize::from(race(start.as_deref(), order).await);
        }
    }
    // In these orders, both read before either wrote, so both wrote.
    assert!(both_wrote > 0);
}

/// Runs one order. Returns whether both devices wrote.
async fn race(start: Option<&str>, order: &Order) -> bool {
    let case = format!("{start:?}, {order:?}");
    let world = World::new().await;
    if let Some(start) = start {
        world.set_content(start);
    }
    let mut racers = [racer(&world, "PHONE").await, racer(&world, "LAPTOP").await];
    world.take_requests();

    for &(device, step) in order {
        racers[device].take(step).await;
    }
    let held = id_in(&world.content().unwrap()).unwrap();
    let writes = world.take_requests().matches("PUT").count();

    for racer in &mut racers {
        racer.analytics.until(ConsentState::is_open).await;
        racer.analytics.capture_one("After");
        eventually(racer.analytics.flush_all()).await;
        assert_eq!(racer.analytics.analytics_id().unwrap().reveal(), held, "{case}");
        let ids: BTreeSet<_> = racer.recorder.ids().into_iter().collect();
        assert_eq!(ids, BTreeSet::from([held.clone()]), "{case}");
        // Events captured while the ID settled are not lost.
        let names = racer.recorder.names();
        assert!(names.contains(&"While".to_owned()), "{case}: {names:?}");
        assert!(racer.proxy.is_idle(), "{case}");
    }
    writes == 2
}

async fn racer(world: &World, name: &str) -> Racer {
    let (mut proxy, device) = world.gated_device(name).await;
    let (analytics, recorder) = device.start().await;
    proxy.next(Method::GET).await.pass().await;
    analytics.confirmed().await;
    Racer { proxy, analytics, recorder, write: None, settled_at: None }
}

impl Racer {
    async fn take(&mut self, step: RaceStep) {
        match step {
            RaceStep::Read => {
                let analytics = self.analytics.clone();
                let mut opt_in = tokio::spawn(async move { analytics.opt_in().await });
                self.proxy.next(Method::GET).await.pass().await;
                self.analytics.capture_one("While");
                // A device that found the other's ID has nothing to write.
                tokio::select! {
                    held = self.proxy.next(Method::PUT) => self.write = Some((held, opt_in)),
                    done = eventually(&mut opt_in) => {
                        assert!(done.unwrap().unwrap().is_open());
                    }
                }
            }
            RaceStep::Write => {
                if let Some((held, mut opt_in)) = self.write.take() {
                    held.pass().await;
                    let state = tokio::select! {
                        // A write that only sets the flag, next to an existing ID, is read back at
                        // once.
                        read = self.proxy.next(Method::GET) => {
                            read.pass().await;
                            eventually(opt_in).await
                        }
                        done = eventually(&mut opt_in) => done,
                    };
                    let state = state.unwrap().unwrap();
                    self.settled_at = (!state.is_open()).then(|| Instant::now() + SETTLE);
                }
            }
            RaceStep::ReadBack => {
                if let Some(settled_at) = self.settled_at {
                    tokio::time::advance(settled_at.duration_since(Instant::now())).await;
                    self.proxy.next(Method::GET).await.pass().await;
                    self.analytics.until(ConsentState::is_open).await;
                }
            }
        }
    }
}
