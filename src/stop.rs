//! A one-time signal to stop.

use tokio::sync::Notify;

use crate::locks::{AtomicBool, Ordering};

/// A one-time stop signal that any number of tasks can wait for.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    stopped: AtomicBool,
    changed: Notify,
}

impl Stop {
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Waits until [`Stop::stop`] is called, or returns at once if it was.
    pub(crate) async fn stopped(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_stopped() {
                return;
            }
            changed.await;
        }
    }
}
