//! Merges the record of this process with the one that another process has stored.

use std::collections::VecDeque;

use super::{IdDigest, MAX_OFFERED, MAX_RETIRED, Record};
use crate::consent::state::Consent;

impl Record {
    /// Merges `mine`, the record that this process wants to store, with `theirs`, the one that
    /// is stored. `base` is the record that this process last read or wrote.
    ///
    /// A value that only one side changed since `base` is taken from that side. Where both
    /// sides changed a value, the more closed one wins: a withdrawal, a veto, a pending
    /// removal. IDs that either side has retired stay retired, and a withdrawal on one side
    /// retires the IDs that the other has offered. The merged epoch is one that neither side
    /// has used for anything else, so that no event captured by one process is sent under the
    /// ID of the other.
    ///
    /// A withdrawal is identified by the epoch that it began. Two processes that withdraw from
    /// the same record begin the same epoch. The two withdrawals then become one in a new
    /// epoch. Otherwise each process would take the other's withdrawal for its own and
    /// discharge both.
    pub(crate) fn merge(base: &Self, mine: &Self, theirs: &Self) -> Self {
        let (both_withdrew, both_vetoed) = (
            is_changed(base, mine, theirs, |r| r.withdrawn_in),
            is_changed(base, mine, theirs, |r| r.vetoed_in),
        );
        if mine == theirs && !both_withdrew && !both_vetoed
            || theirs.unreadable && theirs.epoch < base.epoch
        {
            return mine.clone();
        }
        if mine.epoch.min(theirs.epoch) < base.epoch {
            // The store was restored from an older state, as by a backup. The common base is
            // unknown, and a value that is closed on either side stays closed.
            let unknown = Self { epoch: 0, ..Self::new(base.salt.clone()) };
            return Self::merge(&unknown, mine, theirs);
        }
        if theirs == base {
            return mine.clone();
        }
        // A process that lost its record lacks digests that this one has.
        let forgets =
            |digest| theirs.retired.len() < MAX_RETIRED && !theirs.retired.contains(digest);
        let forgets_offered = |digest| {
            theirs.offered.len() < MAX_OFFERED
                && !theirs.offered.contains(digest)
                && forgets(digest)
        };
        if mine == base
            && !base.retired.iter().any(forgets)
            && !base.offered.iter().any(forgets_offered)
        {
            return theirs.clone();
        }
        if mine.salt != theirs.salt {
            return Self::merge_under_another_salt(base, mine, theirs);
        }

        let decision = merged_decision(base, mine, theirs);
        let (current, is_disputed) = merged(&base.current, &mine.current, &theirs.current);
        let retired = united(base, mine, theirs, |record| &record.retired, MAX_RETIRED);
        let mut offered = united(base, mine, theirs, |record| &record.offered, MAX_OFFERED);
        offered.retain(|digest| !retired.contains(digest));
        let current = current.filter(|id| decision == Consent::Granted && !retired.contains(id));
        let mut merged = Self {
            version: mine.version,
            decision,
            device_veto: merged_veto(base, mine, theirs),
            vetoed_in: mine.vetoed_in.max(theirs.vetoed_in),
            removal: merged_removal(base, mine, theirs),
            withdrawn_in: mine.withdrawn_in.max(theirs.withdrawn_in),
            epoch: mine.epoch.max(theirs.epoch),
            cleaned_in_epoch: mine.cleaned_in_epoch.max(theirs.cleaned_in_epoch),
            salt: mine.salt.clone(),
            current,
            retired,
            offered,
            unreadable: merged_flag(base.unreadable, mine.unreadable, theirs.unreadable),
        };
        let is_withdrawn = mine.is_withdrawn_since(base) || theirs.is_withdrawn_since(base);
        let mut lost: Vec<_> = [theirs, mine]
            .into_iter()
            .filter_map(|side| side.current.clone())
            .filter(|digest| merged.current.as_ref() != Some(digest))
            .collect();
        // Both processes must compute the same order.
        lost.sort();
        for digest in lost {
            if decision == Consent::Denied {
                merged.retire_digest(digest);
            } else {
                merged.offer_digest(digest);
            }
        }
        if is_withdrawn {
            merged.retire_all();
        }
        // Events that each side captured in its epoch belong to its own withdrawal or ID.
        let both_rose = mine.epoch > base.epoch && theirs.epoch > base.epoch;
        if both_rose || is_disputed {
            merged.epoch += 1;
        }
        if both_withdrew {
            merged.withdrawn_in = merged.epoch;
        }
        if both_vetoed {
            merged.vetoed_in = merged.epoch;
        }
        merged
    }

    /// Merges records with different salts, whose digests cannot be compared. The digests of
    /// `mine` are lost, and with them which of its IDs must not be used again.
    fn merge_under_another_salt(base: &Self, mine: &Self, theirs: &Self) -> Self {
        let forgets =
            mine.current.is_some() || !mine.retired.is_empty() || !mine.offered.is_empty();
        let without_digests = |record: &Self| Self {
            salt: theirs.salt.clone(),
            current: None,
            retired: VecDeque::new(),
            offered: VecDeque::new(),
            ..record.clone()
        };
        let mut merged = Self::merge(&without_digests(base), &without_digests(mine), theirs);
        merged.epoch = merged.epoch.max(mine.epoch.max(theirs.epoch) + 1);
        merged.unreadable |= forgets;
        merged
    }
}

/// Returns the value of the side that changed it, and whether both sides did. In that case
/// it is the greater value, so that both processes choose the same one.
fn merged<T: Clone + Ord>(base: &T, mine: &T, theirs: &T) -> (T, bool) {
    if mine == theirs || theirs == base {
        (mine.clone(), false)
    } else if mine == base {
        (theirs.clone(), false)
    } else {
        (mine.max(theirs).clone(), true)
    }
}

/// Returns whether both sides changed `value` since `base`.
fn is_changed(base: &Record, mine: &Record, theirs: &Record, value: fn(&Record) -> u64) -> bool {
    value(mine) != value(base) && value(theirs) != value(base)
}

fn merged_decision(base: &Record, mine: &Record, theirs: &Record) -> Consent {
    if mine.is_withdrawn_since(base) || theirs.is_withdrawn_since(base) {
        return Consent::Denied;
    }
    match (mine.decision, theirs.decision) {
        (mine, theirs) if mine == theirs || theirs == base.decision => mine,
        (mine, theirs) if mine == base.decision => theirs,
        // One side opted in, the other ended its session.
        _ => Consent::Undecided,
    }
}

fn merged_veto(base: &Record, mine: &Record, theirs: &Record) -> bool {
    let vetoes =
        |side: &Record| side.device_veto && (!base.device_veto || side.vetoed_in != base.vetoed_in);
    vetoes(mine) || vetoes(theirs) || mine.device_veto && theirs.device_veto
}

fn merged_removal(base: &Record, mine: &Record, theirs: &Record) -> Option<super::Removal> {
    let orders = |side: &Record| {
        side.removal > base.removal
            || side.removal.is_some() && side.withdrawn_in != base.withdrawn_in
    };
    match (orders(mine), orders(theirs)) {
        (true, true) => mine.removal.max(theirs.removal),
        (true, false) => mine.removal,
        (false, true) => theirs.removal,
        // The side with less left to remove has done the rest.
        (false, false) => mine.removal.min(theirs.removal),
    }
}

fn merged_flag(base: bool, mine: bool, theirs: bool) -> bool {
    if base { mine && theirs } else { mine || theirs }
}

/// Returns the union of a list of both sides, oldest first: entries that `theirs` has dropped
/// for lack of room, its present entries, then the new ones of `mine`.
fn united(
    base: &Record,
    mine: &Record,
    theirs: &Record,
    list: fn(&Record) -> &VecDeque<IdDigest>,
    most: usize,
) -> VecDeque<IdDigest> {
    let (base, mine, theirs) = (list(base), list(mine), list(theirs));
    let only_mine = mine.iter().filter(|digest| !theirs.contains(digest));
    let (dropped, new): (Vec<_>, Vec<_>) = only_mine.partition(|digest| base.contains(digest));
    let mut united: VecDeque<_> = dropped.into_iter().chain(theirs).chain(new).cloned().collect();
    while united.len() > most {
        united.pop_front();
    }
    united
}

#[cfg(test)]
mod tests;
