//! Carries out jobs on the file, one after another, and decides how to continue when the
//! disk fails.

use std::{num::NonZeroU64, sync::Arc};

use tracing::{info, warn};

use super::{
    erasures::{ErasureTable, FIRST_VERSION},
    facts::Facts,
    file::QueueFile,
    history::HistoryTable,
    open_settings::OpenSettings,
    orders::{Job, Write},
    own_file::FileError,
    restore::Keep,
    rows::Rows,
    storage_error::StorageError,
    user::UserTable,
};
use crate::{
    event::OutgoingEvent,
    sink::queue::{Marks, QueueError, Refused, Restored, Row},
};

/// The file, as seen by its thread.
pub(super) struct Disk {
    file: QueueFile,
    settings: OpenSettings,
    facts: Arc<Facts>,
    rows: Option<Rows>,
    /// The number of the next row.
    next: Row,
    /// The mark of each lane.
    seen: Marks,
    /// The mark of each lane that was written to the file.
    marked: Marks,
    /// The user properties that still wait in each lane.
    users: UserTable,
    history: HistoryTable,
    erasures: ErasureTable,
    /// The epoch below which the file has been emptied.
    emptied: u64,
    /// The epoch below which the file has been emptied and files that were set aside have
    /// been deleted.
    wiped: u64,
    /// Whether a write has failed and none has succeeded since.
    failing: bool,
    /// Whether the last write of the history failed.
    history_failing: bool,
    /// Whether delivery has ended. After that, only a withdrawal opens the file.
    shut: bool,
}

impl Disk {
    /// Opens `file`, and reads the events of the epoch `keep`. All others are deleted.
    pub(super) fn open(
        file: QueueFile,
        settings: OpenSettings,
        facts: Arc<Facts>,
        keep: Option<u64>,
    ) -> Result<(Self, Restored), QueueError> {
        let (rows, found) = Rows::open(&file, &settings, keep)?;
        facts.add_discarded(found.discarded);
        facts.add_unreadable_files(u64::from(found.replaced));
        facts.set_erasures_kept(FIRST_VERSION);
        let restored = found.restored;
        let history = HistoryTable::written(&found.history);
        let mut disk = Self {
            file,
            settings,
            facts,
            rows: Some(rows),
            next: restored.last + 1,
            seen: restored.done.clone(),
            marked: restored.done.clone(),
            users: UserTable::written(restored.users.clone()),
            history,
            erasures: ErasureTable::written(&restored.erasures),
            emptied: 0,
            wiped: 0,
            failing: false,
            history_failing: false,
            shut: false,
        };
        if let Some(history) = &disk.settings.history {
            history.restore(found.history);
            // Fewer entries may have room than in the process before.
            disk.keep_history();
        }
        Ok((disk, restored))
    }

    pub(super) fn is_shut(&self) -> bool {
        self.shut
    }

    pub(super) fn carry_out(&mut self, job: Job) {
        #[cfg(feature = "testing")]
        self.settings.disk.access();
        match job {
            Job::Wipe(waiters) => {
                // The error is reported to the callers that wait, and by the next write.
                if waiters.is_empty() {
                    let _ = self.wipe();
                }
                for waiter in waiters {
                    let _ = waiter.send(self.wipe());
                }
                // A wipe may have had to delete the whole file.
                self.keep_erasures();
            }
            Job::Refuse(refused) => self.refuse(&refused),
            Job::Mark(marks) => {
                for (seen, mark) in self.seen.iter_mut().zip(marks) {
                    *seen = mark.max(*seen);
                }
                self.mark();
            }
            Job::Users(users) => {
                self.users.add(users);
                self.keep_users();
            }
            Job::Erasures(erasures) => {
                self.erasures = ErasureTable { desired: erasures, is_written: false };
                self.keep_erasures();
                let version = self.erasures.desired.version;
                self.facts.erasures_tried.send_replace(version);
            }
            Job::History => self.keep_history(),
            Job::Write(write) => self.write(write),
            Job::Close => self.close(),
        }
    }

    /// Writes events. Deletes them again if the caller has stopped waiting when they are
    /// written.
    fn write(&mut self, Write { events, written }: Write) {
        if written.is_closed() || self.shut {
            return;
        }
        let first = self.next;
        let mut inserted = self.try_write(&events);
        if self.replace_damaged(&inserted) {
            inserted = self.try_write(&events);
        }
        match inserted {
            Ok(rows) => {
                #[cfg(feature = "testing")]
                self.settings.disk.access();
                // An empty write does not prove that the disk works.
                if !events.is_empty() && std::mem::take(&mut self.failing) {
                    info!("the queue file can be written again");
                }
                if written.send(rows).is_err() {
                    self.take_back(first);
                }
            }
            Err(error) => {
                self.failed(&error);
                // Dropped without a reply, so the events count as not written.
                drop(written);
            }
        }
    }

    fn try_write(
        &mut self,
        events: &[Arc<OutgoingEvent>],
    ) -> Result<Vec<Option<NonZeroU64>>, StorageError> {
        // Withdrawn events must not be left, because the next start would read them.
        self.wipe().map_err(StorageError::Refused)?;
        let floor = self.facts.floor();
        let next = self.next;
        self.reopened()?;
        self.write_erasures()?;
        self.write_users()?;
        let inserted = self.reopened()?.insert(next, floor, events)?;
        self.next = inserted.next;
        Ok(inserted.rows)
    }

    /// Deletes the rows from `first` on, which were written too late. Their events have no
    /// row in memory, so no mark would delete them.
    fn take_back(&mut self, first: Row) {
        let Some(rows) = &mut self.rows else { return };
        let deleted = rows.delete(first, self.next);
        self.is_done(&deleted);
    }

    fn refuse(&mut self, refused: &[Refused]) {
        for Refused { lane, first, last } in refused {
            let (Some(rows), Some(name)) = (&mut self.rows, self.settings.lanes.get(*lane)) else {
                return;
            };
            let noted = rows.refuse(name, *first, *last);
            self.is_done(&noted);
        }
    }

    /// Writes the marks that have changed.
    fn mark(&mut self) {
        for lane in 0..self.seen.len() {
            let (done, marked) = (self.seen[lane], self.marked[lane]);
            // Without a file there is nothing that another process could read.
            let (Some(rows), true) = (&mut self.rows, marked < done) else { continue };
            let noted = rows.mark(&self.settings.lanes[lane], done);
            if self.is_done(&noted) {
                self.marked[lane] = done;
            }
        }
    }

    /// Writes the user properties that still wait in the lanes. If this fails, the next
    /// write tries again.
    fn keep_users(&mut self) {
        if self.shut {
            return;
        }
        let written = self.write_users();
        self.is_done(&written);
    }

    fn write_users(&mut self) -> Result<(), StorageError> {
        self.users.forget_below(self.facts.floor());
        match &mut self.rows {
            Some(rows) => self.users.write(rows, &self.settings.lanes),
            None => Ok(()),
        }
    }

    /// Writes the entries of the history that the file does not have yet, and deletes those that
    /// the history no longer has. If this fails, the next change tries again.
    fn keep_history(&mut self) {
        let Some(history) = self.settings.history.as_ref().filter(|_| !self.shut) else { return };
        // The floor is read after the entries. If it rises later, the wipe comes later as well.
        let entries = history.numbered();
        let floor = self.facts.floor();
        // A withdrawal that deleted the file must not be followed by a new one.
        if self.rows.is_none() && !entries.iter().any(|(_, entry)| entry.event.epoch >= floor) {
            return;
        }
        let opened = self.reopened().map(drop);
        let written = opened.and_then(|()| match &mut self.rows {
            Some(rows) => self.history.write(rows, &entries, floor),
            None => Ok(()),
        });
        let Err(error) = &written else {
            self.history_failing = false;
            return;
        };
        self.facts.add_history_failure();
        if !self.replace_damaged(&written) && !std::mem::replace(&mut self.history_failing, true) {
            let code = error.code();
            warn!(code, "the queue file cannot keep the history: it is in memory only");
        }
    }

    /// Writes the erasures, even if delivery has ended. If this fails, the next write tries again.
    fn keep_erasures(&mut self) {
        if self.erasures.is_written {
            return;
        }
        // There is no reason to make a file in order to delete a row.
        if self.rows.is_none() && !self.shut && self.erasures.desired.plain.is_none() {
            self.erasures.is_written = true;
            return;
        }
        let mut written = self.write_erasures();
        if self.replace_damaged(&written) {
            written = self.write_erasures();
        }
        self.is_done(&written);
        if self.shut {
            self.rows = None;
        }
    }

    fn write_erasures(&mut self) -> Result<(), StorageError> {
        // After a shutdown, the events in the file are for the next process.
        let opened =
            self.reopened_with(if self.shut { Keep::All } else { Keep::Nothing }).map(drop);
        if let Err(StorageError::Refused(QueueError::InUse)) = opened {
            // The file may hold the erasures of another process.
            self.facts.set_erasures_kept(0);
        }
        opened?;
        let Some(rows) = &mut self.rows else { return Ok(()) };
        self.erasures.write(rows)?;
        self.facts.set_erasures_kept(self.erasures.desired.version);
        Ok(())
    }

    /// Returns whether `result` is a success. Reports a failure, unless the file was damaged
    /// and could be deleted.
    fn is_done(&mut self, result: &Result<(), StorageError>) -> bool {
        if let Err(error) = result
            && !self.replace_damaged(result)
        {
            self.failed(error);
        }
        result.is_ok()
    }

    /// Deletes the file if `result` says that it is damaged, so that the next write creates
    /// a new one. Returns whether the file was deleted.
    fn replace_damaged<T>(&mut self, result: &Result<T, StorageError>) -> bool {
        if !matches!(result, Err(StorageError::Damaged(_))) {
            return false;
        }
        warn!("the queue file is damaged: deleting it and creating a new one");
        self.facts.add_unreadable_files(1);
        let seen = self.seen.iter().min().copied().unwrap_or_default();
        self.facts.add_not_durable(self.next.saturating_sub(1 + seen));
        self.destroy().is_ok()
    }

    /// Deletes the file. From then on, its events are in memory only.
    fn destroy(&mut self) -> Result<(), FileError> {
        self.rows = None;
        self.facts.set_durable_from(self.next);
        self.erasures.file_is_new();
        self.facts.set_erasures_kept(0);
        self.file.destroy()
    }

    /// Returns the open file. If none is open, creates one, or empties the existing one.
    fn reopened(&mut self) -> Result<&mut Rows, StorageError> {
        self.reopened_with(Keep::Nothing)
    }

    /// Returns the open file. If none is open, creates one, or opens the existing one, and leaves
    /// the rows `keep` in it.
    fn reopened_with(&mut self, keep: Keep) -> Result<&mut Rows, StorageError> {
        let rows = if let Some(rows) = self.rows.take() {
            rows
        } else {
            let (rows, found) =
                Rows::open(&self.file, &self.settings, keep).map_err(StorageError::Refused)?;
            self.facts.add_unreadable_files(u64::from(found.replaced));
            if found.replaced {
                self.erasures.file_is_new();
            }
            self.next = self.next.max(found.restored.last + 1);
            self.facts.set_durable_from(self.next);
            self.marked = found.restored.done;
            self.users.file_is_new();
            self.history.file_is_new();
            rows
        };
        Ok(self.rows.insert(rows))
    }

    /// Deletes everything of an epoch below the floor, unless that is done already.
    fn wipe(&mut self) -> Result<(), QueueError> {
        let floor = self.facts.floor();
        self.users.forget_below(floor);
        if self.wiped >= floor {
            return Ok(());
        }
        // An earlier attempt may have emptied the file and failed at the files set aside.
        if self.emptied < floor {
            let emptied = self.empty(floor);
            if self.shut {
                self.rows = None;
            }
            emptied?;
            self.emptied = floor;
        }
        self.file.destroy_set_aside().map_err(FileError::while_wiping)?;
        self.wiped = floor;
        Ok(())
    }

    /// Deletes the rows of epochs below `floor`, or the whole file if that fails.
    fn empty(&mut self, floor: u64) -> Result<(), QueueError> {
        match self.reopened().and_then(|rows| rows.wipe(floor)) {
            Ok(()) => Ok(()),
            // Another process has the file open, or has had it since this one shut down. It follows
            // the same record, so it or the next one wipes.
            Err(StorageError::Refused(error @ QueueError::InUse)) => Err(error),
            // On a full disk there may be no room for the log that deleting rows needs.
            Err(_) => self.destroy().map_err(FileError::while_wiping),
        }
    }

    fn close(&mut self) {
        if self.shut {
            return;
        }
        self.keep_history();
        self.mark();
        if self.wipe().is_err() {
            warn!("the queue file could not be wiped: the next start will do it");
        }
        // A wipe may have had to delete the whole file.
        self.keep_erasures();
        self.shut = true;
        // The next process may open the file from now on.
        self.settings.takes_over = false;
        self.rows = None;
        self.facts.closed.stop();
    }

    /// Logs a failure, once for all failures in a row.
    fn failed(&mut self, error: &StorageError) {
        if !std::mem::replace(&mut self.failing, true) {
            let code = error.code();
            warn!(code, "the queue file cannot be written: events wait in memory only");
        }
    }
}

#[cfg(test)]
mod tests;
