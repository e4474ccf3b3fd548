//! The events that wait for one backend, in memory: bounded in number, bytes and age.

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, num::NonZeroU64, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::Row;
use crate::{
    event::OutgoingEvent,
    sink::{
        counters::Drops,
        limits::{Limits, OverflowPolicy},
        stats::DropReason,
    },
};

#[derive(Debug, Default)]
pub(crate) struct Queue {
    events: VecDeque<Queued>,
    bytes: usize,
}

/// A waiting event.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    pub(crate) event: Arc<OutgoingEvent>,
    /// The start of the wait, by the monotonic clock, so that setting the wall clock
    /// expires no event.
    pub(crate) since: Instant,
    /// The row in the file, if the event was written.
    pub(crate) row: Option<NonZeroU64>,
    /// The position in the order in which events were offered to this backend, from 1.
    pub(crate) number: u64,
    /// The size that counts towards the limits.
    pub(crate) bytes: usize,
}

impl Queued {
    /// Creates an event that waits from `since` on and has no row.
    pub(crate) fn new(event: Arc<OutgoingEvent>, since: Instant) -> Self {
        Self { bytes: event.bytes(), event, since, row: None, number: 0 }
    }

    /// Returns the row of the event if it would survive a kill of the process. Rows before
    /// `durable_from` were in a file that is gone.
    pub(crate) fn durable_row(&self, durable_from: Row) -> Option<Row> {
        self.row.map(NonZeroU64::get).filter(|row| *row >= durable_from)
    }
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Adds `queued`. Counts dropped events in `drops`, and passes their rows to `lost`. An
    /// event that would not fit into an empty queue is dropped before any other event is
    /// evicted for it.
    pub(crate) fn push(
        &mut self,
        queued: Queued,
        limits: &Limits,
        drops: &mut Drops,
        mut lost: impl FnMut(Row),
    ) {
        let bytes = queued.bytes;
        if bytes > limits.queue_bytes {
            drops.add(DropReason::TooLarge, 1);
            if let Some(row) = queued.row {
                lost(row.get());
            }
            return;
        }
        let fits = |queue: &Self| {
            queue.events.len() < limits.queue_events && queue.bytes + bytes <= limits.queue_bytes
        };
        while !fits(self) {
            let oldest = match limits.overflow {
                OverflowPolicy::DropNewest => None,
                OverflowPolicy::DropOldest => self.pop(),
            };
            drops.add(DropReason::QueueFull, 1);
            if let Some(row) = oldest.as_ref().unwrap_or(&queued).row {
                lost(row.get());
            }
            if oldest.is_none() {
                return;
            }
        }
        self.bytes += bytes;
        self.events.push_back(queued);
    }

    /// Returns the first row in the queue.
    pub(crate) fn first_row(&self) -> Option<Row> {
        self.events.iter().find_map(|queued| queued.row).map(NonZeroU64::get)
    }

    /// Returns the number of the oldest event.
    pub(crate) fn first_number(&self) -> Option<u64> {
        self.events.front().map(|queued| queued.number)
    }

    /// Returns the number of events that would survive a kill of the process.
    pub(crate) fn durable(&self, durable_from: Row) -> usize {
        self.events.iter().filter(|queued| queued.durable_row(durable_from).is_some()).count()
    }

    /// Puts `events` back to the front, where they were taken from. No limit is checked,
    /// because they had room before.
    pub(crate) fn put_back(&mut self, events: Vec<Queued>) {
        for queued in events.into_iter().rev() {
            self.bytes += queued.bytes;
            self.events.push_front(queued);
        }
    }

    /// Returns the oldest event.
    pub(crate) fn first(&self) -> Option<&Queued> {
        self.events.front()
    }

    /// Takes the oldest events up to the first that does not belong to a batch: as many as fit
    /// into one, and at least one if the oldest belongs to it.
    pub(crate) fn take(
        &mut self,
        max_events: usize,
        max_bytes: usize,
        belongs: impl Fn(&OutgoingEvent) -> bool,
    ) -> Vec<Queued> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.events.front() {
            bytes += next.bytes;
            let is_full =
                batch.len() >= max_events.max(1) || (!batch.is_empty() && bytes > max_bytes);
            if is_full || !belongs(&next.event) {
                break;
            }
            batch.extend(self.pop());
        }
        batch
    }

    /// Drops the events that have waited for longer than `age`, and returns their number.
    pub(crate) fn expire(&mut self, now: Instant, age: Duration) -> usize {
        let before = self.events.len();
        while self.events.front().is_some_and(|oldest| now - oldest.since > age) {
            self.pop();
        }
        before - self.events.len()
    }

    /// Returns the time at which the oldest event will have waited for longer than `age`.
    pub(crate) fn next_expiry(&self, age: Duration) -> Option<Instant> {
        // One millisecond later, which is the resolution of a timer.
        self.events.front()?.since.checked_add(age)?.checked_add(Duration::from_millis(1))
    }

    /// Drops all events, and returns their number.
    pub(crate) fn clear(&mut self) -> usize {
        self.bytes = 0;
        std::mem::take(&mut self.events).len()
    }

    fn pop(&mut self) -> Option<Queued> {
        let queued = self.events.pop_front()?;
        self.bytes -= queued.bytes;
        Some(queued)
    }
}
