//! A list of agreements, with one entry for each version of a policy.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::{Agreement, MAX_RECIPIENTS, Policy, check_label, check_version};

/// The most entries of a list. A further one replaces the oldest.
pub(super) const MAX_ENTRIES: usize = 8;

/// The agreement of the user to one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Entry {
    pub(super) version: String,
    /// The time of the last agreement, in milliseconds since 1970.
    ts: u64,
    /// For each recipient the time of the last agreement to it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    recipients: BTreeMap<String, u64>,
}

impl Entry {
    pub(super) fn new(version: String) -> Self {
        Self { version, ts: 0, recipients: BTreeMap::new() }
    }

    /// Returns when the user agreed to `policy`, or `None` if the entry does not cover it.
    /// With several recipients, that is the time of the oldest agreement.
    fn agreed_at(&self, policy: &Policy) -> Option<u64> {
        if self.version != policy.version {
            return None;
        }
        let recipients = policy.recipients.iter().map(|label| self.recipients.get(label).copied());
        recipients.min().unwrap_or(Some(self.ts))
    }

    /// Returns this entry without the labels that no policy can have, or `None` if no policy can
    /// have its version.
    pub(super) fn checked(mut self) -> Option<Self> {
        self.recipients.retain(|label, _| check_label(label).is_ok());
        check_version(&self.version).is_ok().then_some(self)
    }

    /// Adds `agreement`. Other recipients stay, as far as there is room for them.
    pub(super) fn agree(&mut self, agreement: &Agreement) {
        let Agreement { policy, at } = agreement;
        self.ts = policy.later(self.ts, *at);
        for label in &policy.recipients {
            let own = self.recipients.entry(label.clone()).or_default();
            *own = policy.later(*own, *at);
        }
        self.drop_oldest_but(&policy.recipients);
    }

    /// Adds the agreements of `other`. The later time counts.
    fn join(&mut self, other: &Self) {
        self.ts = self.ts.max(other.ts);
        for (label, at) in &other.recipients {
            let own = self.recipients.entry(label.clone()).or_default();
            *own = (*own).max(*at);
        }
        self.drop_oldest_but(&BTreeSet::new());
    }

    /// Drops the oldest recipients, except for `kept`, until there are no more than a policy can
    /// have.
    fn drop_oldest_but(&mut self, kept: &BTreeSet<String>) {
        while self.recipients.len() > MAX_RECIPIENTS {
            let others = self.recipients.iter().filter(|(label, _)| !kept.contains(*label));
            let Some(oldest) = others.min_by_key(|(_, at)| **at).map(|(label, _)| label.clone())
            else {
                return;
            };
            self.recipients.remove(&oldest);
        }
    }
}

/// The agreements of the user, with the last one at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(Hash))]
#[serde(transparent)]
pub(crate) struct Agreements(VecDeque<Entry>);

impl Agreements {
    /// Returns when the user agreed to `policy`, or `None` if no entry covers it.
    pub(crate) fn agreed_at(&self, policy: &Policy) -> Option<u64> {
        // Of a repeated version, the last entry counts.
        self.0.iter().rev().find(|entry| entry.version == policy.version)?.agreed_at(policy)
    }

    pub(crate) fn add(&mut self, agreement: &Agreement) {
        let version = &agreement.policy.version;
        let mut entry = self.take(version).unwrap_or_else(|| Entry::new(version.clone()));
        entry.agree(agreement);
        self.push(entry);
    }

    /// Removes the entry for the version of `policy`.
    pub(crate) fn forget(&mut self, policy: &Policy) {
        self.take(&policy.version);
    }

    /// Adds the agreements of `other`.
    pub(crate) fn join(&mut self, other: &Self) {
        for entry in &other.0 {
            let mut joined = self.take(&entry.version).unwrap_or_else(|| entry.clone());
            joined.join(entry);
            self.push(joined);
        }
    }

    /// Replaces the time `before` by `after`.
    pub(crate) fn replace_time(&mut self, before: u64, after: u64) {
        for Entry { ts, recipients, .. } in &mut self.0 {
            let times = recipients.values_mut().chain([ts]);
            times.filter(|at| **at == before).for_each(|at| *at = after);
        }
    }

    /// Returns the time of the last agreement.
    pub(crate) fn newest(&self) -> Option<u64> {
        self.0.iter().map(|entry| entry.ts).max()
    }

    /// Returns whether there are at most as many entries as this crate writes.
    pub(crate) fn is_possible(&self) -> bool {
        self.0.len() <= MAX_ENTRIES
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.0.push_back(entry);
        if self.0.len() > MAX_ENTRIES {
            self.0.pop_front();
        }
    }

    fn take(&mut self, version: &str) -> Option<Entry> {
        let at = self.0.iter().position(|entry| entry.version == version)?;
        self.0.remove(at)
    }
}
