//! The events that were really sent, for the user to look at.

pub(crate) mod entries;
pub(crate) mod recorded;
pub(crate) mod sent_event;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::watch;
use tracing::warn;

#[cfg(feature = "sqlite")]
use self::entries::EntryId;
use self::{
    entries::Entries,
    sent_event::{Addressee, SentEvent, SentOutcome},
};
use crate::backend::Batch;

/// The newest sent events of one session.
///
/// They are in memory. A durable queue may have a copy in its file, which the next process reads
/// when it starts.
pub(crate) struct History {
    entries: Mutex<Entries>,
    /// Counts the changes.
    changes: watch::Sender<u64>,
    /// Tells the owner of the file that there is something to write.
    file: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").finish_non_exhaustive()
    }
}

impl History {
    /// Creates a history of at most `most` events.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            entries: Mutex::new(Entries::new(most)),
            changes: watch::Sender::new(0),
            file: OnceLock::new(),
        }
    }

    /// Forgets all events, and takes none of an epoch before `epoch`. The caller wakes the
    /// readers once it holds no lock.
    pub(crate) fn wipe(&self, epoch: u64) {
        // Dropped once the lock is released.
        let _wiped = self.entries().wipe(epoch);
    }

    /// Wakes the readers if there was a wipe.
    pub(crate) fn wake_after_wipe(&self) {
        if std::mem::take(&mut self.entries().readers_must_wake) {
            self.wake_readers();
        }
    }

    /// Returns the events, oldest first.
    pub(crate) fn events(&self) -> Vec<SentEvent> {
        self.entries().iter().map(|(_, entry)| entry.clone()).collect()
    }

    /// Adds the events of `batch`, in place of earlier attempts to send them.
    fn begin(&self, to: &Arc<Addressee>, batch: &Batch) {
        self.entries().begin(to, batch);
        self.changed();
    }

    /// Sets the outcome of each event of `batch`.
    fn end(&self, to: &Addressee, batch: &Batch, outcome: impl Fn(usize) -> SentOutcome) {
        self.entries().end(to, batch, outcome);
        self.changed();
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        if let Some(write) = self.file.get() {
            write();
        }
        self.wake_readers();
    }

    /// Wakes the readers, whose wakers are code of the app. No lock is held.
    fn wake_readers(&self) {
        let wake = AssertUnwindSafe(|| self.changes.send_modify(|number| *number += 1));
        if catch_unwind(wake).is_err() {
            warn!("a reader of the history panicked when it was woken");
        }
    }
}

/// The copy in a file.
#[cfg(feature = "sqlite")]
impl History {
    /// Calls `write` after each change, which must not wait for the file.
    pub(crate) fn write_through(&self, write: impl Fn() + Send + Sync + 'static) {
        let _ = self.file.set(Box::new(write));
    }

    /// Returns the entries with their numbers, oldest first.
    pub(crate) fn numbered(&self) -> Vec<(EntryId, SentEvent)> {
        self.entries().iter().cloned().collect()
    }

    /// Adds the entries of an earlier process, oldest first.
    pub(crate) fn restore(&self, restored: Vec<(EntryId, SentEvent)>) {
        let mut entries = self.entries();
        for (id, entry) in restored {
            entries.push(id, entry);
        }
    }
}

/// Returns a stream of the history now and after each change, until `history` is dropped. A slow
/// reader sees the newest.
pub(crate) fn stream(
    history: Option<&Arc<History>>,
) -> impl Stream<Item = Vec<SentEvent>> + Send + Unpin + use<> {
    let reader = history.map(|history| {
        let mut changes = history.changes.subscribe();
        changes.mark_changed();
        (Arc::downgrade(history), changes)
    });
    let lists = stream::unfold(reader, |reader| async move {
        let (history, mut changes) = reader?;
        changes.changed().await.ok()?;
        let events = history.upgrade()?.events();
        Some((events, Some((history, changes))))
    });
    Box::pin(lists.fuse())
}
