//! The newest decisions, as they are made or seen.

use std::time::SystemTime;

use super::{
    AgreedPolicy, ConsentStatus, DecisionPlace, RecordedDecision, RecordedRecipient, RemovedData,
};
use crate::consent::state::Consent;

/// The most decisions that are kept.
const MOST_DECISIONS: usize = 32;
/// The longest text of the app that is kept, in bytes.
const LONGEST_EXPRESSION: usize = 200;

/// The circumstances that every new entry names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Circumstances {
    pub(crate) policy: Option<AgreedPolicy>,
    pub(crate) recipients: Vec<RecordedRecipient>,
}

#[derive(Debug)]
pub(crate) struct Log {
    circumstances: Circumstances,
    /// Oldest first.
    decisions: Vec<RecordedDecision>,
    /// The decision that was last seen.
    last_seen: Consent,
    /// The calls of `opt_in()` in progress. Their callers say how they end.
    opting_in: usize,
    is_changed: bool,
}

impl Log {
    /// Creates the log of a process that begins with `stored`, unless that cannot be read, and
    /// with the decision `seen`.
    pub(crate) fn new(
        circumstances: Circumstances,
        stored: Option<Vec<RecordedDecision>>,
        seen: Consent,
        now: SystemTime,
    ) -> Self {
        let was_read = stored.is_some();
        let mut log = Self {
            circumstances,
            decisions: merge(stored.unwrap_or_default(), Vec::new()),
            last_seen: Consent::Undecided,
            opting_in: 0,
            is_changed: false,
        };
        if was_read {
            // Made before there was a record, or by a process that ended before it was written.
            log.see(seen, DecisionPlace::Unknown, now);
        } else {
            // The stored record may have it.
            log.last_seen = seen;
        }
        log
    }

    pub(crate) fn decisions(&self) -> &[RecordedDecision] {
        &self.decisions
    }

    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// Handles that the state of consent shows the decision `seen`. `may_be_ours` says whether an
    /// opt-in can be one of this device whose call failed, or whose process ended in it.
    pub(crate) fn handle_seen(&mut self, seen: Consent, may_be_ours: bool, now: SystemTime) {
        if self.opting_in == 0 || seen != Consent::Granted {
            let place = match seen == Consent::Granted && may_be_ours {
                true => DecisionPlace::Unknown,
                false => DecisionPlace::Elsewhere,
            };
            self.see(seen, place, now);
        }
    }

    fn see(&mut self, seen: Consent, place: DecisionPlace, now: SystemTime) {
        if seen == std::mem::replace(&mut self.last_seen, seen) || seen == Consent::Undecided {
            return;
        }
        // The end of a session forgets an opt-in, and the next proof of it is no new decision.
        let is_known =
            |last: &RecordedDecision| last.status.is_given() == (seen == Consent::Granted);
        if !self.decisions.last().is_some_and(is_known) {
            self.add(seen, place, None, now);
        }
    }

    /// Handles that a call of `opt_in()` begins.
    pub(crate) fn handle_opt_in_begun(&mut self) {
        self.opting_in += 1;
    }

    /// Handles the end of a call of `opt_in()`. It has failed unless `state` is an opt-in.
    pub(crate) fn handle_opt_in_ended(
        &mut self,
        state: Option<Consent>,
        expressed_by: Option<&str>,
        now: SystemTime,
    ) {
        self.opting_in = self.opting_in.saturating_sub(1);
        if state == Some(Consent::Granted) {
            self.last_seen = Consent::Granted;
            self.add(Consent::Granted, DecisionPlace::ThisDevice, expressed_by, now);
        }
    }

    /// Handles a call of `opt_out()`. Repeated calls are one decision.
    pub(crate) fn handle_opt_out(&mut self, expressed_by: Option<&str>, now: SystemTime) {
        self.last_seen = Consent::Denied;
        let is_repeated = self
            .decisions
            .last()
            .is_some_and(|last| !last.status.is_given() && last.place == DecisionPlace::ThisDevice);
        if !is_repeated {
            self.add(Consent::Denied, DecisionPlace::ThisDevice, expressed_by, now);
        }
    }

    /// Handles the end of a withdrawal on this device. `erasures` are those of its receipt: when
    /// the user withdrew, the label and the state.
    pub(crate) fn handle_removed(
        &mut self,
        removed: RemovedData,
        erasures: Vec<(SystemTime, String, String)>,
    ) {
        let [before @ .., last] = &mut self.decisions[..] else { return };
        if last.status.is_given() || last.place != DecisionPlace::ThisDevice {
            return;
        }
        // Those of earlier withdrawals are in the same receipt.
        let begun = before.last().map_or(i128::MIN, |before| millis(before.at));
        let erasures = erasures.into_iter().filter(|(at, ..)| millis(*at) >= begun);
        let mut erasures: Vec<_> = erasures.map(|(_, label, state)| (label, state)).collect();
        let mut events = removed.events;
        if let Some(first) = last.removed.take() {
            // The first of several calls has removed the events, and may be the only one that
            // asked for erasures.
            events = events.max(first.events);
            let is_new = |(label, _): &(String, String)| !erasures.iter().any(|(l, _)| l == label);
            let kept: Vec<_> = first.erasures.into_iter().filter(is_new).collect();
            erasures.splice(..0, kept);
        }
        last.removed = Some(RemovedData { events, erasures, ..removed });
        self.is_changed = true;
    }

    fn add(
        &mut self,
        decision: Consent,
        place: DecisionPlace,
        expressed_by: Option<&str>,
        at: SystemTime,
    ) {
        let was_given = self.decisions.last().is_some_and(|last| last.status.is_given());
        let status = match (decision == Consent::Granted, was_given) {
            (true, false) => ConsentStatus::Given,
            (true, true) => ConsentStatus::Renewed,
            (false, true) => ConsentStatus::Withdrawn,
            (false, false) => ConsentStatus::Refused,
        };
        // A clock that was set back does not change the order.
        let at = self.decisions.last().map_or(at, |last| at.max(last.at));
        let Circumstances { policy, recipients } = self.circumstances.clone();
        // Another client may have shown another policy, or none.
        let policy = policy.filter(|_| place == DecisionPlace::ThisDevice);
        let expressed_by = expressed_by.map(shortened);
        self.decisions.push(RecordedDecision {
            status,
            at,
            place,
            expressed_by,
            policy,
            recipients,
            removed: None,
        });
        self.decisions = merge(std::mem::take(&mut self.decisions), Vec::new());
        self.is_changed = true;
    }

    /// Returns what the store has to hold, given what it holds.
    pub(crate) fn merged_with(&self, stored: Vec<RecordedDecision>) -> Vec<RecordedDecision> {
        merge(stored, self.decisions.clone())
    }
}

/// Returns the newest decisions of both lists, oldest first. Another process may have added to the
/// stored ones.
fn merge(stored: Vec<RecordedDecision>, mine: Vec<RecordedDecision>) -> Vec<RecordedDecision> {
    let is_same = |a: &RecordedDecision, b: &RecordedDecision| {
        (millis(a.at), a.status, a.place) == (millis(b.at), b.status, b.place)
    };
    let mut all = stored;
    all.retain(|decision| !mine.iter().any(|known| is_same(known, decision)));
    all.extend(mine);
    // Stable, so that those of one moment keep their order.
    all.sort_by_key(|decision| millis(decision.at));
    all.drain(..all.len().saturating_sub(MOST_DECISIONS));
    all
}

/// Returns the milliseconds that a stored time has.
fn millis(time: SystemTime) -> i128 {
    crate::event::unix_time::unix_nanos(time) / 1_000_000
}

/// Returns `text`, cut at a character if it is too long.
fn shortened(text: &str) -> String {
    let mut end = text.len().min(LONGEST_EXPRESSION);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    fn log(seen: Consent) -> Log {
        Log::new(Circumstances::default(), Some(Vec::new()), seen, at(0))
    }

    fn entries(log: &Log) -> Vec<(ConsentStatus, DecisionPlace)> {
        log.decisions().iter().map(|decision| (decision.status, decision.place)).collect()
    }

    fn removed(events: u64) -> RemovedData {
        let step = || "done".to_owned();
        RemovedData {
            events,
            requests: step(),
            queue: step(),
            account: step(),
            erasures: Vec::new(),
        }
    }

    use Consent::{Denied, Granted, Undecided};
    use ConsentStatus::{Given, Refused, Renewed, Withdrawn};
    use DecisionPlace::{Elsewhere, ThisDevice, Unknown};

    #[test]
    fn decisions_on_this_device_are_told_from_those_elsewhere() {
        let mut log = log(Undecided);
        log.handle_opt_in_begun();
        // The state shows the opt-in before the call has ended.
        log.handle_seen(Granted, false, at(1));
        log.handle_opt_in_ended(Some(Granted), Some("a dialog"), at(2));
        log.handle_seen(Granted, false, at(3));
        log.handle_seen(Denied, false, at(4));
        log.handle_seen(Granted, false, at(5));
        log.handle_opt_out(None, at(6));
        log.handle_seen(Denied, false, at(6));
        let expected = [
            (Given, ThisDevice),
            (Withdrawn, Elsewhere),
            (Given, Elsewhere),
            (Withdrawn, ThisDevice),
        ];
        assert_eq!(entries(&log), expected);
        assert_eq!(log.decisions()[0].expressed_by.as_deref(), Some("a dialog"));
        assert_eq!(log.decisions()[0].at, at(2));
    }

    #[test]
    fn an_opt_in_that_fails_is_no_decision_and_one_that_is_repeated_renews() {
        let mut log = log(Undecided);
        log.handle_opt_in_begun();
        log.handle_opt_in_ended(None, None, at(1));
        assert!(!log.take_changed());
        for second in 2..4 {
            log.handle_opt_in_begun();
            log.handle_opt_in_ended(Some(Granted), None, at(second));
        }
        // An opt-out overtook the call.
        log.handle_opt_in_begun();
        log.handle_opt_out(None, at(4));
        log.handle_opt_in_ended(Some(Denied), None, at(5));
        let expected = [(Given, ThisDevice), (Renewed, ThisDevice), (Withdrawn, ThisDevice)];
        assert_eq!(entries(&log), expected);
        assert!(log.take_changed());
    }

    #[test]
    fn a_call_in_progress_hides_no_withdrawal_elsewhere() {
        let mut log = log(Granted);
        log.handle_opt_in_begun();
        log.handle_seen(Denied, false, at(1));
        assert_eq!(entries(&log), [(Given, Unknown), (Withdrawn, Elsewhere)]);
    }

    #[test]
    fn repeated_opt_outs_are_one_decision_whose_removed_data_is_kept() {
        let mut log = log(Undecided);
        log.handle_opt_out(Some("a switch"), at(1));
        log.handle_removed(removed(7), Vec::new());
        log.handle_opt_out(None, at(2));
        log.handle_removed(removed(0), Vec::new());
        assert_eq!(entries(&log), [(Refused, ThisDevice)]);
        assert_eq!(log.decisions()[0].removed, Some(removed(7)));
    }

    #[test]
    fn what_a_withdrawal_elsewhere_removed_is_not_claimed() {
        let mut log = log(Granted);
        log.handle_seen(Denied, false, at(1));
        log.handle_removed(removed(3), Vec::new());
        assert_eq!(log.decisions()[1].removed, None);
    }

    #[test]
    fn a_new_process_adds_only_a_decision_that_it_did_not_know() {
        let mut first = log(Undecided);
        first.handle_opt_in_begun();
        first.handle_opt_in_ended(Some(Granted), None, at(1));
        let stored = first.decisions().to_vec();
        let next = |seen| Log::new(Circumstances::default(), Some(stored.clone()), seen, at(9));
        assert_eq!(entries(&next(Granted)), [(Given, ThisDevice)]);
        assert_eq!(entries(&next(Denied)), [(Given, ThisDevice), (Withdrawn, Unknown)]);
        // The end of the session has forgotten the opt-in.
        let mut again = next(Undecided);
        again.handle_seen(Granted, false, at(10));
        assert_eq!(entries(&again), [(Given, ThisDevice)]);
    }

    #[test]
    fn the_newest_decisions_are_kept_and_those_of_another_process_are_merged() {
        let mut log = log(Undecided);
        for second in 1..100 {
            log.handle_opt_in_begun();
            log.handle_opt_in_ended(Some(Granted), None, at(second));
        }
        assert_eq!(log.decisions().len(), MOST_DECISIONS);
        assert_eq!(log.decisions()[0].at, at(68));
        let mut theirs = log.decisions().to_vec();
        theirs[0].at = at(200);
        let merged = log.merged_with(theirs);
        assert_eq!((merged.len(), merged[31].at, merged[0].at), (32, at(200), at(69)));
    }

    #[test]
    fn an_opt_in_that_may_be_ours_is_not_said_to_be_elsewhere() {
        for may_be_ours in [true, false] {
            let mut log = log(Undecided);
            log.handle_seen(Granted, may_be_ours, at(1));
            let place = if may_be_ours { Unknown } else { Elsewhere };
            assert_eq!(entries(&log), [(Given, place)]);
        }
    }

    #[test]
    fn a_record_that_could_not_be_read_makes_no_decision() {
        let mut log = Log::new(Circumstances::default(), None, Granted, at(1));
        assert!(!log.take_changed());
        log.handle_seen(Denied, false, at(2));
        assert_eq!(entries(&log), [(Refused, Elsewhere)]);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_change_the_order() {
        let mut log = log(Undecided);
        log.handle_opt_in_begun();
        log.handle_opt_in_ended(Some(Granted), None, at(9));
        log.handle_opt_out(None, at(5));
        log.handle_opt_in_begun();
        log.handle_opt_in_ended(Some(Granted), None, at(6));
        let expected = [(Given, ThisDevice), (Withdrawn, ThisDevice), (Given, ThisDevice)];
        assert_eq!(entries(&log), expected);
        assert_eq!(log.decisions()[2].at, at(9));
        let stored = log.decisions().to_vec();
        assert_eq!(log.merged_with(stored.clone()), stored);
        assert_eq!(merge(stored.clone(), Vec::new()), stored);
    }

    #[test]
    fn the_erasures_of_each_withdrawal_are_its_own() {
        let erasure =
            |second, label: &str, state: &str| (at(second), label.to_owned(), state.to_owned());
        let mut log = log(Granted);
        log.handle_opt_out(None, at(1));
        log.handle_removed(removed(0), vec![erasure(1, "one", "pending")]);
        // A second call that asks for no erasure, and a third that does.
        log.handle_removed(removed(0), Vec::new());
        log.handle_removed(removed(0), vec![erasure(2, "two", "done")]);
        log.handle_opt_in_begun();
        log.handle_opt_in_ended(Some(Granted), None, at(3));
        log.handle_opt_out(None, at(4));
        let both = vec![erasure(1, "one", "failed"), erasure(4, "one", "done")];
        log.handle_removed(removed(0), both);
        let erasures = |place: usize| log.decisions()[place].removed.clone().unwrap().erasures;
        let pair = |label: &str, state: &str| (label.to_owned(), state.to_owned());
        assert_eq!(erasures(1), [pair("one", "pending"), pair("two", "done")]);
        assert_eq!(erasures(3), [pair("one", "done")]);
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(shortened(&"⌘".repeat(100)).len(), 198);
        assert_eq!(shortened("short"), "short");
    }
}
