//! A durable queue: an SQLite file at a path that the app chooses.

mod age;
mod disk;
mod facts;
mod file;
mod first_look;
#[cfg(feature = "testing")]
mod hanging_disk;
mod history;
pub(crate) mod journal;
pub(crate) mod open_settings;
mod orders;
mod own_file;
mod payload;
mod restore;
mod rows;
mod schema;
mod storage_error;
#[cfg(test)]
mod tests;
mod user;

use std::{fmt, path::PathBuf};

use zeroize::Zeroizing;

#[cfg(feature = "testing")]
pub use self::hanging_disk::HangingDisk;
use self::open_settings::OpenSettings;

/// A durable queue, which keeps events in a file until every backend has taken them.
///
/// Pass it to [`AnalyticsBuilder::queue`](crate::AnalyticsBuilder::queue). A thread of the
/// queue's own writes events in batches, so `capture` does no I/O and Tokio's blocking
/// threads are not used. The next start queues the undelivered events again, under the
/// same unique IDs and times, once they have passed that start's guard. They are sent only
/// if the homeserver proves the consent under which they were captured.
///
/// The queue requires a client with a persistent state store, because that is where the
/// decision is recorded. If the next start finds no recorded opt-in, it deletes the queued
/// events and counts them as [`Withdrawn`](crate::DropReason::Withdrawn). To test a
/// restart, make the client with
/// `client_with(&device, |builder| builder.sqlite_store(directory, None))`.
///
/// # What survives
///
/// | when | what survives |
/// |---|---|
/// | the process is killed, or panics | All events that had left the intake. Events younger than [`batch_max_age`](crate::Limits::batch_max_age) may be lost, unless [`flush`](crate::Analytics::flush) has returned since. If the delivery of a batch was not yet recorded, the batch is sent again, under the same unique IDs. |
/// | the last handle is dropped, or [`shutdown`](crate::Analytics::shutdown) runs out of time | All captured events, if the runtime keeps running for a moment; otherwise as if the process was killed. |
/// | power fails, or the system crashes | An intact file without the last writes: the operating system decides when they reach the disk. |
/// | the disk is full, read-only or broken while the app runs | The events written before. New events wait in memory as without this queue, [`QueueStats::not_durable`](crate::QueueStats::not_durable) counts them, one warning is logged, and each batch tries to write again. |
/// | the disk hangs while the app runs | The events written before. A batch waits five seconds for the disk. After that, events wait in memory and are delivered from there until the disk responds. Neither [`shutdown`](crate::Analytics::shutdown) nor the end of the runtime waits for the disk, and the receipt of a withdrawal says [`Pending`](crate::WithdrawalStep::Pending). |
/// | the file is damaged or truncated | Nothing. The file is deleted, counted in [`QueueStats::unreadable_files`](crate::QueueStats::unreadable_files), and replaced by a new one. A damaged row is deleted alone, and a truncated write-ahead log is read up to the cut. |
/// | the file is not a database | The file, renamed to `<path>.set-aside`, next to a new one. It may be an old file of this queue, so a withdrawal deletes it as well: choose a path that nothing else uses. |
/// | the file is a database of another program | The database, unchanged: [`QueueError::NotOurs`](crate::QueueError::NotOurs). |
/// | there is a link in place of the file | The link and its target, unchanged: [`QueueError::NotARegularFile`](crate::QueueError::NotARegularFile). |
/// | the user withdraws | Nothing: see below. |
///
/// The limits of the queue in memory also bound the number, size and age of rows. Across a
/// restart, age is measured by the wall clock. If the clock has jumped ahead, events are
/// as old as it says. An event from the future counts as new once, at the first start that
/// finds it.
///
/// User properties take one row per backend, bounded by the size limit of one event
/// ([`MAX_EVENT_BYTES`](crate::MAX_EVENT_BYTES), for each of the two kinds). They have no
/// age limit.
///
/// # Withdrawal
///
/// Each row carries the epoch of the consent under which it was captured. Once that epoch
/// is over, the row is never sent. A withdrawal overwrites such rows with zeros, empties
/// the write-ahead log, and deletes files that were set aside. If the process is killed
/// before that, its next start does it, because the record in the client's store names a
/// later epoch. The same applies to the end of a session, a change of the ID, a consent
/// that was not confirmed, and a start under `DO_NOT_TRACK` or a veto of the device.
///
/// No program can reach copies outside the file: the blocks that a solid-state disk keeps
/// for wear levelling, file system snapshots, and backups. With a passphrase, those are
/// useless as long as the passphrase stays secret.
///
/// # Ownership
///
/// One file serves one `Analytics` at a time. A second one, in this or another process,
/// gets the error [`InUse`](crate::QueueError::InUse). The file is open until
/// [`shutdown`](crate::Analytics::shutdown), or until the last handle is dropped; the end
/// of a session wipes it but does not close it. Use one file per account, next to the
/// account's store.
///
/// The file stores a salted hash of its user and event type. Rows of another user are
/// deleted unsent, and counted in
/// [`QueueStats::discarded`](crate::QueueStats::discarded). Backends are identified by
/// [`name`](crate::Backend::name): a new backend gets no earlier events, and events that
/// waited only for a removed backend are deleted.
pub struct SqliteQueue {
    path: PathBuf,
    passphrase: Option<Zeroizing<String>>,
    keeps_history: bool,
    #[cfg(feature = "testing")]
    disk: HangingDisk,
}

/// Prints neither the path, which often contains a user's name, nor the passphrase.
impl fmt::Debug for SqliteQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteQueue").finish_non_exhaustive()
    }
}

impl SqliteQueue {
    /// Creates a queue in the file at `path`.
    ///
    /// If there is no file, it is created with permissions for its owner only. The
    /// directory must exist, and no other program should write to it. A relative path is
    /// resolved when the queue is opened.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            passphrase: None,
            keeps_history: false,
            #[cfg(feature = "testing")]
            disk: HangingDisk::default(),
        }
    }

    /// Makes each access to the file wait while `disk` hangs.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn on_disk(mut self, disk: &HangingDisk) -> Self {
        self.disk = disk.clone();
        self
    }

    /// Keeps the history in the file as well, so that it outlives the process; no effect unless
    /// [`AnalyticsBuilder::history`](crate::AnalyticsBuilder::history) is set.
    ///
    /// The next start reads it, whole, if the consent has not changed. It has the same bounds as
    /// in memory, is encrypted as the events are, and is wiped with them. A request that was in
    /// progress when the process ended is
    /// [`Unconfirmed`](crate::SentOutcome::Unconfirmed). A start without this option deletes it.
    ///
    /// Entries are written in the background. If the disk fails, they are in memory only, and
    /// [`QueueStats::history_failures`](crate::QueueStats::history_failures) counts that.
    ///
    /// The guard of a later start does not change it, because it shows what was sent, or tried.
    #[must_use]
    pub fn keep_history(mut self) -> Self {
        self.keeps_history = true;
        self
    }

    pub(crate) fn keeps_history(&self) -> bool {
        self.keeps_history
    }

    /// Returns the path, and whether the events are encrypted.
    pub(crate) fn described(&self) -> (String, bool) {
        (self.path.display().to_string(), self.passphrase.is_some())
    }

    /// Completes `settings` with those of this queue, and returns them with the path.
    fn apply_to(self, mut settings: OpenSettings) -> (PathBuf, OpenSettings) {
        settings.passphrase = self.passphrase;
        #[cfg(feature = "testing")]
        {
            settings.disk = self.disk;
        }
        (self.path, settings)
    }

    /// Encrypts the events with the cipher of matrix-sdk's own stores, under a key that
    /// `passphrase` unlocks.
    ///
    /// The following stays readable: the number of events, their sizes and the times at
    /// which they were written; the [`name`](crate::Backend::name) of each backend and the
    /// number of events that it has taken; the backends that user properties wait for, and
    /// their sizes; the number of entries in the history, and their sizes; and the epochs. A file
    /// that was created without a passphrase is encrypted when it is opened with one.
    #[must_use]
    pub fn passphrase(mut self, passphrase: impl Into<String>) -> Self {
        self.passphrase = Some(Zeroizing::new(passphrase.into()));
        self
    }
}
