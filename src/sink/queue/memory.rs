//! What waits for one backend, in memory: bounded in events, bytes and age.

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

/// An event, and since when it waits: by the monotonic clock, so that setting
/// the wall clock expires nothing.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    pub(crate) event: Arc<OutgoingEvent>,
    pub(crate) since: Instant,
    /// Where it is written down, if it is.
    pub(crate) row: Option<NonZeroU64>,
    /// Its place in the order in which events were offered to this backend: from 1.
    pub(crate) number: u64,
    /// What the limits count for it.
    pub(crate) bytes: usize,
}

impl Queued {
    /// An event that waits from `since` on and is not written down.
    pub(crate) fn new(event: Arc<OutgoingEvent>, since: Instant) -> Self {
        Self { bytes: event.bytes(), event, since, row: None, number: 0 }
    }

    /// The row of an event that a kill of the process does not lose; what was
    /// written before `durable_from` is lost already.
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

    /// Adds `queued`; whatever has no room is counted in `drops`, and its row, if it has
    /// one, given to `lost`. An event that could not fit into an empty queue is refused
    /// before anything makes room for it.
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

    /// The first row that waits here.
    pub(crate) fn first_row(&self) -> Option<Row> {
        self.events.iter().find_map(|queued| queued.row).map(NonZeroU64::get)
    }

    /// The number of the oldest event here.
    pub(crate) fn first_number(&self) -> Option<u64> {
        self.events.front().map(|queued| queued.number)
    }

    /// How many of the events a kill of the process does not lose.
    pub(crate) fn durable(&self, durable_from: Row) -> usize {
        self.events.iter().filter(|queued| queued.durable_row(durable_from).is_some()).count()
    }

    /// Puts `events`, which were taken from the front, back there. They had room.
    pub(crate) fn put_back(&mut self, events: Vec<Queued>) {
        for queued in events.into_iter().rev() {
            self.bytes += queued.bytes;
            self.events.push_front(queued);
        }
    }

    /// Takes the oldest events, as many as fit into one batch, at least one.
    pub(crate) fn take(&mut self, max_events: usize, max_bytes: usize) -> Vec<Queued> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.events.front() {
            bytes += next.bytes;
            if batch.len() >= max_events.max(1) || (!batch.is_empty() && bytes > max_bytes) {
                break;
            }
            batch.extend(self.pop());
        }
        batch
    }

    /// Drops what has waited for longer than `age`, and says how many.
    pub(crate) fn expire(&mut self, now: Instant, age: Duration) -> usize {
        let before = self.events.len();
        while self.events.front().is_some_and(|oldest| now - oldest.since > age) {
            self.pop();
        }
        before - self.events.len()
    }

    /// Returns when the oldest event will have waited for longer than `age`.
    pub(crate) fn next_expiry(&self, age: Duration) -> Option<Instant> {
        // Later than that, by as little as a timer can tell.
        self.events.front()?.since.checked_add(age)?.checked_add(Duration::from_millis(1))
    }

    /// Drops everything, and says how many.
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
