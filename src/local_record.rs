//! What this device remembers about consent, in the client's state store.

use std::collections::VecDeque;

use matrix_sdk::{Client, StoreError, ruma::UserId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{AnalyticsId, BuildError, Consent};

/// The version that this code writes.
const VERSION: u32 = 1;

/// How many retired IDs are remembered: a client that restores what it had cached
/// restores a recent one.
const MAX_RETIRED: usize = 8;

/// The durable half of consent: it survives the process and the network.
///
/// Holds no ID: a salted digest is enough to recognise one. Nothing else that is
/// personal may get in either: the SDK's SQLite store writes custom values in the clear
/// even if it has a passphrase (matrix-sdk-sqlite 0.18, `set_custom_value`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Record {
    version: u32,
    pub(crate) decision: Consent,
    /// The user said no on this device, whatever the account says.
    #[serde(default)]
    pub(crate) device_veto: bool,
    /// The server copy that a withdrawal has still to clean.
    #[serde(default)]
    pub(crate) removal: Option<Removal>,
    /// Goes up at every withdrawal and every change of ID.
    #[serde(default)]
    pub(crate) epoch: u64,
    /// The epoch in which the last unasked clean-up was written.
    #[serde(default)]
    pub(crate) cleaned_in_epoch: Option<u64>,
    #[serde(default)]
    salt: String,
    /// The ID under which this device last sent.
    #[serde(default)]
    current: Option<IdDigest>,
    /// The last IDs that a withdrawal here removed, oldest first: never to be used
    /// again.
    #[serde(default)]
    retired: VecDeque<IdDigest>,
    /// This stands for a record that could not be read: it may have held a
    /// withdrawal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unreadable: bool,
}

/// What a withdrawal still has to do on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum Removal {
    /// Write `false` and remove the `id`.
    Id,
    /// Remove the whole event.
    Event,
}

/// A salted digest of an analytics ID.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(test, derive(Hash))]
struct IdDigest(String);

impl std::fmt::Debug for IdDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdDigest(..)")
    }
}

impl Default for Record {
    fn default() -> Self {
        Self {
            version: VERSION,
            decision: Consent::Undecided,
            device_veto: false,
            removal: None,
            epoch: 1,
            cleaned_in_epoch: None,
            salt: Uuid::new_v4().simple().to_string(),
            current: None,
            retired: VecDeque::new(),
            unreadable: false,
        }
    }
}

impl Record {
    pub(crate) fn remember_id(&mut self, id: &AnalyticsId) {
        self.current = Some(self.digest(id));
    }

    /// Forgets the current ID without retiring it.
    pub(crate) fn forget_id(&mut self) {
        self.current = None;
    }

    /// Whether an ID is remembered, and it is not `id`.
    pub(crate) fn remembers_other_than(&self, id: &AnalyticsId) -> bool {
        self.current.as_ref().is_some_and(|current| *current != self.digest(id))
    }

    /// Makes the current ID, if there is one, the retired one.
    pub(crate) fn retire_current(&mut self) {
        if let Some(current) = self.current.take() {
            self.retire_digest(current);
        }
    }

    pub(crate) fn retire(&mut self, id: &AnalyticsId) {
        self.retire_digest(self.digest(id));
    }

    fn retire_digest(&mut self, digest: IdDigest) {
        if self.retired.contains(&digest) {
            return;
        }
        self.retired.push_back(digest);
        if self.retired.len() > MAX_RETIRED {
            self.retired.pop_front();
        }
    }

    /// Whether `id` must not be used again; of a record that could not be read
    /// nobody knows.
    pub(crate) fn is_retired(&self, id: &AnalyticsId) -> bool {
        self.unreadable || self.retired.contains(&self.digest(id))
    }

    pub(crate) fn is_unreadable(&self) -> bool {
        self.unreadable
    }

    /// The user has decided anew: what could not be read matters no more.
    pub(crate) fn trust(&mut self) {
        self.unreadable = false;
    }

    /// Nothing is remembered but the epoch and the veto.
    pub(crate) fn start_anew(&mut self) {
        *self = Self { epoch: self.epoch, device_veto: self.device_veto, ..Self::default() };
    }

    /// What is remembered in place of a record that cannot be read: a no, so that
    /// only the user's own new yes opens.
    pub(crate) fn unreadable() -> Self {
        Self { decision: Consent::Denied, unreadable: true, ..Self::default() }
    }

    #[cfg(test)]
    pub(crate) fn with_salt(mut self, salt: &str) -> Self {
        self.salt = salt.to_owned();
        self
    }

    #[cfg(test)]
    pub(crate) fn has_digests(&self) -> bool {
        self.current.is_some() || !self.retired.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn remembers(&self, id: &AnalyticsId) -> bool {
        self.current.as_ref() == Some(&self.digest(id))
    }

    fn digest(&self, id: &AnalyticsId) -> IdDigest {
        let mut hash = Sha256::new();
        hash.update(self.salt.as_bytes());
        hash.update(id.reveal().as_bytes());
        IdDigest(hex(&hash.finalize()))
    }
}

/// The place of one user's record for one event type.
#[derive(Clone, Debug)]
pub(crate) struct RecordStore {
    client: Client,
    key: Vec<u8>,
}

impl RecordStore {
    /// The user is part of the key, so that a record of another user of the same
    /// store is never read. The key holds a hash: stores keep keys readable.
    pub(crate) fn new(client: Client, event_type: &str, user: &UserId) -> Self {
        let user = hex(&Sha256::digest(user.as_bytes()));
        Self { client, key: format!("matrix-analytics/{event_type}/{user}").into_bytes() }
    }

    /// The record, or a fresh one if there is none.
    pub(crate) async fn load(&self) -> Result<Record, BuildError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }

        let stored = self.client.state_store().get_custom_value(&self.key).await;
        let Some(json) = stored.map_err(BuildError::Store)? else { return Ok(Record::default()) };
        match serde_json::from_slice::<Version>(&json) {
            // To overwrite it would forget what only the newer version knows.
            Ok(Version { version }) if version > VERSION => Err(BuildError::NewerRecord),
            _ => Ok(serde_json::from_slice(&json).unwrap_or_else(|_| Record::unreadable())),
        }
    }

    pub(crate) async fn save(&self, record: &Record) -> Result<(), StoreError> {
        let json = serde_json::to_vec(record)?;
        self.client.state_store().set_custom_value_no_read(&self.key, json).await
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_shows_and_stores_no_id() {
        let id = AnalyticsId::random();
        let mut record = Record::default();
        record.remember_id(&id);
        record.retire(&id);
        let json = serde_json::to_string(&record).unwrap();
        assert!(!json.contains(id.reveal()));
        assert!(!format!("{record:?}").contains(id.reveal()));
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
    }

    #[test]
    fn two_devices_digest_one_id_differently() {
        let id = AnalyticsId::random();
        let (mut one, mut other) = (Record::default(), Record::default());
        one.remember_id(&id);
        other.remember_id(&id);
        assert_ne!(one.current, other.current);
    }

    #[test]
    fn the_last_retired_ids_are_remembered_and_the_record_stays_small() {
        let ids: Vec<_> = (0..20).map(|_| AnalyticsId::random()).collect();
        let mut record = Record::default();
        for id in &ids {
            record.remember_id(id);
            record.retire_current();
            record.retire(id);
        }
        let is_retired: Vec<_> = ids.iter().map(|id| record.is_retired(id)).collect();
        assert_eq!(is_retired, [[false; 12].as_slice(), &[true; 8]].concat());
    }

    #[test]
    fn a_record_with_unknown_members_is_read() {
        let mut json = serde_json::to_value(Record::default()).unwrap();
        json["from_the_future"] = 5.into();
        assert!(serde_json::from_value::<Record>(json).is_ok());
    }
}
