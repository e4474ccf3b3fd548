//! Counters of undelivered events, and the signal that wakes their readers.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::{Notify, futures::Notified};

use super::stats::DropReason;

/// Counters of the events that were dropped, by reason.
#[derive(Debug, Default)]
pub(crate) struct Drops {
    counts: BTreeMap<DropReason, u64>,
    /// Whether a drop was added that the readers have not been woken for.
    changed: bool,
}

impl Drops {
    pub(crate) fn add(&mut self, reason: DropReason, events: usize) {
        if events > 0 {
            *self.counts.entry(reason).or_default() += events as u64;
            self.changed = true;
        }
    }

    /// Returns whether a drop was added since the last call.
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

    /// Adds these counts to `sum`.
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

    /// Returns a future that waits until the signal is raised after this call.
    pub(super) fn raised(&self) -> Notified<'_> {
        self.0.notified()
    }
}
