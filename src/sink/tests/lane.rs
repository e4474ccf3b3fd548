//! Tests of one lane in simulated time: outages, refusals, flushes.
//!
//! Tests of the whole sink advance time by hand. These let paused time run, so that a day
//! passes in milliseconds.

mod dropped_parts;
mod flushes;
mod outages;
mod per_event;
mod refusals;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    analytics_id::AnalyticsId,
    backend::{Backend, Batch, DeliveryError},
    event::{OutgoingEvent, Process, Properties},
    gate::{Gate, Phase},
    sink::{
        counters::DropSignal,
        lane::{FlushKind, Lane},
        limits::Limits,
        queue::Queued,
    },
    stop::Stop,
};

/// An open lane whose backend responds as the test says.
struct Rig {
    lane: Lane,
    gate: Gate,
    limits: Limits,
    stop: Stop,
    tries: Arc<Mutex<Vec<Instant>>>,
}

impl Rig {
    fn new(answer: impl Fn(&Batch) -> Result<(), DeliveryError> + Send + Sync + 'static) -> Self {
        let tries = Arc::default();
        let backend = Answering { answer, tries: Arc::clone(&tries) };
        let gate = Gate::closed();
        gate.set(Phase::Open, 1, Some(AnalyticsId::random()));
        let lane = Lane::new(backend.into(), &DropSignal::default());
        Self { lane, gate, limits: Limits::default(), stop: Stop::default(), tries }
    }

    /// Runs the lane for as long as `scenario` takes.
    async fn run<T>(&self, scenario: impl Future<Output = T>) -> T {
        tokio::select! {
            () = self.lane.run(&self.gate, &self.limits, &self.stop) => {
                unreachable!("no test stops the lane")
            }
            done = scenario => done,
        }
    }

    fn offer(&self, name: &'static str) {
        let event = OutgoingEvent {
            uuid: Uuid::new_v4(),
            name: name.into(),
            at: SystemTime::UNIX_EPOCH,
            properties: Properties::new(),
            user: None,
            epoch: 1,
            process: Process::random(),
        };
        let queued = Queued::new(Arc::new(event), Instant::now());
        self.lane.lock().push(queued, &self.limits, |_| {});
        self.lane.wake();
    }

    async fn flush(&self) {
        let flush = self.lane.ask_flush(FlushKind::Flush, self.lane.last_event());
        self.lane.flushed(flush).await;
    }

    /// Waits until no event is queued or in flight.
    async fn emptied(&self) {
        while self.waiting() > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn waiting(&self) -> usize {
        let state = self.lane.lock();
        state.queue.len() + state.in_flight
    }

    fn tries(&self) -> Vec<Instant> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Answering<F> {
    answer: F,
    tries: Arc<Mutex<Vec<Instant>>>,
}

impl<F> Backend for Answering<F>
where
    F: Fn(&Batch) -> Result<(), DeliveryError> + Send + Sync + 'static,
{
    fn name(&self) -> &'static str {
        "answering"
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        (self.answer)(batch)
    }
}

/// Returns the shortest time between two attempts.
fn shortest_wait(tries: &[Instant]) -> Duration {
    tries.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or(Duration::MAX)
}

/// Returns the largest number of attempts within any `window`.
fn most_within(tries: &[Instant], window: Duration) -> usize {
    let within = |first: &Instant| {
        let after = tries.iter().filter(|time| *time >= first);
        after.take_while(|time| **time - *first < window).count()
    };
    tries.iter().map(within).max().unwrap_or_default()
}
