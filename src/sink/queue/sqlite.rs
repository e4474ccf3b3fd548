//! A queue that outlives the process: an SQLite file at a path of the app's choice.

mod age;
mod disk;
mod facts;
mod file;
mod first_look;
#[cfg(feature = "testing")]
mod hanging_disk;
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

/// A durable queue: what has left the intake is in a file, until every backend has
/// taken it.
///
/// Give it to [`AnalyticsBuilder::queue`](crate::AnalyticsBuilder::queue). Events are
/// written in batches, by a thread that the queue has until it is closed: `capture`
/// does no I/O, and Tokio's blocking threads are not used. At the next start those that no backend had taken are queued again,
/// under the same unique IDs and times, once they have passed the guard of that start.
/// They leave only if the homeserver proves the consent under which they were captured.
///
/// It is only worth something with a client whose store is on disk, for that is where
/// the consent is remembered: a start whose store remembers no yes deletes what it finds,
/// counted as [`Withdrawn`](crate::DropReason::Withdrawn). So does a test of a restart,
/// unless its client is made with
/// `client_with(&device, |builder| builder.sqlite_store(directory, None))`.
///
/// # What survives what
///
/// | | what is left |
/// |---|---|
/// | the process is killed, or panics | all that had left the intake: what is younger than [`batch_max_age`](crate::AnalyticsBuilder::batch_max_age) may be lost, unless [`flush`](crate::Analytics::flush) has returned since. A batch whose answer had not been written down is sent again, under the same unique IDs. |
/// | the last handle is dropped, or [`shutdown`](crate::Analytics::shutdown) runs out of time | all that was captured, if the runtime goes on for a moment; else as if killed |
/// | power is cut, or the system crashes | a sound file, without its last moments: the system decides when it writes them |
/// | the disk is full, read-only or broken while the app runs | what was written before. New events wait in memory as without this queue, [`QueueStats::not_durable`](crate::QueueStats::not_durable) counts them, one warning is logged, and writing is tried again with each batch. |
/// | the disk hangs while the app runs | what was written before. A batch waits five seconds for it; after that events wait in memory and are delivered from there, until the disk is back. Neither [`shutdown`](crate::Analytics::shutdown) nor the end of the runtime waits for it, and the receipt of a withdrawal says [`Pending`](crate::Step::Pending). |
/// | the file is damaged or cut | nothing of it: it is deleted, counted in [`QueueStats::unreadable_files`](crate::QueueStats::unreadable_files), and a new one is begun. A damaged row is deleted alone, a cut write-ahead log ends before the cut. |
/// | the file is no database | it is set aside, as `<path>.set-aside`, and a new one is begun. It may be an old file of this queue, so a withdrawal deletes it too: choose a path that nothing else uses. |
/// | the file is a database of something else | that, untouched: [`QueueError::NotOurs`](crate::QueueError::NotOurs) |
/// | a link is in the place of the file | that and its target, untouched: [`QueueError::NotARegularFile`](crate::QueueError::NotARegularFile) |
/// | the user withdraws | nothing: see below |
///
/// Rows are bounded in number, size and age by the limits of the queue in memory. Age
/// goes by the wall clock across a restart: after a clock that jumped ahead, events
/// are taken for as old as it says; an event from the future counts as new once, at
/// the first start that meets it.
///
/// User properties have one row for each backend, bounded by the limit of one event
/// ([`MAX_EVENT_BYTES`](crate::MAX_EVENT_BYTES), for each of the two kinds). They have no
/// age limit.
///
/// # Withdrawal
///
/// Rows carry the epoch of the consent they were captured under. Once that is over
/// they are never sent, whatever happens: a withdrawal overwrites them with zeros,
/// empties the write-ahead log, and deletes files that were set aside; a process that
/// was killed before it could does so at its next start, because the record in the
/// client's store names a later epoch. The same goes for the end of a session, a change
/// of the ID, a consent that was not confirmed, and a start under `DO_NOT_TRACK` or a
/// veto of the device.
///
/// No program can reach the copies that lie below or beside the file: what a
/// solid-state disk keeps for wear levelling, snapshots of the file system, backups.
/// A passphrase makes those useless too, as long as it is secret.
///
/// # Whose it is
///
/// One file serves one `Analytics` at a time; a second one, of whatever process, is
/// told that it is [in use](crate::QueueError::InUse). It is open until
/// [`shutdown`](crate::Analytics::shutdown), or until the last handle is dropped; the end
/// of a session wipes it and does not close it. Several accounts have a file each, beside
/// their stores. The file knows its user and
/// event type by a salted hash. Rows of another user are deleted unsent, and counted in
/// [`QueueStats::discarded`](crate::QueueStats::discarded). A backend is known by its
/// [`name`](crate::Backend::name): one that is new gets nothing of before its time, and
/// what waited for one that is gone is deleted.
pub struct SqliteQueue {
    path: PathBuf,
    passphrase: Option<Zeroizing<String>>,
    #[cfg(feature = "testing")]
    disk: HangingDisk,
}

/// Prints neither the path, which often has a user's name in it, nor the passphrase.
impl fmt::Debug for SqliteQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteQueue").finish_non_exhaustive()
    }
}

impl SqliteQueue {
    /// A queue in the file at `path`, which is made if there is none, for its owner
    /// only. Its directory must exist, and should be one that no other program writes to.
    /// A relative path is resolved when the queue is opened.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            passphrase: None,
            #[cfg(feature = "testing")]
            disk: HangingDisk::default(),
        }
    }

    /// Lets each access to the file wait while `disk` hangs.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn on_disk(mut self, disk: &HangingDisk) -> Self {
        self.disk = disk.clone();
        self
    }

    /// The path, and `setup` with what was said of the file here.
    fn set_up(self, mut setup: OpenSettings) -> (PathBuf, OpenSettings) {
        setup.passphrase = self.passphrase;
        #[cfg(feature = "testing")]
        {
            setup.disk = self.disk;
        }
        (self.path, setup)
    }

    /// Encrypts the events with the cipher of matrix-sdk's own stores, under a key that
    /// `passphrase` unlocks.
    ///
    /// What stays readable is how many events wait, how large they are, when they were
    /// written, the [`name`](crate::Backend::name) of each backend and how many it has
    /// taken, for which backends user properties wait and how large these are, and under
    /// how many consents (epochs) all of it came. A file that was
    /// begun without a passphrase is encrypted when it is opened with one.
    #[must_use]
    pub fn passphrase(mut self, passphrase: impl Into<String>) -> Self {
        self.passphrase = Some(Zeroizing::new(passphrase.into()));
        self
    }
}
