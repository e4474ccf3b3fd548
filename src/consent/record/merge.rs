//! Brings the record that this process wants together with the one that another process
//! has stored meanwhile.

use std::collections::VecDeque;

use super::{MAX_RETIRED, Record};
use crate::consent::state::Consent;

impl Record {
    /// Returns what has to be stored in place of `theirs`, which is stored now, by a process
    /// that wants `mine` and has last read or written `base`.
    ///
    /// What only one of the two changed since `base` is taken from it. Where both did, the
    /// more closed value wins: a withdrawal, a veto, a removal that is pending. IDs that
    /// either has retired stay retired. The epoch is one that neither has used for anything
    /// else, so that nothing captured by one process leaves under the ID of the other.
    pub(crate) fn merge(base: &Self, mine: &Self, theirs: &Self) -> Self {
        if mine == theirs || theirs.unreadable && theirs.epoch < base.epoch {
            return mine.clone();
        }
        if mine.epoch.min(theirs.epoch) < base.epoch {
            // The store was set back, as by a backup. Nothing is known of what they have in
            // common, and what is closed in either stays closed.
            let unknown = Self { epoch: 0, ..Self::new(base.salt.clone()) };
            return Self::merge(&unknown, mine, theirs);
        }
        if theirs == base {
            return mine.clone();
        }
        // A process that lost its record forgets what this one knows.
        let forgets =
            |digest| theirs.retired.len() < MAX_RETIRED && !theirs.retired.contains(digest);
        if mine == base && !base.retired.iter().any(forgets) {
            return theirs.clone();
        }
        if mine.salt != theirs.salt {
            return Self::merge_under_another_salt(base, mine, theirs);
        }

        let decision = merged_decision(base, mine, theirs);
        let (current, is_disputed) = merged(&base.current, &mine.current, &theirs.current);
        let retired = united(base, mine, theirs);
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
            unreadable: merged_flag(base.unreadable, mine.unreadable, theirs.unreadable),
        };
        if decision == Consent::Denied {
            for digest in [theirs, mine].into_iter().filter_map(|side| side.current.clone()) {
                merged.retire_digest(digest);
            }
        }
        // What each captured in its epoch belongs to its own withdrawal, or to its own ID.
        let both_rose = mine.epoch > base.epoch && theirs.epoch > base.epoch;
        if both_rose || is_disputed {
            merged.epoch += 1;
        }
        merged
    }

    /// Merges records whose digests cannot be compared: those of `mine` are lost, and with
    /// them the knowledge which IDs must not be used again.
    fn merge_under_another_salt(base: &Self, mine: &Self, theirs: &Self) -> Self {
        let forgets = mine.current.is_some() || !mine.retired.is_empty();
        let without_digests = |record: &Self| Self {
            salt: theirs.salt.clone(),
            current: None,
            retired: VecDeque::new(),
            ..record.clone()
        };
        let mut merged = Self::merge(&without_digests(base), &without_digests(mine), theirs);
        merged.epoch = merged.epoch.max(mine.epoch.max(theirs.epoch) + 1);
        merged.unreadable |= forgets;
        merged
    }
}

/// Returns the value of the side that changed it, and whether both did. Then the greater one
/// is as good as any, and the same for both.
fn merged<T: Clone + Ord>(base: &T, mine: &T, theirs: &T) -> (T, bool) {
    if mine == theirs || theirs == base {
        (mine.clone(), false)
    } else if mine == base {
        (theirs.clone(), false)
    } else {
        (mine.max(theirs).clone(), true)
    }
}

fn merged_decision(base: &Record, mine: &Record, theirs: &Record) -> Consent {
    let denies = |side: &Record| {
        side.decision == Consent::Denied
            && (base.decision != Consent::Denied || side.withdrawn_in != base.withdrawn_in)
    };
    if denies(mine) || denies(theirs) {
        return Consent::Denied;
    }
    match (mine.decision, theirs.decision) {
        (mine, theirs) if mine == theirs || theirs == base.decision => mine,
        (mine, theirs) if mine == base.decision => theirs,
        // One says yes, the other has ended its session.
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
        // The one that has less left to remove has done the rest.
        (false, false) => mine.removal.min(theirs.removal),
    }
}

fn merged_flag(base: bool, mine: bool, theirs: bool) -> bool {
    if base { mine && theirs } else { mine || theirs }
}

/// Returns the IDs that either side retired, the oldest first: those that `theirs` had no room
/// for any more, then what it has, then what is new in `mine`.
fn united(base: &Record, mine: &Record, theirs: &Record) -> VecDeque<super::IdDigest> {
    let only_mine = mine.retired.iter().filter(|digest| !theirs.retired.contains(digest));
    let (dropped, new): (Vec<_>, Vec<_>) =
        only_mine.partition(|digest| base.retired.contains(digest));
    let mut united: VecDeque<_> =
        dropped.into_iter().chain(&theirs.retired).chain(new).cloned().collect();
    while united.len() > MAX_RETIRED {
        united.pop_front();
    }
    united
}

#[cfg(test)]
mod tests;
