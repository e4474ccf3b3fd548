//! Counts the events that left undelivered, and tells the readers that there are more.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::{Notify, futures::Notified};

use super::stats::DropReason;

/// The counters of the events that left undelivered.
#[derive(Debug, Default)]
pub(crate) struct Drops {
    counts: BTreeMap<DropReason, u64>,
    /// Something was added that no reader was told of.
    changed: bool,
}

impl Drops {
    pub(crate) fn add(&mut self, reason: DropReason, events: usize) {
        if events > 0 {
            *self.counts.entry(reason).or_default() += events as u64;
            self.changed = true;
        }
    }

    /// Whether anything was added since this was last asked.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    #[cfg(test)]
    pub(crate) fn count(&self, reason: DropReason) -> u64 {
        self.counts.get(&reason).copied().unwrap_or_default()
    }

    #[cfg(test)]
    pub(crate) fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Adds these to `sum`, reason by reason.
    pub(crate) fn add_to(&self, sum: &mut BTreeMap<DropReason, u64>) {
        for (reason, events) in &self.counts {
            *sum.entry(*reason).or_default() += events;
        }
    }
}

/// Wakes the readers of drops.
#[derive(Clone, Debug, Default)]
pub(crate) struct DropSignal(Arc<Notify>);

impl DropSignal {
    pub(crate) fn raise(&self) {
        self.0.notify_waiters();
    }

    /// Waits until it is raised after this call.
    pub(super) fn raised(&self) -> Notified<'_> {
        self.0.notified()
    }
}
