//! Captured events in two allocations that they share.

use crate::event::{BorrowedProperties, CapturedEvent};

/// Captured events, and the text of their properties.
///
/// A capture allocates nothing of its own, which would be freed on another thread: allocators
/// are slow at that.
#[derive(Default)]
pub(crate) struct Buffer {
    entries: Vec<Entry>,
    /// The properties of all entries, one after the other.
    members: String,
}

struct Entry {
    event: CapturedEvent,
    /// The length of the properties.
    length: usize,
    /// The properties, without their text.
    properties: BorrowedProperties<'static>,
}

impl Buffer {
    /// The smallest and the largest number of entries that memory is kept for.
    const KEPT: (usize, usize) = (256, 4096);
    /// The least and the most bytes of properties that memory is kept for.
    const KEPT_BYTES: (usize, usize) = (32 * 1024, 512 * 1024);

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn push(&mut self, event: CapturedEvent, properties: BorrowedProperties<'_>) {
        self.members.push_str(properties.members);
        let length = properties.members.len();
        self.entries.push(Entry { event, length, properties: properties.with_members("") });
    }

    /// Takes all events out, each with its properties.
    pub(crate) fn drain(
        &mut self,
    ) -> impl Iterator<Item = (CapturedEvent, BorrowedProperties<'_>)> {
        let mut rest = &*self.members;
        self.entries.drain(..).map(move |Entry { event, length, properties }| {
            // The lengths always fit the text. If they did not, nothing may leave.
            let (members, after) = rest.split_at_checked(length).unwrap_or_default();
            rest = after;
            (event, properties.with_members(members))
        })
    }

    /// Returns an empty buffer in the memory of this one, which held `events`.
    ///
    /// It keeps twice the memory that they needed, within bounds, because memory that is new to
    /// the process slows a burst down. Two buffers alternate, so the memory of a burst is freed
    /// after the second small batch that follows.
    pub(crate) fn cleared(mut self, events: usize) -> Self {
        let (least, most) = Self::KEPT;
        let entries = (2 * events).clamp(least, most);
        let (least, most) = Self::KEPT_BYTES;
        let bytes = (2 * self.members.len()).clamp(least, most);
        self.entries.clear();
        self.members.clear();
        self.entries.shrink_to(entries);
        self.members.shrink_to(bytes);
        self
    }
}
