//! The newest decisions, as they are made or seen.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::{
    AgreedPolicy, ConsentStatus, DecisionPlace, RecordedDecision, RecordedRecipient, RemovedData,
    entries::{Entries, millis},
};
use crate::{consent::state::Consent, event::unix_time::unix_nanos};

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
    entries: Entries,
    /// The decision that holds.
    current: Consent,
    /// The decision that was last seen, except an opt-in during a call of `opt_in()`.
    last_seen: Consent,
    /// The calls of `opt_in()` in progress. Their callers say how they end.
    opting_in: usize,
    is_changed: bool,
}

impl Log {
    /// Creates the log of a process that begins with the `stored` decisions and the decision
    /// `seen`. If the store could not be read, it is merged later.
    pub(crate) fn new(
        circumstances: Circumstances,
        stored: Vec<Value>,
        seen: Consent,
        now: SystemTime,
    ) -> Self {
        let mut log = Self {
            circumstances,
            entries: Entries::new(stored),
            current: seen,
            last_seen: Consent::Undecided,
            opting_in: 0,
            is_changed: false,
        };
        // Made before there was a record, by a process that ended before it was written, or stored
        // where it could not be read.
        log.see(seen, DecisionPlace::Unknown, now);
        log
    }

    pub(crate) fn decisions(&self) -> Vec<RecordedDecision> {
        self.entries.decisions().cloned().collect()
    }

    /// Merges the decisions with those that are `stored`, and returns what the store has to hold.
    pub(crate) fn merge(&mut self, stored: Vec<Value>) -> Vec<Value> {
        self.entries.merge(stored)
    }

    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// Handles that the state of consent shows the decision `seen`. `may_be_ours` says whether an
    /// opt-in can be one of this device whose call failed, or whose process ended in it.
    pub(crate) fn handle_seen(&mut self, seen: Consent, may_be_ours: bool, now: SystemTime) {
        self.current = seen;
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
        if !self.entries.decisions().next_back().is_some_and(is_known) {
            self.add(seen, place, None, now);
        }
    }

    /// Handles that a call of `opt_in()` begins.
    pub(crate) fn handle_opt_in_begun(&mut self) {
        self.opting_in += 1;
    }

    /// Handles the end of a call of `opt_in()`, which an opt-out may have overtaken.
    pub(crate) fn handle_opt_in_ended(
        &mut self,
        is_done: bool,
        expressed_by: Option<&str>,
        now: SystemTime,
    ) {
        self.opting_in = self.opting_in.saturating_sub(1);
        if is_done && self.current == Consent::Granted {
            self.last_seen = Consent::Granted;
            self.add(Consent::Granted, DecisionPlace::ThisDevice, expressed_by, now);
        }
    }

    /// Handles a call of `opt_out()`, and returns the number of its decision. Repeated calls are
    /// one decision.
    pub(crate) fn handle_opt_out(&mut self, expressed_by: Option<&str>, at: SystemTime) -> u64 {
        (self.current, self.last_seen) = (Consent::Denied, Consent::Denied);
        match self.entries.last() {
            Some((number, last))
                if !last.status.is_given() && last.place == DecisionPlace::ThisDevice =>
            {
                number
            }
            _ => self.add(Consent::Denied, DecisionPlace::ThisDevice, expressed_by, at),
        }
    }

    /// Handles the end of the withdrawal at `withdrawn_at`, whose decision has this number.
    /// `erasures` are those of its receipt: when the user withdrew, the label and the state.
    pub(crate) fn handle_removed(
        &mut self,
        number: u64,
        withdrawn_at: SystemTime,
        removed: RemovedData,
        erasures: Vec<(SystemTime, String, String)>,
    ) {
        let Some(decision) = self.entries.amend(number) else { return };
        // Those of earlier withdrawals are in the same receipt.
        let own = [withdrawn_at, decision.at].map(millis);
        let erasures = erasures.into_iter().filter(|(at, ..)| own.contains(&millis(*at)));
        let mut erasures: Vec<_> = erasures.map(|(_, label, state)| (label, state)).collect();
        let mut events = removed.events;
        if let Some(first) = decision.removed.take() {
            // The first of several calls has removed the events, and may be the only one that
            // asked for erasures.
            events = events.max(first.events);
            let is_new = |(label, _): &(String, String)| !erasures.iter().any(|(l, _)| l == label);
            let kept: Vec<_> = first.erasures.into_iter().filter(is_new).collect();
            erasures.splice(..0, kept);
        }
        decision.removed = Some(RemovedData { events, erasures, ..removed });
        self.is_changed = true;
    }

    fn add(
        &mut self,
        decision: Consent,
        place: DecisionPlace,
        expressed_by: Option<&str>,
        at: SystemTime,
    ) -> u64 {
        let last = self.entries.decisions().next_back();
        let was_given = last.is_some_and(|last| last.status.is_given());
        let status = ConsentStatus::new(decision == Consent::Granted, was_given);
        let Circumstances { policy, recipients } = self.circumstances.clone();
        // Another client may have shown another policy, or none.
        let policy = policy.filter(|_| place == DecisionPlace::ThisDevice);
        let expressed_by = expressed_by.map(shortened);
        let at = whole_millis(at);
        self.is_changed = true;
        self.entries.add(RecordedDecision {
            status,
            at,
            place,
            expressed_by,
            policy,
            recipients,
            removed: None,
        })
    }
}

/// Returns `time` without what is finer than a millisecond, as it is stored.
fn whole_millis(time: SystemTime) -> SystemTime {
    let finer = unix_nanos(time).rem_euclid(1_000_000);
    time.checked_sub(Duration::from_nanos(finer as u64)).unwrap_or(time)
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
    use super::*;

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    fn log(seen: Consent) -> Log {
        Log::new(Circumstances::default(), Vec::new(), seen, at(0))
    }

    fn entries(log: &Log) -> Vec<(ConsentStatus, DecisionPlace)> {
        log.decisions().iter().map(|decision| (decision.status, decision.place)).collect()
    }

    fn opt_in(log: &mut Log, second: u64) {
        log.handle_opt_in_begun();
        log.handle_seen(Granted, false, at(second));
        log.handle_opt_in_ended(true, None, at(second));
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
        log.handle_opt_in_ended(true, Some("a dialog"), at(2));
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
        log.handle_opt_in_ended(false, None, at(1));
        assert!(!log.take_changed());
        for second in 2..4 {
            opt_in(&mut log, second);
        }
        // An opt-out overtook the call.
        log.handle_opt_in_begun();
        log.handle_seen(Granted, false, at(4));
        log.handle_opt_out(None, at(4));
        log.handle_opt_in_ended(true, None, at(5));
        let expected = [(Given, ThisDevice), (Renewed, ThisDevice), (Withdrawn, ThisDevice)];
        assert_eq!(entries(&log), expected);
        assert!(log.take_changed());
        // An opt-out that a new opt-in overtook.
        log.handle_opt_in_begun();
        log.handle_opt_out(None, at(6));
        log.handle_seen(Granted, false, at(7));
        log.handle_opt_in_ended(true, None, at(8));
        assert_eq!(entries(&log)[3], (Given, ThisDevice));
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
        let first = log.handle_opt_out(Some("a switch"), at(1));
        log.handle_removed(first, at(1), removed(7), Vec::new());
        let second = log.handle_opt_out(None, at(2));
        log.handle_removed(second, at(2), removed(0), Vec::new());
        assert_eq!(entries(&log), [(Refused, ThisDevice)]);
        assert_eq!(log.decisions()[0].removed, Some(removed(7)));
    }

    #[test]
    fn a_decision_before_the_receipt_does_not_get_what_the_withdrawal_removed() {
        let mut log = log(Granted);
        let number = log.handle_opt_out(None, at(1));
        log.handle_seen(Granted, false, at(2));
        log.handle_seen(Denied, false, at(3));
        log.handle_removed(number, at(1), removed(3), Vec::new());
        let removed: Vec<_> = log.decisions().into_iter().map(|one| one.removed).collect();
        assert_eq!(removed, [None, Some(self::removed(3)), None, None]);
    }

    #[test]
    fn a_new_process_adds_only_a_decision_that_it_did_not_know() {
        let mut first = log(Undecided);
        opt_in(&mut first, 1);
        let stored = first.merge(Vec::new());
        let next = |seen| Log::new(Circumstances::default(), stored.clone(), seen, at(9));
        assert_eq!(entries(&next(Granted)), [(Given, ThisDevice)]);
        assert_eq!(entries(&next(Denied)), [(Given, ThisDevice), (Withdrawn, Unknown)]);
        // The end of the session has forgotten the opt-in.
        let mut again = next(Undecided);
        again.handle_seen(Granted, false, at(10));
        assert_eq!(entries(&again), [(Given, ThisDevice)]);
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
    fn a_record_that_is_read_late_has_no_decision_twice() {
        let mut stored = log(Undecided);
        opt_in(&mut stored, 1);
        let stored = stored.merge(Vec::new());
        let mut log = log(Granted);
        log.handle_opt_out(None, at(2));
        assert_eq!(entries(&log), [(Given, Unknown), (Withdrawn, ThisDevice)]);
        log.merge(stored);
        assert_eq!(entries(&log), [(Given, ThisDevice), (Withdrawn, ThisDevice)]);
    }

    #[test]
    fn a_clock_that_was_wrong_changes_neither_the_order_nor_a_later_time() {
        let mut log = log(Undecided);
        opt_in(&mut log, 900);
        log.handle_opt_out(None, at(5));
        opt_in(&mut log, 6);
        let expected = [(Given, ThisDevice), (Withdrawn, ThisDevice), (Given, ThisDevice)];
        assert_eq!(entries(&log), expected);
        let times: Vec<_> = log.decisions().iter().map(|decision| decision.at).collect();
        assert_eq!(times, [at(900), at(5), at(6)]);
    }

    #[test]
    fn the_erasures_of_each_withdrawal_are_its_own() {
        let erasure =
            |second, label: &str, state: &str| (at(second), label.to_owned(), state.to_owned());
        let mut log = log(Granted);
        // The clock is in the future, and is set right after the second call.
        let first = log.handle_opt_out(None, at(901));
        log.handle_removed(first, at(901), removed(0), vec![erasure(901, "one", "pending")]);
        // A call that asks for no erasure, and one that does.
        log.handle_removed(first, at(902), removed(0), Vec::new());
        log.handle_removed(first, at(903), removed(0), vec![erasure(903, "two", "done")]);
        opt_in(&mut log, 3);
        let second = log.handle_opt_out(None, at(4));
        let both = vec![erasure(901, "one", "failed"), erasure(4, "one", "done")];
        log.handle_removed(second, at(4), removed(0), both);
        let erasures = |place: usize| log.decisions()[place].removed.clone().unwrap().erasures;
        let pair = |label: &str, state: &str| (label.to_owned(), state.to_owned());
        assert_eq!(erasures(1), [pair("one", "pending"), pair("two", "done")]);
        assert_eq!(erasures(3), [pair("one", "done")]);
    }

    #[test]
    fn a_time_has_whole_milliseconds_like_a_stored_one() {
        assert_eq!(
            whole_millis(at(5) + Duration::from_nanos(1_999_999)).duration_since(at(5)).unwrap(),
            Duration::from_millis(1)
        );
        assert_eq!(whole_millis(at(5)), at(5));
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(shortened(&"⌘".repeat(100)).len(), 198);
        assert_eq!(shortened("short"), "short");
    }
}
