//! The record of consent that this device stores.

mod agreed;
mod ids;
mod merge;

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use self::{
    agreed::Agreed,
    ids::{IdDigest, MAX_OFFERED, MAX_RETIRED, MAX_USED},
};
use super::state::Consent;

/// The format version that this code writes.
pub(crate) const VERSION: u32 = 1;

/// The highest epoch that a loaded record may have.
///
/// The gate shifts the epoch by two bits and a process keeps raising it. This leaves room
/// for both.
const MAX_LOADED_EPOCH: u64 = 1 << 60;

/// The persistent part of consent.
///
/// It contains no ID, because a salted digest is enough to recognise one. It must not
/// contain anything else personal either: the SDK's SQLite store writes custom values
/// unencrypted even if it has a passphrase (matrix-sdk-sqlite 0.18, `set_custom_value`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Record {
    version: u32,
    pub(crate) decision: Consent,
    /// Whether the user vetoed analytics on this device, whatever the account's decision.
    #[serde(default)]
    pub(crate) device_veto: bool,
    /// The epoch that began when the veto was set.
    #[serde(default)]
    vetoed_in: u64,
    /// The removal from the account that is still pending.
    #[serde(default)]
    pub(crate) removal: Option<Removal>,
    /// The epoch that began with the last withdrawal, here or elsewhere. Two processes may
    /// begin the same one; see [`Record::merge`].
    #[serde(default)]
    withdrawn_in: u64,
    /// The current epoch, raised at every withdrawal and every change of ID.
    #[serde(default)]
    pub(crate) epoch: u64,
    /// The last epoch in which a restored ID was cleaned up.
    #[serde(default)]
    pub(crate) cleaned_in_epoch: Option<u64>,
    #[serde(default)]
    salt: String,
    /// The ID that this device last sent under.
    #[serde(default)]
    current: Option<IdDigest>,
    /// The last withdrawn IDs, oldest first. They must not be used again.
    #[serde(default)]
    retired: VecDeque<IdDigest>,
    /// The last IDs that the next withdrawal retires in addition to the current one, oldest
    /// first. These are IDs in use before, and IDs that an opt-in here wrote or was about to
    /// write: a write whose answer was lost may still be applied.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    offered: VecDeque<IdDigest>,
    /// The IDs that this device has sent under since the last withdrawal that asked for erasures,
    /// or could have.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    used: BTreeSet<IdDigest>,
    /// The agreements to a policy. The next withdrawal forgets them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agreed: Option<Agreed>,
    /// Whether this replaces a record that could not be read, which may have held a
    /// withdrawal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unreadable: bool,
}

/// A removal from the account. The variants are ordered by how much they remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum Removal {
    /// Write `false` and remove the `id`.
    Id,
    /// Remove the whole event.
    Event,
}

impl Record {
    /// Creates an empty record. Two processes that share a record must use the same `salt`.
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
            offered: VecDeque::new(),
            used: BTreeSet::new(),
            agreed: None,
            unreadable: false,
        }
    }

    /// Creates the replacement for a record that cannot be read. It denies, so that only a
    /// new opt-in by the user opens the gate.
    pub(crate) fn unreadable(salt: String) -> Self {
        Self { decision: Consent::Denied, unreadable: true, ..Self::new(salt) }
    }

    /// Returns whether this version of the crate, or an earlier one, can have written the
    /// record.
    pub(crate) fn is_possible(&self) -> bool {
        !self.salt.is_empty()
            && self.epoch <= MAX_LOADED_EPOCH
            && self.vetoed_in <= self.epoch
            && self.withdrawn_in <= self.epoch
            && self.cleaned_in_epoch <= Some(self.epoch)
            && self.retired.len() <= MAX_RETIRED
            && self.offered.len() <= MAX_OFFERED
            && self.used.len() <= MAX_USED
            && self.agreed.as_ref().is_none_or(Agreed::is_possible)
    }

    /// Notes that the user withdrew on this device, and the pending `removal`. The caller
    /// raises the epoch.
    pub(crate) fn withdraw(&mut self, removal: Removal) {
        self.removal = self.removal.max(Some(removal));
        self.agreed = None;
        self.withdraw_elsewhere();
    }

    /// Notes that the user withdrew on another device. The caller raises the epoch.
    pub(crate) fn withdraw_elsewhere(&mut self) {
        self.decision = Consent::Denied;
        self.withdrawn_in = self.epoch + 1;
    }

    /// Returns whether this record has the withdrawal that began the epoch `withdrawn_in`, or a
    /// later one.
    pub(crate) fn has_withdrawal(&self, withdrawn_in: u64) -> bool {
        self.withdrawn_in >= withdrawn_in
    }

    /// Returns whether this record has a withdrawal that `before` did not have.
    pub(crate) fn is_withdrawn_since(&self, before: &Self) -> bool {
        self.decision == Consent::Denied
            && (before.decision != Consent::Denied || self.withdrawn_in != before.withdrawn_in)
    }

    /// Sets the veto of this device. The caller raises the epoch.
    pub(crate) fn veto(&mut self) {
        self.device_veto = true;
        self.vetoed_in = self.epoch + 1;
    }

    /// Lifts the veto. Returns whether there was one.
    pub(crate) fn lift_veto(&mut self) -> bool {
        std::mem::take(&mut self.device_veto)
    }

    pub(crate) fn is_unreadable(&self) -> bool {
        self.unreadable
    }

    /// Notes that the user has decided again, so that an unreadable record no longer matters.
    pub(crate) fn trust(&mut self) {
        self.unreadable = false;
    }

    /// Resets everything except the epoch, the veto, and the retired, offered and used IDs.
    pub(crate) fn reset(&mut self) {
        *self = Self {
            epoch: self.epoch,
            device_veto: self.device_veto,
            vetoed_in: self.vetoed_in,
            retired: std::mem::take(&mut self.retired),
            offered: std::mem::take(&mut self.offered),
            used: std::mem::take(&mut self.used),
            ..Self::new(std::mem::take(&mut self.salt))
        };
    }

    #[cfg(test)]
    pub(crate) fn with_salt(mut self, salt: &str) -> Self {
        self.salt = salt.to_owned();
        self
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
    use crate::analytics_id::AnalyticsId;

    #[test]
    fn neither_json_nor_debug_output_contains_an_id() {
        let id = AnalyticsId::random();
        let mut record = Record::default();
        record.remember_id(&id);
        record.retire(&id);
        record.offer(&AnalyticsId::random());
        let json = serde_json::to_string(&record).unwrap();
        assert!(!json.contains(id.reveal()));
        assert!(!format!("{record:?}").contains(id.reveal()));
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
    }

    #[test]
    fn a_record_that_no_version_can_have_written_is_impossible() {
        let possible = Record { epoch: MAX_LOADED_EPOCH, ..Record::default() };
        assert!(possible.is_possible());
        let digests = vec![Record::default().digest(&AnalyticsId::random()); MAX_RETIRED + 1];
        let many: Vec<_> =
            (0..=MAX_USED).map(|_| Record::default().digest(&AnalyticsId::random())).collect();
        for impossible in [
            Record { epoch: MAX_LOADED_EPOCH + 1, ..Record::default() },
            Record { epoch: u64::MAX, ..Record::default() },
            Record { vetoed_in: 2, ..Record::default() },
            Record { withdrawn_in: u64::MAX, ..Record::default() },
            Record { cleaned_in_epoch: Some(2), ..Record::default() },
            Record { salt: String::new(), ..Record::default() },
            Record { retired: digests.clone().into(), ..Record::default() },
            Record { used: many.iter().cloned().collect(), ..Record::default() },
            Record { offered: digests.into(), ..Record::default() },
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
