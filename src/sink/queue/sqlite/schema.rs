//! The tables, and the application ID of the file.

use rusqlite::Connection;

/// The application ID, `MxAn`, in the header of every file of ours.
pub(super) const APPLICATION_ID: i32 = 0x4d78_416e;
/// The version of the tables that this code writes.
pub(super) const VERSION: i32 = 1;

/// The statement that creates the tables.
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

/// Returns whether the database has no tables.
pub(super) fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
}

/// Creates the tables and sets `pragmas`, in one transaction.
pub(super) fn create(connection: &Connection, pragmas: &[(&str, i32)]) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    for (pragma, value) in pragmas {
        transaction.pragma_update(None, pragma, value)?;
    }
    transaction.execute_batch(TABLES)?;
    transaction.commit()
}

/// Adds the table of the user properties that wait for each backend. A file from before
/// this table existed gets it when it is opened.
pub(super) fn add_user_table(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS user (
            backend TEXT PRIMARY KEY, epoch INTEGER NOT NULL, payload BLOB NOT NULL
        ) WITHOUT ROWID",
    )
}
