//! The tables: what is in them, and every statement that touches them.

use std::{
    num::NonZeroU64,
    sync::Arc,
    time::{Duration, SystemTime},
};

use matrix_sdk_store_encryption::StoreCipher;
use rusqlite::{Connection, OptionalExtension as _, params};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tracing::warn;
use uuid::Uuid;

use super::{
    age::{Age, age, wall_millis},
    file::{Opened, Place, Trouble},
    payload,
};
use crate::{
    QueueError,
    queue::{Marks, Queued, Refused, Restored, Row},
    stats::DropReason,
};

/// A row waits for the backends that have not seen it: those whose `done` is below it,
/// but for those that refused it. So a backend that takes a hundred events costs one
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

/// Deletes the rows that every backend has seen: all of them if there is no backend.
const TRIM: &str = "
    DELETE FROM events
    WHERE id <= (SELECT ifnull(min(done), (SELECT max(id) FROM events)) FROM backends)";

/// The same where backends have refused rows.
const TRIM_AROUND_REFUSED: &str = "
    DELETE FROM events WHERE NOT EXISTS (
        SELECT 1 FROM backends WHERE done < events.id AND NOT EXISTS (
            SELECT 1 FROM refused
            WHERE backend = backends.name AND events.id BETWEEN first AND last
        )
    )";

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

/// Whose file it is, and who takes events from it.
#[derive(Debug)]
pub(super) struct Setup {
    /// What user and event type are known by.
    pub(super) owner: Vec<u8>,
    pub(super) lanes: Vec<String>,
    pub(super) passphrase: Option<zeroize::Zeroizing<String>>,
    pub(super) longest_wait: Duration,
}

/// The open file.
pub(super) struct Rows {
    connection: Connection,
    cipher: Option<StoreCipher>,
    writer: payload::Writer,
    /// Some backend has refused rows.
    has_refused: bool,
}

/// What was found when the file was opened.
#[derive(Default)]
pub(super) struct Found {
    pub(super) restored: Restored,
    /// Rows of another owner, or damaged.
    pub(super) discarded: u64,
    /// A file that could not be read was put away.
    pub(super) replaced: bool,
}

impl Rows {
    /// Opens the file at `place`. Only rows of the epoch `keep` are left in it.
    pub(super) fn open(
        place: &Place,
        setup: &Setup,
        keep: Option<u64>,
    ) -> Result<(Self, Found), QueueError> {
        let Opened { connection, replaced } = place.open()?;
        let mut found = Found { replaced, ..Found::default() };
        let mut rows = Self {
            connection,
            cipher: None,
            writer: payload::Writer::default(),
            has_refused: false,
        };
        let is_new = rows.bind(&setup.owner, &mut found.discarded)?;
        rows.forget_set_aside(place, is_new, replaced, keep)?;
        rows.know_backends(&setup.lanes, &mut found.restored)?;
        let withdrawn = rows.withdraw(keep, &mut found.restored)?;
        if withdrawn || found.discarded > 0 {
            rows.empty_log()?;
        }
        let encrypts = rows.unlock(setup.passphrase.as_ref().map(|p| p.as_str()))?;
        found.discarded += rows.load(setup.longest_wait, encrypts, &mut found.restored)?;
        if encrypts {
            rows.empty_log()?;
        }
        Ok((rows, found))
    }

    fn meta(&self, name: &str) -> rusqlite::Result<Option<Vec<u8>>> {
        let sql = "SELECT value FROM meta WHERE name = ?1";
        self.connection.query_row(sql, [name], |row| row.get(0)).optional()
    }

    fn set_meta(&self, name: &str, value: &[u8]) -> rusqlite::Result<()> {
        let sql = "INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)";
        self.connection.execute(sql, params![name, value]).map(drop)
    }

    /// Makes the file that of `owner`, and says whether it was not. Counts the rows of
    /// another that were deleted.
    fn bind(&self, owner: &[u8], discarded: &mut u64) -> Result<bool, Trouble> {
        let digest = |salt: &[u8]| Sha256::new().chain_update(salt).chain_update(owner).finalize();
        let (salt, bound) = (self.meta("salt")?, self.meta("owner")?);
        if let (Some(salt), Some(bound)) = (&salt, &bound)
            && digest(salt)[..] == bound[..]
        {
            return Ok(false);
        }
        let salt = Uuid::new_v4();
        let transaction = self.connection.unchecked_transaction()?;
        let deleted = transaction.execute("DELETE FROM events", [])?;
        transaction.execute_batch("DELETE FROM meta; DELETE FROM backends; DELETE FROM refused")?;
        self.set_meta("salt", salt.as_bytes())?;
        self.set_meta("owner", &digest(salt.as_bytes()))?;
        transaction.commit()?;
        if bound.is_some() {
            warn!(rows = deleted, "the file of the queue was another user's: it is emptied");
        }
        *discarded += deleted as u64;
        Ok(true)
    }

    /// Deletes what was set aside under another consent than that of the epoch `keep`,
    /// or for another owner: it may be an old file of this queue.
    fn forget_set_aside(
        &self,
        place: &Place,
        owner_is_new: bool,
        just_now: bool,
        keep: Option<u64>,
    ) -> Result<(), QueueError> {
        let epoch = keep.unwrap_or_default().to_le_bytes();
        if just_now {
            self.set_meta("set_aside_in", &epoch).map_err(Trouble::from)?;
            return Ok(());
        }
        let set_aside_in = self.meta("set_aside_in").map_err(Trouble::from)?;
        if owner_is_new || set_aside_in.is_some_and(|set_aside_in| set_aside_in != epoch) {
            place.destroy_set_aside().map_err(|error| QueueError::NotWiped(Box::new(error)))?;
            self.connection
                .execute("DELETE FROM meta WHERE name = 'set_aside_in'", [])
                .map_err(Trouble::from)?;
        }
        Ok(())
    }

    /// Learns what each of `lanes` has seen. One that is new has seen everything.
    fn know_backends(&mut self, lanes: &[String], restored: &mut Restored) -> Result<(), Trouble> {
        let transaction = self.connection.unchecked_transaction()?;
        let sql = "SELECT max(ifnull((SELECT max(id) FROM events), 0),
                              ifnull((SELECT max(done) FROM backends), 0))";
        let last: i64 = transaction.query_row(sql, [], |row| row.get(0))?;
        let mut known = Marks::new();
        {
            let mut done = transaction.prepare("SELECT done FROM backends WHERE name = ?1")?;
            for lane in lanes {
                let done: Option<i64> = done.query_row([lane], |row| row.get(0)).optional()?;
                known.push(done.unwrap_or(last) as Row);
            }
            transaction.execute("DELETE FROM backends", [])?;
            let sql = "INSERT INTO backends (name, done) VALUES (?1, ?2)";
            let mut insert = transaction.prepare(sql)?;
            for (lane, done) in lanes.iter().zip(&known) {
                insert.execute(params![lane, *done as i64])?;
            }
            let sql = "DELETE FROM refused WHERE backend NOT IN (SELECT name FROM backends)";
            transaction.execute(sql, [])?;
            let mut refused = transaction.prepare("SELECT backend, first, last FROM refused")?;
            let mut all = refused.query([])?;
            while let Some(row) = all.next()? {
                let name: String = row.get(0)?;
                if let Some(lane) = lanes.iter().position(|lane| *lane == name) {
                    let (first, last): (i64, i64) = (row.get(1)?, row.get(2)?);
                    let (first, last) = (first as Row, last as Row);
                    restored.refused.push(Refused { lane, first, last });
                }
            }
        }
        self.has_refused = !restored.refused.is_empty();
        transaction.execute(self.trim(), [])?;
        transaction.commit()?;
        restored.done = known;
        restored.last = last as Row;
        Ok(())
    }

    /// Deletes what is of another epoch than `keep`, and says whether there was any.
    fn withdraw(&self, keep: Option<u64>, restored: &mut Restored) -> Result<bool, Trouble> {
        // No epoch is negative.
        let keep = keep.map_or(-1, |epoch| epoch as i64);
        let mut others = self.connection.prepare("SELECT id FROM events WHERE epoch <> ?1")?;
        let mut others = others.query([keep])?;
        while let Some(row) = others.next()? {
            let id: i64 = row.get(0)?;
            restored.rows.push((id as Row, Err(DropReason::Withdrawn)));
        }
        Ok(self.connection.execute("DELETE FROM events WHERE epoch <> ?1", [keep])? > 0)
    }

    /// Gets the key of the events. Says whether those that are there have yet to be
    /// encrypted.
    fn unlock(&mut self, passphrase: Option<&str>) -> Result<bool, QueueError> {
        let locked = self.meta("cipher").map_err(Trouble::from)?;
        let (cipher, is_new) = match (passphrase, locked) {
            (None, None) => return Ok(false),
            (None, Some(_)) => return Err(QueueError::Passphrase),
            (Some(passphrase), Some(locked)) => (StoreCipher::import(passphrase, &locked), false),
            (Some(_), None) => (StoreCipher::new(), true),
        };
        let cipher = cipher.map_err(|_| QueueError::Passphrase)?;
        if let (true, Some(passphrase)) = (is_new, passphrase) {
            let locked =
                cipher.export(passphrase).map_err(|error| QueueError::Open(Box::new(error)))?;
            self.set_meta("cipher", &locked).map_err(Trouble::from)?;
        }
        self.cipher = Some(cipher);
        Ok(is_new)
    }

    /// Reads what waits, deletes what is damaged or too old, and, if asked, encrypts
    /// the rest. Returns how many rows were damaged.
    fn load(
        &mut self,
        longest_wait: Duration,
        encrypt: bool,
        restored: &mut Restored,
    ) -> Result<u64, Trouble> {
        let (wall, now) = (wall_millis(SystemTime::now()), Instant::now());
        let transaction = self.connection.unchecked_transaction()?;
        let read_with = self.cipher.as_ref().filter(|_| !encrypt);
        let mut damaged = 0;
        {
            let mut delete = transaction.prepare("DELETE FROM events WHERE id = ?1")?;
            let mut update = transaction.prepare("UPDATE events SET payload = ?2 WHERE id = ?1")?;
            let mut all =
                transaction.prepare("SELECT id, epoch, since, payload FROM events ORDER BY id")?;
            let mut all = all.query([])?;
            let mut deleted = Vec::new();
            let mut loaded = Vec::new();
            while let Some(row) = all.next()? {
                let (id, epoch, since): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let waited = match age(since, wall, longest_wait) {
                    Age::Waited(waited) => waited,
                    Age::FromTheFuture => Duration::ZERO,
                    Age::Expired => {
                        restored.rows.push((id as Row, Err(DropReason::Expired)));
                        deleted.push(id);
                        continue;
                    }
                };
                let event = row.get_ref(3)?.as_blob().ok();
                let event = event.and_then(|bytes| payload::read(bytes, epoch as u64, read_with));
                let Some(event) = event else {
                    damaged += 1;
                    deleted.push(id);
                    continue;
                };
                let event = Arc::new(event);
                let since = now.checked_sub(waited).unwrap_or(now);
                loaded.push((id, Queued { event, since, row: NonZeroU64::new(id as Row) }));
            }
            for id in deleted {
                delete.execute([id])?;
            }
            for (id, queued) in loaded {
                if encrypt {
                    match self.writer.write(&queued.event, self.cipher.as_ref()) {
                        Some(bytes) => drop(update.execute(params![id, bytes])?),
                        None => drop(delete.execute([id])?),
                    }
                }
                restored.rows.push((id as Row, Ok(queued)));
            }
        }
        transaction.execute("UPDATE events SET since = ?1 WHERE since > ?1", [wall])?;
        transaction.commit()?;
        restored.rows.sort_by_key(|(row, _)| *row);
        Ok(damaged)
    }

    /// Writes the events of no earlier epoch than `floor`, from the row `next` on, all
    /// or none. Returns the row that is next then.
    pub(super) fn insert(
        &mut self,
        next: Row,
        floor: u64,
        events: &mut [Result<Queued, DropReason>],
    ) -> Result<Row, Trouble> {
        let since = wall_millis(SystemTime::now());
        let transaction = self.connection.unchecked_transaction()?;
        let mut row = next;
        {
            let sql = "INSERT INTO events (id, epoch, since, payload) VALUES (?1, ?2, ?3, ?4)";
            let mut insert = transaction.prepare(sql)?;
            for queued in events.iter_mut().flatten().filter(|queued| queued.event.epoch >= floor) {
                let Some(bytes) = self.writer.write(&queued.event, self.cipher.as_ref()) else {
                    continue;
                };
                insert.execute(params![row as i64, queued.event.epoch as i64, since, bytes])?;
                queued.row = NonZeroU64::new(row);
                row += 1;
            }
        }
        transaction.commit()?;
        Ok(row)
    }

    /// `lane` has seen all up to `done`.
    pub(super) fn mark(&mut self, lane: &str, done: Row) -> Result<(), Trouble> {
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

    /// `lane` will never take the rows from `first` to `last`.
    pub(super) fn refuse(&mut self, lane: &str, first: Row, last: Row) -> Result<(), Trouble> {
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

    fn trim(&self) -> &'static str {
        if self.has_refused { TRIM_AROUND_REFUSED } else { TRIM }
    }

    /// Deletes everything of an earlier epoch than `floor`, down to the last byte.
    pub(super) fn wipe(&self, floor: u64) -> Result<(), Trouble> {
        self.connection.execute("DELETE FROM events WHERE epoch < ?1", [floor as i64])?;
        self.empty_log()
    }

    /// Takes the write-ahead log over into the file, and cuts it to nothing: what was
    /// deleted is zeros in the file, and still in the log.
    fn empty_log(&self) -> Result<(), Trouble> {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        match self.connection.query_row(sql, [], |row| row.get(0))? {
            0 => Ok(()),
            _busy => Err(Trouble::Refused(QueueError::InUse)),
        }
    }
}
