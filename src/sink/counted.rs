//! A lock over counters of drops that tells of a drop only after it was released.
//!
//! A reader of [`Analytics::drops`](crate::Analytics::drops) brings a waker of its own,
//! which may call anything of this crate: none of our locks may be held when it runs.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    panic::{AssertUnwindSafe, catch_unwind},
};

use tracing::warn;

use super::counters::{DropSignal, Drops};
use crate::locks::{Mutex, MutexGuard, PoisonError};

/// What a [`Counted`] lock protects.
pub(crate) trait HasDrops {
    fn drops(&mut self) -> &mut Drops;
}

/// Something with counters of drops, behind a lock.
pub(crate) struct Counted<T> {
    value: Mutex<T>,
    signal: DropSignal,
}

impl<T: fmt::Debug> fmt::Debug for Counted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: HasDrops> Counted<T> {
    /// Protects `value`, and raises `signal` after each drop.
    pub(crate) fn new(value: T, signal: &DropSignal) -> Self {
        Self { value: Mutex::new(value), signal: signal.clone() }
    }

    /// Locks. When the guard is dropped it unlocks, and then raises the signal if
    /// something was dropped meanwhile.
    ///
    /// A caller that holds several of these locks ends with [`CountedGuard::unlock`] for
    /// each.
    #[inline]
    pub(crate) fn lock(&self) -> CountedGuard<'_, T> {
        let guard = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        CountedGuard { guard, pending: PendingSignal::default(), signal: &self.signal }
    }
}

/// The lock is held. Its fields are dropped in their order: it unlocks, then it tells.
pub(crate) struct CountedGuard<'a, T: HasDrops> {
    guard: MutexGuard<'a, T>,
    pending: PendingSignal<'a>,
    signal: &'a DropSignal,
}

impl<'a, T: HasDrops> CountedGuard<'a, T> {
    /// Unlocks, and leaves it to the caller to tell what was dropped, once no other lock
    /// is held either.
    pub(crate) fn unlock(mut self) -> PendingSignal<'a> {
        self.note();
        std::mem::take(&mut self.pending)
    }

    #[inline]
    fn note(&mut self) {
        if self.guard.drops().take_changed() {
            self.pending.0 = Some(self.signal);
        }
    }
}

impl<T: HasDrops> Drop for CountedGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.note();
    }
}

impl<T: HasDrops> Deref for CountedGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: HasDrops> DerefMut for CountedGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// A drop that no reader was told of yet: dropping this tells of it.
#[derive(Debug, Default)]
#[must_use = "dropping it runs wakers of the app, so no lock may be held"]
pub(crate) struct PendingSignal<'a>(Option<&'a DropSignal>);

impl<'a> PendingSignal<'a> {
    /// Tells of `other` together with this one.
    pub(crate) fn join(&mut self, mut other: PendingSignal<'a>) {
        self.0 = self.0.or(other.0.take());
    }
}

impl Drop for PendingSignal<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(signal) = self.0.take() {
            // A waker of the app that panics must end neither the caller of `capture` nor
            // the task that delivers.
            if catch_unwind(AssertUnwindSafe(|| signal.raise())).is_err() {
                warn!("a reader of drops panicked when it was woken");
            }
        }
    }
}
