//! A lock around counters of drops, which signals a drop only after it is released.
//!
//! Readers of [`Analytics::drops`](crate::Analytics::drops) supply their own wakers, which
//! may call any function of this crate. None of our locks may be held when one runs.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    panic::{AssertUnwindSafe, catch_unwind},
};

use tracing::warn;

use super::counters::{DropSignal, Drops};
use crate::locks::{Mutex, MutexGuard, PoisonError};

/// A value that a [`Counted`] lock protects.
pub(crate) trait HasDrops {
    fn drops(&mut self) -> &mut Drops;
}

/// A lock around a value with counters of drops.
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
    /// Creates a lock around `value` that raises `signal` after each drop.
    pub(crate) fn new(value: T, signal: &DropSignal) -> Self {
        Self { value: Mutex::new(value), signal: signal.clone() }
    }

    /// Acquires the lock. When the guard is dropped, it releases the lock, and then raises
    /// the signal if a drop was counted.
    ///
    /// A caller that holds several of these locks must release each of them with
    /// [`CountedGuard::unlock`].
    #[inline]
    pub(crate) fn lock(&self) -> CountedGuard<'_, T> {
        let guard = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        CountedGuard { guard, pending: PendingSignal::default(), signal: &self.signal }
    }
}

/// The guard of a [`Counted`] lock. Fields are dropped in order, so the lock is released
/// before the signal is raised.
pub(crate) struct CountedGuard<'a, T: HasDrops> {
    guard: MutexGuard<'a, T>,
    pending: PendingSignal<'a>,
    signal: &'a DropSignal,
}

impl<'a, T: HasDrops> CountedGuard<'a, T> {
    /// Releases the lock without raising the signal. The caller drops the returned value
    /// once it holds no other lock.
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

/// A signal that has yet to be raised, which happens when this value is dropped.
#[derive(Debug, Default)]
#[must_use = "dropping it runs wakers of the app, so no lock may be held"]
pub(crate) struct PendingSignal<'a>(Option<&'a DropSignal>);

impl<'a> PendingSignal<'a> {
    /// Merges `other` into this signal, so that both are raised together.
    pub(crate) fn join(&mut self, mut other: PendingSignal<'a>) {
        self.0 = self.0.or(other.0.take());
    }
}

impl Drop for PendingSignal<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(signal) = self.0.take() {
            // The app's waker may panic, which must end neither the caller of `capture` nor
            // the background task.
            if catch_unwind(AssertUnwindSafe(|| signal.raise())).is_err() {
                warn!("a reader of drops panicked when it was woken");
            }
        }
    }
}
