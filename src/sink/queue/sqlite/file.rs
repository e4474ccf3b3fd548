//! Opens the queue file, recognises files of ours, and removes files that cannot be used.

use std::{
    ffi::OsString,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};
use tracing::warn;

use super::{
    first_look,
    own_file::{self, FileError},
    schema::{self, APPLICATION_ID, VERSION},
    storage_error::StorageError,
};
use crate::sink::queue::QueueError;

/// The time to wait for another connection that is about to close the file.
const BUSY_TIME: Duration = Duration::from_secs(1);
/// The size that the write-ahead log is truncated to after a checkpoint, in bytes.
const LARGEST_IDLE_LOG: i64 = 1024 * 1024;

const HEADER: &[u8; 16] = b"SQLite format 3\0";
/// The offset of the application ID in the header.
const APPLICATION_ID_AT: usize = 68;

/// The path of the file, in a directory that was resolved once.
#[derive(Debug)]
pub(super) struct QueueFile(PathBuf);

/// An open file that is intact and ours.
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// Whether it replaces a file that could not be read.
    pub(super) replaced: bool,
}

impl QueueFile {
    /// Resolves the directory of `path`. Links that are put there later are not followed.
    pub(super) fn resolve(path: &Path) -> Result<Self, QueueError> {
        let resolved = || {
            let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
            let directory = match path.parent() {
                Some(directory) if !directory.as_os_str().is_empty() => directory,
                _ => Path::new("."),
            };
            // On Windows, `canonicalize` returns a form of path that SQLite does not accept.
            let directory = if cfg!(unix) {
                directory.canonicalize()?
            } else {
                std::path::absolute(directory)?
            };
            Ok(Self(directory.join(name)))
        };
        resolved().map_err(|error: std::io::Error| QueueError::Open(Box::new(error)))
    }

    /// Opens the file, and replaces it by a new one if it cannot be read.
    pub(super) fn open(&self) -> Result<Opened, QueueError> {
        match self.connect() {
            Ok(connection) => Ok(Opened { connection, replaced: false }),
            Err(StorageError::Damaged(_)) => {
                self.remove_unreadable().map_err(FileError::while_opening)?;
                Ok(Opened { connection: self.connect()?, replaced: true })
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Opens a file that is intact and ours, or creates one.
    fn connect(&self) -> Result<Connection, StorageError> {
        let refused = |error: FileError| StorageError::Refused(error.while_opening());
        self.check().map_err(refused)?;
        // SQLite creates the log with the same permissions.
        own_file::create(&self.0).map_err(|error| refused(error.into()))?;
        let made = own_file::identify(&self.0).map_err(refused)?;
        first_look::refuse_foreign(&self.0, self.has_log()).map_err(StorageError::Refused)?;
        // Without SQLITE_OPEN_URI, so that no path is taken for a URI. NO_MUTEX is fine
        // because only one thread at a time uses the connection.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection = Connection::open_with_flags(&self.0, flags)?;
        if made.is_none() || own_file::identify(&self.0).map_err(refused)? != made {
            return Err(StorageError::Refused(QueueError::NotARegularFile));
        }
        connection.busy_timeout(BUSY_TIME)?;
        // Set before the first read: keeps other processes out, and needs no shared memory.
        set(&connection, "locking_mode", "EXCLUSIVE")?;
        let id: i32 = get(&connection, "application_id")?;
        if id == 0 && schema::is_empty(&connection)? {
            schema::create(&connection)?;
        } else if id != APPLICATION_ID {
            return Err(StorageError::Refused(QueueError::NotOurs));
        }
        let version: i32 = get(&connection, "user_version")?;
        if version > VERSION {
            return Err(StorageError::Refused(QueueError::Newer));
        }
        // With `synchronous=NORMAL`, SQLite waits for the disk only at a checkpoint. Losing
        // the last events in a power failure is better than an app that waits for a disk.
        set(&connection, "journal_mode", "WAL")?;
        self.check().map_err(refused)?;
        set(&connection, "synchronous", "NORMAL")?;
        set(&connection, "secure_delete", "ON")?;
        set(&connection, "temp_store", "MEMORY")?;
        set(&connection, "journal_size_limit", LARGEST_IDLE_LOG)?;
        let verdict: String = get(&connection, "quick_check(1)")?;
        if verdict != "ok" {
            let damage = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
            return Err(StorageError::Damaged(rusqlite::Error::SqliteFailure(damage, None)));
        }
        if version < VERSION {
            schema::upgrade(&connection)?;
        }
        Ok(connection)
    }

    /// Removes a file that cannot be read. A file of ours is deleted, because it may hold
    /// events for which consent can no longer be checked. Any other file is renamed, in
    /// case the path is a mistake.
    fn remove_unreadable(&self) -> Result<(), FileError> {
        if self.has_our_header() {
            warn!("the queue file is damaged: deleting it and creating a new one");
            return self.destroy();
        }
        warn!("the queue file is not a database: setting it aside and creating a new one");
        self.destroy_set_aside()?;
        for suffix in SUFFIXES {
            match fs::rename(self.with_suffix(suffix), self.set_aside(suffix)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns whether the file has a log that is not empty.
    fn has_log(&self) -> bool {
        let length =
            |suffix| fs::symlink_metadata(self.with_suffix(suffix)).map_or(0, |log| log.len());
        length("-wal") > 0 || length("-journal") > 0
    }

    fn has_our_header(&self) -> bool {
        let mut header = [0; APPLICATION_ID_AT + 4];
        own_file::read_start(&self.0, &mut header).is_ok()
            && header.starts_with(HEADER)
            && header[APPLICATION_ID_AT..] == APPLICATION_ID.to_be_bytes()
    }

    /// Deletes the file and its logs.
    pub(super) fn destroy(&self) -> Result<(), FileError> {
        destroy_all(&SUFFIXES.map(|suffix| self.with_suffix(suffix)))
    }

    /// Deletes the files that were set aside.
    pub(super) fn destroy_set_aside(&self) -> Result<(), FileError> {
        destroy_all(&SUFFIXES.map(|suffix| self.set_aside(suffix)))
    }

    /// Checks that each name which is used here is free or a file that may be ours.
    fn check(&self) -> Result<(), FileError> {
        SUFFIXES.iter().try_for_each(|suffix| {
            own_file::identify(&self.with_suffix(suffix))?;
            own_file::identify(&self.set_aside(suffix))?;
            Ok(())
        })
    }

    fn with_suffix(&self, suffix: &str) -> PathBuf {
        let mut path = OsString::from(&self.0);
        path.push(suffix);
        path.into()
    }

    fn set_aside(&self, suffix: &str) -> PathBuf {
        self.with_suffix(&format!(".set-aside{suffix}"))
    }
}

/// The suffixes of SQLite's files. The database comes last, so that it is deleted last:
/// without it, no start would look for the others.
const SUFFIXES: [&str; 4] = ["-wal", "-shm", "-journal", ""];

/// Deletes all `paths`. Goes on after an error, and returns the first one.
fn destroy_all(paths: &[PathBuf; SUFFIXES.len()]) -> Result<(), FileError> {
    paths.iter().map(|path| own_file::destroy(path)).fold(Ok(()), Result::and)
}

fn set<T: rusqlite::ToSql>(
    connection: &Connection,
    pragma: &str,
    value: T,
) -> rusqlite::Result<()> {
    // Some pragmas return the new value, others return no row.
    connection.pragma_update_and_check(None, pragma, value, |_| Ok(())).or_else(|error| match error
    {
        rusqlite::Error::QueryReturnedNoRows => Ok(()),
        error => Err(error),
    })
}

fn get<T: rusqlite::types::FromSql>(connection: &Connection, pragma: &str) -> rusqlite::Result<T> {
    connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0))
}
