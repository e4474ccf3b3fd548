//! State of the file that its thread and its callers share without a lock.

use crate::{
    locks::{AtomicU64, Ordering},
    sink::{queue::Row, stats::QueueStats},
    stop::Stop,
};

#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The first epoch whose events may be in the file.
    floor: AtomicU64,
    /// The first row of the current file. Earlier rows were in a file that is gone.
    durable_from: AtomicU64,
    not_durable: AtomicU64,
    discarded: AtomicU64,
    unreadable_files: AtomicU64,
    history_failures: AtomicU64,
    /// Raised when the file is closed.
    pub(super) closed: Stop,
}

impl Facts {
    pub(super) fn floor(&self) -> u64 {
        self.floor.load(Ordering::Acquire)
    }

    pub(super) fn raise_floor(&self, epoch: u64) {
        self.floor.fetch_max(epoch, Ordering::AcqRel);
    }

    pub(super) fn durable_from(&self) -> Row {
        self.durable_from.load(Ordering::Acquire)
    }

    pub(super) fn set_durable_from(&self, row: Row) {
        self.durable_from.store(row, Ordering::Release);
    }

    pub(super) fn add_not_durable(&self, events: u64) {
        self.not_durable.fetch_add(events, Ordering::Relaxed);
    }

    pub(super) fn add_discarded(&self, rows: u64) {
        self.discarded.fetch_add(rows, Ordering::Relaxed);
    }

    pub(super) fn add_unreadable_files(&self, files: u64) {
        self.unreadable_files.fetch_add(files, Ordering::Relaxed);
    }

    pub(super) fn add_history_failure(&self) {
        self.history_failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> QueueStats {
        QueueStats {
            not_durable: self.not_durable.load(Ordering::Relaxed),
            discarded: self.discarded.load(Ordering::Relaxed),
            unreadable_files: self.unreadable_files.load(Ordering::Relaxed),
            history_failures: self.history_failures.load(Ordering::Relaxed),
        }
    }
}
