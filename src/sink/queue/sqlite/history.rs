//! The table of the history, with one row per entry.

use std::collections::BTreeMap;

use matrix_sdk_store_encryption::StoreCipher;
use rusqlite::{Connection, params};

use super::{payload, rows::Rows, storage_error::StorageError};
use crate::history::{
    entries::EntryId,
    sent_event::{SentEvent, SentOutcome},
};

/// The content of the table, by which the changes since the last write are found.
#[derive(Debug, Default)]
pub(super) struct HistoryTable {
    written: BTreeMap<EntryId, SentOutcome>,
}

impl HistoryTable {
    /// Creates the content of a file that holds `entries`.
    pub(super) fn written(entries: &[(EntryId, SentEvent)]) -> Self {
        Self { written: entries.iter().map(|(id, entry)| (*id, entry.outcome)).collect() }
    }

    /// Notes that there is a new, empty file.
    pub(super) fn file_is_new(&mut self) {
        self.written.clear();
    }

    /// Makes the table hold `entries` and nothing else, except those of epochs before `floor`.
    pub(super) fn write(
        &mut self,
        rows: &mut Rows,
        entries: &[(EntryId, SentEvent)],
        floor: u64,
    ) -> Result<(), StorageError> {
        let kept = || entries.iter().filter(move |(_, entry)| entry.event.epoch >= floor);
        let now: BTreeMap<_, _> = kept().map(|(id, entry)| (*id, entry.outcome)).collect();
        let transaction = rows.connection.unchecked_transaction()?;
        {
            let mut delete = transaction.prepare("DELETE FROM history WHERE id = ?1")?;
            for id in self.written.keys().filter(|id| !now.contains_key(*id)) {
                delete.execute([*id as i64])?;
            }
        }
        for (id, entry) in kept().filter(|(id, _)| self.written.get(id) != now.get(id)) {
            set(&transaction, &mut rows.writer, rows.cipher.as_ref(), *id, entry)?;
        }
        transaction.commit()?;
        self.written = now;
        Ok(())
    }
}

impl Rows {
    /// Deletes the rows of epochs other than `keep`. Returns whether there were any.
    pub(super) fn forget_history(&self, keep: i64) -> rusqlite::Result<bool> {
        Ok(self.connection.execute("DELETE FROM history WHERE epoch <> ?1", [keep])? > 0)
    }
}

/// The result of [`load`].
#[derive(Default)]
pub(super) struct LoadedHistory {
    /// The entries, oldest first.
    pub(super) entries: Vec<(EntryId, SentEvent)>,
    /// The number of damaged rows.
    pub(super) damaged: u64,
}

/// Reads the rows, and deletes those that are damaged. With `encrypt`, the rows are in the clear
/// and all of them are written encrypted.
///
/// They do not pass the guard, because they show what was sent, or tried.
pub(super) fn load(
    connection: &Connection,
    writer: &mut payload::Writer,
    cipher: Option<&StoreCipher>,
    encrypt: bool,
) -> Result<LoadedHistory, StorageError> {
    let mut history = LoadedHistory::default();
    let mut damaged = Vec::new();
    {
        let read_with = cipher.filter(|_| !encrypt);
        let mut all = connection.prepare("SELECT id, epoch, payload FROM history ORDER BY id")?;
        let mut all = all.query([])?;
        while let Some(row) = all.next()? {
            let (id, epoch): (i64, i64) = (row.get(0)?, row.get(1)?);
            let entry = row.get_ref(2)?.as_blob().ok();
            let entry = entry.and_then(|b| payload::read_sent(b, epoch as u64, read_with));
            match EntryId::try_from(id).ok().zip(entry) {
                Some(entry) => history.entries.push(entry),
                None => damaged.push(id),
            }
        }
    }
    for id in &damaged {
        connection.execute("DELETE FROM history WHERE id = ?1", [id])?;
    }
    history.damaged = damaged.len() as u64;
    if encrypt {
        for (id, entry) in &history.entries {
            set(connection, writer, cipher, *id, entry)?;
        }
    }
    Ok(history)
}

/// Writes the row of `entry`, or deletes it if `entry` cannot be encrypted.
fn set(
    connection: &Connection,
    writer: &mut payload::Writer,
    cipher: Option<&StoreCipher>,
    id: EntryId,
    entry: &SentEvent,
) -> Result<(), StorageError> {
    let id = id as i64;
    match writer.write_sent(entry, cipher) {
        Some(bytes) => {
            let sql = "INSERT OR REPLACE INTO history (id, epoch, payload) VALUES (?1, ?2, ?3)";
            connection.execute(sql, params![id, entry.event.epoch as i64, bytes])?;
        }
        None => drop(connection.execute("DELETE FROM history WHERE id = ?1", [id])?),
    }
    Ok(())
}
