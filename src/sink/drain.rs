//! Moves events from the intake to the queues, and writes them to the file in between if
//! there is one.

use std::fmt;

use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::{
    Sink,
    counted::{CountedGuard, HasDrops},
    counters::Drops,
    intake::Buffer,
    lane::Lane,
    queue::{Queued, Refused},
    stats::DropReason,
};
use crate::{
    event::UniqueIds,
    locks::{AtomicU64, Ordering},
    stop::Stop,
};

/// Counters of the events between the intake and the queues. They have a lock of their
/// own, so that no caller of `capture` waits while a batch moves.
#[derive(Default)]
pub(super) struct Draining {
    pub(super) events: usize,
    pub(super) drops: Drops,
    /// The memory of the last batch, for the intake to fill after the next one.
    spare: Buffer,
}

impl fmt::Debug for Draining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draining").field("events", &self.events).finish_non_exhaustive()
    }
}

impl HasDrops for Draining {
    fn drops(&mut self) -> &mut Drops {
        &mut self.drops
    }
}

/// Requests to the background task to drain the intake.
///
/// Only that task drains. A caller that runs out of time must not lose the events that it
/// was about to write, and must not hold a lock while code of the app runs: a detector, or
/// the waker of a reader of drops.
#[derive(Debug, Default)]
pub(super) struct DrainCalls {
    calls: AtomicU64,
    done: AtomicU64,
    requested: Notify,
    progressed: Notify,
}

impl DrainCalls {
    /// Waits until all events that were in the intake at the time of the call have left
    /// it, or until `stop`.
    async fn drained(&self, stop: &Stop) {
        let call = self.calls.fetch_add(1, Ordering::AcqRel) + 1;
        self.requested.notify_one();
        let drained = async {
            loop {
                let progressed = self.progressed.notified();
                if self.done.load(Ordering::Acquire) >= call {
                    return;
                }
                progressed.await;
            }
        };
        tokio::select! {
            biased;
            () = drained => {}
            () = stop.stopped() => {}
        }
    }
}

/// Events that have left the intake and are not in a queue yet. If the runtime ends before
/// they are queued, they are counted as [`DropReason::Shutdown`].
struct InTransit<'a> {
    sink: &'a Sink,
    number: usize,
    events: Vec<Result<Queued, DropReason>>,
    spare: Buffer,
}

impl Drop for InTransit<'_> {
    fn drop(&mut self) {
        if self.number > 0 {
            let mut draining = self.sink.draining();
            draining.events -= self.number;
            draining.drops.add(DropReason::Shutdown, self.number);
        }
    }
}

impl Sink {
    pub(super) async fn drain_when_due(&self) {
        loop {
            let due = async {
                self.intake.filled().await;
                tokio::select! {
                    () = self.intake.batch_ready() => {}
                    () = sleep(self.limits.batch_age) => {}
                }
            };
            tokio::select! {
                () = due => {}
                () = self.drain_calls.requested.notified() => {}
                () = self.stop.stopped() => return,
            }
            self.drain().await;
        }
    }

    /// Waits until all events captured before this call are in the queues.
    pub(super) async fn drained(&self) {
        self.drain_calls.drained(&self.stop).await;
    }

    /// Moves the events in the intake to the queues. Only the background task may call
    /// this.
    pub(super) async fn drain(&self) {
        let calls = self.drain_calls.calls.load(Ordering::Acquire);
        if let Some(mut in_transit) = self.take_captured() {
            if let Some(journal) = &self.journal {
                // Before the events, so that user properties set before them are in the
                // file when the events are.
                self.keep_user();
                journal.write(&mut in_transit.events).await;
            }
            self.enqueue(in_transit);
        }
        self.drain_calls.done.store(calls, Ordering::Release);
        self.drain_calls.progressed.notify_waiters();
    }

    /// Takes the events in the intake and completes them, and passes new user properties
    /// to the lanes. No lock that `capture` could wait for is held while an event is
    /// completed.
    fn take_captured(&self) -> Option<InTransit<'_>> {
        let mut captured = {
            let mut draining = self.draining();
            let mut intake = self.intake.lock();
            draining.events += intake.len();
            intake.replace(std::mem::take(&mut draining.spare))
        };
        if captured.is_empty() && !self.has_user_updates() {
            self.draining().spare = captured;
            return None;
        }
        let mut in_transit = InTransit {
            sink: self,
            number: captured.len(),
            events: Vec::new(),
            spare: Buffer::default(),
        };
        self.guard.refresh();
        let (mut ids, now) = (UniqueIds::new(), Instant::now());
        let events = captured.drain();
        let events =
            events.map(|(event, properties)| self.prepare(event, properties, &mut ids, now));
        in_transit.events.extend(events);
        in_transit.spare = captured.cleared(in_transit.number);
        self.pass_user_updates();
        Some(in_transit)
    }

    fn enqueue(&self, mut in_transit: InTransit<'_>) {
        let mut draining = self.draining();
        let mut lanes: Vec<_> = self.lanes.iter().map(Lane::lock).collect();
        let epoch = self.gate.epoch();
        // A lane that has ended never delivers or drops them.
        let stopped = self.stop.is_stopped();
        let durable_from = self.durable_from();
        let mut refused = Vec::new();
        for event in std::mem::take(&mut in_transit.events) {
            match event {
                Ok(queued) if queued.event.epoch != epoch => {
                    draining.drops.add(DropReason::Withdrawn, 1);
                }
                Ok(queued) if stopped && queued.durable_row(durable_from).is_none() => {
                    draining.drops.add(DropReason::Shutdown, 1);
                }
                Ok(queued) => {
                    for (number, state) in lanes.iter_mut().enumerate() {
                        state.push(queued.clone(), &self.limits, |row| {
                            Refused::note(&mut refused, number, row);
                        });
                    }
                }
                Err(reason) => draining.drops.add(reason, 1),
            }
        }
        draining.events -= std::mem::take(&mut in_transit.number);
        draining.spare = std::mem::take(&mut in_transit.spare);
        let mut signal = draining.unlock();
        for lane in lanes {
            signal.join(lane.unlock());
        }
        drop(signal);
        for lane in &self.lanes {
            lane.wake();
        }
        if let (Some(journal), false) = (&self.journal, refused.is_empty()) {
            journal.refuse(refused);
        }
    }

    pub(super) fn draining(&self) -> CountedGuard<'_, Draining> {
        self.draining.lock()
    }
}
