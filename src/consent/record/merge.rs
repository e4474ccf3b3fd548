//! The merge of this process's record with one that another process has stored.

use std::collections::{BTreeSet, VecDeque};

use super::{Agreed, IdDigest, MAX_OFFERED, MAX_RETIRED, MAX_USED, Record};
use crate::consent::state::Consent;

impl Record {
    /// Merges `mine`, the record that this process wants to store, with `theirs`, the one that
    /// is stored. `base` is the record that this process last read or wrote.
    ///
    /// A value that only one side changed since `base` is taken from that side. The other rules
    /// are:
    ///
    /// - The decision is denied if either side withdrew, and undecided if the sides otherwise
    ///   disagree.
    /// - The veto is set if either side set it since `base`, or if neither side lifted it.
    /// - The removal is the greater of those requested since `base`. If none was, it is the
    ///   lesser one, because a side has completed the rest.
    /// - If both sides changed the ID, one is chosen by its digest, so that both processes choose
    ///   the same. Without an opt-in there is none. A replaced ID is retired if the decision is
    ///   denied. Otherwise it is offered, so that the next withdrawal retires it.
    /// - The agreements to a policy are those of both sides if they are under one ID. A
    ///   withdrawal on either side forgets them.
    /// - Retired and offered IDs are those of both sides. If there are too many, the oldest are
    ///   dropped. A withdrawal on either side retires the offered IDs of both.
    /// - The used IDs are those of both sides, without those that either side has taken.
    /// - The epoch is the greater one, plus one if both sides raised it or changed the ID, so that
    ///   no event captured by one process is sent under the ID of the other.
    /// - The record is unreadable if either side has become so. It is trusted again if either side
    ///   trusts it.
    ///
    /// A withdrawal is identified by the epoch that it began. Two processes that withdraw from
    /// the same record begin the same epoch. The two withdrawals then become one in a new
    /// epoch. Otherwise each process would mistake the other's withdrawal for its own, and mark
    /// both as done. The same holds for a veto.
    pub(crate) fn merge(base: &Self, mine: &Self, theirs: &Self) -> Self {
        let both_withdrew = both_changed(base, mine, theirs, |record| record.withdrawn_in);
        let both_vetoed = both_changed(base, mine, theirs, |record| record.vetoed_in);
        if mine == theirs && !both_withdrew && !both_vetoed {
            return mine.clone();
        }
        // Another process could not read the record and replaced it. This process has read the
        // original, so the replacement has nothing to add.
        if theirs.unreadable && theirs.epoch < base.epoch {
            return mine.clone();
        }
        if mine.epoch.min(theirs.epoch) < base.epoch {
            // The store was restored from an older state, for example from a backup, so the common
            // base is unknown. An empty base keeps closed what is closed on either side.
            let unknown = Self { epoch: 0, ..Self::new(base.salt.clone()) };
            return Self::merge(&unknown, mine, theirs);
        }
        if theirs == base {
            return mine.clone();
        }
        // If another process lost its record, restore the digests it dropped. A full list drops
        // its oldest digests by design.
        let lost_retired =
            |digest| theirs.retired.len() < MAX_RETIRED && !theirs.retired.contains(digest);
        let lost_offered = |digest| {
            theirs.offered.len() < MAX_OFFERED
                && !theirs.offered.contains(digest)
                && lost_retired(digest)
        };
        if mine == base
            && !base.retired.iter().any(lost_retired)
            && !base.offered.iter().any(lost_offered)
        {
            return theirs.clone();
        }
        if mine.salt != theirs.salt {
            return Self::merge_under_another_salt(base, mine, theirs);
        }

        let decision = merge_decision(base, mine, theirs);
        let (current, both_changed_id) = merge_value(&base.current, &mine.current, &theirs.current);
        let retired = union(base, mine, theirs, |record| &record.retired, MAX_RETIRED);
        let mut offered = union(base, mine, theirs, |record| &record.offered, MAX_OFFERED);
        offered.retain(|digest| !retired.contains(digest));
        let is_withdrawn = mine.is_withdrawn_since(base) || theirs.is_withdrawn_since(base);
        let agreed = [base, mine, theirs].map(|record| record.agreed.as_ref());
        let agreed = Agreed::merge(agreed[0], agreed[1], agreed[2], current.as_ref(), &offered);
        let agreed = agreed.filter(|agreed| !is_withdrawn && !retired.contains(&agreed.id));
        let current = current.filter(|id| decision == Consent::Granted && !retired.contains(id));
        let mut record = Self {
            version: mine.version,
            decision,
            device_veto: merge_veto(base, mine, theirs),
            vetoed_in: mine.vetoed_in.max(theirs.vetoed_in),
            removal: merge_removal(base, mine, theirs),
            withdrawn_in: mine.withdrawn_in.max(theirs.withdrawn_in),
            epoch: mine.epoch.max(theirs.epoch),
            cleaned_in_epoch: mine.cleaned_in_epoch.max(theirs.cleaned_in_epoch),
            salt: mine.salt.clone(),
            current,
            retired,
            offered,
            used: merge_used(base, mine, theirs),
            agreed,
            unreadable: merge_flag(base.unreadable, mine.unreadable, theirs.unreadable),
        };
        // In an order that both processes compute.
        let first = (&theirs.current).min(&mine.current);
        let second = (&theirs.current).max(&mine.current);
        for digest in [first, second].into_iter().flatten().cloned() {
            if record.current.as_ref() == Some(&digest) {
                continue;
            }
            if decision == Consent::Denied {
                record.retire_digest(digest);
            } else {
                record.offer_digest(digest);
            }
        }
        if is_withdrawn {
            record.retire_all();
        }
        // Both sides may have begun the same epoch, each for a withdrawal or an ID of its own.
        // Begin another one, so that the events that either side captured in it are not sent.
        let both_rose = mine.epoch > base.epoch && theirs.epoch > base.epoch;
        if both_rose || both_changed_id {
            record.epoch += 1;
        }
        if both_withdrew {
            record.withdrawn_in = record.epoch;
        }
        if both_vetoed {
            record.vetoed_in = record.epoch;
        }
        record
    }

    /// Merges records with different salts, whose digests cannot be compared. The digests of
    /// `mine` are lost, so its retired IDs can no longer be recognised.
    fn merge_under_another_salt(base: &Self, mine: &Self, theirs: &Self) -> Self {
        let has_digests =
            mine.current.is_some() || !mine.retired.is_empty() || !mine.offered.is_empty();
        let without_digests = |record: &Self| Self {
            salt: theirs.salt.clone(),
            current: None,
            retired: VecDeque::new(),
            offered: VecDeque::new(),
            agreed: None,
            ..record.clone()
        };
        let mut record = Self::merge(&without_digests(base), &without_digests(mine), theirs);
        record.epoch = record.epoch.max(mine.epoch.max(theirs.epoch) + 1);
        record.unreadable |= has_digests;
        record
    }
}

/// Returns the value of the side that changed it, and whether the sides changed it differently.
/// In that case it is the greater value, so that both processes choose the same one.
fn merge_value<T: Clone + Ord>(base: &T, mine: &T, theirs: &T) -> (T, bool) {
    if mine == theirs || theirs == base {
        (mine.clone(), false)
    } else if mine == base {
        (theirs.clone(), false)
    } else {
        (mine.max(theirs).clone(), true)
    }
}

/// Returns whether both sides changed `value` since `base`.
fn both_changed(base: &Record, mine: &Record, theirs: &Record, value: fn(&Record) -> u64) -> bool {
    value(mine) != value(base) && value(theirs) != value(base)
}

fn merge_decision(base: &Record, mine: &Record, theirs: &Record) -> Consent {
    if mine.is_withdrawn_since(base) || theirs.is_withdrawn_since(base) {
        return Consent::Denied;
    }
    match (mine.decision, theirs.decision) {
        (mine, theirs) if mine == theirs || theirs == base.decision => mine,
        (mine, theirs) if mine == base.decision => theirs,
        // One side opted in, and the other ended its session.
        _ => Consent::Undecided,
    }
}

fn merge_veto(base: &Record, mine: &Record, theirs: &Record) -> bool {
    let sets_veto =
        |side: &Record| side.device_veto && (!base.device_veto || side.vetoed_in != base.vetoed_in);
    sets_veto(mine) || sets_veto(theirs) || mine.device_veto && theirs.device_veto
}

fn merge_removal(base: &Record, mine: &Record, theirs: &Record) -> Option<super::Removal> {
    let requests_removal = |side: &Record| {
        side.removal > base.removal
            || side.removal.is_some() && side.withdrawn_in != base.withdrawn_in
    };
    match (requests_removal(mine), requests_removal(theirs)) {
        (true, true) => mine.removal.max(theirs.removal),
        (true, false) => mine.removal,
        (false, true) => theirs.removal,
        // The side with the lesser removal has completed the rest.
        (false, false) => mine.removal.min(theirs.removal),
    }
}

fn merge_flag(base: bool, mine: bool, theirs: bool) -> bool {
    if base { mine && theirs } else { mine || theirs }
}

/// Returns the used IDs of both sides, except for those that either side has taken since `base`.
fn merge_used(base: &Record, mine: &Record, theirs: &Record) -> BTreeSet<IdDigest> {
    let is_taken = |digest: &&IdDigest| {
        base.used.contains(*digest)
            && !(mine.used.contains(*digest) && theirs.used.contains(*digest))
    };
    let both = mine.used.union(&theirs.used);
    both.filter(|digest| !is_taken(digest)).take(MAX_USED).cloned().collect()
}

/// Returns the union of a list of both sides, oldest first, without the oldest entries if it has
/// more than `max_len`. The order is: entries that `theirs` has dropped for lack of room, its
/// present entries, then the new entries of `mine`.
fn union(
    base: &Record,
    mine: &Record,
    theirs: &Record,
    list: fn(&Record) -> &VecDeque<IdDigest>,
    max_len: usize,
) -> VecDeque<IdDigest> {
    let (base, mine, theirs) = (list(base), list(mine), list(theirs));
    let only_mine = mine.iter().filter(|digest| !theirs.contains(digest));
    let (dropped, new): (Vec<_>, Vec<_>) = only_mine.partition(|digest| base.contains(digest));
    let mut union: VecDeque<_> = dropped.into_iter().chain(theirs).chain(new).cloned().collect();
    while union.len() > max_len {
        union.pop_front();
    }
    union
}

#[cfg(test)]
mod tests;
