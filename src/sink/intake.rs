//! The bounded buffer in memory that `capture` fills: all that a caller touches
//! behind the gate.

use std::sync::Arc;

use tokio::sync::Notify;

use super::{
    counted::{Counted, CountedGuard, HasDrops},
    counters::{DropSignal, Drops},
    limits::Limits,
    stats::DropReason,
};
use crate::event::{CapturedEvent, Properties};

/// A batch may be set to any size; what is reserved for it may not have any.
const MOST_RESERVED: usize = 128;

#[derive(Debug)]
pub(crate) struct Intake {
    contents: Counted<Contents>,
    /// The buffer went from empty to non-empty.
    filled: Notify,
    /// There is enough for a batch.
    batch_ready: Notify,
    max_events: usize,
    max_bytes: usize,
    batch_events: usize,
    batch_bytes: usize,
}

#[derive(Default)]
pub(crate) struct Contents {
    events: Vec<CapturedEvent>,
    bytes: usize,
    pub(crate) captured: u64,
    pub(crate) drops: Drops,
    /// What each event is given, here so that a caller takes one lock only.
    pub(crate) super_properties: Option<Arc<Properties>>,
    closed: bool,
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contents").field("events", &self.events.len()).finish_non_exhaustive()
    }
}

impl HasDrops for Contents {
    fn drops(&mut self) -> &mut Drops {
        &mut self.drops
    }
}

impl Contents {
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// Empties the buffer.
    pub(crate) fn take(&mut self) -> Vec<CapturedEvent> {
        self.bytes = 0;
        std::mem::take(&mut self.events)
    }
}

impl Intake {
    /// A buffer of bounded size, which asks to be emptied early once it holds a batch, by
    /// count or by bytes.
    pub(crate) fn new(limits: &Limits, signal: &DropSignal) -> Self {
        Self {
            contents: Counted::new(Contents::default(), signal),
            filled: Notify::new(),
            batch_ready: Notify::new(),
            max_events: limits.intake_events,
            max_bytes: limits.intake_bytes,
            batch_events: limits.batch_events.min(limits.intake_events),
            // At half, there is room for what is captured until the task has come.
            batch_bytes: limits.batch_bytes.min(limits.intake_bytes / 2),
        }
    }

    /// Takes `event`, with the super properties of now, or counts why not.
    pub(crate) fn push(&self, mut event: CapturedEvent) {
        let (is_first, has_batch) = {
            let mut contents = self.lock();
            contents.captured += 1;
            if contents.closed {
                contents.drops.add(DropReason::AfterShutdown, 1);
                return;
            }
            event.super_properties.clone_from(&contents.super_properties);
            let bytes = event.bytes();
            if contents.events.len() >= self.max_events
                || contents.bytes.saturating_add(bytes) > self.max_bytes
            {
                contents.drops.add(DropReason::IntakeFull, 1);
                return;
            }
            let had_batch = self.has_batch(&contents);
            contents.bytes += bytes;
            if contents.events.capacity() == 0 {
                // For a batch, at once: growing to it would copy each event.
                contents.events.reserve(self.batch_events.min(MOST_RESERVED));
            }
            contents.events.push(event);
            (contents.events.len() == 1, !had_batch && self.has_batch(&contents))
        };
        // Once for many events: waking a task costs more than all the rest.
        if is_first {
            self.filled.notify_one();
        }
        if has_batch {
            self.batch_ready.notify_one();
        }
    }

    /// Counts a capture that was refused.
    pub(crate) fn refuse(&self, reason: DropReason) {
        let mut contents = self.lock();
        contents.captured += 1;
        contents.drops.add(reason, 1);
    }

    /// Refuses everything from here on.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    pub(crate) fn lock(&self) -> CountedGuard<'_, Contents> {
        self.contents.lock()
    }

    /// Waits until there is an event.
    pub(crate) async fn filled(&self) {
        while self.lock().events.is_empty() {
            self.filled.notified().await;
        }
    }

    /// Waits until there is enough for a batch.
    pub(crate) async fn batch_ready(&self) {
        while !self.has_batch(&self.lock()) {
            self.batch_ready.notified().await;
        }
    }

    fn has_batch(&self, contents: &Contents) -> bool {
        contents.events.len() >= self.batch_events || contents.bytes >= self.batch_bytes
    }
}
