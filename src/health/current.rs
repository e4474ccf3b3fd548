//! The watch that runs now, of which there is at most one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::progress::Progress;

/// The last watch that was started.
#[derive(Debug, Default)]
pub(crate) struct CurrentWatch(Mutex<Weak<Progress>>);

impl CurrentWatch {
    /// Notes that a watch begins. Returns `false` if another one has not been stopped.
    pub(crate) fn begin(&self, watch: &Arc<Progress>) -> bool {
        let mut current = self.lock();
        if current.upgrade().is_some_and(|current| !current.stop.is_stopped()) {
            return false;
        }
        *current = Arc::downgrade(watch);
        true
    }

    /// Stops the watch, if there is one.
    pub(crate) fn stop(&self) {
        if let Some(current) = self.lock().upgrade() {
            current.stop.stop();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Weak<Progress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
