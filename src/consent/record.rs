//! What this device remembers about consent.

mod merge;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::state::Consent;
use crate::{analytics_id::AnalyticsId, hex::hex};

/// The version that this code writes.
pub(crate) const VERSION: u32 = 1;

/// How many retired IDs are remembered: a client that restores what it had cached
/// restores a recent one.
const MAX_RETIRED: usize = 64;

/// The highest epoch that a record may have when it is loaded.
///
/// The gate shifts the epoch by two bits, and a process raises it from here on: neither can
/// overflow.
const MAX_LOADED_EPOCH: u64 = 1 << 60;

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
    /// The epoch that began when the veto was set.
    #[serde(default)]
    vetoed_in: u64,
    /// The server copy that a withdrawal has still to clean.
    #[serde(default)]
    pub(crate) removal: Option<Removal>,
    /// The epoch that began when the user last withdrew on this device.
    #[serde(default)]
    withdrawn_in: u64,
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

/// What a withdrawal still has to do on the server, from the lesser to the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum Removal {
    /// Write `false` and remove the `id`.
    Id,
    /// Remove the whole event.
    Event,
}

/// A salted digest of an analytics ID.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(test, derive(Hash))]
struct IdDigest(String);

impl std::fmt::Debug for IdDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdDigest(..)")
    }
}

impl Record {
    /// Returns the record of a device that remembers nothing. Two processes that share a
    /// record have to give it the same `salt`.
    pub(crate) fn new(salt: String) -> Self {
        Self {
            version: VERSION,
            decision: Consent::Undecided,
            device_veto: false,
            vetoed_in: 0,
            removal: None,
            withdrawn_in: 0,
            epoch: 1,
            cleaned_in_epoch: None,
            salt,
            current: None,
            retired: VecDeque::new(),
            unreadable: false,
        }
    }

    /// Returns what is remembered in place of a record that cannot be read: a no, so that
    /// only the user's own new yes opens.
    pub(crate) fn unreadable(salt: String) -> Self {
        Self { decision: Consent::Denied, unreadable: true, ..Self::new(salt) }
    }

    /// Whether this code, of this or an earlier version, can have written the record.
    pub(crate) fn is_possible(&self) -> bool {
        !self.salt.is_empty()
            && self.epoch <= MAX_LOADED_EPOCH
            && self.vetoed_in <= self.epoch
            && self.withdrawn_in <= self.epoch
            && self.cleaned_in_epoch <= Some(self.epoch)
            && self.retired.len() <= MAX_RETIRED
    }

    /// Notes that the user withdrew on this device, and what the account has still to lose.
    /// The caller raises the epoch.
    pub(crate) fn withdraw(&mut self, removal: Removal) {
        self.decision = Consent::Denied;
        self.removal = self.removal.max(Some(removal));
        self.withdrawn_in = self.epoch + 1;
    }

    /// Notes that the user said no on this device. The caller raises the epoch.
    pub(crate) fn veto(&mut self) {
        self.device_veto = true;
        self.vetoed_in = self.epoch + 1;
    }

    /// Takes the veto back. Returns whether there was one.
    pub(crate) fn lift_veto(&mut self) -> bool {
        std::mem::take(&mut self.device_veto)
    }

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
        *self = Self {
            epoch: self.epoch,
            device_veto: self.device_veto,
            vetoed_in: self.vetoed_in,
            ..Self::new(std::mem::take(&mut self.salt))
        };
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

#[cfg(test)]
impl Default for Record {
    fn default() -> Self {
        Self::new(uuid::Uuid::new_v4().simple().to_string())
    }
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
        let ids: Vec<_> = (0..MAX_RETIRED + 6).map(|_| AnalyticsId::random()).collect();
        let mut record = Record::default();
        for id in &ids {
            record.remember_id(id);
            record.retire_current();
            record.retire(id);
        }
        let is_retired: Vec<_> = ids.iter().map(|id| record.is_retired(id)).collect();
        assert_eq!(is_retired, [[false; 6].as_slice(), &[true; MAX_RETIRED]].concat());
        assert!(record.is_possible());
    }

    #[test]
    fn a_record_that_no_version_wrote_is_impossible() {
        let possible = Record { epoch: MAX_LOADED_EPOCH, ..Record::default() };
        assert!(possible.is_possible());
        let retired = vec![Record::default().digest(&AnalyticsId::random()); MAX_RETIRED + 1];
        for impossible in [
            Record { epoch: MAX_LOADED_EPOCH + 1, ..Record::default() },
            Record { epoch: u64::MAX, ..Record::default() },
            Record { vetoed_in: 2, ..Record::default() },
            Record { withdrawn_in: u64::MAX, ..Record::default() },
            Record { cleaned_in_epoch: Some(2), ..Record::default() },
            Record { salt: String::new(), ..Record::default() },
            Record { retired: retired.into(), ..Record::default() },
        ] {
            assert!(!impossible.is_possible(), "{impossible:?}");
        }
    }

    #[test]
    fn a_record_with_unknown_members_is_read() {
        let mut json = serde_json::to_value(Record::default()).unwrap();
        json["from_the_future"] = 5.into();
        assert!(serde_json::from_value::<Record>(json).is_ok());
    }
}
