//! Tests of how often the background task is woken. A wake-up costs more than a hundred
//! captures.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio::time::{advance, pause};

use crate::{
    analytics_id::AnalyticsId,
    backend::{Backend, Batch, DeliveryError},
    event::Properties,
    gate::Phase,
    guard::Guard,
    sink::{Sink, limits::Limits},
};

/// The background task, which the test polls by hand.
struct Task {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    wake_ups: Arc<WakeUps>,
    waker: Waker,
}

#[derive(Default)]
struct WakeUps(AtomicUsize);

impl Wake for WakeUps {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Task {
    fn of(sink: &Arc<Sink>) -> Self {
        let wake_ups = Arc::new(WakeUps::default());
        let waker = Waker::from(wake_ups.clone());
        let mut task = Self { future: Box::pin(sink.clone().run()), wake_ups, waker };
        task.poll();
        task.run();
        task
    }

    /// Runs the task until it waits. Returns whether it was woken since it last ran.
    fn run(&mut self) -> bool {
        let mut woken = false;
        while self.wake_ups.0.swap(0, Ordering::Relaxed) > 0 {
            woken = true;
            self.poll();
        }
        woken
    }

    fn poll(&mut self) {
        let polled = self.future.as_mut().poll(&mut Context::from_waker(&self.waker));
        assert_eq!(polled, Poll::Pending);
    }

    /// Returns how often the task was woken since it last ran.
    fn wake_ups(&self) -> usize {
        self.wake_ups.0.load(Ordering::Relaxed)
    }
}

/// A backend that discards all events.
struct Nowhere;

impl Backend for Nowhere {
    fn name(&self) -> &'static str {
        "nowhere"
    }

    async fn send(&self, _batch: &Batch) -> Result<(), DeliveryError> {
        Ok(())
    }
}

fn open_sink() -> Arc<Sink> {
    let sink = Sink::new(vec![Nowhere.into()], Limits::default(), Arc::new(Guard::default()));
    drop(sink.set_gate(Phase::Open, 1, Some(AnalyticsId::random()), None));
    Arc::new(sink)
}

fn capture(sink: &Sink, events: usize) {
    for _ in 0..events {
        let epoch = sink.capture_epoch().unwrap();
        sink.capture_named(epoch, None, "Event".into(), Properties::new());
    }
}

fn delivered(sink: &Sink) -> u64 {
    sink.stats().backends[0].delivered
}

#[tokio::test]
async fn the_first_event_wakes_the_task_and_the_following_ones_do_not() {
    pause();
    let sink = open_sink();
    let mut task = Task::of(&sink);
    capture(&sink, 1);
    assert_eq!(task.wake_ups(), 1);
    task.run();
    capture(&sink, 98);
    assert_eq!(task.wake_ups(), 0);
    assert_eq!(delivered(&sink), 0);
}

#[tokio::test]
async fn a_full_batch_wakes_the_task_once() {
    pause();
    let sink = open_sink();
    let mut task = Task::of(&sink);
    capture(&sink, 1);
    task.run();
    capture(&sink, 5_000);
    assert_eq!(task.wake_ups(), 1);
    task.run();
    assert_eq!(delivered(&sink), 5_001);
}

#[tokio::test]
async fn a_burst_wakes_a_task_that_has_not_run_only_once() {
    pause();
    let sink = open_sink();
    let mut task = Task::of(&sink);
    // The first event wakes the task. It has not run when the batch is full.
    capture(&sink, 5_000);
    assert_eq!(task.wake_ups(), 1);
    task.run();
    assert_eq!(delivered(&sink), 5_000);
}

#[tokio::test]
async fn the_batch_timer_wakes_the_task_once_and_nothing_does_after_that() {
    pause();
    let sink = open_sink();
    let mut task = Task::of(&sink);
    capture(&sink, 1);
    task.run();
    advance(Duration::from_millis(9_990)).await;
    assert_eq!(task.wake_ups(), 0);
    advance(Duration::from_millis(11)).await;
    assert_eq!(task.wake_ups(), 1);
    task.run();
    assert_eq!(delivered(&sink), 1);
    for _ in 0..48 {
        advance(Duration::from_secs(3600)).await;
        assert_eq!(task.wake_ups(), 0, "nothing to do");
    }
}

#[tokio::test]
async fn a_task_with_nothing_to_do_has_no_timer() {
    pause();
    let sink = open_sink();
    let mut task = Task::of(&sink);
    for _ in 0..48 {
        advance(Duration::from_secs(3600)).await;
        assert!(!task.run());
    }
}
