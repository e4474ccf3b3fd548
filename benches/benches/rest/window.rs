//! What a process does while little happens.

use std::{error::Error, fs, thread, time::Duration};

use crate::{
    collector::{Counts, counts},
    peer,
    process::{processor_time, report, resident_bytes, wake_ups},
};

/// The time after which threads that wait for work have ended and all is acknowledged.
const SETTLING: Duration = Duration::from_secs(12);

/// What a process has done up to a time.
struct Sample {
    wake_ups: f64,
    processor_time: Duration,
    counts: Counts,
}

impl Sample {
    fn take(collector: &str) -> Self {
        Self { wake_ups: wake_ups(), processor_time: processor_time(), counts: counts(collector) }
    }
}

/// Measures what a peer takes once it has sent an event, and then what it does within
/// `seconds` in which it captures `events` in equal intervals. Nothing is flushed.
pub(crate) fn measure(
    name: &str,
    collector: &str,
    homeserver: &str,
    seconds: u32,
    events: u32,
) -> Result<(), Box<dyn Error>> {
    let (runtime, client) = peer::app(homeserver);
    thread::sleep(SETTLING);
    let tasks = || runtime.metrics().num_alive_tasks() as f64;
    let (threads_before, tasks_before) = (threads(), tasks());
    let (resident, private) = (resident_bytes(), private_bytes());
    let peer = peer::start(name, collector, &runtime, &client);
    peer.capture(0);
    peer.flush();
    thread::sleep(SETTLING);
    report("threads", threads() - threads_before);
    report("tasks", tasks() - tasks_before);
    report("resident", resident_bytes() - resident);
    report("private", private_bytes() - private);

    let before = Sample::take(collector);
    let window = Duration::from_secs(seconds.into());
    for n in 0..events {
        // In the middle of its interval, so that it has arrived at the end of the window.
        thread::sleep(window / events / 2);
        peer.capture(n);
        thread::sleep(window / events / 2);
    }
    if events == 0 {
        thread::sleep(window);
    }
    let after = Sample::take(collector);
    let arrived = after.counts.requests - before.counts.requests;
    if name != "bare" && arrived != f64::from(events) {
        return Err(format!("{name}: {arrived} requests for {events} events").into());
    }
    report("wake_ups", after.wake_ups - before.wake_ups);
    let processor_time = after.processor_time - before.processor_time;
    report("processor", processor_time.as_secs_f64() * 1e3);
    report("packets", after.counts.packets - before.counts.packets);
    report("bytes", after.counts.bytes - before.counts.bytes);
    report("connections", after.counts.connections - before.counts.connections);
    // A peer may wait for a server at its end.
    std::process::exit(0)
}

fn threads() -> f64 {
    fs::read_dir("/proc/self/task").expect("Linux has it").count() as f64
}

/// Returns the resident memory that no file backs: heap and stacks.
fn private_bytes() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.expect("a number") * 1024.0
}
