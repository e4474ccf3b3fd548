//! Stores the record of consent as a custom value in the client's state store.

use matrix_sdk::{Client, StoreError, ruma::UserId};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::consent::{
    hex::hex,
    record::{Record, VERSION},
};

/// The most times that a save starts again because another process wrote at the same time.
const MOST_ROUNDS: usize = 16;

/// The stored record of one user and one event type.
#[derive(Clone, Debug)]
pub(crate) struct RecordStore {
    client: Client,
    key: Vec<u8>,
    /// The key of the decisions for the app to show.
    decisions_key: Vec<u8>,
    salt: String,
}

/// An error of loading the record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    NewerVersion(NewerVersion),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A newer version of this crate wrote the record. Overwriting it would lose members that
/// only that version knows.
#[derive(Debug, thiserror::Error)]
#[error("the local record was written by a newer version")]
pub(crate) struct NewerVersion;

/// Other processes kept writing at the same time.
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
    /// Creates the access to the record of `user` for `event_type`.
    ///
    /// The key contains the user, so that the record of another user in the same store is
    /// never read. The user is hashed, because stores write keys unencrypted.
    pub(crate) fn new(client: Client, event_type: &str, user: &UserId) -> Self {
        let name = format!("{event_type}/{}", hex(&Sha256::digest(user.as_bytes())));
        let key = format!("matrix-analytics/{name}");
        let decisions_key = format!("matrix-analytics-decisions/{name}").into_bytes();
        // Two processes that start at once compute the same salt, so that each recognises
        // the IDs that the other retires. Two devices of one user compute different salts.
        let device = client.device_id().map(|device| device.as_str()).unwrap_or_default();
        let salt = Sha256::digest(format!("{key}/{device}"));
        Self { client, key: key.into_bytes(), decisions_key, salt: hex(&salt[..16]) }
    }

    /// Returns the address of the client's store, which identifies it in this process.
    pub(crate) fn store_address(&self) -> usize {
        std::ptr::from_ref(self.client.state_store()).cast::<()>().addr()
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Returns the stored record, or an empty one if there is none.
    pub(crate) async fn load(&self) -> Result<Record, LoadError> {
        Ok(self.read().await?.unwrap_or_else(|| Record::new(self.salt.clone())))
    }

    /// Merges `record` with the changes of other processes since this one read or wrote
    /// `base`, writes the result, and returns the stored record.
    ///
    /// The returned record is the caller's next `base`, and contains withdrawals of other
    /// processes. The write returns the value that it overwrote, and the record is read back
    /// afterwards. If either shows a concurrent write, it is merged as well. A store that
    /// does not replace values atomically leaves a window within one write, as the SDK's
    /// SQLite store does (matrix-sdk-sqlite 0.18, `set_custom_value`).
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

    /// Returns the stored decisions. Those of a newer version may be among them.
    pub(crate) async fn load_decisions(&self) -> Result<Vec<Value>, StoreError> {
        parse_decisions(self.client.state_store().get_custom_value(&self.decisions_key).await?)
    }

    /// Stores what `merge` returns for the stored decisions.
    ///
    /// If another process writes at the same time, what it wrote is merged as well, with the
    /// exception that [`save`](Self::save) describes.
    pub(crate) async fn update_decisions(
        &self,
        mut merge: impl FnMut(Vec<Value>) -> Vec<Value>,
    ) -> Result<(), StoreError> {
        let mut stored = self.load_decisions().await?;
        let mut news = stored.clone();
        for _ in 0..MOST_ROUNDS {
            let wanted = merge(news);
            if wanted == stored {
                return Ok(());
            }
            let json = serde_json::to_vec(&wanted)?;
            let store = self.client.state_store();
            let overwritten = store.set_custom_value(&self.decisions_key, json).await?;
            let overwritten = parse_decisions(overwritten)?;
            if overwritten == stored {
                return Ok(());
            }
            (stored, news) = (wanted, overwritten);
        }
        Err(StoreError::Backend(Box::new(Contended)))
    }

    async fn read(&self) -> Result<Option<Record>, LoadError> {
        let stored = self.client.state_store().get_custom_value(&self.key).await?;
        self.parse(stored)
    }

    /// Parses a stored record. One that cannot be parsed, or that no version can have
    /// written, may have held a withdrawal and becomes [`Record::unreadable`].
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

/// Parses stored decisions. Text that is no JSON counts as none.
fn parse_decisions(stored: Option<Vec<u8>>) -> Result<Vec<Value>, StoreError> {
    let Some(json) = stored else { return Ok(Vec::new()) };
    match serde_json::from_slice(&json) {
        Ok(Value::Array(decisions)) => Ok(decisions),
        Ok(_) => Err(LoadError::NewerVersion(NewerVersion).into()),
        Err(_) => Ok(Vec::new()),
    }
}
