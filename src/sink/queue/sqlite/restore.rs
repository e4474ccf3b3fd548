//! Opens the file and restores the events that an earlier process left there, after
//! checking their owner and epoch and passing them through this process's guard.

use std::{
    num::NonZeroU64,
    sync::Arc,
    time::{Duration, SystemTime},
};

use matrix_sdk_store_encryption::{Error as CipherError, StoreCipher};
use rusqlite::{OptionalExtension as _, params};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tracing::warn;
use uuid::Uuid;

use super::{
    age::{Age, age, wall_millis},
    file::{Opened, QueueFile},
    history,
    open_settings::OpenSettings,
    own_file::FileError,
    payload,
    rows::Rows,
    storage_error::StorageError,
    user,
};
use crate::{
    event::OutgoingEvent,
    guard::{Guard, TextPolicy},
    history::{entries::EntryId, sent_event::SentEvent},
    sink::{
        queue::{FoundErasures, Marks, QueueError, Queued, Refused, Restored, Row},
        stats::DropReason,
    },
};

/// The result of opening the file.
#[derive(Default)]
pub(super) struct OpenReport {
    pub(super) restored: Restored,
    /// The entries of the history, oldest first.
    pub(super) history: Vec<(EntryId, SentEvent)>,
    /// The number of rows that were deleted because they were damaged or had another owner.
    pub(super) discarded: u64,
    /// Whether the file replaces one that could not be read.
    pub(super) replaced: bool,
}

/// The rows that an opening leaves in the file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keep {
    All,
    Epoch(u64),
    Nothing,
}

impl From<Option<u64>> for Keep {
    fn from(epoch: Option<u64>) -> Self {
        epoch.map_or(Self::Nothing, Self::Epoch)
    }
}

impl Rows {
    /// Opens `file`, and leaves the rows `keep` in it.
    pub(super) fn open(
        file: &QueueFile,
        settings: &OpenSettings,
        keep: impl Into<Keep>,
    ) -> Result<(Self, OpenReport), QueueError> {
        let (keep, keeps_all) = match keep.into() {
            Keep::All => (None, true),
            Keep::Epoch(epoch) => (Some(epoch), false),
            Keep::Nothing => (None, false),
        };
        let Opened { connection, replaced } = file.open()?;
        let mut found = OpenReport { replaced, ..OpenReport::default() };
        let mut rows = Self {
            connection,
            cipher: None,
            writer: payload::Writer::default(),
            has_refused: false,
        };
        rows.check_writer(settings)?;
        let is_new = rows.bind(&settings.owner, &mut found.discarded)?;
        if is_new || replaced || !keeps_all {
            rows.forget_set_aside(file, is_new, replaced, keep)?;
        }
        rows.load_marks(&settings.lanes, &mut found.restored)?;
        if !keeps_all {
            rows.withdraw(keep, settings.history.is_some(), &mut found.restored)?;
        }
        rows.apply_text_policy(settings.guard.text_policy(), &mut found.restored)?;
        rows.erase_remains()?;
        let new_key = rows.unlock(settings.passphrase.as_ref().map(|p| p.as_str()))?;
        rows.load(settings, new_key.as_deref(), &mut found)?;
        found.restored.erasures = rows.erasures()?;
        found.discarded += u64::from(found.restored.erasures == FoundErasures::Damaged);
        rows.erase_remains()?;
        rows.set_meta("writer", settings.writer.as_bytes()).map_err(StorageError::from)?;
        Ok((rows, found))
    }

    /// Refuses a file that another writer has had, if that has taken the place of this one: it has
    /// what this one left, and may have added to it, even for another user.
    fn check_writer(&self, settings: &OpenSettings) -> Result<(), QueueError> {
        let writer = self.meta("writer").map_err(StorageError::from)?;
        let is_other = writer.is_some_and(|writer| writer != settings.writer.as_bytes());
        if is_other && !settings.takes_over { Err(QueueError::InUse) } else { Ok(()) }
    }

    /// Binds the file to `owner`, and returns whether it was bound to another or to none.
    /// Rows of another owner are deleted, and added to `discarded`.
    fn bind(&self, owner: &[u8], discarded: &mut u64) -> Result<bool, StorageError> {
        let digest = |salt: &[u8]| Sha256::new().chain_update(salt).chain_update(owner).finalize();
        let (salt, bound) = (self.meta("salt")?, self.meta("owner")?);
        if let (Some(salt), Some(bound)) = (&salt, &bound)
            && digest(salt)[..] == bound[..]
        {
            return Ok(false);
        }
        let salt = Uuid::new_v4();
        let transaction = self.connection.unchecked_transaction()?;
        let deleted = transaction.execute("DELETE FROM events", [])?
            + transaction.execute("DELETE FROM user", [])?
            + transaction.execute("DELETE FROM erasures", [])?;
        let forgets_history = transaction.execute("DELETE FROM history", [])? > 0;
        transaction.execute_batch("DELETE FROM meta; DELETE FROM backends; DELETE FROM refused")?;
        self.set_meta("salt", salt.as_bytes())?;
        self.set_meta("owner", &digest(salt.as_bytes()))?;
        if deleted > 0 || forgets_history {
            self.note_remains()?;
        }
        transaction.commit()?;
        if bound.is_some() {
            warn!(rows = deleted, "the queue file belonged to another user: deleted its rows");
        }
        *discarded += deleted as u64;
        Ok(true)
    }

    /// Deletes files that were set aside in another epoch than `keep`, or for another owner,
    /// because they may be old files of this queue.
    fn forget_set_aside(
        &self,
        file: &QueueFile,
        owner_is_new: bool,
        just_now: bool,
        keep: Option<u64>,
    ) -> Result<(), QueueError> {
        let epoch = keep.unwrap_or_default().to_le_bytes();
        if just_now {
            self.set_meta("set_aside_in", &epoch).map_err(StorageError::from)?;
            return Ok(());
        }
        let set_aside_in = self.meta("set_aside_in").map_err(StorageError::from)?;
        if owner_is_new || set_aside_in.is_some_and(|set_aside_in| set_aside_in != epoch) {
            file.destroy_set_aside().map_err(FileError::while_wiping)?;
            self.connection
                .execute("DELETE FROM meta WHERE name = 'set_aside_in'", [])
                .map_err(StorageError::from)?;
        }
        Ok(())
    }

    /// Reads the mark of each of `lanes`. A new lane is marked up to the last row, so that
    /// it gets no earlier events. The last row is the highest number that the file refers
    /// to, so that no number is used twice.
    fn load_marks(
        &mut self,
        lanes: &[String],
        restored: &mut Restored,
    ) -> Result<(), StorageError> {
        let transaction = self.connection.unchecked_transaction()?;
        let sql = "SELECT max(ifnull((SELECT max(id) FROM events), 0),
                              ifnull((SELECT max(done) FROM backends), 0),
                              ifnull((SELECT max(last) FROM refused), 0))";
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

    /// Deletes everything of an epoch other than `keep`, and the history unless it is kept.
    fn withdraw(
        &self,
        keep: Option<u64>,
        keeps_history: bool,
        restored: &mut Restored,
    ) -> Result<(), StorageError> {
        // No epoch is negative.
        const NO_EPOCH: i64 = -1;
        let keep = keep.map_or(NO_EPOCH, |epoch| epoch as i64);
        let mut others = self.connection.prepare("SELECT id FROM events WHERE epoch <> ?1")?;
        let mut others = others.query([keep])?;
        while let Some(row) = others.next()? {
            let id: i64 = row.get(0)?;
            restored.rows.push((id as Row, Err(DropReason::Withdrawn)));
        }
        let transaction = self.connection.unchecked_transaction()?;
        let forgets_users = self.forget_users(keep)?;
        let forgets_history = self.forget_history(if keeps_history { keep } else { NO_EPOCH })?;
        let deleted = transaction.execute("DELETE FROM events WHERE epoch <> ?1", [keep])?;
        if deleted > 0 || forgets_users || forgets_history {
            self.note_remains()?;
        }
        self.forget_refused()?;
        Ok(transaction.commit()?)
    }

    /// Deletes everything that was captured under a policy that allows other texts than
    /// `policy`, and notes `policy`.
    fn apply_text_policy(
        &self,
        policy: TextPolicy,
        restored: &mut Restored,
    ) -> Result<(), StorageError> {
        let transaction = self.connection.unchecked_transaction()?;
        let captured_under = self.meta("text_policy")?;
        let captured_under = captured_under.as_deref().map(String::from_utf8_lossy);
        if !policy.covers(captured_under.as_deref()) {
            let mut ids = transaction.prepare("SELECT id FROM events")?;
            let mut ids = ids.query([])?;
            while let Some(row) = ids.next()? {
                let id: i64 = row.get(0)?;
                restored.rows.push((id as Row, Err(DropReason::Guarded)));
            }
            let deleted = transaction.execute("DELETE FROM events", [])?
                + transaction.execute("DELETE FROM user", [])?;
            if deleted > 0 {
                self.note_remains()?;
            }
            self.forget_refused()?;
        }
        self.set_meta("text_policy", policy.describe().as_bytes())?;
        Ok(transaction.commit()?)
    }

    /// Unlocks the key of the events with `passphrase`. If the file is not encrypted yet,
    /// returns a new, locked key, which [`Rows::load`] writes together with the encrypted
    /// rows.
    fn unlock(&mut self, passphrase: Option<&str>) -> Result<Option<Vec<u8>>, QueueError> {
        let locked = self.meta("cipher").map_err(StorageError::from)?;
        let (cipher, new_key) = match (passphrase, locked) {
            (None, None) => return Ok(None),
            (None, Some(_)) => return Err(QueueError::Passphrase),
            (Some(passphrase), Some(locked)) => {
                let cipher = StoreCipher::import(passphrase, &locked);
                (cipher.map_err(|_| QueueError::Passphrase)?, None)
            }
            (Some(passphrase), None) => {
                let new = || {
                    let cipher = StoreCipher::new()?;
                    let locked = cipher.export(passphrase)?;
                    Ok((cipher, Some(locked)))
                };
                new().map_err(|error: CipherError| QueueError::Open(Box::new(error)))?
            }
        };
        self.cipher = Some(cipher);
        Ok(new_key)
    }

    /// Reads the rows and passes those that wait through the guard. Deletes rows that are
    /// damaged, too old or rejected by the guard, and writes rows that the guard changed. With
    /// a `new_key`, writes that key and all rows.
    fn load(
        &mut self,
        settings: &OpenSettings,
        new_key: Option<&[u8]>,
        found: &mut OpenReport,
    ) -> Result<(), StorageError> {
        let restored = &mut found.restored;
        let (wall, now) = (wall_millis(SystemTime::now()), Instant::now());
        let transaction = self.connection.unchecked_transaction()?;
        let read_with = self.cipher.as_ref().filter(|_| new_key.is_none());
        let (mut damaged, mut rewritten) = (0, new_key.is_some());
        {
            let mut delete = transaction.prepare("DELETE FROM events WHERE id = ?1")?;
            let mut update = transaction.prepare("UPDATE events SET payload = ?2 WHERE id = ?1")?;
            let mut all =
                transaction.prepare("SELECT id, epoch, since, payload FROM events ORDER BY id")?;
            let mut all = all.query([])?;
            let mut deleted = Vec::new();
            let mut kept = Vec::new();
            while let Some(row) = all.next()? {
                let (id, epoch, since): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let waited = match age(since, wall, settings.longest_wait) {
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
                match recheck(&settings.guard, &event) {
                    Ok((event, changed)) => {
                        rewritten |= changed;
                        let event = Arc::new(event);
                        let since = now.checked_sub(waited).unwrap_or(now);
                        let row = NonZeroU64::new(id as Row);
                        let queued = Queued { row, ..Queued::new(event, since) };
                        kept.push((id, queued, changed || new_key.is_some()));
                    }
                    Err(reason) => {
                        rewritten = true;
                        restored.rows.push((id as Row, Err(reason)));
                        deleted.push(id);
                    }
                }
            }
            for id in deleted {
                delete.execute([id])?;
            }
            for (id, queued, rewrite) in kept {
                if rewrite {
                    match self.writer.write(&queued.event, self.cipher.as_ref()) {
                        Some(bytes) => drop(update.execute(params![id, bytes])?),
                        None => drop(delete.execute([id])?),
                    }
                }
                restored.rows.push((id as Row, Ok(queued)));
            }
        }
        transaction.execute("UPDATE events SET since = ?1 WHERE since > ?1", [wall])?;
        // In the same transaction, so that a new key is written together with everything
        // that it encrypts.
        let users = user::load(
            &transaction,
            &mut self.writer,
            self.cipher.as_ref(),
            settings,
            new_key.is_some(),
        )?;
        restored.users = users.lanes;
        let history =
            history::load(&transaction, &mut self.writer, self.cipher.as_ref(), new_key.is_some())?;
        found.history = history.entries;
        found.discarded += damaged + users.damaged + history.damaged;
        if let Some(new_key) = new_key {
            self.set_meta("cipher", new_key)?;
        }
        if rewritten || users.rewritten {
            self.note_remains()?;
        }
        transaction.commit()?;
        restored.rows.sort_unstable_by_key(|(row, _)| *row);
        Ok(())
    }
}

/// Passes an event that another process wrote through this process's guard. Returns the
/// event and whether the guard changed it, or the reason why it is dropped.
fn recheck(guard: &Guard, event: &OutgoingEvent) -> Result<(OutgoingEvent, bool), DropReason> {
    let (name, properties) = (event.name.clone(), event.properties.clone());
    let (name, properties) = guard.event(name, properties).ok_or(DropReason::Guarded)?;
    properties.check()?;
    let changed = name != event.name || properties.members() != event.properties.members();
    let OutgoingEvent { uuid, at, epoch, process, .. } = *event;
    Ok((OutgoingEvent { uuid, name, at, properties, user: None, epoch, process }, changed))
}
