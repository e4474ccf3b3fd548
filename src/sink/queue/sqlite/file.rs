//! The file itself: opening it, knowing it for ours, and getting rid of one that is of
//! no use.

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

/// How long to wait for one that is about to let go of the file.
const BUSY_TIME: Duration = Duration::from_secs(1);
/// What the write-ahead log is cut to when it is taken over.
const LARGEST_IDLE_LOG: i64 = 1024 * 1024;

const HEADER: &[u8; 16] = b"SQLite format 3\0";
/// Where SQLite keeps the application ID in the header.
const APPLICATION_ID_AT: usize = 68;

/// Where the file is, in a directory that was looked up once.
#[derive(Debug)]
pub(super) struct QueueFile(PathBuf);

/// A file that is open, sound and ours.
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// There was one that could not be read.
    pub(super) replaced: bool,
}

impl QueueFile {
    /// Looks up the directory of `path`. No link that is put in its way later is followed.
    pub(super) fn resolve(path: &Path) -> Result<Self, QueueError> {
        let resolved = || {
            let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
            let directory = match path.parent() {
                Some(directory) if !directory.as_os_str().is_empty() => directory,
                _ => Path::new("."),
            };
            // SQLite does not know the form in which Windows says what leads through links.
            let directory = if cfg!(unix) {
                directory.canonicalize()?
            } else {
                std::path::absolute(directory)?
            };
            Ok(Self(directory.join(name)))
        };
        resolved().map_err(|error: std::io::Error| QueueError::Open(Box::new(error)))
    }

    /// Opens the file, and begins a new one in place of one that cannot be read.
    pub(super) fn open(&self) -> Result<Opened, QueueError> {
        match self.connect() {
            Ok(connection) => Ok(Opened { connection, replaced: false }),
            Err(StorageError::Damaged(_)) => {
                self.put_away().map_err(FileError::while_opening)?;
                Ok(Opened { connection: self.connect()?, replaced: true })
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Opens a file that is sound and ours, or a new one.
    fn connect(&self) -> Result<Connection, StorageError> {
        let refused = |error: FileError| StorageError::Refused(error.while_opening());
        self.check().map_err(refused)?;
        // Its log gets the same permissions.
        own_file::create(&self.0).map_err(|error| refused(error.into()))?;
        let made = own_file::identify(&self.0).map_err(refused)?;
        first_look::refuse_foreign(&self.0, self.has_log()).map_err(StorageError::Refused)?;
        // No URI: the path is a path, whatever it begins with. One thread at a time has
        // the connection.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection = Connection::open_with_flags(&self.0, flags)?;
        if made.is_none() || own_file::identify(&self.0).map_err(refused)? != made {
            return Err(StorageError::Refused(QueueError::NotARegularFile));
        }
        connection.busy_timeout(BUSY_TIME)?;
        // Before the first look at the file: no shared memory, and no other process.
        set(&connection, "locking_mode", "EXCLUSIVE")?;
        let id: i32 = get(&connection, "application_id")?;
        if id == 0 && schema::is_empty(&connection)? {
            let pragmas = [("application_id", APPLICATION_ID), ("user_version", VERSION)];
            schema::create(&connection, &pragmas)?;
        } else if id != APPLICATION_ID {
            return Err(StorageError::Refused(QueueError::NotOurs));
        }
        if get::<i32>(&connection, "user_version")? > VERSION {
            return Err(StorageError::Refused(QueueError::Newer));
        }
        // It waits for the disk when the log is taken over only: what a power cut may
        // lose is worth less than an app that waits for a disk.
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
        schema::add_user_table(&connection)?;
        Ok(connection)
    }

    /// Gets rid of a file that cannot be read. One that is ours is deleted: it may
    /// hold events, and nothing could ever tell whether they may still be sent.
    /// Anything else is set aside, in case that the path is a mistake.
    fn put_away(&self) -> Result<(), FileError> {
        if self.has_our_header() {
            warn!("the file of the queue is damaged: it is deleted, and a new one begun");
            return self.destroy();
        }
        warn!("the file of the queue is no database: it is set aside, and a new one begun");
        self.destroy_set_aside()?;
        for suffix in SUFFIXES {
            match fs::rename(self.beside(suffix), self.set_aside(suffix)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether there is a log beside the file that is not empty.
    fn has_log(&self) -> bool {
        let length = |suffix| fs::symlink_metadata(self.beside(suffix)).map_or(0, |log| log.len());
        length("-wal") > 0 || length("-journal") > 0
    }

    fn has_our_header(&self) -> bool {
        let mut header = [0; APPLICATION_ID_AT + 4];
        own_file::read_start(&self.0, &mut header).is_ok()
            && header.starts_with(HEADER)
            && header[APPLICATION_ID_AT..] == APPLICATION_ID.to_be_bytes()
    }

    /// Deletes the file and what belongs to it.
    pub(super) fn destroy(&self) -> Result<(), FileError> {
        destroy_all(&SUFFIXES.map(|suffix| self.beside(suffix)))
    }

    /// Deletes what was set aside.
    pub(super) fn destroy_set_aside(&self) -> Result<(), FileError> {
        destroy_all(&SUFFIXES.map(|suffix| self.set_aside(suffix)))
    }

    /// Refuses anything but files that may be ours, at each name that is used here.
    fn check(&self) -> Result<(), FileError> {
        SUFFIXES.iter().try_for_each(|suffix| {
            own_file::identify(&self.beside(suffix))?;
            own_file::identify(&self.set_aside(suffix))?;
            Ok(())
        })
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = OsString::from(&self.0);
        path.push(suffix);
        path.into()
    }

    fn set_aside(&self, suffix: &str) -> PathBuf {
        self.beside(&format!(".set-aside{suffix}"))
    }
}

/// The file, and what SQLite puts beside it. The file goes last: without it nobody
/// would look for the others.
const SUFFIXES: [&str; 4] = ["-wal", "-shm", "-journal", ""];

/// Deletes each of `paths` that can be deleted.
fn destroy_all(paths: &[PathBuf; SUFFIXES.len()]) -> Result<(), FileError> {
    paths.iter().map(|path| own_file::destroy(path)).fold(Ok(()), Result::and)
}

fn set<T: rusqlite::ToSql>(
    connection: &Connection,
    pragma: &str,
    value: T,
) -> rusqlite::Result<()> {
    // Some answer with the new value, some with nothing.
    connection.pragma_update_and_check(None, pragma, value, |_| Ok(())).or_else(|error| match error
    {
        rusqlite::Error::QueryReturnedNoRows => Ok(()),
        error => Err(error),
    })
}

fn get<T: rusqlite::types::FromSql>(connection: &Connection, pragma: &str) -> rusqlite::Result<T> {
    connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0))
}
