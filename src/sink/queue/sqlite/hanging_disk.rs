//! A disk that hangs.

use std::{
    fmt,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// Makes the file of a [`SqliteQueue`](crate::SqliteQueue) hang as on a network drive that
/// is gone: each access waits until the disk is healed.
///
/// Give it to [`SqliteQueue::on_disk`](crate::SqliteQueue::on_disk). A clone is the same
/// disk. A test that ends while the disk hangs leaves a thread behind.
///
/// ```
/// # fn main() {
/// use matrix_analytics::{SqliteQueue, testing::HangingDisk};
///
/// let disk = HangingDisk::new();
/// let queue = SqliteQueue::new("queue.sqlite3").on_disk(&disk);
/// disk.hang();
/// // Events wait in memory now, and are delivered all the same.
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
    /// An access began to wait.
    waits: Notify,
}

#[derive(Default)]
struct State {
    /// How many accesses do not hang before one does; none hangs if it is not set.
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
    /// A disk that works.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets each access from here on wait.
    pub fn hang(&self) {
        self.hang_after(0);
    }

    /// Lets `accesses` more pass, and those that follow wait.
    pub(crate) fn hang_after(&self, accesses: usize) {
        self.state().hangs_after = Some(accesses);
    }

    /// Lets the accesses that wait go on, and those that follow.
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
