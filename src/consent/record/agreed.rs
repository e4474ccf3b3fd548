//! The agreements to a policy that this device knows of.

use std::{collections::VecDeque, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{IdDigest, Record};
use crate::{
    analytics_id::AnalyticsId,
    consent::policy::{Agreement, Policy, agreements::Agreements},
};

/// The agreements under one ID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Agreed {
    pub(super) id: IdDigest,
    /// Those that the user gave on this device. They count even if another client has removed
    /// them from the account since, so that no device asks twice.
    #[serde(default)]
    pub(super) here: Agreements,
    /// Those that the account was last seen to have.
    #[serde(default)]
    pub(super) seen: Agreements,
}

impl Agreed {
    fn under(id: IdDigest) -> Self {
        Self { id, here: Agreements::default(), seen: Agreements::default() }
    }

    pub(super) fn is_possible(&self) -> bool {
        self.here.is_possible() && self.seen.is_possible()
    }

    /// Merges the agreements of two records. Of two IDs it keeps the one that is `current`, that
    /// was `offered`, or under which the user agreed last, in this order.
    pub(super) fn merge(
        base: Option<&Self>,
        mine: Option<&Self>,
        theirs: Option<&Self>,
        current: Option<&IdDigest>,
        offered: &VecDeque<IdDigest>,
    ) -> Option<Self> {
        match (mine, theirs) {
            _ if mine == base => theirs.cloned(),
            _ if theirs == base => mine.cloned(),
            (Some(mine), Some(theirs)) if mine.id == theirs.id => {
                let mut merged = mine.clone();
                merged.here.join(&theirs.here);
                merged.seen.join(&theirs.seen);
                Some(merged)
            }
            _ => {
                let rank = |side: &&Self| {
                    let is_current = Some(&side.id) == current;
                    (is_current, offered.contains(&side.id), side.here.newest(), side.id.clone())
                };
                [mine, theirs].into_iter().flatten().max_by_key(rank).cloned()
            }
        }
    }
}

impl Record {
    /// Notes that the user gave `agreement`, if there is one, on this device under `id`.
    pub(crate) fn agree_here(&mut self, id: &AnalyticsId, agreement: Option<&Agreement>) {
        if let Some(agreement) = agreement {
            self.agreed_under(id).here.add(agreement);
        }
    }

    /// Replaces the time `unknown` of agreements on this device, given before its clock was set.
    pub(crate) fn date_agreements(&mut self, unknown: u64, today: u64) {
        if let Some(agreed) = &mut self.agreed {
            agreed.here.replace_time(unknown, today);
        }
    }

    /// Notes when the user agreed to `policy` under `id`, according to the account.
    pub(crate) fn see_agreement(
        &mut self,
        id: &AnalyticsId,
        policy: &Arc<Policy>,
        at: Option<u64>,
    ) {
        let seen = &mut self.agreed_under(id).seen;
        match at {
            Some(at) => {
                // The account may have an earlier time than before.
                seen.forget(policy);
                seen.add(&Agreement { policy: policy.clone(), at });
            }
            None => seen.forget(policy),
        }
    }

    /// Notes that the account holds no ID that an agreement could be bound to.
    pub(crate) fn see_no_agreement(&mut self) {
        if let Some(agreed) = &mut self.agreed {
            agreed.seen = Agreements::default();
        }
    }

    /// Returns when the user agreed to `policy`, on this device and according to the account.
    pub(crate) fn agreed_at(&self, policy: &Policy) -> impl Iterator<Item = u64> {
        let lists = self.agreed.iter().flat_map(|agreed| [&agreed.here, &agreed.seen]);
        lists.filter_map(|list| list.agreed_at(policy))
    }

    /// Forgets the agreements under an ID that was retired.
    pub(super) fn forget_agreements(&mut self, retired: &IdDigest) {
        self.agreed.take_if(|agreed| agreed.id == *retired);
    }

    fn agreed_under(&mut self, id: &AnalyticsId) -> &mut Agreed {
        let digest = self.digest(id);
        let agreed = self.agreed.get_or_insert_with(|| Agreed::under(digest.clone()));
        if agreed.id != digest {
            *agreed = Agreed::under(digest);
        }
        agreed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> AnalyticsId {
        AnalyticsId::from_foreign(name).unwrap()
    }

    fn policy(version: &str) -> Arc<Policy> {
        Arc::new(Policy::new(version))
    }

    fn agreement(version: &str, at: u64) -> Agreement {
        Agreement { policy: policy(version), at }
    }

    fn at(record: &Record, version: &str) -> Vec<u64> {
        record.agreed_at(&policy(version)).collect()
    }

    #[test]
    fn agreements_are_forgotten_with_their_id() {
        let mut record = Record::default();
        record.agree_here(&id("a"), Some(&agreement("3", 5)));
        record.see_agreement(&id("a"), &policy("3"), Some(4));
        assert_eq!(at(&record, "3"), [5, 4]);
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
        record.retire(&id("b"));
        assert_eq!(at(&record, "3"), [5, 4]);

        let mut retired = record.clone();
        retired.retire(&id("a"));
        assert_eq!(retired.agreed, None);
        let mut replaced = record.clone();
        replaced.see_agreement(&id("b"), &policy("3"), None);
        assert!(at(&replaced, "3").is_empty());
        record.withdraw(crate::consent::record::Removal::Id);
        assert_eq!(record.agreed, None);
    }

    #[test]
    fn an_agreement_that_the_account_has_lost_counts_only_if_it_was_given_here() {
        let mut record = Record::default();
        record.agree_here(&id("a"), Some(&agreement("3", 5)));
        record.see_agreement(&id("a"), &policy("4"), Some(6));
        record.see_agreement(&id("a"), &policy("3"), None);
        record.see_agreement(&id("a"), &policy("4"), None);
        assert_eq!((at(&record, "3"), at(&record, "4")), (vec![5], vec![]));
        record.see_agreement(&id("a"), &policy("4"), Some(6));
        // Under another ID it counts only if it is given again.
        record.agree_here(&id("b"), None);
        assert_eq!((at(&record, "3"), at(&record, "4")), (vec![5], vec![6]));
        record.agree_here(&id("b"), Some(&agreement("3", 5)));
        assert_eq!((at(&record, "3"), at(&record, "4")), (vec![5], vec![]));
        record.see_agreement(&id("b"), &policy("3"), Some(7));
        assert_eq!(at(&record, "3"), [5, 7]);
    }

    #[test]
    fn a_merge_keeps_the_agreements_of_both_sides_unless_one_withdrew() {
        let mut base = Record::default();
        base.remember_id(&id("a"));
        base.decision = crate::consent::state::Consent::Granted;
        let (mut mine, mut theirs) = (base.clone(), base.clone());
        mine.agree_here(&id("a"), Some(&agreement("3", 5)));
        theirs.agree_here(&id("a"), Some(&agreement("3", 6)));
        theirs.agree_here(&id("a"), Some(&agreement("4", 7)));
        for (mine, theirs) in [(&mine, &theirs), (&theirs, &mine)] {
            let merged = Record::merge(&base, mine, theirs);
            assert_eq!((at(&merged, "3"), at(&merged, "4")), (vec![6], vec![7]));
        }
        // A side that changed nothing, and one that has another ID.
        let merged = Record::merge(&mine, &mine, &theirs);
        assert_eq!(at(&merged, "4"), [7]);
        let mut other = base.clone();
        other.agree_here(&id("b"), Some(&agreement("4", 8)));
        let merged = Record::merge(&base, &mine, &other);
        assert_eq!((at(&merged, "3"), at(&merged, "4")), (vec![5], vec![]));

        // An opt-in that has not settled, whose ID is not yet the current one.
        let mut fresh = Record::default();
        let mut settling = fresh.clone();
        settling.offer(&id("b"));
        settling.agree_here(&id("b"), Some(&agreement("4", 2)));
        fresh.retire(&id("x"));
        let mut earlier = fresh.clone();
        earlier.agree_here(&id("a"), Some(&agreement("4", 9)));
        let fresh = Record::new(fresh.salt.clone());
        for (mine, theirs) in [(&settling, &earlier), (&earlier, &settling)] {
            assert_eq!(at(&Record::merge(&fresh, mine, theirs), "4"), [2]);
        }
        // Of two others, the last agreement.
        let mut later = fresh.clone();
        later.agree_here(&id("c"), Some(&agreement("4", 10)));
        for (mine, theirs) in [(&later, &earlier), (&earlier, &later)] {
            assert_eq!(at(&Record::merge(&fresh, mine, theirs), "4"), [10]);
        }

        let mut withdrawn = base.clone();
        withdrawn.withdraw_elsewhere();
        withdrawn.epoch += 1;
        assert_eq!(Record::merge(&base, &mine, &withdrawn).agreed, None);
        assert_eq!(Record::merge(&base, &withdrawn, &mine).agreed, None);
        // Also one under an ID that is no longer remembered.
        other.agreed = None;
        other.agree_here(&id("c"), Some(&agreement("3", 9)));
        assert_eq!(Record::merge(&base, &other, &withdrawn).agreed, None);
    }
}
