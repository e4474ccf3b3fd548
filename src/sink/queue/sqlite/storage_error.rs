//! The error of an operation on the file.

use rusqlite::ErrorCode;

use crate::sink::queue::QueueError;

/// SQLite's extended error code for a link that must not be followed
/// (<https://sqlite.org/rescode.html#cantopen_symlink>). rusqlite's bindings for an SQLite
/// that it does not build itself are older than this code.
const CANTOPEN_SYMLINK: i32 = rusqlite::ffi::SQLITE_CANTOPEN | (6 << 8);

/// The reason why a statement failed, or why the file could not be opened.
#[derive(Debug)]
pub(super) enum StorageError {
    /// The file is damaged, or is not an SQLite database.
    Damaged(rusqlite::Error),
    /// A failure that may be temporary: no space, no permission, a broken disk.
    Failed(rusqlite::Error),
    /// The file must not be used.
    Refused(QueueError),
}

impl From<rusqlite::Error> for StorageError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error),
            _ if error.sqlite_error().map(|error| error.extended_code)
                == Some(CANTOPEN_SYMLINK) =>
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

impl From<StorageError> for QueueError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Damaged(error) | StorageError::Failed(error) => {
                Self::Open(Box::new(error))
            }
            StorageError::Refused(error) => error,
        }
    }
}

impl StorageError {
    /// Returns SQLite's error code, for the log. Its messages may contain the path.
    pub(super) fn code(&self) -> i32 {
        match self {
            Self::Damaged(error) | Self::Failed(error) => {
                error.sqlite_error().map_or(0, |error| error.extended_code)
            }
            Self::Refused(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_for_a_link_is_that_of_sqlite() {
        assert_eq!(CANTOPEN_SYMLINK, rusqlite::ffi::SQLITE_CANTOPEN_SYMLINK);
    }
}
