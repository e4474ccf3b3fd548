//! Where this device remembers consent: a custom value in the client's state store.

use matrix_sdk::{Client, StoreError, ruma::UserId};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::{
    consent::record::{Record, VERSION},
    hex::hex,
};

/// How often a save is begun again because another process wrote at the same time.
const MOST_ROUNDS: usize = 16;

/// The place of one user's record for one event type.
#[derive(Clone, Debug)]
pub(crate) struct RecordStore {
    client: Client,
    key: Vec<u8>,
    salt: String,
}

/// Why the record could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    NewerVersion(NewerVersion),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A newer version of this crate wrote the record: to overwrite it would forget what only
/// that version knows.
#[derive(Debug, thiserror::Error)]
#[error("the local record was written by a newer version")]
pub(crate) struct NewerVersion;

/// Other processes wrote the record at the same time, again and again.
#[derive(Debug, thiserror::Error)]
#[error("other processes keep writing the local record")]
struct Contended;

impl From<LoadError> for StoreError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::NewerVersion(newer) => Self::Backend(Box::new(newer)),
            LoadError::Store(error) => error,
        }
    }
}

impl RecordStore {
    /// The user is part of the key, so that a record of another user of the same
    /// store is never read. The key holds a hash: stores keep keys readable.
    pub(crate) fn new(client: Client, event_type: &str, user: &UserId) -> Self {
        let key =
            format!("matrix-analytics/{event_type}/{}", hex(&Sha256::digest(user.as_bytes())));
        // Two processes that begin at once make the same salt, so that each recognises the
        // IDs that the other retires; two devices of one user make different ones.
        let device = client.device_id().map(|device| device.as_str()).unwrap_or_default();
        let salt = Sha256::digest(format!("{key}/{device}"));
        Self { client, key: key.into_bytes(), salt: hex(&salt[..16]) }
    }

    /// Returns where the record is, for one process: the address of the client's store, and
    /// the key in it.
    pub(crate) fn place(&self) -> (usize, Vec<u8>) {
        let store = std::ptr::from_ref(self.client.state_store());
        (store.cast::<()>().addr(), self.key.clone())
    }

    /// Returns the record, or a fresh one if there is none.
    pub(crate) async fn load(&self) -> Result<Record, LoadError> {
        Ok(self.read().await?.unwrap_or_else(|| Record::new(self.salt.clone())))
    }

    /// Brings `record` together with what other processes have stored since this one read
    /// or wrote `base`, writes the result, and returns what is stored then.
    ///
    /// The caller goes on from what is returned: it is the next `base`, and says what another
    /// process withdrew. Writing tells what was overwritten, and the record is read back; what
    /// was written at the same time is merged, too. What remains is the time within one write
    /// of a store that does not replace values atomically, such as the SDK's SQLite store
    /// (matrix-sdk-sqlite 0.18, `set_custom_value`).
    pub(crate) async fn save(&self, base: &Record, record: &Record) -> Result<Record, StoreError> {
        let (mut base, mut wanted) = (base.clone(), record.clone());
        let mut stored = self.read().await?;
        let mut news = vec![stored.clone()];
        for _ in 0..MOST_ROUNDS {
            for theirs in news.drain(..).flatten() {
                wanted = Record::merge(&base, &wanted, &theirs);
                base = theirs;
            }
            if stored.as_ref() == Some(&wanted) {
                return Ok(wanted);
            }
            let json = serde_json::to_vec(&wanted)?;
            let overwritten = self.client.state_store().set_custom_value(&self.key, json).await?;
            let overwritten = self.parse(overwritten)?;
            let now_stored = self.read().await?;
            if overwritten != stored {
                news.push(overwritten);
            }
            if now_stored.as_ref() != Some(&wanted) {
                news.push(now_stored.clone());
            }
            stored = now_stored;
        }
        Err(StoreError::Backend(Box::new(Contended)))
    }

    async fn read(&self) -> Result<Option<Record>, LoadError> {
        let stored = self.client.state_store().get_custom_value(&self.key).await?;
        self.parse(stored)
    }

    /// A record that cannot be read, or that cannot be, may have held a withdrawal.
    fn parse(&self, stored: Option<Vec<u8>>) -> Result<Option<Record>, LoadError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }

        let Some(json) = stored else { return Ok(None) };
        if let Ok(Version { version }) = serde_json::from_slice(&json)
            && version > VERSION
        {
            return Err(LoadError::NewerVersion(NewerVersion));
        }
        let record = serde_json::from_slice(&json).ok().filter(Record::is_possible);
        Ok(Some(record.unwrap_or_else(|| Record::unreadable(self.salt.clone()))))
    }
}
