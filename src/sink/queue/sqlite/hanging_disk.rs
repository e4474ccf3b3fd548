//! A test double for a disk that hangs.

use std::{
    fmt,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// A disk that hangs on demand, like a network drive that has become unreachable.
///
/// Pass it to [`SqliteQueue::on_disk`](crate::SqliteQueue::on_disk). While the disk hangs,
/// each access to the file of that [`SqliteQueue`](crate::SqliteQueue) waits until
/// [`heal`](Self::heal) is called. Clones share one state. A test that ends while the disk
/// hangs leaves a blocked thread.
///
/// ```
/// # fn main() {
/// use matrix_analytics::{SqliteQueue, testing::HangingDisk};
///
/// let disk = HangingDisk::new();
/// let queue = SqliteQueue::new("queue.sqlite3").on_disk(&disk);
/// disk.hang();
/// // Events now wait in memory, and are still delivered.
/// disk.heal();
/// # drop(queue);
/// # }
/// ```
#[derive(Clone, Default)]
pub struct HangingDisk {
    shared: std::sync::Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    healed: Condvar,
    /// Notified when an access begins to wait.
    waits: Notify,
}

#[derive(Default)]
struct State {
    /// The number of accesses that still succeed before one hangs. `None` if the disk works.
    hangs_after: Option<usize>,
    waiting: usize,
}

impl fmt::Debug for HangingDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HangingDisk")
            .field("waiting", &self.state().waiting)
            .finish_non_exhaustive()
    }
}

impl HangingDisk {
    /// Creates a disk that works.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes each further access wait.
    pub fn hang(&self) {
        self.hang_after(0);
    }

    /// Lets `accesses` more accesses succeed, and makes each further one wait.
    pub(crate) fn hang_after(&self, accesses: usize) {
        self.state().hangs_after = Some(accesses);
    }

    /// Lets all waiting and further accesses succeed.
    pub fn heal(&self) {
        self.state().hangs_after = None;
        self.shared.healed.notify_all();
    }

    /// Waits until an access hangs.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn until_access_hangs(&self) {
        loop {
            let waits = self.shared.waits.notified();
            if self.state().waiting > 0 {
                return;
            }
            waits.await;
        }
    }

    /// Waits while the disk hangs.
    pub(crate) fn access(&self) {
        let mut state = self.state();
        match &mut state.hangs_after {
            None => return,
            Some(0) => {}
            Some(accesses) => return *accesses -= 1,
        }
        state.waiting += 1;
        self.shared.waits.notify_waiters();
        while state.hangs_after.is_some() {
            state = self.shared.healed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
