//! The tables, and what a file of ours is known by.

use rusqlite::Connection;

/// "MxAn", in the header of every file of ours.
pub(super) const APPLICATION_ID: i32 = 0x4d78_416e;
/// The version of the tables that this code writes.
pub(super) const VERSION: i32 = 1;

/// A row waits for each backend that has not seen it: its `done` is below the row, and it
/// has not refused the row. So a backend that takes a hundred events costs one
/// number, and rows go by ranges.
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

/// Returns whether there is no table at all.
pub(super) fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
}

/// Makes the tables and sets `pragmas`, all or nothing.
pub(super) fn create(connection: &Connection, pragmas: &[(&str, i32)]) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    for (pragma, value) in pragmas {
        transaction.pragma_update(None, pragma, value)?;
    }
    transaction.execute_batch(TABLES)?;
    transaction.commit()
}

/// Adds the table of what each backend has still to be told about the user. A file that was
/// begun before there was one gets it when it is opened.
pub(super) fn add_user_table(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS user (
            backend TEXT PRIMARY KEY, epoch INTEGER NOT NULL, payload BLOB NOT NULL
        ) WITHOUT ROWID",
    )
}
