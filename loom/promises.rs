//! The models. In each there are a consent thread, which does the work that
//! `Shared::apply` does under the lock of the machine, the background task of the sink, and
//! threads of the app.

use std::{
    collections::BTreeSet,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::select;
use loom::{
    future::block_on,
    model::Builder,
    thread::{self, JoinHandle},
};

use crate::{
    analytics_id::AnalyticsId,
    backend::Destination,
    event::Properties,
    gate::Phase,
    gate::WipeReason,
    guard::Guard,
    sink::{Sink, limits::Limits, stats::DropReason},
    witness::{Answer, ERA, Watched, Witness},
};

/// The results of all interleavings, which show that the exploration was deep enough.
#[derive(Debug, Default)]
struct Seen {
    drops: BTreeSet<DropReason>,
    delivered: BTreeSet<u64>,
}

/// Runs `model` once for every interleaving with at most `preemptions` switches away from
/// a thread that could have continued.
fn explore(preemptions: usize, model: impl Fn() -> Arc<App> + Send + Sync + 'static) -> Seen {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    let count = Arc::new(AtomicUsize::new(0));
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let began = Instant::now();
    builder.check({
        let (count, seen) = (count.clone(), seen.clone());
        move || {
            let app = model();
            app.check();
            count.fetch_add(1, Ordering::Relaxed);
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            for backend in app.sink.stats().backends {
                seen.drops.extend(backend.dropped.into_keys());
                seen.delivered.insert(backend.delivered);
            }
        }
    });
    let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    report(count.load(Ordering::Relaxed), preemptions, began.elapsed(), &seen);
    seen
}

#[expect(clippy::print_stdout, reason = "the documentation quotes these numbers")]
fn report(count: usize, preemptions: usize, time: Duration, seen: &Seen) {
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    println!("{test}: {count} interleavings, {preemptions} preemptions, {time:.1?}; {seen:?}");
}

/// A sink and its callers.
struct App {
    sink: Arc<Sink>,
    witness: Arc<Witness>,
}

impl App {
    /// Creates an app that has opted in, in epoch 1.
    fn new(witness: Arc<Witness>, backends: usize) -> Arc<Self> {
        Self::with_limits(witness, backends, Limits::default())
    }

    fn with_limits(witness: Arc<Witness>, backends: usize, limits: Limits) -> Arc<Self> {
        let backends = (0..backends).map(|_| Destination::from(Watched(witness.clone()))).collect();
        let app = Arc::new(Self {
            sink: Arc::new(Sink::new(backends, limits, Arc::new(Guard))),
            witness,
        });
        app.apply(Phase::Open, 1, None);
        app
    }

    /// Starts the background task, on its own thread.
    fn start(&self) -> JoinHandle<()> {
        let sink = self.sink.clone();
        thread::spawn(move || block_on(sink.run()))
    }

    fn spawn(self: &Arc<Self>, work: impl FnOnce(&Self) + 'static) -> JoinHandle<()> {
        let app = self.clone();
        thread::spawn(move || work(&app))
    }

    /// Sets the gate, as `Shared::apply` does.
    fn apply(&self, phase: Phase, epoch: u64, wipe: Option<WipeReason>) {
        let id = (phase != Phase::Closed).then(|| AnalyticsId::of_epoch(epoch));
        drop(self.sink.set_gate(phase, epoch, id, wipe));
    }

    /// Does the sink's part of `opt_out().await`, up to its return.
    fn opt_out(&self) -> u64 {
        let era = self.withdraw();
        block_on(self.sink.disconnected());
        self.witness.opted_out(era);
        era
    }

    /// Does the sink's part of `opt_out()` polled once.
    fn withdraw(&self) -> u64 {
        let era = self.witness.opting_out();
        self.apply(Phase::Closed, era, Some(WipeReason::Withdrawn));
        era
    }

    /// Captures an event that names the era of its capture. The sink reads the properties
    /// once it has decided to take the event.
    fn capture(&self) {
        if let Some(epoch) = self.sink.capture_epoch() {
            self.sink.capture_named(epoch, None, "event".into(), self.says());
        }
    }

    fn says(&self) -> Properties {
        Properties::new().with(ERA, self.witness.era() as i64)
    }

    /// Checks that the counters add up.
    fn count(&self) {
        for backend in self.sink.stats().backends {
            if !backend.is_balanced() {
                self.witness.complain(format!("{backend:?}"));
            }
        }
    }

    fn flush(&self) {
        block_on(self.sink.flush(Duration::MAX));
    }

    /// Flushes, with the background task on this thread, for a model of the calls before
    /// the flush.
    fn flush_alone(&self) {
        let task = pin!(self.sink.clone().run());
        let flush = pin!(self.sink.flush(Duration::MAX));
        block_on(select(task, flush));
    }

    /// Drops the last handle, and waits for `threads`.
    fn end(&self, threads: impl IntoIterator<Item = JoinHandle<()>>) {
        self.sink.stop();
        for thread in threads {
            thread.join().unwrap();
        }
    }

    fn check(&self) {
        self.count();
        for backend in self.sink.stats().backends {
            assert_eq!((backend.queued, backend.in_flight), (0, 0), "{backend:?}");
        }
        self.witness.examine();
    }
}

#[test]
fn no_event_captured_before_an_opt_out_reaches_a_backend_after_it_returned() {
    let seen = explore(2, || {
        let app = App::new(Witness::new(), 1);
        app.capture();
        let task = app.start();
        let capturer = app.spawn(App::capture);
        app.opt_out();
        capturer.join().unwrap();
        app.end([task]);
        app
    });
    assert_eq!(seen.delivered, BTreeSet::from([0, 1, 2]));
    assert!(seen.drops.is_superset(&[DropReason::CutAtWithdrawal, DropReason::Withdrawn].into()));
}

#[test]
fn an_event_that_is_on_its_way_at_an_opt_out_is_not_kept() {
    let seen = explore(2, || {
        let app = App::new(Witness::new(), 1);
        app.capture();
        let task = app.start();
        app.withdraw();
        app.flush();
        assert_eq!(app.sink.stats().backends[0].queued, 0);
        app.end([task]);
        app
    });
    assert_eq!(seen.drops, [DropReason::CutAtWithdrawal, DropReason::Withdrawn].into());
}

#[test]
fn an_opt_out_returns_though_the_backend_never_answers() {
    let seen = explore(3, || {
        let app = App::new(Witness::with_answers(&[Answer::Never]), 1);
        app.capture();
        let task = app.start();
        app.opt_out();
        app.end([task]);
        app
    });
    assert_eq!(seen.delivered, BTreeSet::from([0]));
    assert!(seen.drops.is_superset(&[DropReason::CutAtWithdrawal, DropReason::Withdrawn].into()));
}

#[test]
fn no_event_of_an_epoch_is_sent_under_the_id_of_the_next() {
    let seen = explore(2, || {
        let app = App::new(Witness::new(), 1);
        let task = app.start();
        let capturer = app.spawn(App::capture);
        let era = app.withdraw();
        app.apply(Phase::Open, era, None);
        capturer.join().unwrap();
        app.end([task]);
        app
    });
    assert_eq!(seen.delivered, BTreeSet::from([0, 1]));
}

#[test]
fn no_connection_is_used_under_two_ids() {
    explore(2, || {
        let app = App::new(Witness::new(), 1);
        app.capture();
        let task = app.start();
        let era = app.witness.opting_out();
        app.apply(Phase::Open, era, Some(WipeReason::IdChanged));
        app.capture();
        app.flush();
        app.end([task]);
        app
    });
}

#[test]
fn nothing_said_of_the_user_before_an_opt_out_is_sent_under_the_next_id() {
    explore(3, || {
        let app = App::new(Witness::new(), 1);
        let talker = app.spawn(|app| {
            app.sink.set_user_properties(&app.says().into()).unwrap();
        });
        let era = app.opt_out();
        talker.join().unwrap();
        app.apply(Phase::Open, era, None);
        app.capture();
        app.flush_alone();
        app.end([]);
        app
    });
}

#[test]
fn the_counters_add_up_at_every_instant() {
    let seen = explore(2, || {
        let app = App::new(Witness::with_answers(&[Answer::Failure]), 1);
        app.capture();
        let task = app.start();
        let accountant = app.spawn(|app| {
            app.count();
            app.capture();
            app.count();
        });
        app.opt_out();
        accountant.join().unwrap();
        app.end([task]);
        app
    });
    assert!(seen.drops.is_superset(&[DropReason::CutAtWithdrawal, DropReason::Withdrawn].into()));
}

#[test]
fn a_flush_ends_whatever_the_user_decides_meanwhile() {
    for (backends, preemptions) in [(1, 2), (2, 1)] {
        explore(preemptions, move || {
            let app = App::new(Witness::new(), backends);
            app.capture();
            let task = app.start();
            let flusher = app.spawn(App::flush);
            app.withdraw();
            flusher.join().unwrap();
            app.end([task]);
            app
        });
    }
}

#[test]
fn a_shutdown_ends_and_counts_what_is_captured_meanwhile() {
    let seen = explore(2, || {
        let app = App::new(Witness::new(), 1);
        app.capture();
        let task = app.start();
        let capturer = app.spawn(App::capture);
        block_on(app.sink.shutdown(Duration::from_secs(1)));
        capturer.join().unwrap();
        app.end([task]);
        app
    });
    assert!(seen.drops.contains(&DropReason::AfterShutdown));
}

#[test]
fn a_shutdown_that_runs_out_of_time_during_an_opt_out_ends_and_counts_everything() {
    let seen = explore(2, || {
        let app = App::new(Witness::new(), 1);
        app.capture();
        let task = app.start();
        let leaver = app.spawn(|app| {
            block_on(app.sink.shutdown(Duration::ZERO));
        });
        app.opt_out();
        leaver.join().unwrap();
        app.end([task]);
        app
    });
    assert!(seen.drops.is_superset(&[DropReason::Shutdown, DropReason::Withdrawn].into()));
}

#[test]
fn a_doubt_that_passes_loses_no_event() {
    let seen = explore(2, || {
        let app = App::new(Witness::new(), 1);
        app.capture();
        let task = app.start();
        app.apply(Phase::Holding, 1, None);
        app.capture();
        app.apply(Phase::Open, 1, None);
        app.flush();
        assert_eq!(app.witness.delivered(), [1, 1]);
        app.end([task]);
        app
    });
    assert_eq!(seen.drops, BTreeSet::new());
}

#[test]
fn a_refused_batch_is_put_back_only_while_its_epoch_lasts() {
    let seen = explore(2, || {
        let app = App::new(Witness::with_answers(&[Answer::Refusal, Answer::Failure]), 1);
        app.capture();
        app.capture();
        let task = app.start();
        let era = app.opt_out();
        app.apply(Phase::Open, era, None);
        app.capture();
        app.flush();
        app.end([task]);
        app
    });
    assert!(seen.drops.contains(&DropReason::Withdrawn));
}

#[test]
fn a_batch_that_is_refused_during_an_opt_out_is_not_kept() {
    let seen = explore(2, || {
        let app = App::new(Witness::with_answers(&[Answer::Refusal, Answer::Failure]), 1);
        app.capture();
        app.capture();
        let task = app.start();
        app.opt_out();
        app.flush();
        assert_eq!(app.sink.stats().backends[0].queued, 0);
        app.end([task]);
        app
    });
    assert!(seen.drops.contains(&DropReason::Withdrawn));
}
