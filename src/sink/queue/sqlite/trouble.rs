//! Why something could not be done with the file.

use rusqlite::ErrorCode;

use crate::sink::queue::QueueError;

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
            _ if error.sqlite_error().map(|error| error.extended_code)
                == Some(rusqlite::ffi::SQLITE_CANTOPEN_SYMLINK) =>
            {
                Self::Refused(QueueError::NotARegularFile)
            }
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
