//! Measurements within one process: times, and memory of waiting events.

use std::{
    hint::black_box,
    thread,
    time::{Duration, Instant},
};

use crate::{
    allocator,
    numbers::median,
    process::{processor_time, report, resident_bytes},
};

/// The number of calls between two flushes. It is smaller than every queue, so that no
/// candidate is faster because it drops events.
const ROUND: u32 = 5_000;
/// The number of calls that are timed together. It is larger than one of our batches, so
/// that waking the worker is included, and so small that another process seldom
/// interferes.
const CHUNK: u32 = 250;

/// Measures the time and allocations of one call among many, back to back. Reports the
/// medians. `settle` runs between the rounds and is not timed.
pub(crate) fn back_to_back(rounds: usize, mut call: impl FnMut(u32), mut settle: impl FnMut()) {
    let mut times = Vec::new();
    let mut allocations = Vec::new();
    for _ in 0..rounds {
        let calls = allocator::calls();
        for chunk in (0..ROUND).step_by(CHUNK as usize) {
            times.push(chunk_time(chunk, &mut call));
        }
        allocations.push((allocator::calls() - calls) as f64 / f64::from(ROUND));
        settle();
    }
    report("ns", median(&mut times));
    report("allocations", median(&mut allocations));
}

/// Returns the time of one call in a chunk.
fn chunk_time(first: u32, mut call: impl FnMut(u32)) -> f64 {
    let began = Instant::now();
    for n in first..first + CHUNK {
        call(black_box(n));
    }
    nanoseconds(began.elapsed()) / f64::from(CHUNK)
}

/// Measures the time of one call while another thread calls as well.
pub(crate) fn two_threads(rounds: usize, call: impl Fn(u32) + Sync, mut settle: impl FnMut()) {
    let mut times = Vec::new();
    for _ in 0..rounds {
        let start = std::sync::Barrier::new(2);
        let timed = || {
            start.wait();
            let chunks = (0..ROUND / 2).step_by(CHUNK as usize);
            chunks.map(|chunk| chunk_time(chunk, &call)).collect::<Vec<_>>()
        };
        let (one, other) = thread::scope(|scope| {
            let other = scope.spawn(timed);
            (timed(), other.join().expect("a measurement does not panic"))
        });
        times.extend(one.into_iter().chain(other));
        settle();
    }
    report("ns", median(&mut times));
}

/// Measures the time of occasional calls, with an untimed `pause` before each. The cost
/// of reading the clock is subtracted.
pub(crate) fn now_and_then(rounds: u32, mut call: impl FnMut(u32), mut pause: impl FnMut()) {
    let timed = |call: &mut dyn FnMut()| {
        let began = Instant::now();
        call();
        nanoseconds(began.elapsed())
    };
    let mut nothing: Vec<_> = (0..1000).map(|_| timed(&mut || ())).collect();
    let clock = median(&mut nothing);
    let mut times = Vec::new();
    for n in 0..rounds {
        pause();
        times.push(timed(&mut || call(black_box(n))) - clock);
    }
    report("ns", median(&mut times));
}

const PAUSE: Duration = Duration::from_millis(1);

/// Simulates a pause in which the app does other work.
pub(crate) fn busy() {
    let began = Instant::now();
    while began.elapsed() < PAUSE {
        std::hint::spin_loop();
    }
}

/// Sleeps, so that the processor is idle or works for others and the next call begins
/// with cold caches.
pub(crate) fn asleep() {
    thread::sleep(PAUSE);
}

/// Measures the processor time of all threads and the elapsed time of `work` on `events`.
pub(crate) fn end_to_end(events: u32, work: impl FnOnce()) {
    let (processor, began) = (processor_time(), Instant::now());
    work();
    let (processor, time) = (processor_time() - processor, began.elapsed());
    report("us", processor.as_secs_f64() * 1e6 / f64::from(events));
    report("per_second", f64::from(events) / time.as_secs_f64());
}

/// Measures the memory of each waiting event, without the fixed cost of a queue in use.
pub(crate) fn queued(events: u32, mut call: impl FnMut(u32)) {
    const STEP: u32 = 1_000;
    let mut step = |from| {
        for n in from..from + STEP {
            call(n);
        }
        // As slow as an app: the events should wait in the queue, not in the intake.
        thread::sleep(Duration::from_millis(10));
    };
    step(0);
    thread::sleep(Duration::from_millis(500));
    allocator::keep_live_bytes();
    let (live, resident) = (allocator::live_bytes(), resident_bytes());
    for from in (0..events).step_by(STEP as usize) {
        step(from);
    }
    thread::sleep(Duration::from_millis(500));
    report("heap", (allocator::live_bytes() - live) as f64 / f64::from(events));
    report("resident", (resident_bytes() - resident) / f64::from(events));
}

pub(crate) fn nanoseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}
