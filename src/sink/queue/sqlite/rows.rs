//! The statements that read and write the tables of events, and delete from all tables.

use std::{num::NonZeroU64, sync::Arc, time::SystemTime};

use matrix_sdk_store_encryption::StoreCipher;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{age::wall_millis, payload, storage_error::StorageError};
use crate::{
    event::OutgoingEvent,
    sink::queue::{QueueError, Row},
};

/// Deletes the rows that have left every lane, or all rows if there is no backend.
const TRIM: &str = "
    DELETE FROM events
    WHERE id <= (SELECT ifnull(min(done), (SELECT max(id) FROM events)) FROM backends)";

/// Does the same if lanes have refused rows.
const TRIM_AROUND_REFUSED: &str = "
    DELETE FROM events WHERE NOT EXISTS (
        SELECT 1 FROM backends WHERE done < events.id AND NOT EXISTS (
            SELECT 1 FROM refused
            WHERE backend = backends.name AND events.id BETWEEN first AND last
        )
    )";

/// The tables of an open file.
pub(super) struct Rows {
    pub(super) connection: Connection,
    pub(super) cipher: Option<StoreCipher>,
    pub(super) writer: payload::Writer,
    /// Whether a lane has refused rows.
    pub(super) has_refused: bool,
}

/// The result of [`Rows::insert`].
pub(super) struct Inserted {
    /// The row of each event, if it was written.
    pub(super) rows: Vec<Option<NonZeroU64>>,
    /// The number of the next row.
    pub(super) next: Row,
}

impl Rows {
    pub(super) fn meta(&self, name: &str) -> rusqlite::Result<Option<Vec<u8>>> {
        let sql = "SELECT value FROM meta WHERE name = ?1";
        self.connection.query_row(sql, [name], |row| row.get(0)).optional()
    }

    pub(super) fn set_meta(&self, name: &str, value: &[u8]) -> rusqlite::Result<()> {
        let sql = "INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)";
        self.connection.execute(sql, params![name, value]).map(drop)
    }

    /// Writes the events from the row `next` on, in one transaction. Skips events of epochs
    /// before `floor`.
    pub(super) fn insert(
        &mut self,
        next: Row,
        floor: u64,
        events: &[Arc<OutgoingEvent>],
    ) -> Result<Inserted, StorageError> {
        let since = wall_millis(SystemTime::now());
        let transaction = self.connection.unchecked_transaction()?;
        let mut inserted = Inserted { rows: vec![None; events.len()], next };
        {
            let sql = "INSERT INTO events (id, epoch, since, payload) VALUES (?1, ?2, ?3, ?4)";
            let mut insert = transaction.prepare(sql)?;
            for (event, row) in events.iter().zip(&mut inserted.rows) {
                if event.epoch < floor {
                    continue;
                }
                let Some(bytes) = self.writer.write(event, self.cipher.as_ref()) else {
                    continue;
                };
                let id = inserted.next;
                insert.execute(params![id as i64, event.epoch as i64, since, bytes])?;
                *row = NonZeroU64::new(id);
                inserted.next += 1;
            }
        }
        transaction.commit()?;
        Ok(inserted)
    }

    /// Deletes the rows from `first` to `last`.
    pub(super) fn delete(&self, first: Row, last: Row) -> Result<(), StorageError> {
        let sql = "DELETE FROM events WHERE id BETWEEN ?1 AND ?2";
        self.connection.execute(sql, [first as i64, last as i64])?;
        Ok(())
    }

    /// Sets the mark of `lane` to `done`, and deletes the rows that have left every lane.
    pub(super) fn mark(&mut self, lane: &str, done: Row) -> Result<(), StorageError> {
        let transaction = self.connection.unchecked_transaction()?;
        let sql = "UPDATE backends SET done = ?2 WHERE name = ?1 AND done < ?2";
        transaction.execute(sql, params![lane, done as i64])?;
        transaction.execute(self.trim(), [])?;
        if self.has_refused {
            let sql = "DELETE FROM refused WHERE backend = ?1 AND last <= ?2";
            transaction.execute(sql, params![lane, done as i64])?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Notes that `lane` will never take the rows from `first` to `last`.
    pub(super) fn refuse(&mut self, lane: &str, first: Row, last: Row) -> Result<(), StorageError> {
        let (first, last) = (first as i64, last as i64);
        self.has_refused = true;
        let transaction = self.connection.unchecked_transaction()?;
        let sql = "UPDATE refused SET last = ?3 WHERE backend = ?1 AND last = ?2 - 1";
        if transaction.execute(sql, params![lane, first, last])? == 0 {
            let sql = "INSERT OR REPLACE INTO refused (backend, first, last) VALUES (?1, ?2, ?3)";
            transaction.execute(sql, params![lane, first, last])?;
        }
        transaction.execute(self.trim(), [])?;
        transaction.commit()?;
        Ok(())
    }

    pub(super) fn trim(&self) -> &'static str {
        if self.has_refused { TRIM_AROUND_REFUSED } else { TRIM }
    }

    /// Deletes everything of epochs before `floor`, and erases the remaining bytes.
    pub(super) fn wipe(&self, floor: u64) -> Result<(), StorageError> {
        let transaction = self.connection.unchecked_transaction()?;
        for sql in [
            "DELETE FROM events WHERE epoch < ?1",
            "DELETE FROM user WHERE epoch < ?1",
            "DELETE FROM history WHERE epoch < ?1",
        ] {
            transaction.execute(sql, [floor as i64])?;
        }
        self.forget_refused()?;
        self.note_remains()?;
        transaction.commit()?;
        self.erase_remains()
    }

    /// Notes that bytes of deleted or rewritten rows remain. Called in the transaction that
    /// deletes or rewrites them.
    pub(super) fn note_remains(&self) -> rusqlite::Result<()> {
        self.set_meta("remains", &[])
    }

    /// Erases the remaining bytes of rows that were deleted or rewritten, if there are any
    /// from this process or from one that was killed.
    ///
    /// `secure_delete` overwrites deleted rows with zeros, but cells that SQLite moves
    /// within a page or to another page leave copies in unused parts of pages. `VACUUM`
    /// rewrites every page, first in memory (`temp_store`) and then through the log.
    pub(super) fn erase_remains(&self) -> Result<(), StorageError> {
        if self.meta("remains")?.is_none() {
            return Ok(());
        }
        self.connection.execute_batch("VACUUM")?;
        self.empty_log()?;
        self.connection.execute("DELETE FROM meta WHERE name = 'remains'", [])?;
        Ok(())
    }

    /// Deletes notes of refused rows that no longer exist.
    pub(super) fn forget_refused(&self) -> Result<(), StorageError> {
        let sql = "DELETE FROM refused WHERE NOT EXISTS (
                       SELECT 1 FROM events WHERE id BETWEEN first AND last
                   )";
        self.connection.execute(sql, [])?;
        Ok(())
    }

    /// Checkpoints the write-ahead log and truncates it, because it still contains deleted
    /// rows that the file has overwritten with zeros.
    fn empty_log(&self) -> Result<(), StorageError> {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        match self.connection.query_row(sql, [], |row| row.get(0))? {
            0 => Ok(()),
            _busy => Err(StorageError::Refused(QueueError::InUse)),
        }
    }
}
