//! The tables, and the application ID of the file.

use rusqlite::Connection;

/// The application ID, `MxAn`, in the header of every file of ours.
pub(super) const APPLICATION_ID: i32 = 0x4d78_416e;
/// The version of the tables that this code writes.
pub(super) const VERSION: i32 = 2;

/// The statement that creates the first tables.
///
/// A row waits for a backend if the backend's `done` is below the row and the backend has
/// not refused the row. When a backend takes a hundred events, only one number changes.
const TABLES: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE backends (name TEXT PRIMARY KEY, done INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE refused (
        backend TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        PRIMARY KEY (backend, first)
    ) WITHOUT ROWID;
    CREATE TABLE events (
        id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, since INTEGER NOT NULL,
        payload BLOB NOT NULL
    );";

/// The statement that creates the tables which a file of version 1 may lack: the user properties
/// that wait for each backend, and the history.
const LATER_TABLES: &str = "
    CREATE TABLE IF NOT EXISTS user (
        backend TEXT PRIMARY KEY, epoch INTEGER NOT NULL, payload BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS history (
        id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, payload BLOB NOT NULL
    );";

/// Returns whether the database has no tables.
pub(super) fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
}

/// Creates the tables and marks the file as ours, in one transaction.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.execute_batch(TABLES)?;
    transaction.execute_batch(LATER_TABLES)?;
    transaction.commit()
}

/// Adds the tables that a file of an earlier version lacks. After that, code of that version
/// refuses the file, because it would not wipe these tables.
pub(super) fn upgrade(connection: &Connection) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(LATER_TABLES)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}
