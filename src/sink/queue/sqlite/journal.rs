//! What the sink tells the file. A thread of the file's own does it: a disk that hangs
//! would keep a thread of Tokio's blocking pool, and with it the end of the runtime.

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
    event::Said,
    locks::{Mutex, MutexGuard, PoisonError},
    sink::{
        queue::{Marks, QueueError, Queued, Refused, Restored, Row},
        stats::{DropReason, QueueStats},
    },
};

/// How long an event waits to be written down before it waits in memory only. A disk that
/// has to spin up takes a few seconds.
const LONGEST_WRITE: Duration = Duration::from_secs(5);
/// How long the file may take to be opened and read. A passphrase alone takes seconds in a
/// build without optimisation.
const LONGEST_OPEN: Duration = Duration::from_secs(60);

/// The file. Closes it when it is dropped.
pub(crate) struct Journal {
    shared: Arc<Shared>,
    /// No event waits for anybody.
    has_no_lanes: bool,
}

struct Shared {
    facts: Arc<Facts>,
    state: Mutex<State>,
    /// There are new orders.
    ordered: Condvar,
}

/// What the thread and its callers hand each other.
#[derive(Default)]
struct State {
    orders: Orders,
    /// The file, after the thread has closed it and ended.
    shut: Option<Disk>,
}

/// The disk did not answer within the bound.
#[derive(Debug, thiserror::Error)]
#[error("the disk did not answer in time")]
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
    /// Opens the file, and reads what waits there of the epoch `keep`; the rest is deleted.
    pub(crate) async fn open(
        queue: SqliteQueue,
        settings: OpenSettings,
        keep: Option<u64>,
    ) -> Result<(Arc<Self>, Restored), QueueError> {
        let (path, settings) = queue.apply_to(settings);
        let lanes = settings.lanes.len();
        let shared = Arc::new(Shared {
            facts: Arc::default(),
            state: Mutex::default(),
            ordered: Condvar::new(),
        });
        shared.state().orders = Orders::new(vec![0; lanes]);
        // Closes the file if this future is dropped, or ends before the file is open.
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
        match timeout(LONGEST_OPEN, restored).await {
            Ok(Ok(restored)) => Ok((journal, restored?)),
            Ok(Err(gone)) => Err(QueueError::Open(Box::new(gone))),
            Err(_elapsed) => Err(QueueError::Open(Box::new(DiskTooSlow))),
        }
    }

    pub(crate) fn stats(&self) -> QueueStats {
        self.shared.facts.stats()
    }

    /// The first row of the file that there is.
    pub(crate) fn durable_from(&self) -> Row {
        self.shared.facts.durable_from()
    }

    /// Writes `events` down, and tells each its row. One that has none then is in memory
    /// only. What [`Journal::keep_user`] was told before is written before, also if there
    /// are no events.
    ///
    /// Waits no longer than [`LONGEST_WRITE`], and not at all while the disk is late already.
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

    /// Waits for `rows`, and takes the write back if that takes too long.
    async fn rows_in_time(
        &self,
        mut rows: oneshot::Receiver<Vec<Option<NonZeroU64>>>,
    ) -> Option<Vec<Option<NonZeroU64>>> {
        if let Ok(rows) = timeout(LONGEST_WRITE, &mut rows).await {
            return rows.ok();
        }
        if self.shared.state().orders.give_up_write() {
            warn!("the queue's disk does not answer: events wait in memory only");
        }
        // From here on the thread sees that its answer is too late.
        rows.close();
        rows.try_recv().ok()
    }

    /// Notes what lanes did not take.
    pub(crate) fn refuse(&self, refused: Vec<Refused>) {
        self.order(|orders| orders.refuse(refused));
    }

    /// `lane` has seen all up to `done`.
    pub(crate) fn mark(&self, lane: usize, done: Row) {
        let mut state = self.shared.state();
        // Most of the time nothing has left: the thread sleeps on.
        if state.orders.mark(lane, done) {
            drop(state);
            self.shared.ordered.notify_one();
        }
    }

    /// `lane` has still to say `said` about the user, and nothing that it had before.
    pub(crate) fn keep_user(&self, lane: usize, said: Said) {
        self.order(|orders| orders.keep_user(lane, said));
    }

    /// Deletes everything of an earlier epoch than `epoch`, in the background.
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

    /// Orders a wipe, for which a file that was closed is opened again.
    fn wipe(&self, order: impl FnOnce(&mut Orders)) {
        let mut state = self.shared.state();
        order(&mut state.orders);
        let shut = state.shut.take();
        drop(state);
        self.shared.ordered.notify_one();
        if let Some(disk) = shut
            && self.shared.start(move |_| Some(disk)).is_err()
        {
            warn!("the queue's file could not be wiped: the next start does it");
        }
    }

    /// Takes the last `marks` and closes the file, in the background.
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

    /// Does what is ordered, until the file is closed.
    fn serve(&self, mut disk: Disk) {
        let mut state = self.state();
        loop {
            if state.orders.is_late() {
                info!("the queue's disk answers again");
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
