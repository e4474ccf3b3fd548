//! Whether events may be captured and sent: phase and epoch packed into one atomic.

use tokio::sync::Notify;

use crate::{
    analytics_id::AnalyticsId,
    locks::{AtomicU64, Mutex, Ordering, PoisonError},
};

/// The phase, the epoch and the ID that the sink has to obey.
///
/// Phase and epoch share one atomic, so that a denied capture costs one load.
#[derive(Debug)]
pub(crate) struct Gate {
    /// The phase in the lowest two bits, the epoch above them.
    word: AtomicU64,
    id: Mutex<Option<AnalyticsId>>,
    changed: Notify,
}

/// The sink's permission: none, capture only, or capture and send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Closed,
    Holding,
    Open,
}

/// The reason to delete queued events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum WipeReason {
    /// The user withdrew, or the session ended. Super properties are deleted as well.
    Withdrawn,
    IdChanged,
    NotConfirmed,
}

/// Permission to send in one epoch under one ID.
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

    /// Returns the epoch to capture in, or `None` if the gate is closed.
    #[inline]
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

    /// Returns a permission to send, or `None` unless the gate is open.
    pub(crate) fn pass(&self) -> Option<Pass> {
        // `set` changes the word under this lock, so ID, phase and epoch are consistent.
        let id = self.id.lock().unwrap_or_else(PoisonError::into_inner);
        let epoch = self.epoch();
        (*id).clone().filter(|_| self.is_open()).map(|id| Pass { epoch, id })
    }

    /// Returns whether `pass` is still valid.
    fn honours(&self, pass: &Pass) -> bool {
        self.pass().is_some_and(|now| now.epoch == pass.epoch && now.id == pass.id)
    }

    /// Sets phase, epoch and ID. Without an ID, `Open` becomes `Holding`.
    pub(crate) fn set(&self, phase: Phase, epoch: u64, id: Option<AnalyticsId>) {
        let mut current_id = self.id.lock().unwrap_or_else(PoisonError::into_inner);
        let phase = if id.is_none() && phase == Phase::Open { Phase::Holding } else { phase };
        let word = epoch << PHASE_BITS | phase as u64;
        let unchanged = self.word.swap(word, Ordering::AcqRel) == word && *current_id == id;
        *current_id = id;
        drop(current_id);
        if !unchanged {
            self.changed.notify_waiters();
        }
    }

    /// Waits until the gate is open.
    #[cfg(feature = "health")]
    pub(crate) async fn opened(&self) -> Pass {
        loop {
            let changed = self.changed.notified();
            if let Some(pass) = self.pass() {
                return pass;
            }
            changed.await;
        }
    }

    /// Waits until nothing can be captured in `epoch` any more.
    #[cfg(feature = "health")]
    pub(crate) async fn ended(&self, epoch: u64) {
        loop {
            let changed = self.changed.notified();
            if self.capture_epoch() != Some(epoch) {
                return;
            }
            changed.await;
        }
    }

    /// Waits until `pass` is no longer valid.
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
