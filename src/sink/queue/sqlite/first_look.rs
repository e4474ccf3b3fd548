//! Inspects a database before it is opened, so that a database of another program is not
//! changed.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::schema::{self, APPLICATION_ID, VERSION};
use crate::sink::queue::QueueError;

/// The content of the database file itself, without its logs.
struct Header {
    application_id: i32,
    version: i32,
    pages: i64,
    has_no_table: bool,
}

/// Refuses the database at `path` if it belongs to another program or to a newer version.
/// `has_log` says whether it has a log that is not empty.
///
/// A file that cannot be read is accepted here, because opening it reports the reason.
///
/// Opening a database normally rolls back its journal and checkpoints its write-ahead log.
/// With `immutable`, SQLite reads only the database file, and closes it without releasing
/// the locks of another connection in this process
/// (<https://sqlite.org/uri.html#uriimmutable>).
pub(super) fn refuse_foreign(path: &Path, has_log: bool) -> Result<(), QueueError> {
    look(path).map_or(Ok(()), |header| verdict(&header, has_log))
}

/// Decides from `header` whether the file may be used.
///
/// A file of ours gets its tables and its ID in one transaction. A file without an ID may
/// therefore be used only if it has no tables, and its log is empty.
fn verdict(header: &Header, has_log: bool) -> Result<(), QueueError> {
    match header.application_id {
        APPLICATION_ID if header.version > VERSION => Err(QueueError::Newer),
        APPLICATION_ID => Ok(()),
        0 if header.pages == 0 || header.has_no_table && !has_log => Ok(()),
        _ => Err(QueueError::NotOurs),
    }
}

fn look(path: &Path) -> rusqlite::Result<Header> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(uri(path), flags)?;
    let get = |pragma: &str| {
        connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0))
    };
    Ok(Header {
        application_id: get("application_id")? as i32,
        version: get("user_version")? as i32,
        pages: get("page_count")?,
        has_no_table: schema::is_empty(&connection)?,
    })
}

/// Returns the URI of the file at `path`, which is absolute
/// (<https://sqlite.org/uri.html#the_uri_path>).
fn uri(path: &Path) -> String {
    let mut uri = String::from("file://");
    let bytes = path.as_os_str().as_encoded_bytes();
    if !bytes.starts_with(b"/") && cfg!(windows) {
        uri.push('/');
    }
    for byte in bytes {
        match byte {
            b'\\' if cfg!(windows) => uri.push('/'),
            b'/' | b':' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                uri.push(char::from(*byte));
            }
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_ours_and_empty_files_are_accepted() {
        let verdict = |application_id, version, pages, has_no_table, has_log| {
            verdict(&Header { application_id, version, pages, has_no_table }, has_log)
        };
        for has_log in [false, true] {
            assert!(verdict(APPLICATION_ID, VERSION, 5, false, has_log).is_ok());
            assert!(verdict(0, 0, 0, true, has_log).is_ok());
            assert_eq!(verdict(0, 0, 1, true, has_log).is_ok(), !has_log);
            for empty in [false, true] {
                let newer = verdict(APPLICATION_ID, VERSION + 1, 5, empty, has_log);
                assert!(matches!(newer, Err(QueueError::Newer)));
                let foreign = verdict(7, VERSION, 5, empty, has_log);
                assert!(matches!(foreign, Err(QueueError::NotOurs)));
            }
            assert!(matches!(verdict(0, 0, 2, false, has_log), Err(QueueError::NotOurs)));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_path_may_contain_any_byte() {
        use std::os::unix::ffi::OsStrExt as _;

        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join(std::ffi::OsStr::from_bytes(b"50%?a=b#c&d e\xff"));
        Connection::open(&path).unwrap().pragma_update(None, "application_id", 7).unwrap();
        assert_eq!(look(&path).unwrap().application_id, 7);
    }
}
