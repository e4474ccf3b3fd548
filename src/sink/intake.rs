//! The bounded buffer that `capture` fills: all that a caller touches once the gate has
//! let the event pass.

mod buffer;

use std::sync::Arc;

use tokio::sync::Notify;

pub(super) use self::buffer::Buffer;
use super::{
    counted::{Counted, CountedGuard, HasDrops},
    counters::{DropSignal, Drops},
    limits::Limits,
    stats::DropReason,
};
use crate::event::{BorrowedProperties, CapturedEvent, Properties};

#[derive(Debug)]
pub(crate) struct Intake {
    contents: Counted<Contents>,
    /// Notified when the buffer is no longer empty.
    filled: Notify,
    /// Notified when the buffer holds a batch.
    batch_ready: Notify,
    max_events: usize,
    max_bytes: usize,
    batch_events: usize,
    batch_bytes: usize,
}

#[derive(Default)]
pub(crate) struct Contents {
    events: Buffer,
    bytes: usize,
    pub(crate) captured: u64,
    pub(crate) drops: Drops,
    /// Added to each captured event. Kept here so that a capture takes only one lock.
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

    /// Takes all events, and goes on with `empty`.
    pub(crate) fn replace(&mut self, empty: Buffer) -> Buffer {
        self.bytes = 0;
        std::mem::replace(&mut self.events, empty)
    }

    /// Takes all events.
    pub(crate) fn take(&mut self) -> Buffer {
        self.replace(Buffer::default())
    }
}

impl Intake {
    /// Creates an empty buffer, bounded by `limits`. It asks to be drained as soon as it
    /// holds a batch, measured in events or in bytes.
    pub(crate) fn new(limits: &Limits, signal: &DropSignal) -> Self {
        Self {
            contents: Counted::new(Contents::default(), signal),
            filled: Notify::new(),
            batch_ready: Notify::new(),
            max_events: limits.queue_events,
            max_bytes: limits.queue_bytes,
            batch_events: limits.batch_events.min(limits.queue_events),
            // Half of the buffer is left for events that are captured before it is drained.
            batch_bytes: limits.batch_bytes.min(limits.queue_bytes / 2),
        }
    }

    /// Adds `event` with `properties` and the current super properties, or counts why it was
    /// dropped.
    pub(crate) fn push(&self, mut event: CapturedEvent, properties: BorrowedProperties<'_>) {
        let (is_first, has_batch) = {
            let mut contents = self.lock();
            contents.captured += 1;
            if contents.closed {
                contents.drops.add(DropReason::AfterShutdown, 1);
                return;
            }
            event.super_properties.clone_from(&contents.super_properties);
            let bytes = event.bytes(properties);
            if bytes > self.max_bytes {
                contents.drops.add(DropReason::TooLarge, 1);
                return;
            }
            if contents.events.len() >= self.max_events
                || contents.bytes.saturating_add(bytes) > self.max_bytes
            {
                contents.drops.add(DropReason::QueueFull, 1);
                return;
            }
            let had_batch = self.has_batch(&contents);
            contents.bytes += bytes;
            contents.events.push(event, properties);
            (contents.events.len() == 1, !had_batch && self.has_batch(&contents))
        };
        // Notify once per batch: waking a task costs more than everything else here.
        if is_first {
            self.filled.notify_one();
        }
        if has_batch {
            self.batch_ready.notify_one();
        }
    }

    /// Counts a refused capture.
    pub(crate) fn refuse(&self, reason: DropReason) {
        let mut contents = self.lock();
        contents.captured += 1;
        contents.drops.add(reason, 1);
    }

    /// Refuses all further events.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
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

    /// Waits until the buffer holds a batch.
    pub(crate) async fn batch_ready(&self) {
        while !self.has_batch(&self.lock()) {
            self.batch_ready.notified().await;
        }
    }

    fn has_batch(&self, contents: &Contents) -> bool {
        contents.events.len() >= self.batch_events || contents.bytes >= self.batch_bytes
    }
}
