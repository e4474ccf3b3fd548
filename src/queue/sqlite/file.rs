//! The file itself: opening it, knowing it for ours, and getting rid of one that is of
//! no use.

use std::{
    ffi::OsString,
    fs,
    io::{self, ErrorKind, Read as _, Write as _},
    path::PathBuf,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tracing::warn;

use super::rows;
use crate::QueueError;

/// "MxAn", in the header of every file of ours.
const APPLICATION_ID: i32 = 0x4d78_416e;
/// The version of the tables that this code writes.
const VERSION: i32 = 1;
/// How long to wait for one that is about to let go of the file.
const BUSY_TIME: Duration = Duration::from_secs(1);
/// What the write-ahead log is cut to when it is taken over.
const LARGEST_IDLE_LOG: i64 = 1024 * 1024;

const HEADER: &[u8; 16] = b"SQLite format 3\0";
/// Where SQLite keeps the application ID in the header.
const APPLICATION_ID_AT: usize = 68;

/// Where the file is.
#[derive(Debug)]
pub(super) struct Place(PathBuf);

/// Why a statement failed, or the file could not be opened.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The file is damaged, or none of SQLite's.
    Damaged(rusqlite::Error),
    /// Anything that may pass: no space, no permission, a broken disk.
    Failed(rusqlite::Error),
    /// It was found to be of no use.
    Refused(QueueError),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Self::Refused(QueueError::InUse)
            }
            _ => Self::Failed(error),
        }
    }
}

impl From<Trouble> for QueueError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Damaged(error) | Trouble::Failed(error) => Self::Open(Box::new(error)),
            Trouble::Refused(error) => error,
        }
    }
}

impl Trouble {
    /// What SQLite calls it, for the log: its messages may hold the path.
    pub(super) fn code(&self) -> i32 {
        match self {
            Self::Damaged(error) | Self::Failed(error) => {
                error.sqlite_error().map_or(0, |error| error.extended_code)
            }
            Self::Refused(_) => 0,
        }
    }
}

/// A file that is open, sound and ours.
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// There was one that could not be read.
    pub(super) replaced: bool,
}

impl Place {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Opens the file, and begins a new one in place of one that cannot be read.
    pub(super) fn open(&self) -> Result<Opened, QueueError> {
        match self.connect() {
            Ok(connection) => Ok(Opened { connection, replaced: false }),
            Err(Trouble::Damaged(_)) => {
                self.put_away().map_err(|error| QueueError::Open(Box::new(error)))?;
                Ok(Opened { connection: self.connect()?, replaced: true })
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Opens a file that is sound and ours, or a new one.
    fn connect(&self) -> Result<Connection, Trouble> {
        self.create().map_err(|error| Trouble::Refused(QueueError::Open(Box::new(error))))?;
        // No URI: the path is a path, whatever it begins with. One thread at a time has
        // the connection.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.0, flags)?;
        connection.busy_timeout(BUSY_TIME)?;
        // Before the first look at the file: no shared memory, and no other process.
        set(&connection, "locking_mode", "EXCLUSIVE")?;
        let id: i32 = get(&connection, "application_id")?;
        if id == 0 && rows::is_empty(&connection)? {
            let pragmas = [("application_id", APPLICATION_ID), ("user_version", VERSION)];
            rows::create(&connection, &pragmas)?;
        } else if id != APPLICATION_ID {
            return Err(Trouble::Refused(QueueError::NotOurs));
        }
        if get::<i32>(&connection, "user_version")? > VERSION {
            return Err(Trouble::Refused(QueueError::Newer));
        }
        // It waits for the disk when the log is taken over only: what a power cut may
        // lose is worth less than an app that waits for a disk.
        set(&connection, "journal_mode", "WAL")?;
        set(&connection, "synchronous", "NORMAL")?;
        set(&connection, "secure_delete", "ON")?;
        set(&connection, "temp_store", "MEMORY")?;
        set(&connection, "journal_size_limit", LARGEST_IDLE_LOG)?;
        let verdict: String = get(&connection, "quick_check(1)")?;
        if verdict != "ok" {
            let damage = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
            return Err(Trouble::Damaged(rusqlite::Error::SqliteFailure(damage, None)));
        }
        Ok(connection)
    }

    /// Makes the file, for its owner only; its log gets the same permissions. A file
    /// that is there is not opened here: to close it would take away the locks of
    /// another connection of this process.
    fn create(&self) -> io::Result<()> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(&self.0) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Gets rid of a file that cannot be read. One that is ours is deleted: it may
    /// hold events, and nothing could ever tell whether they may still be sent.
    /// Anything else is set aside, in case that the path is a mistake.
    fn put_away(&self) -> io::Result<()> {
        if self.has_our_header() {
            warn!("the file of the queue is damaged: it is deleted, and a new one begun");
            return self.destroy();
        }
        warn!("the file of the queue is no database: it is set aside, and a new one begun");
        self.destroy_set_aside()?;
        for suffix in SUFFIXES {
            match fs::rename(self.beside(suffix), self.set_aside(suffix)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn has_our_header(&self) -> bool {
        let mut header = [0; APPLICATION_ID_AT + 4];
        let read = fs::File::open(&self.0).and_then(|mut file| file.read_exact(&mut header));
        read.is_ok()
            && header.starts_with(HEADER)
            && header[APPLICATION_ID_AT..] == APPLICATION_ID.to_be_bytes()
    }

    /// Deletes the file and what belongs to it.
    pub(super) fn destroy(&self) -> io::Result<()> {
        SUFFIXES.iter().try_for_each(|suffix| destroy(self.beside(suffix)))
    }

    /// Deletes what was set aside.
    pub(super) fn destroy_set_aside(&self) -> io::Result<()> {
        SUFFIXES.iter().try_for_each(|suffix| destroy(self.set_aside(suffix)))
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

/// Deletes a file, with zeros in the place of its content if that can be done.
fn destroy(path: PathBuf) -> io::Result<()> {
    let zeroed = fs::OpenOptions::new().write(true).open(&path).and_then(|mut file| {
        let length = file.metadata()?.len();
        io::copy(&mut io::repeat(0).take(length), &mut file)?;
        file.flush()?;
        file.sync_data()
    });
    match (fs::remove_file(path), zeroed) {
        (Err(error), _) if error.kind() != ErrorKind::NotFound => Err(error),
        // Its bytes are free, and a full disk may have no room even for zeros.
        _ => Ok(()),
    }
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
