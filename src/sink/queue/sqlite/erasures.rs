//! The table of the erasures that wait, with one encrypted row.
//!
//! They belong to no epoch: a withdrawal asks for them, so no wipe deletes them.

use rusqlite::{OptionalExtension as _, params};

use super::{orders::Erasures, payload, rows::Rows, storage_error::StorageError};
use crate::sink::queue::FoundErasures;

/// The version of the erasures that a process finds. Zero is that of a file without them.
pub(super) const FIRST_VERSION: u64 = 1;
/// The only row.
const ROW: i64 = 1;

/// The desired content of the table. It stays in memory, so that a failed write can be repeated
/// and a new file can be filled.
#[derive(Debug)]
pub(super) struct ErasureTable {
    pub(super) desired: Erasures,
    pub(super) is_written: bool,
}

impl ErasureTable {
    /// Creates the content of a file that holds `found`.
    pub(super) fn written(found: &FoundErasures) -> Self {
        let plain = match found {
            FoundErasures::Some(plain) => Some(plain.clone()),
            FoundErasures::None | FoundErasures::Damaged => None,
        };
        Self { desired: Erasures { version: FIRST_VERSION, plain }, is_written: true }
    }

    /// Notes that there is a new, empty file, or none.
    pub(super) fn file_is_new(&mut self) {
        self.is_written = self.desired.plain.is_none();
    }

    /// Writes the row, unless that is done already.
    pub(super) fn write(&mut self, rows: &mut Rows) -> Result<(), StorageError> {
        if !self.is_written {
            rows.set_erasures(self.desired.plain.as_deref())?;
            self.is_written = true;
        }
        Ok(())
    }
}

impl Rows {
    /// Replaces the row, and erases the bytes of the earlier one.
    ///
    /// Without a key nothing is written: the row has identifiers, which are in no file in the
    /// clear.
    ///
    /// Waits for the disk: once the ID has left the account, a row that a power failure undoes
    /// could not be made again.
    fn set_erasures(&mut self, plain: Option<&[u8]>) -> Result<(), StorageError> {
        // SQLite ignores the change in a transaction.
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        let written = self.replace_erasures(plain);
        self.connection.pragma_update(None, "synchronous", "NORMAL")?;
        written
    }

    fn replace_erasures(&mut self, plain: Option<&[u8]>) -> Result<(), StorageError> {
        let sealed = match (plain, &self.cipher) {
            (Some(plain), Some(cipher)) => self.writer.write_erasures(plain, cipher),
            _ => None,
        };
        let transaction = self.connection.unchecked_transaction()?;
        match sealed {
            Some(bytes) => {
                let sql = "INSERT OR REPLACE INTO erasures (id, payload) VALUES (?1, ?2)";
                transaction.execute(sql, params![ROW, bytes])?;
                transaction.commit()?;
                Ok(())
            }
            None => {
                let deleted = transaction.execute("DELETE FROM erasures", [])?;
                if deleted > 0 {
                    self.note_remains()?;
                }
                transaction.commit()?;
                self.erase_remains()
            }
        }
    }

    /// Reads the row, and deletes it if it is damaged.
    pub(super) fn erasures(&self) -> Result<FoundErasures, StorageError> {
        let sql = "SELECT payload FROM erasures WHERE id = ?1";
        let bytes: Option<Vec<u8>> =
            self.connection.query_row(sql, [ROW], |row| row.get(0)).optional()?;
        let Some(bytes) = bytes else { return Ok(FoundErasures::None) };
        let cipher = self.cipher.as_ref();
        let plain = cipher.and_then(|cipher| payload::read_erasures(&bytes, cipher));
        if let Some(plain) = plain {
            return Ok(FoundErasures::Some(plain));
        }
        self.connection.execute("DELETE FROM erasures", [])?;
        Ok(FoundErasures::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::queue::sqlite::{file::QueueFile, restore::Keep, tests::encrypted_setup};

    #[test]
    fn the_row_is_committed_under_full_synchronisation_and_events_are_not() {
        let directory = tempfile::TempDir::new().unwrap();
        let file = QueueFile::resolve(&directory.path().join("queue")).unwrap();
        let (mut rows, _) = Rows::open(&file, &encrypted_setup(), Keep::Nothing).unwrap();
        // The setting as of each write, read in its transaction.
        let sql = "CREATE TEMP TABLE seen (level);
            CREATE TEMP TRIGGER in_row BEFORE INSERT ON main.erasures
            BEGIN INSERT INTO seen SELECT synchronous FROM pragma_synchronous; END;
            CREATE TEMP TRIGGER in_meta BEFORE INSERT ON main.meta
            BEGIN INSERT INTO seen SELECT synchronous FROM pragma_synchronous; END";
        rows.connection.execute_batch(sql).unwrap();
        rows.set_erasures(Some(b"plain")).unwrap();
        rows.set_meta("later", &[]).unwrap();
        let sql = "SELECT group_concat(level) FROM seen";
        let seen: String = rows.connection.query_row(sql, [], |row| row.get(0)).unwrap();
        // FULL, and NORMAL.
        assert_eq!(seen, "2,1");
    }
}
