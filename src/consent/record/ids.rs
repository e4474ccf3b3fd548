//! The salted digests by which this device recognises an ID.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Record;
use crate::{analytics_id::AnalyticsId, consent::hex::hex};

/// The number of retired IDs to remember. A client that writes back its cache restores a
/// recent one.
pub(super) const MAX_RETIRED: usize = 64;
/// The number of offered IDs to remember. A withdrawal can retire no more than that.
pub(super) const MAX_OFFERED: usize = MAX_RETIRED;
/// The number of used IDs to remember.
pub(super) const MAX_USED: usize = MAX_RETIRED;

/// A salted digest of an analytics ID.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct IdDigest(String);

impl std::fmt::Debug for IdDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdDigest(..)")
    }
}

impl Record {
    /// Makes `id` the current one. The next withdrawal retires both it and its predecessor.
    pub(crate) fn remember_id(&mut self, id: &AnalyticsId) {
        let digest = self.digest(id);
        if self.used.len() < MAX_USED {
            self.used.insert(digest.clone());
        }
        if self.current.as_ref() != Some(&digest) {
            self.forget_id();
            self.current = Some(digest);
        }
    }

    /// Forgets the current ID. The next withdrawal retires it.
    pub(crate) fn forget_id(&mut self) {
        if let Some(current) = self.current.take() {
            self.offer_digest(current);
        }
    }

    /// Returns whether the current ID is another than `id`.
    pub(crate) fn remembers_other_than(&self, id: &AnalyticsId) -> bool {
        self.current.as_ref().is_some_and(|current| *current != self.digest(id))
    }

    /// Notes that `id` may be written to the account from now on.
    pub(crate) fn offer(&mut self, id: &AnalyticsId) {
        self.offer_digest(self.digest(id));
    }

    pub(super) fn offer_digest(&mut self, digest: IdDigest) {
        if !self.retired.contains(&digest) {
            push(&mut self.offered, digest, MAX_OFFERED);
        }
    }

    /// Retires every ID that this device has used or may have written.
    pub(crate) fn retire_all(&mut self) {
        self.retire_all_but(None);
    }

    /// Retires the same IDs as [`Record::retire_all`], except for `id`.
    pub(crate) fn retire_all_but(&mut self, id: Option<&AnalyticsId>) {
        let spared = id.map(|id| self.digest(id));
        self.forget_id();
        for digest in std::mem::take(&mut self.offered) {
            if Some(&digest) == spared.as_ref() {
                self.offer_digest(digest);
            } else {
                self.retire_digest(digest);
            }
        }
    }

    pub(crate) fn retire(&mut self, id: &AnalyticsId) {
        self.retire_digest(self.digest(id));
    }

    pub(super) fn retire_digest(&mut self, digest: IdDigest) {
        self.offered.retain(|offered| *offered != digest);
        self.forget_agreements(&digest);
        push(&mut self.retired, digest, MAX_RETIRED);
    }

    /// Returns whether `id` must not be used again. If the record could not be read, that
    /// is unknown, and every ID counts as retired.
    pub(crate) fn is_retired(&self, id: &AnalyticsId) -> bool {
        self.unreadable || self.retired.contains(&self.digest(id))
    }

    /// Returns whether an opt-in on this device has written the current ID, or was about to.
    pub(crate) fn has_offered_current(&self) -> bool {
        self.current.as_ref().is_some_and(|current| self.offered.contains(current))
    }

    /// Takes the fingerprints of the IDs that this device has used since the last call.
    pub(crate) fn take_used(&mut self) -> Vec<String> {
        std::mem::take(&mut self.used).into_iter().map(|IdDigest(digest)| digest).collect()
    }

    /// Returns a text by which this device recognises `id`.
    pub(crate) fn fingerprint(&self, id: &AnalyticsId) -> String {
        self.digest(id).0
    }

    pub(super) fn digest(&self, id: &AnalyticsId) -> IdDigest {
        let mut hash = Sha256::new();
        hash.update(self.salt.as_bytes());
        hash.update(id.reveal().as_bytes());
        IdDigest(hex(&hash.finalize()))
    }
}

/// Adds `digest` unless it is present, and removes the oldest if there are more than `most`.
fn push(digests: &mut VecDeque<IdDigest>, digest: IdDigest, most: usize) {
    if digests.contains(&digest) {
        return;
    }
    digests.push_back(digest);
    if digests.len() > most {
        digests.pop_front();
    }
}

#[cfg(test)]
impl Record {
    pub(crate) fn has_digests(&self) -> bool {
        self.current.is_some()
            || !self.retired.is_empty()
            || !self.offered.is_empty()
            || !self.used.is_empty()
            || self.agreed.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            record.retire_all();
            record.retire(id);
        }
        let is_retired: Vec<_> = ids.iter().map(|id| record.is_retired(id)).collect();
        assert_eq!(is_retired, [[false; 6].as_slice(), &[true; MAX_RETIRED]].concat());
        assert!(record.is_possible());
    }

    #[test]
    fn a_withdrawal_retires_current_former_and_offered_ids() {
        let ids: Vec<_> = (0..5).map(|_| AnalyticsId::random()).collect();
        let mut record = Record::default();
        record.remember_id(&ids[0]);
        record.remember_id(&ids[1]);
        record.forget_id();
        record.offer(&ids[2]);
        record.offer(&ids[3]);
        record.remember_id(&ids[4]);
        record.retire_all_but(Some(&ids[3]));
        let is_retired: Vec<_> = ids.iter().map(|id| record.is_retired(id)).collect();
        assert_eq!(is_retired, [true, true, true, false, true]);
        record.retire_all();
        assert!(record.is_retired(&ids[3]));
        // A retired ID is not offered again.
        record.offer(&ids[3]);
        assert!(record.offered.is_empty());
    }

    #[test]
    fn offered_ids_are_bounded_and_the_oldest_are_dropped_first() {
        let ids: Vec<_> = (0..MAX_OFFERED + 3).map(|_| AnalyticsId::random()).collect();
        let mut record = Record::default();
        for id in &ids {
            record.offer(id);
            record.offer(id);
        }
        assert!(record.is_possible());
        record.retire_all();
        let is_retired: Vec<_> = ids.iter().map(|id| record.is_retired(id)).collect();
        assert_eq!(is_retired, [[false; 3].as_slice(), &[true; MAX_OFFERED]].concat());
    }
}
