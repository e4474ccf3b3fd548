//! The one question that capture and delivery ask: may I?

use tokio::sync::Notify;

use crate::{
    analytics_id::AnalyticsId,
    locks::{AtomicU64, Mutex, Ordering, PoisonError},
};

/// What the sink may do, and in which epoch: one atomic, so that a denied
/// capture costs one load.
#[derive(Debug)]
pub(crate) struct Gate {
    /// The phase in the lowest two bits, the epoch above them.
    word: AtomicU64,
    id: Mutex<Option<AnalyticsId>>,
    changed: Notify,
}

/// What the sink may do with events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Closed,
    Holding,
    Open,
}

/// Why queued events must go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum WipeReason {
    /// The user withdrew, or the session ended: what the app said about the
    /// user goes too.
    Withdrawn,
    IdChanged,
    NotConfirmed,
}

/// Leave to send, in one epoch under one ID.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    pub(crate) epoch: u64,
    pub(crate) id: AnalyticsId,
}

const PHASE_BITS: u32 = 2;
const PHASE_MASK: u64 = (1 << PHASE_BITS) - 1;

impl Gate {
    pub(crate) fn closed() -> Self {
        Self { word: AtomicU64::new(0), id: Mutex::new(None), changed: Notify::new() }
    }

    /// The epoch to capture in, unless nothing may be captured.
    pub(crate) fn capture_epoch(&self) -> Option<u64> {
        let word = self.word.load(Ordering::Acquire);
        (word & PHASE_MASK != Phase::Closed as u64).then_some(word >> PHASE_BITS)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.word.load(Ordering::Acquire) & PHASE_MASK == Phase::Open as u64
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.word.load(Ordering::Acquire) >> PHASE_BITS
    }

    /// Leave to send, unless nothing may be sent now.
    pub(crate) fn pass(&self) -> Option<Pass> {
        // Under the lock, ID, phase and epoch belong together.
        let id = self.id.lock().unwrap_or_else(PoisonError::into_inner);
        let epoch = self.epoch();
        (*id).clone().filter(|_| self.is_open()).map(|id| Pass { epoch, id })
    }

    /// Whether `pass` still holds.
    fn honours(&self, pass: &Pass) -> bool {
        self.pass().is_some_and(|now| now.epoch == pass.epoch && now.id == pass.id)
    }

    /// Sets what may be done; open means under `id`.
    pub(crate) fn set(&self, phase: Phase, epoch: u64, id: Option<AnalyticsId>) {
        let mut held = self.id.lock().unwrap_or_else(PoisonError::into_inner);
        let phase = if id.is_none() && phase == Phase::Open { Phase::Holding } else { phase };
        let word = epoch << PHASE_BITS | phase as u64;
        let unchanged = self.word.swap(word, Ordering::AcqRel) == word && *held == id;
        *held = id;
        drop(held);
        if !unchanged {
            self.changed.notify_waiters();
        }
    }

    /// Waits until `pass` holds no more.
    pub(crate) async fn revoked(&self, pass: &Pass) {
        loop {
            let changed = self.changed.notified();
            if !self.honours(pass) {
                return;
            }
            changed.await;
        }
    }
}
