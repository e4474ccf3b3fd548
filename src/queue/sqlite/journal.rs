//! What the sink tells the file, and what becomes of that when a disk fails.

use std::{fmt, sync::Arc};

use tokio::runtime::Handle;
use tracing::{info, warn};

use super::{
    SqliteQueue,
    file::{Place, Trouble},
    own_file::FileError,
    rows::Rows,
    setup::Setup,
};
use crate::{
    QueueError,
    locks::{AtomicU64, Mutex, MutexGuard, Ordering, PoisonError},
    queue::{Marks, Queued, Refused, Restored, Row},
    stats::{DropReason, QueueStats},
    stop::Stop,
};

/// The file, written to from blocking threads only, one at a time.
pub(crate) struct Journal {
    runtime: Handle,
    place: Place,
    setup: Setup,
    state: Mutex<State>,
    /// What is of an earlier epoch must not be in the file.
    floor: AtomicU64,
    /// Earlier rows were in a file that is gone.
    durable_from: AtomicU64,
    not_durable: AtomicU64,
    discarded: AtomicU64,
    unreadable_files: AtomicU64,
    closed: Stop,
}

struct State {
    rows: Option<Rows>,
    /// The number of the next row.
    next: Row,
    /// What each lane is known to have seen.
    done: Marks,
    /// The floor below which the file is known to hold nothing.
    wiped: u64,
    /// A write has failed, and none has succeeded since.
    failing: bool,
    /// Delivery has ended: only a withdrawal opens the file again.
    shut: bool,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Journal {
    /// Opens the file, and reads what waits there of the epoch `keep`; the rest is deleted.
    pub(crate) async fn open(
        queue: SqliteQueue,
        mut setup: Setup,
        keep: Option<u64>,
    ) -> Result<(Arc<Self>, Restored), QueueError> {
        setup.passphrase = queue.passphrase;
        let runtime = Handle::current();
        let opening = runtime.spawn_blocking(move || {
            let place = Place::resolve(&queue.path)?;
            let (rows, found) = Rows::open(&place, &setup, keep)?;
            Ok::<_, QueueError>((place, setup, rows, found))
        });
        let opened = opening.await.map_err(|gone| QueueError::Open(Box::new(gone)))?;
        let (place, setup, rows, found) = opened?;
        let restored = found.restored;
        let state = State {
            rows: Some(rows),
            next: restored.last + 1,
            done: restored.done.clone(),
            wiped: 0,
            failing: false,
            shut: false,
        };
        let journal = Self {
            runtime,
            place,
            setup,
            state: Mutex::new(state),
            floor: AtomicU64::new(0),
            durable_from: AtomicU64::new(0),
            not_durable: AtomicU64::new(0),
            discarded: AtomicU64::new(found.discarded),
            unreadable_files: AtomicU64::new(u64::from(found.replaced)),
            closed: Stop::default(),
        };
        Ok((Arc::new(journal), restored))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stats(&self) -> QueueStats {
        QueueStats {
            not_durable: self.not_durable.load(Ordering::Relaxed),
            discarded: self.discarded.load(Ordering::Relaxed),
            unreadable_files: self.unreadable_files.load(Ordering::Relaxed),
        }
    }

    /// The first row of the file that there is.
    pub(crate) fn durable_from(&self) -> Row {
        self.durable_from.load(Ordering::Acquire)
    }

    // From a blocking thread.

    /// Writes `events` down, and tells each its row. One that has none then is in memory
    /// only.
    pub(crate) fn write(&self, events: &mut [Result<Queued, DropReason>]) {
        if self.setup.lanes.is_empty() || events.iter().all(Result::is_err) {
            return;
        }
        let mut state = self.state();
        if state.shut {
            return;
        }
        let mut written = self.try_write(&mut state, events);
        if self.begins_anew(&mut state, &written) {
            written = self.try_write(&mut state, events);
        }
        match written {
            Ok(()) if std::mem::take(&mut state.failing) => {
                info!("the queue's file can be written again");
            }
            Ok(()) => {}
            Err(trouble) => {
                events.iter_mut().flatten().for_each(|queued| queued.row = None);
                let lost = events.iter().flatten().count() as u64;
                self.not_durable.fetch_add(lost, Ordering::Relaxed);
                state.failed(&trouble);
            }
        }
    }

    fn try_write(
        &self,
        state: &mut State,
        events: &mut [Result<Queued, DropReason>],
    ) -> Result<(), Trouble> {
        // What is withdrawn and still there would be read at the next start.
        self.wipe(state).map_err(Trouble::Refused)?;
        let floor = self.floor.load(Ordering::Acquire);
        self.reopen(state)?;
        if let Some(rows) = &mut state.rows {
            state.next = rows.insert(state.next, floor, events)?;
        }
        Ok(())
    }

    /// Notes what lanes did not take.
    pub(crate) fn refuse(&self, refused: &[Refused]) {
        let mut state = self.state();
        for Refused { lane, first, last } in refused {
            let (Some(rows), Some(name)) = (&mut state.rows, self.setup.lanes.get(*lane)) else {
                return;
            };
            let noted = rows.refuse(name, *first, *last);
            if let (Err(trouble), false) = (&noted, self.begins_anew(&mut state, &noted)) {
                state.failed(trouble);
            }
        }
    }

    fn mark_now(&self, lane: usize, done: Row) -> bool {
        let mut state = self.state();
        let (Some(rows), Some(name)) = (&mut state.rows, self.setup.lanes.get(lane)) else {
            // There is no file that could tell it to another process.
            return true;
        };
        let marked = rows.mark(name, done);
        if let Some(known) = state.done.get_mut(lane) {
            *known = done;
        }
        if self.begins_anew(&mut state, &marked) {
            return true;
        }
        if let Err(trouble) = &marked {
            state.failed(trouble);
        }
        marked.is_ok()
    }

    /// Puts a file that was found to be damaged away. Says whether it did.
    fn begins_anew<T>(&self, state: &mut State, result: &Result<T, Trouble>) -> bool {
        if !matches!(result, Err(Trouble::Damaged(_))) {
            return false;
        }
        warn!("the queue's file is damaged: it is deleted, and a new one begun");
        self.unreadable_files.fetch_add(1, Ordering::Relaxed);
        let seen = state.done.iter().min().copied().unwrap_or_default();
        let waiting = state.next.saturating_sub(1 + seen);
        self.not_durable.fetch_add(waiting, Ordering::Relaxed);
        // It is begun by the next write.
        self.destroy(state).is_ok()
    }

    /// Deletes the file. What was in it is in memory only from here on.
    fn destroy(&self, state: &mut State) -> Result<(), FileError> {
        state.rows = None;
        self.durable_from.store(state.next, Ordering::Release);
        self.place.destroy()
    }

    /// Begins a new file, or empties what is there, if none is open.
    fn reopen(&self, state: &mut State) -> Result<(), Trouble> {
        if state.rows.is_none() {
            let (rows, found) =
                Rows::open(&self.place, &self.setup, None).map_err(Trouble::Refused)?;
            self.unreadable_files.fetch_add(u64::from(found.replaced), Ordering::Relaxed);
            state.next = state.next.max(found.restored.last + 1);
            self.durable_from.store(state.next, Ordering::Release);
            state.rows = Some(rows);
        }
        Ok(())
    }

    /// Deletes what is below the floor, unless that is done.
    fn wipe(&self, state: &mut State) -> Result<(), QueueError> {
        let floor = self.floor.load(Ordering::Acquire);
        if state.wiped >= floor {
            return Ok(());
        }
        let wiped = match self.reopen(state) {
            Ok(()) => state.rows.as_ref().map_or(Ok(()), |rows| rows.wipe(floor)),
            Err(trouble) => Err(trouble),
        };
        let wiped = match wiped {
            Ok(()) => Ok(()),
            // Another has it, and is bound to the same record.
            Err(Trouble::Refused(error @ QueueError::InUse)) => return Err(error),
            // A full disk may have no room for the log that a deletion needs.
            Err(_) => self.destroy(state),
        };
        if state.shut {
            state.rows = None;
        }
        wiped.and_then(|()| self.place.destroy_set_aside()).map_err(FileError::while_wiping)?;
        state.wiped = floor;
        Ok(())
    }

    fn close(&self, marks: &Marks) {
        for (lane, done) in marks.iter().enumerate() {
            self.mark_now(lane, *done);
        }
        let mut state = self.state();
        let wiped = self.wipe(&mut state);
        state.shut = true;
        state.rows = None;
        drop(state);
        if wiped.is_err() {
            warn!("the queue's file could not be wiped: the next start does it");
        }
        self.closed.stop();
    }

    // From anywhere.

    /// Deletes everything of an earlier epoch than `epoch`, in the background.
    pub(crate) fn begin_wipe(self: &Arc<Self>, epoch: u64) {
        self.floor.fetch_max(epoch, Ordering::AcqRel);
        let journal = self.clone();
        // Its failure is seen by whoever waits for the wipe, and by the next write.
        self.runtime.spawn_blocking(move || drop(journal.wipe(&mut journal.state())));
    }

    /// Waits until everything below the floor is deleted.
    pub(crate) async fn wiped(self: &Arc<Self>) -> Result<(), QueueError> {
        let journal = self.clone();
        let wiped = self.runtime.spawn_blocking(move || journal.wipe(&mut journal.state()));
        wiped.await.unwrap_or_else(|gone| Err(QueueError::NotWiped(Box::new(gone))))
    }

    /// [`Journal::refuse`], in the background.
    pub(crate) fn begin_refuse(self: &Arc<Self>, refused: Vec<Refused>) {
        let journal = self.clone();
        self.runtime.spawn_blocking(move || journal.refuse(&refused));
    }

    /// Takes the last `marks` and closes the file, in the background.
    pub(crate) fn begin_close(self: &Arc<Self>, marks: Marks) {
        let journal = self.clone();
        self.runtime.spawn_blocking(move || journal.close(&marks));
    }

    /// Waits until the file is closed.
    pub(crate) async fn closed(&self) {
        self.closed.stopped().await;
    }

    /// `lane` has seen all up to `done`. Says whether it was written down.
    pub(crate) async fn mark(self: &Arc<Self>, lane: usize, done: Row) -> bool {
        let journal = self.clone();
        let marked = self.runtime.spawn_blocking(move || journal.mark_now(lane, done));
        marked.await.unwrap_or_default()
    }

    /// Does `work` on a blocking thread.
    pub(crate) async fn blocking(&self, work: impl FnOnce() + Send + 'static) {
        if let Err(failed) = self.runtime.spawn_blocking(work).await
            && let Ok(panic) = failed.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl State {
    /// Says so, once for all failures in a row.
    fn failed(&mut self, trouble: &Trouble) {
        if !std::mem::replace(&mut self.failing, true) {
            let code = trouble.code();
            warn!(code, "the queue's file cannot be written: events wait in memory only");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use matrix_sdk::ruma::user_id;
    use tokio::time::Instant;
    use uuid::Uuid;

    use super::*;
    use crate::event::{OutgoingEvent, Properties};

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn events(number: usize) -> Vec<Result<Queued, DropReason>> {
        let event = || OutgoingEvent {
            uuid: Uuid::new_v4(),
            name: "Event".into(),
            at: SystemTime::now(),
            properties: Properties::new(),
            user: None,
            epoch: 1,
        };
        let queued = || Queued { event: Arc::new(event()), since: Instant::now(), row: None };
        (0..number).map(|_| Ok(queued())).collect()
    }

    async fn open(path: &std::path::Path) -> (Arc<Journal>, Restored) {
        let queue = SqliteQueue::new(path);
        let user = user_id!("@alice:example.org");
        let setup = Setup::new("type", user, &["one", "one"], DAY, Arc::default());
        Journal::open(queue, setup, Some(1)).await.unwrap()
    }

    fn damage() -> Result<(), Trouble> {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        Err(rusqlite::Error::SqliteFailure(code, None).into())
    }

    #[tokio::test]
    async fn a_file_that_breaks_while_it_is_open_is_begun_anew() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("queue");
        let (journal, _) = open(&path).await;
        journal.write(&mut events(3));
        assert!(journal.begins_anew(&mut journal.state(), &damage()));
        assert_eq!((journal.durable_from(), journal.stats().not_durable), (4, 3));

        let mut later = events(2);
        journal.write(&mut later);
        assert_eq!(later[0].as_ref().unwrap().durable_row(journal.durable_from()), Some(4));
        assert_eq!((journal.stats().unreadable_files, journal.stats().not_durable), (1, 3));
        journal.close(&vec![4, 0]);
        let (_, restored) = open(&path).await;
        let rows: Vec<_> = restored.rows.iter().map(|(row, _)| *row).collect();
        assert_eq!(rows, [4, 5]);
        assert_eq!(
            [restored.waits(0, 4), restored.waits(1, 4), restored.waits(0, 5)],
            [false, true, true]
        );
    }

    #[tokio::test]
    async fn nothing_of_an_earlier_epoch_is_written_behind_a_wipe() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("queue");
        let (journal, _) = open(&path).await;
        journal.write(&mut events(3));
        journal.begin_wipe(2);
        // Prepared before the wipe, and written after it.
        let mut late = events(2);
        journal.write(&mut late);
        assert!(late.iter().flatten().all(|queued| queued.row.is_none()));
        journal.wiped().await.unwrap();
        journal.close(&Marks::new());
        assert!(open(&path).await.1.rows.is_empty());
    }
}
