//! The table of the user properties that wait for each backend, with one row per backend.

use matrix_sdk_store_encryption::StoreCipher;
use rusqlite::{Connection, params};

use super::{open_settings::OpenSettings, payload, rows::Rows, storage_error::StorageError};
use crate::{
    event::{UserProperties, UserUpdate},
    guard::Guard,
};

/// The desired content of the table. It stays in memory, so that a failed write can be
/// repeated and a new file can be filled.
#[derive(Debug, Default)]
pub(super) struct UserTable {
    lanes: Vec<DesiredRow>,
}

#[derive(Debug)]
struct DesiredRow {
    lane: usize,
    update: UserUpdate,
    is_written: bool,
}

impl UserTable {
    /// Creates the content of a file that already holds `lanes`.
    pub(super) fn written(lanes: Vec<(usize, UserUpdate)>) -> Self {
        let row = |(lane, update)| DesiredRow { lane, update, is_written: true };
        Self { lanes: lanes.into_iter().map(row).collect() }
    }

    /// Replaces the user properties of some lanes.
    pub(super) fn add(&mut self, updates: Vec<(usize, UserUpdate)>) {
        for (lane, update) in updates {
            self.lanes.retain(|row| row.lane != lane);
            self.lanes.push(DesiredRow { lane, update, is_written: false });
        }
    }

    /// Removes everything of epochs before `floor`.
    pub(super) fn forget_below(&mut self, floor: u64) {
        self.lanes.retain(|row| row.update.epoch >= floor);
    }

    /// Notes that there is a new, empty file.
    pub(super) fn file_is_new(&mut self) {
        for row in &mut self.lanes {
            row.is_written = false;
        }
    }

    /// Writes the rows that have yet to be written. `names` are the names of the lanes.
    pub(super) fn write(&mut self, rows: &mut Rows, names: &[String]) -> Result<(), StorageError> {
        for row in self.lanes.iter_mut().filter(|row| !row.is_written) {
            if let Some(name) = names.get(row.lane) {
                rows.set_user(name, &row.update)?;
            }
            row.is_written = true;
        }
        self.lanes.retain(|row| !row.is_written || !row.update.user.is_empty());
        Ok(())
    }
}

impl Rows {
    /// Replaces the row of `lane` by `update`, or deletes it if `update` is empty.
    fn set_user(&mut self, lane: &str, update: &UserUpdate) -> Result<(), StorageError> {
        set(&self.connection, &mut self.writer, self.cipher.as_ref(), lane, update)
    }

    /// Deletes the rows of epochs other than `keep` and of removed backends. Returns whether
    /// there were any.
    pub(super) fn forget_users(&self, keep: i64) -> rusqlite::Result<bool> {
        let sql = "DELETE FROM user
                   WHERE epoch <> ?1 OR backend NOT IN (SELECT name FROM backends)";
        Ok(self.connection.execute(sql, [keep])? > 0)
    }
}

/// The result of [`load`].
#[derive(Default)]
pub(super) struct LoadedUsers {
    /// The user properties of each lane that has some.
    pub(super) lanes: Vec<(usize, UserUpdate)>,
    /// The number of damaged rows.
    pub(super) damaged: u64,
    /// Whether the guard changed or deleted rows, so that old bytes remain in the file.
    pub(super) rewritten: bool,
}

/// Reads the rows and passes them through the guard. Deletes rows that are damaged or are
/// empty after that, and writes rows that the guard changed. With `encrypt`, the rows are
/// in the clear and all of them are written encrypted.
pub(super) fn load(
    connection: &Connection,
    writer: &mut payload::Writer,
    cipher: Option<&StoreCipher>,
    settings: &OpenSettings,
    encrypt: bool,
) -> Result<LoadedUsers, StorageError> {
    let mut users = LoadedUsers::default();
    let mut found = Vec::new();
    {
        let mut all = connection.prepare("SELECT backend, epoch, payload FROM user")?;
        let mut all = all.query([])?;
        while let Some(row) = all.next()? {
            let (name, epoch): (String, i64) = (row.get(0)?, row.get(1)?);
            let bytes = row.get_ref(2)?.as_blob().ok();
            let read_with = cipher.filter(|_| !encrypt);
            let user = bytes.and_then(|bytes| payload::read_user(bytes, read_with));
            found.push((name, epoch as u64, user));
        }
    }
    for (name, epoch, user) in found {
        users.damaged += u64::from(user.is_none());
        let (user, changed) = recheck(&settings.guard, user.unwrap_or_default());
        let update = UserUpdate { user, epoch };
        users.rewritten |= changed;
        if changed || encrypt || update.user.is_empty() {
            set(connection, writer, cipher, &name, &update)?;
        }
        if let (Some(lane), false) =
            (settings.lanes.iter().position(|lane| *lane == name), update.user.is_empty())
        {
            users.lanes.push((lane, update));
        }
    }
    Ok(users)
}

/// Replaces the row of `lane` by `update`, or deletes it if `update` is empty.
fn set(
    connection: &Connection,
    writer: &mut payload::Writer,
    cipher: Option<&StoreCipher>,
    lane: &str,
    update: &UserUpdate,
) -> Result<(), StorageError> {
    let payload = match update.user.is_empty() {
        true => None,
        false => writer.write_user(&update.user, cipher),
    };
    match payload {
        Some(bytes) => {
            let sql = "INSERT OR REPLACE INTO user (backend, epoch, payload) VALUES (?1, ?2, ?3)";
            connection.execute(sql, params![lane, update.epoch as i64, bytes])?;
        }
        // If `update` cannot be encrypted, the old row must not stay either.
        None => drop(connection.execute("DELETE FROM user WHERE backend = ?1", [lane])?),
    }
    Ok(())
}

/// Passes user properties that another process wrote through this process's guard. Returns
/// them and whether the guard changed them.
fn recheck(guard: &Guard, user: UserProperties) -> (UserProperties, bool) {
    let members = |user: &UserProperties| {
        [&user.set, &user.set_once].map(|properties| properties.members().to_owned())
    };
    let before = members(&user);
    let user = guard.user("user properties", user);
    let changed = members(&user) != before;
    (user, changed)
}
