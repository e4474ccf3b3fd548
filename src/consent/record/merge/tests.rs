//! Properties of merging, for records that a device can produce.

use super::*;
use crate::{analytics_id::AnalyticsId, consent::record::Removal};

const SALT: &str = "salt";

/// A change that a device makes to its record.
#[derive(Clone, Copy, Debug)]
enum Act {
    OptIn(usize),
    OptOut(Removal),
    WithdrawnElsewhere,
    Discharge,
    Veto,
    LiftVeto,
    EndSession,
    CleanUp,
    Lose,
}

const ACTS: [Act; 11] = [
    Act::OptIn(0),
    Act::OptIn(1),
    Act::OptOut(Removal::Id),
    Act::OptOut(Removal::Event),
    Act::WithdrawnElsewhere,
    Act::Discharge,
    Act::Veto,
    Act::LiftVeto,
    Act::EndSession,
    Act::CleanUp,
    Act::Lose,
];

fn id(number: usize) -> AnalyticsId {
    AnalyticsId::from_foreign(&format!("id-{number}")).unwrap()
}

/// Applies `act` in the same way as the consent machine.
fn done(record: &Record, act: Act) -> Record {
    let mut record = record.clone();
    match act {
        Act::OptIn(number) if record.is_retired(&id(number)) => {}
        Act::OptIn(number) => {
            if record.remembers_other_than(&id(number)) {
                record.epoch += 1;
            }
            record.remember_id(&id(number));
            record.decision = Consent::Granted;
            record.removal = None;
            record.trust();
        }
        Act::OptOut(removal) => {
            record.retire_all();
            record.trust();
            record.withdraw(removal);
            record.epoch += 1;
        }
        Act::WithdrawnElsewhere => {
            record.retire_all();
            record.withdraw_elsewhere();
            record.epoch += 1;
        }
        Act::Discharge => record.removal = None,
        Act::Veto => {
            record.veto();
            record.epoch += 1;
        }
        Act::LiftVeto => drop(record.lift_veto()),
        Act::EndSession => {
            if record.decision == Consent::Granted {
                record.decision = Consent::Undecided;
                record.forget_id();
            }
            record.epoch += 1;
        }
        Act::CleanUp => record.cleaned_in_epoch = Some(record.epoch),
        Act::Lose => record = Record::unreadable(SALT.to_owned()),
    }
    record
}

fn after(record: &Record, acts: &[Act]) -> Record {
    acts.iter().fold(record.clone(), |record, act| done(&record, *act))
}

/// Calls `check` with a base record and the records of two processes after up to two acts
/// each.
fn each(mut check: impl FnMut(&Record, &Record, &Record, &[Act], &[Act])) {
    let mut before = vec![
        vec![],
        vec![Act::OptIn(0), Act::Veto],
        vec![Act::OptIn(0), Act::OptOut(Removal::Id)],
        vec![Act::OptIn(0), Act::WithdrawnElsewhere],
    ];
    before.extend(ACTS.map(|act| vec![act]));
    let mut courses: Vec<Vec<Act>> = vec![vec![]];
    courses.extend(ACTS.map(|act| vec![act]));
    courses.extend(ACTS.iter().flat_map(|one| ACTS.map(|other| vec![*one, other])));
    let fresh = Record::new(SALT.to_owned());
    for before in &before {
        let base = after(&fresh, before);
        let ends: Vec<_> = courses.iter().map(|acts| (acts, after(&base, acts))).collect();
        for (mine_acts, mine) in &ends {
            for (their_acts, theirs) in &ends {
                check(&base, mine, theirs, mine_acts, their_acts);
            }
        }
    }
}

/// Returns the result of `matches` for the last act for which it returns one, else `false`.
fn last(acts: &[Act], matches: impl Fn(Act) -> Option<bool>) -> bool {
    acts.iter().rev().find_map(|act| matches(*act)).unwrap_or(false)
}

#[test]
fn a_withdrawal_or_a_veto_of_either_side_survives() {
    each(|base, mine, theirs, mine_acts, their_acts| {
        let merged = Record::merge(base, mine, theirs);
        let context = || format!("{base:?}\n{mine_acts:?} {their_acts:?}\n{merged:?}");
        for (acts, side) in [(mine_acts, mine), (their_acts, theirs)] {
            // A lost record knows nothing. The other side is tested below.
            if acts.iter().any(|act| matches!(act, Act::Lose)) {
                continue;
            }
            let withdrew = last(acts, |act| match act {
                Act::OptOut(_) => Some(true),
                Act::OptIn(_) | Act::EndSession => Some(side.decision != Consent::Granted),
                _ => None,
            }) && acts.iter().any(|act| matches!(act, Act::OptOut(_)));
            if withdrew {
                assert_eq!(merged.decision, Consent::Denied, "{}", context());
                assert!(merged.removal >= side.removal, "{}", context());
            }
            let vetoed = last(acts, |act| match act {
                Act::Veto => Some(true),
                Act::LiftVeto => Some(false),
                _ => None,
            });
            assert!(merged.device_veto || !vetoed, "{}", context());
        }
        // Nothing is open that is closed on both sides.
        let one_is = |open: fn(&Record) -> bool| open(mine) || open(theirs);
        assert!(merged.decision != Consent::Granted || one_is(|r| r.decision == Consent::Granted));
        assert!(merged.device_veto || one_is(|record| !record.device_veto), "{}", context());
        assert!(merged.removal.is_some() || one_is(|r| r.removal.is_none()), "{}", context());
    });
}

#[test]
fn a_change_on_one_side_only_is_kept() {
    each(|base, mine, theirs, mine_acts, their_acts| {
        let is_known = |acts: &[Act]| !acts.iter().any(|act| matches!(act, Act::Lose));
        if is_known(mine_acts) {
            assert_eq!(Record::merge(base, mine, base), *mine, "{mine_acts:?}");
        }
        if is_known(their_acts) {
            assert_eq!(Record::merge(base, base, theirs), *theirs, "{their_acts:?}");
        }
        // The same holds for single members if the other side changed another member.
        if mine.epoch >= base.epoch && !mine.unreadable {
            let lifted = done(mine, Act::LiftVeto);
            let merged = Record::merge(mine, &lifted, &done(mine, Act::OptOut(Removal::Id)));
            assert!(!merged.device_veto);
            assert_eq!((merged.decision, merged.removal.is_some()), (Consent::Denied, true));
        }
    });
}

#[test]
fn merging_is_idempotent_and_symmetric() {
    each(|base, mine, theirs, mine_acts, their_acts| {
        let same = Record::merge(base, mine, mine);
        // Two withdrawals, or two vetoes, become one in a new epoch.
        if mine.withdrawn_in == base.withdrawn_in && mine.vetoed_in == base.vetoed_in {
            assert_eq!(same, *mine);
        }
        let merged = Record::merge(base, mine, theirs);
        // This process reads the result and has nothing to add.
        assert_eq!(Record::merge(mine, mine, &merged), merged);
        // A record that was lost on one side is replaced by that of the other.
        if [mine_acts, their_acts].concat().iter().any(|act| matches!(act, Act::Lose)) {
            return;
        }
        // Neither has the other process.
        assert_eq!(Record::merge(theirs, theirs, &merged), merged);
        let mut mirrored = Record::merge(base, theirs, mine);
        let sorted = |record: &mut Record| {
            record.retired.make_contiguous().sort();
            record.offered.make_contiguous().sort();
        };
        let mut merged = merged;
        sorted(&mut merged);
        sorted(&mut mirrored);
        assert_eq!(merged, mirrored);
    });
}

#[test]
fn no_epoch_is_used_for_two_things() {
    each(|base, mine, theirs, mine_acts, their_acts| {
        let merged = Record::merge(base, mine, theirs);
        let lost = |acts: &[Act]| acts.iter().any(|act| matches!(act, Act::Lose));
        if lost(mine_acts) || lost(their_acts) {
            return;
        }
        assert!(merged.epoch >= mine.epoch.max(theirs.epoch));
        if mine != theirs && mine.epoch > base.epoch && theirs.epoch > base.epoch {
            assert!(merged.epoch > mine.epoch.max(theirs.epoch));
        }
        // There is one ID in each epoch.
        for side in [mine, theirs] {
            if side.current.is_some() && merged.current.is_some() && side.epoch == merged.epoch {
                assert_eq!(side.current, merged.current, "{mine_acts:?} {their_acts:?}");
            }
        }
    });
}

#[test]
fn an_id_that_either_side_retired_stays_retired() {
    each(|base, mine, theirs, mine_acts, their_acts| {
        // Nothing is known of a record that could not be read. This process has read its own.
        let is_lost = mine_acts.iter().any(|act| matches!(act, Act::Lose));
        if is_lost || theirs.unreadable || base.unreadable {
            return;
        }
        let merged = Record::merge(base, mine, theirs);
        for digest in mine.retired.iter().chain(&theirs.retired) {
            assert!(merged.retired.contains(digest), "{mine_acts:?} {their_acts:?}");
            assert_ne!(merged.current.as_ref(), Some(digest), "{mine_acts:?} {their_acts:?}");
        }
        assert!(merged.is_possible());
    });
}

#[test]
fn merged_retired_ids_are_bounded_and_the_oldest_are_dropped_first() {
    let mut base = Record::new(SALT.to_owned());
    let shared: Vec<_> = (0..MAX_RETIRED).map(id).collect();
    shared.iter().for_each(|id| base.retire(id));
    let (mut mine, mut theirs) = (base.clone(), base.clone());
    mine.retire(&id(1000));
    theirs.retire(&id(2000));
    let merged = Record::merge(&base, &mine, &theirs);
    assert_eq!(merged.retired.len(), MAX_RETIRED);
    assert!(merged.is_retired(&id(1000)) && merged.is_retired(&id(2000)));
    assert!(!merged.is_retired(&shared[0]) && !merged.is_retired(&shared[1]));
    assert!(merged.is_retired(&shared[2]));
}

#[test]
fn restoring_an_older_record_opens_nothing_that_is_closed() {
    let fresh = Record::new(SALT.to_owned());
    let granted = done(&fresh, Act::OptIn(0));
    let withdrawn = after(&granted, &[Act::OptOut(Removal::Id), Act::Veto]);
    // A backup from before the withdrawal is restored.
    for mine in [&withdrawn, &done(&withdrawn, Act::CleanUp)] {
        let merged = Record::merge(&withdrawn, mine, &granted);
        assert_eq!(merged.decision, Consent::Denied);
        assert!(merged.device_veto && merged.removal.is_some());
        assert!(merged.epoch >= withdrawn.epoch && merged.is_retired(&id(0)));
    }
    // The same holds for a process that continues from a record older than its base.
    let merged = Record::merge(&withdrawn, &granted, &withdrawn);
    assert_eq!(merged.decision, Consent::Denied);
    assert!(merged.device_veto && merged.removal.is_some() && merged.is_retired(&id(0)));
    // An unreadable record is replaced by the known one.
    let lost = Record::unreadable(SALT.to_owned());
    assert_eq!(Record::merge(&withdrawn, &withdrawn, &lost), withdrawn);
    let changed = done(&withdrawn, Act::CleanUp);
    assert_eq!(Record::merge(&withdrawn, &changed, &lost), changed);
}

#[test]
fn digests_under_another_salt_are_not_compared() {
    let base = Record::new(SALT.to_owned());
    let mine = after(&base, &[Act::OptIn(0), Act::OptOut(Removal::Id), Act::OptIn(1)]);
    let theirs = Record { decision: Consent::Granted, ..Record::new("another".to_owned()) };
    let merged = Record::merge(&base, &mine, &theirs);
    assert_eq!(merged.salt, "another");
    assert!(merged.is_unreadable() && merged.is_retired(&id(0)) && merged.is_retired(&id(5)));
    assert!(merged.epoch > mine.epoch.max(theirs.epoch));
}
