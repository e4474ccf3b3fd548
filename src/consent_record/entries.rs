//! The list of decisions, in the order in which this device learned of them.
//!
//! The order is that of the list in the store. No entry is moved by its time, because a clock can
//! be wrong for a while.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::{ConsentStatus, DecisionPlace, RecordedDecision};
use crate::event::unix_time::unix_nanos;

/// The most decisions that are kept.
pub(super) const MOST_DECISIONS: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Entries {
    /// Oldest first.
    all: Vec<Entry>,
    next_number: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    /// Identifies the entry in this process.
    number: u64,
    /// `None` if only a newer version can read it.
    decision: Option<RecordedDecision>,
    /// As it is in the store, with the members that only a newer version knows; `None` if it has
    /// not been seen there.
    stored: Option<Value>,
    /// Whether this process knows of removed data that the store may lack.
    is_amended: bool,
}

impl Entries {
    /// Returns the entries that are `stored`.
    pub(super) fn new(stored: Vec<Value>) -> Self {
        let mut entries = Self::default();
        entries.merge(stored);
        entries
    }

    pub(super) fn decisions(&self) -> impl DoubleEndedIterator<Item = &RecordedDecision> {
        self.all.iter().filter_map(|entry| entry.decision.as_ref())
    }

    /// Returns the last decision and its number.
    pub(super) fn last(&self) -> Option<(u64, &RecordedDecision)> {
        self.all.iter().rev().find_map(|entry| Some((entry.number, entry.decision.as_ref()?)))
    }

    /// Adds a decision of this process, and returns its number.
    pub(super) fn add(&mut self, decision: RecordedDecision) -> u64 {
        let entry = self.numbered(Some(decision), None);
        let number = entry.number;
        self.all.push(entry);
        self.trim();
        number
    }

    /// Returns the decision with this number, to be amended.
    pub(super) fn amend(&mut self, number: u64) -> Option<&mut RecordedDecision> {
        let entry = self.all.iter_mut().find(|entry| entry.number == number)?;
        entry.is_amended = true;
        entry.decision.as_mut()
    }

    /// Merges these entries with those that are `stored`, which another process may have changed.
    /// Returns what the store has to hold.
    ///
    /// The stored ones keep their order, and those that the store never had follow. Those that it
    /// no longer has were replaced by other processes.
    pub(super) fn merge(&mut self, stored: Vec<Value>) -> Vec<Value> {
        let mut mine = std::mem::take(&mut self.all);
        let is_wiped = stored.is_empty();
        let known = self.next_number;
        for value in stored {
            let decision = serde_json::from_value(value.clone()).ok();
            let theirs = self.numbered(decision, Some(value));
            match mine.iter().position(|known| known.is_same(&theirs)) {
                Some(place) => self.all.push(mine.remove(place).updated(theirs)),
                None => self.all.push(theirs),
            }
        }
        for entry in mine {
            if entry.stored.is_none() {
                self.append(entry, known);
            } else if is_wiped {
                self.all.push(entry);
            }
        }
        self.trim();
        self.all.iter().map(Entry::to_value).collect()
    }

    /// Adds `entry`, which the store never had. This process has not known those whose number is
    /// above `known` before.
    ///
    /// What one process decides, another one on the same store sees in the account. That is one
    /// decision, and the process that made it knows more about it.
    fn append(&mut self, mut entry: Entry, known: u64) {
        if let Some((number, last)) = self.last()
            && let Some(mine) = &mut entry.decision
        {
            let is_same = last.status.is_given() == mine.status.is_given();
            if is_same && mine.place != DecisionPlace::ThisDevice {
                return;
            }
            let is_change = matches!(mine.status, ConsentStatus::Given | ConsentStatus::Withdrawn);
            let was_seen = number > known && last.place != DecisionPlace::ThisDevice;
            if is_same && is_change && was_seen {
                self.all.retain(|entry| entry.number != number);
            }
            let was_given = self.decisions().next_back().map(|last| last.status.is_given());
            if let Some(was_given) = was_given {
                mine.status = ConsentStatus::new(mine.status.is_given(), was_given);
            }
        }
        self.all.push(entry);
    }

    fn numbered(&mut self, decision: Option<RecordedDecision>, stored: Option<Value>) -> Entry {
        self.next_number += 1;
        Entry { number: self.next_number, decision, stored, is_amended: false }
    }

    fn trim(&mut self) {
        self.all.drain(..self.all.len().saturating_sub(MOST_DECISIONS));
    }
}

impl Entry {
    /// Returns whether both are the same decision.
    fn is_same(&self, other: &Self) -> bool {
        let key = |decision: &RecordedDecision| {
            (millis(decision.at), decision.place, decision.status.is_given())
        };
        match (&self.decision, &other.decision) {
            (Some(mine), Some(theirs)) => key(mine) == key(theirs),
            (None, None) => self.stored == other.stored,
            _ => false,
        }
    }

    /// Returns this entry as it is to be after a read of the store, which has `theirs`.
    fn updated(mut self, theirs: Self) -> Self {
        let Self { decision: Some(mine), is_amended: true, .. } = &mut self else {
            return Self { number: self.number, ..theirs };
        };
        let removed = mine.removed.take();
        let is_amended = theirs.decision.as_ref().is_some_and(|theirs| theirs.removed != removed);
        let decision = theirs.decision.map(|theirs| RecordedDecision { removed, ..theirs });
        Self { number: self.number, decision, stored: theirs.stored, is_amended }
    }

    /// Returns what the store has to hold.
    fn to_value(&self) -> Value {
        match (&self.stored, &self.decision) {
            (None, decision) => json!(decision),
            (Some(stored), Some(decision)) if self.is_amended => {
                let mut stored = stored.clone();
                stored["removed"] = json!(decision.removed);
                stored
            }
            (Some(stored), _) => stored.clone(),
        }
    }
}

/// Returns the milliseconds that a stored time has.
pub(super) fn millis(time: SystemTime) -> i128 {
    unix_nanos(time) / 1_000_000
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::consent_record::{
        ConsentStatus::{Given, Refused, Renewed, Withdrawn},
        DecisionPlace::{Elsewhere, ThisDevice, Unknown},
        RemovedData,
    };

    fn decision(status: ConsentStatus, second: u64) -> RecordedDecision {
        RecordedDecision {
            status,
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
            place: ThisDevice,
            expressed_by: None,
            policy: None,
            recipients: Vec::new(),
            removed: None,
        }
    }

    fn removed(events: u64) -> RemovedData {
        let step = || "done".to_owned();
        let erasures = Vec::new();
        RemovedData { events, requests: step(), queue: step(), account: step(), erasures }
    }

    /// Returns entries that have `decisions`, none of which is stored.
    fn unstored(decisions: &[RecordedDecision]) -> Entries {
        let mut entries = Entries::default();
        for decision in decisions {
            entries.add(decision.clone());
        }
        entries
    }

    fn all(entries: &Entries) -> Vec<RecordedDecision> {
        entries.decisions().cloned().collect()
    }

    #[test]
    fn entries_keep_their_order_whatever_their_times() {
        let (first, second, third) =
            (decision(Given, 900), decision(Withdrawn, 5), decision(Given, 6));
        let mut entries = unstored(&[first.clone(), second.clone()]);
        let stored = entries.merge(Vec::new());
        entries.add(third.clone());
        // A second process has read what this one stored, and adds to it.
        let mut other = Entries::new(stored);
        let theirs = decision(Renewed, 7);
        other.add(theirs.clone());
        let stored = other.merge(entries.merge(Vec::new()));
        let expected = [first, second, third, theirs];
        assert_eq!(all(&other), expected);
        assert_eq!(entries.merge(stored.clone()), stored);
        assert_eq!(all(&entries), expected);
    }

    #[test]
    fn what_another_process_has_overwritten_is_added_again() {
        let (mine, theirs) = (decision(Given, 1), decision(Withdrawn, 2));
        let mut entries = unstored(std::slice::from_ref(&mine));
        assert_eq!(entries.merge(Vec::new()), [json!(mine)]);
        assert_eq!(entries.merge(vec![json!(theirs)]), [json!(theirs), json!(mine)]);
        // And what was in a store that is empty now.
        entries.merge(vec![json!(theirs), json!(mine)]);
        assert_eq!(entries.merge(Vec::new()), [json!(theirs), json!(mine)]);
    }

    #[test]
    fn the_newest_entries_are_kept_and_one_that_was_dropped_does_not_return() {
        let many: Vec<_> = (1..100).map(|second| decision(Given, second)).collect();
        let mut entries = unstored(&many);
        let kept = &many[many.len() - MOST_DECISIONS..];
        assert_eq!(all(&entries), kept);
        let mut stored = entries.merge(Vec::new());
        assert_eq!(stored.len(), MOST_DECISIONS);
        entries.merge(stored.clone());
        stored.remove(0);
        stored.push(json!(decision(Withdrawn, 200)));
        assert_eq!(entries.merge(stored.clone()), stored);
        // One that the store never had does.
        let mine = decision(Given, 300);
        entries.add(mine.clone());
        let expected = [&stored[1..], &[json!(mine)]].concat();
        assert_eq!(entries.merge(stored), expected);
    }

    #[test]
    fn what_only_a_newer_version_can_read_is_kept() {
        let newer = json!({ "status": "suspended", "at": "2030-01-01" });
        let mut extended = json!(decision(Withdrawn, 1));
        extended["jurisdiction"] = "EU".into();
        let mut entries = Entries::new(vec![extended.clone(), newer.clone()]);
        assert_eq!(all(&entries), [decision(Withdrawn, 1)]);
        let (number, _) = entries.last().unwrap();
        entries.amend(number).unwrap().removed = Some(removed(3));
        let stored = entries.merge(vec![extended.clone(), newer.clone()]);
        extended["removed"] = json!(removed(3));
        assert_eq!(stored, [extended, newer]);
    }

    #[test]
    fn what_another_process_says_of_removed_data_is_kept_unless_this_one_knows_it() {
        let mut entries = Entries::new(vec![json!(decision(Withdrawn, 1))]);
        let removed_by =
            |events| RecordedDecision { removed: Some(removed(events)), ..decision(Withdrawn, 1) };
        entries.merge(vec![json!(removed_by(1))]);
        assert_eq!(all(&entries), [removed_by(1)]);
        let (number, _) = entries.last().unwrap();
        entries.amend(number).unwrap().removed = Some(removed(2));
        assert_eq!(entries.merge(vec![json!(removed_by(1))]), [json!(removed_by(2))]);
        assert_eq!(entries.merge(vec![json!(removed_by(2))]), [json!(removed_by(2))]);
        assert_eq!(entries.merge(vec![json!(removed_by(3))]), [json!(removed_by(3))]);
    }

    #[test]
    fn what_another_process_decided_is_not_seen_as_a_second_decision() {
        for place in [Elsewhere, Unknown] {
            let given = decision(Given, 1);
            let seen = RecordedDecision { place, ..decision(Given, 2) };
            // Whichever process writes first.
            let mut entries = unstored(std::slice::from_ref(&seen));
            assert_eq!(entries.merge(vec![json!(given)]), [json!(given)]);
            let mut entries = unstored(std::slice::from_ref(&given));
            assert_eq!(entries.merge(vec![json!(seen)]), [json!(given)]);
            // The process that has seen it follows.
            let mut other = Entries::new(vec![json!(seen)]);
            assert_eq!(other.merge(vec![json!(given)]), [json!(given)]);
        }
    }

    #[test]
    fn a_decision_elsewhere_before_one_that_changes_nothing_stays() {
        for (status, again) in [(Withdrawn, Refused), (Given, Renewed)] {
            let seen = RecordedDecision { place: Elsewhere, ..decision(status, 1) };
            let expected = [json!(seen), json!(decision(again, 2))];
            for known in [vec![json!(seen)], Vec::new()] {
                let mut entries = Entries::new(known);
                entries.add(decision(again, 2));
                assert_eq!(entries.merge(vec![json!(seen)]), expected);
            }
        }
    }

    #[test]
    fn the_status_follows_from_the_decision_before_it_even_of_another_process() {
        let theirs = json!(decision(Given, 1));
        for (status, expected) in [(Refused, Withdrawn), (Given, Renewed)] {
            let mut entries = unstored(&[decision(status, 2)]);
            let stored = entries.merge(vec![theirs.clone()]);
            assert_eq!(stored, [theirs.clone(), json!(decision(expected, 2))]);
            // It is recognised.
            assert_eq!(entries.merge(stored.clone()), stored);
        }
    }
}
