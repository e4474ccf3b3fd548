//! Why something could not be done with the file.

use rusqlite::ErrorCode;

use crate::sink::queue::QueueError;

/// SQLite's extended code for a link where no link may be
/// (<https://sqlite.org/rescode.html#cantopen_symlink>). The bindings that rusqlite has for an
/// SQLite which it does not build itself are older than the code.
const CANTOPEN_SYMLINK: i32 = rusqlite::ffi::SQLITE_CANTOPEN | (6 << 8);

/// Why a statement failed, or the file could not be opened.
#[derive(Debug)]
pub(super) enum StorageError {
    /// The file is damaged, or none of SQLite's.
    Damaged(rusqlite::Error),
    /// Anything that may pass: no space, no permission, a broken disk.
    Failed(rusqlite::Error),
    /// It was found to be of no use.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_a_link_is_sqlites() {
        assert_eq!(CANTOPEN_SYMLINK, rusqlite::ffi::SQLITE_CANTOPEN_SYMLINK);
    }
}
