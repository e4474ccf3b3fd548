//! The sink's handle to the file. A dedicated thread does the I/O, because a disk that
//! hangs would block a thread of Tokio's blocking pool, and a runtime waits for these when
//! it ends.

use std::{
    fmt,
    num::NonZeroU64,
    path::Path,
    sync::{Arc, Condvar},
    thread,
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};
use tracing::{info, warn};

use super::{
    SqliteQueue,
    disk::Disk,
    facts::Facts,
    file::QueueFile,
    open_settings::OpenSettings,
    orders::{Orders, Write},
};
use crate::{
    event::UserUpdate,
    locks::{Mutex, MutexGuard, PoisonError},
    sink::{
        queue::{Marks, QueueError, Queued, Refused, Restored, Row},
        stats::{DropReason, QueueStats},
    },
};

/// The longest time to wait for a write before events stay in memory only. A disk that has
/// to spin up takes a few seconds.
const LONGEST_WRITE: Duration = Duration::from_secs(5);
/// The longest time to wait until the file is opened and read. Deriving a key from a
/// passphrase alone takes seconds in an unoptimised build.
const LONGEST_OPEN: Duration = Duration::from_secs(60);

/// A handle to the file, which closes it when dropped.
pub(crate) struct Journal {
    shared: Arc<Shared>,
    /// Whether there is no backend, so that no event needs to be written.
    has_no_lanes: bool,
}

struct Shared {
    facts: Arc<Facts>,
    state: Mutex<State>,
    /// Notified when there are new orders.
    ordered: Condvar,
}

/// The state that the thread shares with its callers.
#[derive(Default)]
struct State {
    orders: Orders,
    /// The file, once the thread has closed it and ended.
    shut: Option<Disk>,
}

/// The error of a disk that did not respond in time.
#[derive(Debug, thiserror::Error)]
#[error("the disk did not respond in time")]
struct DiskTooSlow;

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.order(Orders::close);
    }
}

impl Journal {
    /// Opens the file, and reads the events of the epoch `keep`. All others are deleted.
    pub(crate) async fn open(
        queue: SqliteQueue,
        settings: OpenSettings,
        keep: Option<u64>,
    ) -> Result<(Arc<Self>, Restored), QueueError> {
        let (path, settings) = queue.apply_to(settings);
        let (lanes, history) = (settings.lanes.len(), settings.history.clone());
        let shared = Arc::new(Shared {
            facts: Arc::default(),
            state: Mutex::default(),
            ordered: Condvar::new(),
        });
        shared.state().orders = Orders::new(vec![0; lanes]);
        // Made first, so that the file is closed if this future is dropped or fails.
        let journal = Arc::new(Self { shared: shared.clone(), has_no_lanes: lanes == 0 });
        let (opened, restored) = oneshot::channel();
        shared
            .start(move |shared| match shared.open(&path, settings, keep) {
                Ok((disk, restored)) => {
                    let _ = opened.send(Ok(restored));
                    Some(disk)
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                    None
                }
            })
            .map_err(|error| QueueError::Open(Box::new(error)))?;
        let restored = match timeout(LONGEST_OPEN, restored).await {
            Ok(Ok(restored)) => restored?,
            Ok(Err(gone)) => return Err(QueueError::Open(Box::new(gone))),
            Err(_elapsed) => return Err(QueueError::Open(Box::new(DiskTooSlow))),
        };
        if let Some(history) = history {
            // Weak, because the thread holds the history until the journal is dropped.
            let journal = Arc::downgrade(&journal);
            history.write_through(move || {
                if let Some(journal) = journal.upgrade() {
                    journal.order(Orders::keep_history);
                }
            });
        }
        Ok((journal, restored))
    }

    pub(crate) fn stats(&self) -> QueueStats {
        self.shared.facts.stats()
    }

    /// Returns the first row of the current file.
    pub(crate) fn durable_from(&self) -> Row {
        self.shared.facts.durable_from()
    }

    /// Writes `events`, and sets the row of each. An event without a row is in memory only.
    /// User properties passed to [`Journal::keep_user`] earlier are written first, even if
    /// there are no events.
    ///
    /// Waits for at most [`LONGEST_WRITE`], and not at all while an earlier write is late.
    pub(crate) async fn write(&self, events: &mut [Result<Queued, DropReason>]) {
        let offered: Vec<_> = events.iter().flatten().map(|queued| queued.event.clone()).collect();
        let number = offered.len() as u64;
        if self.has_no_lanes {
            return;
        }
        let (written, rows) = oneshot::channel();
        let taken = self.order(|orders| orders.write(Write { events: offered, written }));
        let rows = if taken { self.rows_in_time(rows).await } else { None };
        match rows {
            Some(rows) => {
                for (queued, row) in events.iter_mut().flatten().zip(rows) {
                    queued.row = row;
                }
            }
            None => self.shared.facts.add_not_durable(number),
        }
    }

    /// Waits for `rows`, and withdraws the write if that takes too long.
    async fn rows_in_time(
        &self,
        mut rows: oneshot::Receiver<Vec<Option<NonZeroU64>>>,
    ) -> Option<Vec<Option<NonZeroU64>>> {
        if let Ok(rows) = timeout(LONGEST_WRITE, &mut rows).await {
            return rows.ok();
        }
        if self.shared.state().orders.give_up_write() {
            warn!("the queue's disk does not respond: events wait in memory only");
        }
        // From here on the thread sees that its reply is too late, and deletes the rows.
        rows.close();
        rows.try_recv().ok()
    }

    /// Notes the rows that lanes did not take.
    pub(crate) fn refuse(&self, refused: Vec<Refused>) {
        self.order(|orders| orders.refuse(refused));
    }

    /// Notes that all events of `lane` up to `done` have left.
    pub(crate) fn mark(&self, lane: usize, done: Row) {
        let mut state = self.shared.state();
        // Usually no event has left, so the thread is not woken.
        if state.orders.mark(lane, done) {
            drop(state);
            self.shared.ordered.notify_one();
        }
    }

    /// Replaces the user properties that wait in `lane` by `update`.
    pub(crate) fn keep_user(&self, lane: usize, update: UserUpdate) {
        self.order(|orders| orders.keep_user(lane, update));
    }

    /// Deletes everything of epochs before `epoch`, in the background.
    pub(crate) fn begin_wipe(&self, epoch: u64) {
        self.shared.facts.raise_floor(epoch);
        self.wipe(|orders| orders.wipe(None));
    }

    /// Waits until everything below the floor is deleted.
    pub(crate) async fn wiped(&self) -> Result<(), QueueError> {
        let (waiter, wiped) = oneshot::channel();
        self.wipe(|orders| orders.wipe(Some(waiter)));
        wiped.await.unwrap_or_else(|gone| Err(QueueError::NotWiped(Box::new(gone))))
    }

    /// Orders a wipe, and starts the thread again if the file has been closed.
    fn wipe(&self, order: impl FnOnce(&mut Orders)) {
        let mut state = self.shared.state();
        order(&mut state.orders);
        let shut = state.shut.take();
        drop(state);
        self.shared.ordered.notify_one();
        if let Some(disk) = shut
            && self.shared.start(move |_| Some(disk)).is_err()
        {
            warn!("the queue file could not be wiped: the next start will do it");
        }
    }

    /// Writes the last `marks` and closes the file, in the background.
    pub(crate) fn begin_close(&self, marks: Marks) {
        self.order(|orders| {
            for (lane, done) in marks.into_iter().enumerate() {
                orders.mark(lane, done);
            }
            orders.close();
        });
    }

    /// Waits until the file is closed.
    pub(crate) async fn closed(&self) {
        self.shared.facts.closed.stopped().await;
    }

    fn order<R>(&self, order: impl FnOnce(&mut Orders) -> R) -> R {
        let result = order(&mut self.shared.state().orders);
        self.shared.ordered.notify_one();
        result
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the thread, which gets the file from `open`.
    #[expect(clippy::disallowed_methods, reason = "the one thread that this library starts")]
    fn start(
        self: &Arc<Self>,
        open: impl FnOnce(&Self) -> Option<Disk> + Send + 'static,
    ) -> std::io::Result<()> {
        let shared = self.clone();
        let thread = thread::Builder::new().name("analytics-queue".to_owned());
        thread.spawn(move || open(&shared).map(|disk| shared.serve(disk))).map(drop)
    }

    fn open(
        &self,
        path: &Path,
        settings: OpenSettings,
        keep: Option<u64>,
    ) -> Result<(Disk, Restored), QueueError> {
        #[cfg(feature = "testing")]
        settings.disk.access();
        Disk::open(QueueFile::resolve(path)?, settings, self.facts.clone(), keep)
    }

    /// Carries out orders until the file is closed.
    fn serve(&self, mut disk: Disk) {
        let mut state = self.state();
        loop {
            if state.orders.is_late() {
                info!("the queue's disk responds again");
            }
            if let Some(job) = state.orders.next() {
                drop(state);
                disk.carry_out(job);
                state = self.state();
            } else if disk.is_shut() {
                state.shut = Some(disk);
                return;
            } else {
                state = self.ordered.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}
