//! Agreements to a policy.

use std::sync::Arc;

use super::*;
use crate::{
    consent::policy::{Agreement, EARLIEST_TIME, Policy},
    gate::WipeReason,
};

const DAY: u64 = 24 * 3600 * 1000;
/// A day in 2026.
const TODAY: u64 = 20_500 * DAY;

fn policy() -> Arc<Policy> {
    Arc::new(Policy::new("3").renew_after(Duration::from_millis(10 * DAY)))
}

/// Creates a machine that asks for the policy.
fn asking(record: Record) -> TestMachine {
    let mut machine = TestMachine::with(record);
    machine.inner = machine.inner.with_policy(Some(policy()), TODAY);
    machine
}

/// Returns an opt-in under the ID `name`, agreed at `at`.
fn agreed(name: &str, at: u64) -> Observed {
    Observed { agreed: Some(at), ..opted_in(name) }
}

fn not_agreed() -> GateState {
    GateState::Closed(ClosedReason::PolicyNotAgreed)
}

#[tokio::test]
async fn the_gate_closes_on_the_day_on_which_the_agreement_becomes_old() {
    let mut machine = asking(Record::default());
    machine.read(&agreed("a", TODAY - 8 * DAY));
    assert_eq!(machine.gate(), GateState::Open);
    machine.inner.take_wipe();
    let epoch = machine.inner.epoch();
    // Not later than in a day, because a timer stands still while the device is suspended.
    assert_eq!(machine.inner.agreement_wait(), Some(Duration::from_millis(DAY)));
    machine.inner.handle_time(TODAY + 2 * DAY - 1000);
    assert_eq!(machine.gate(), GateState::Open);
    assert_eq!(machine.waits_for(), Some(Duration::from_secs(1)));

    machine.inner.handle_time(TODAY + 2 * DAY);
    assert_eq!(machine.inner.take_wipe(), Some(WipeReason::NotConfirmed));
    assert_eq!(machine.inner.epoch(), epoch + 1);
    // The user may have agreed again on another device.
    assert_eq!(machine.gate(), GateState::Closed(ClosedReason::Unknown));
    assert_eq!(machine.inner.state().prompt(), Prompt::Wait);
    machine.read(&agreed("a", TODAY - 8 * DAY));
    assert_eq!(machine.gate(), not_agreed());
    assert_eq!(machine.inner.state().prompt(), Prompt::Ask);
    // Only once.
    machine.inner.handle_time(TODAY + 3 * DAY);
    machine.recheck();
    machine.read(&agreed("a", TODAY - 8 * DAY));
    assert_eq!((machine.gate(), machine.inner.epoch()), (not_agreed(), epoch + 1));

    machine.opt_in();
    machine.read(&agreed("a", TODAY - 8 * DAY));
    let renewed = agreed("a", TODAY + 3 * DAY);
    assert_eq!(machine.write().outcome(), renewed);
    machine.read(&renewed);
    assert_eq!(machine.gate(), GateState::Open);
}

#[tokio::test]
async fn a_policy_without_a_renewal_sets_no_timer() {
    let mut machine = TestMachine::new();
    machine.inner = machine.inner.with_policy(Some(Arc::new(Policy::new("3"))), TODAY);
    machine.read(&agreed("a", 0));
    machine.inner.handle_time(u64::MAX);
    assert_eq!(machine.gate(), GateState::Open);
    assert!(machine.waits_for() > Some(Duration::from_secs(5 * 3600)));
}

#[tokio::test]
async fn an_agreement_holds_under_the_id_of_another_device_that_opted_in_at_once() {
    let mut machine = asking(Record::default());
    machine.read(&Observed::UNSET);
    machine.opt_in();
    machine.read(&Observed::UNSET);
    machine.write();
    // The other device has another policy.
    machine.now += 2 * REQUEST_TIMEOUT;
    machine.read(&opted_in("theirs"));
    assert_eq!(machine.gate(), GateState::Open);
    // The user opts out and in again elsewhere.
    machine.sync(&opted_out());
    machine.sync(&opted_in("new"));
    machine.read(&opted_in("new"));
    assert_eq!(machine.gate(), not_agreed());
}

#[tokio::test]
async fn an_agreement_does_not_hold_under_an_id_that_appears_late() {
    let longest = 3 * REQUEST_TIMEOUT;
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap();
    let late = Duration::from_millis(1);
    for (slept, passed, gate) in [
        (longest, longest, GateState::Open),
        // The homeserver could not be reached.
        (longest + late, longest, not_agreed()),
        // The device was suspended, and the timer stood still.
        (2 * REQUEST_TIMEOUT, longest + REQUEST_TIMEOUT + late, not_agreed()),
    ] {
        let mut machine = asking(Record::default());
        machine.read(&Observed::UNSET);
        machine.opt_in();
        machine.read(&Observed::UNSET);
        machine.write();
        // The user opts out on another device, and opts in with a client that asks nothing.
        machine.now += slept;
        machine.inner.handle_time(TODAY + millis(passed));
        machine.read(&opted_in("theirs"));
        assert_eq!(machine.gate(), gate, "{slept:?}, {passed:?}");
    }
}

#[tokio::test]
async fn an_agreement_does_not_hold_under_an_id_that_appears_while_the_write_is_out() {
    let begin = || {
        let mut machine = asking(Record::default());
        machine.read(&opted_out());
        machine.opt_in();
        machine.read(&opted_out());
        machine.expect_write();
        machine
    };
    // The device was suspended before it had the answer to the write.
    let mut suspended = begin();
    suspended.inner.handle_time(TODAY + DAY / 24);
    // Sync shows that the user withdrew, and opted in with a client that asks nothing.
    let mut overtaken = begin();
    overtaken.sync(&opted_out_with("b"));
    overtaken.sync(&opted_in("theirs"));
    for mut machine in [suspended, overtaken] {
        machine.wrote();
        machine.now += 2 * REQUEST_TIMEOUT;
        machine.read(&opted_in("theirs"));
        assert_eq!(machine.gate(), not_agreed());
    }
}

#[tokio::test]
async fn a_renewal_is_not_written_over_what_was_read_before_a_suspend() {
    for passed in [2 * REQUEST_TIMEOUT, 2 * REQUEST_TIMEOUT + Duration::from_millis(1)] {
        let mut machine = asking(Record::default());
        let old = agreed("a", TODAY - 2 * DAY);
        machine.read(&old);
        machine.opt_in();
        machine.read(&old);
        machine.inner.handle_time(TODAY + u64::try_from(passed.as_millis()).unwrap());
        if passed == 2 * REQUEST_TIMEOUT {
            machine.expect_write();
            continue;
        }
        // The user has withdrawn on another device in the meantime.
        machine.read(&opted_out());
        let Change::OptIn(written, _) = machine.write() else { panic!("expected an opt-in") };
        assert_ne!(written, id("a"));
    }
}

#[tokio::test]
async fn a_later_agreement_of_another_device_shows_that_an_unanswered_write_was_applied() {
    let mut machine = asking(Record::default());
    machine.read(&opted_in("a"));
    let call = machine.opt_in();
    machine.read(&opted_in("a"));
    machine.fail_write(UNANSWERED);
    machine.read(&agreed("a", TODAY + 1));
    machine.read(&agreed("a", TODAY + 1));
    assert_eq!((machine.gate(), machine.outcome(call)), (GateState::Open, Some(Outcome::Done)));
}

#[tokio::test]
async fn only_the_agreement_of_the_opt_in_that_settles_holds_under_another_id() {
    let mut machine = asking(Record::default());
    machine.read(&agreed("a", TODAY));
    machine.opt_in();
    machine.read(&agreed("a", TODAY));
    assert_eq!(machine.gate(), GateState::Open);
    // The app was built without a policy since, and opts in under a new ID.
    machine.inner = machine.inner.with_policy(None, TODAY);
    machine.sync(&opted_out());
    machine.opt_in();
    machine.read(&opted_out());
    machine.write();
    machine.inner = machine.inner.with_policy(Some(policy()), TODAY);
    machine.now += 2 * REQUEST_TIMEOUT;
    machine.read(&opted_in("theirs"));
    assert_eq!(machine.gate(), not_agreed());
}

#[tokio::test]
async fn an_opt_in_that_agreed_already_writes_nothing() {
    let mut machine = asking(Record::default());
    let seen = agreed("a", TODAY - DAY + 1);
    machine.read(&seen);
    let call = machine.opt_in();
    machine.read(&seen);
    assert!(machine.is_idle());
    assert_eq!(machine.outcome(call), Some(Outcome::Done));
    // It counts as given here, even if another client drops the member.
    machine.sync(&opted_in("a"));
    machine.read(&opted_in("a"));
    assert_eq!(machine.gate(), GateState::Open);
}

#[tokio::test]
async fn an_opt_in_renews_an_agreement_of_the_day_before() {
    let mut machine = asking(Record::default());
    let seen = agreed("a", TODAY - DAY);
    machine.read(&seen);
    machine.opt_in();
    machine.read(&seen);
    assert_eq!(machine.write().outcome(), agreed("a", TODAY));
    machine.read(&agreed("a", TODAY));
    assert_eq!(machine.gate(), GateState::Open);
    // A device with a slower clock does not make it older.
    let mut slow = asking(Record::default());
    slow.inner.handle_time(TODAY - 2 * DAY);
    slow.read(&agreed("a", TODAY));
    slow.opt_in();
    slow.read(&agreed("a", TODAY));
    assert_eq!(slow.write().outcome(), agreed("a", TODAY));
}

#[tokio::test]
async fn an_agreement_that_another_device_overwrote_is_written_once_more() {
    for lost in [opted_in("a"), agreed("a", TODAY - 2 * DAY)] {
        let mut machine = asking(Record::default());
        machine.read(&lost);
        let call = machine.opt_in();
        machine.read(&lost);
        machine.write();
        // The other device has read before.
        machine.read(&lost);
        assert_eq!(machine.outcome(call), None);
        assert_eq!(machine.write().outcome(), agreed("a", TODAY));
        machine.read(&agreed("a", TODAY));
        assert!(machine.is_idle());
        assert_eq!((machine.gate(), machine.outcome(call)), (GateState::Open, Some(Outcome::Done)));

        // Not a third time.
        let mut machine = asking(Record::default());
        machine.read(&opted_in("a"));
        let call = machine.opt_in();
        machine.read(&opted_in("a"));
        machine.write();
        machine.read(&opted_in("a"));
        machine.write();
        machine.read(&opted_in("a"));
        machine.read(&opted_in("a"));
        assert_eq!(machine.outcome(call), Some(Outcome::Done));
        assert_eq!(machine.gate(), GateState::Open);
        assert!(machine.is_idle());
    }
}

#[tokio::test]
async fn a_later_agreement_of_another_device_counts_as_ours() {
    let mut machine = asking(Record::default());
    machine.read(&opted_in("a"));
    let call = machine.opt_in();
    machine.read(&opted_in("a"));
    machine.write();
    // It may be an earlier answer than what sync has shown, so the next one decides.
    machine.read(&agreed("a", TODAY + 1));
    machine.read(&agreed("a", TODAY + 1));
    assert!(machine.is_idle());
    assert_eq!((machine.gate(), machine.outcome(call)), (GateState::Open, Some(Outcome::Done)));
}

#[tokio::test]
async fn a_clock_that_goes_back_does_not_open_the_gate() {
    let mut machine = asking(Record::default());
    machine.read(&agreed("a", TODAY - 10 * DAY));
    assert_eq!(machine.gate(), not_agreed());
    machine.inner.handle_time(TODAY - DAY);
    assert_eq!(machine.gate(), GateState::Holding(HoldReason::Rechecking));
    // The user has withdrawn elsewhere.
    machine.read(&opted_out());
    assert_eq!(machine.gate(), GateState::Closed(ClosedReason::Denied));
}

#[tokio::test]
async fn a_clock_before_the_release_closes_nothing_and_writes_a_possible_time() {
    let mut machine = asking(Record::default());
    machine.inner.handle_time(5);
    machine.read(&agreed("a", TODAY));
    assert_eq!(machine.gate(), GateState::Open);
    machine.sync(&opted_in("b"));
    machine.read(&opted_in("b"));
    assert_eq!(machine.gate(), not_agreed());
    machine.opt_in();
    machine.read(&opted_in("b"));
    assert_eq!(machine.write().outcome(), agreed("b", EARLIEST_TIME));
    machine.read(&agreed("b", EARLIEST_TIME));
    assert_eq!(machine.gate(), GateState::Open);
    // The clock is set. The user agreed a moment ago, and is not asked again.
    machine.inner.handle_time(TODAY);
    assert_eq!(machine.gate(), GateState::Open);
    machine.inner.handle_time(TODAY + 10 * DAY);
    assert_eq!(machine.gate(), GateState::Closed(ClosedReason::Unknown));
}

#[tokio::test]
async fn a_clock_before_the_release_does_not_replace_a_known_time() {
    let mut machine = asking(Record::default());
    machine.inner.handle_time(5);
    machine.read(&agreed("a", TODAY));
    machine.opt_in();
    machine.read(&agreed("a", TODAY));
    assert_eq!(machine.write().outcome(), agreed("a", TODAY));
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn events_wait_for_the_first_answer_if_only_the_clock_rejects_the_agreement() {
    let agreement = Agreement { policy: policy(), at: TODAY };
    let mut record = Record::default();
    record.agree_here(&id("a"), Some(&agreement));
    record.remember_id(&id("a"));
    record.decision = Consent::Granted;
    let begin = |today| {
        let mut machine = TestMachine::with(record.clone());
        machine.inner = machine.inner.with_policy(Some(policy()), today);
        (machine.inner.keep_events(), machine)
    };
    let epoch = record.epoch;
    for (seen, gate, is_wiped) in [
        (agreed("a", TODAY + 11 * DAY), GateState::Open, false),
        (agreed("a", TODAY), not_agreed(), true),
        (Observed { id: ObservedId::Absent, ..opted_in("a") }, not_agreed(), true),
        (opted_out(), GateState::Closed(ClosedReason::Denied), true),
    ] {
        let (keeps, mut machine) = begin(TODAY + 11 * DAY);
        assert_eq!(machine.gate(), GateState::Closed(ClosedReason::Unknown));
        assert!(keeps);
        machine.read(&seen);
        assert_eq!(machine.gate(), gate);
        assert_eq!(machine.inner.epoch() > epoch, is_wiped, "{seen:?}");
        assert_eq!(machine.inner.take_wipe().is_some(), is_wiped);
        // Only the first answer is waited for.
        let epoch = machine.inner.epoch();
        machine.inner.handle_time(TODAY + 30 * DAY);
        assert_eq!(machine.inner.epoch() > epoch, gate == GateState::Open);
    }
    assert!(begin(TODAY).0);
    record.see_agreement(&id("b"), &policy(), None);
    let mut without = asking(record);
    assert!(!without.inner.keep_events());
}

#[tokio::test]
async fn an_opt_out_removes_agreements_that_an_earlier_one_left() {
    let left = Observed { has_leftovers: true, ..opted_out() };
    for restarts in [false, true] {
        let mut machine = asking(Record::default());
        machine.read(&agreed("a", TODAY));
        machine.opt_out(Removal::Id);
        if restarts {
            machine.expect_read();
            let record = machine.inner.record().clone();
            machine = asking(record);
        }
        machine.read(&left);
        assert_eq!(machine.write(), Change::OptOut);
        machine.read(&left);
        assert!(machine.inner.state().removal_pending, "an acknowledged write was not applied");
        machine.recheck();
        machine.read(&left);
        machine.write();
        machine.read(&opted_out());
        assert!(!machine.inner.state().removal_pending);
    }
}

#[tokio::test]
async fn an_agreement_that_is_dropped_while_the_process_runs_closes_and_wipes() {
    let mut machine = asking(Record::default());
    machine.read(&agreed("a", TODAY));
    machine.inner.take_wipe();
    let epoch = machine.inner.epoch();
    machine.sync(&opted_in("a"));
    assert_eq!(machine.gate(), GateState::Holding(HoldReason::Rechecking));
    machine.read(&opted_in("a"));
    assert_eq!(machine.gate(), not_agreed());
    assert_eq!(machine.inner.take_wipe(), Some(WipeReason::NotConfirmed));
    assert_eq!(machine.inner.epoch(), epoch + 1);
    // Another change makes the question wait for the next answer.
    machine.sync(&agreed("a", TODAY));
    assert_eq!(machine.inner.state().prompt(), Prompt::Wait);
    machine.read(&agreed("a", TODAY));
    assert_eq!(machine.gate(), GateState::Open);
}

#[tokio::test]
async fn a_session_that_is_soft_logged_out_holds_nothing_without_an_agreement() {
    for (seen, gate) in [
        (agreed("a", TODAY), GateState::Holding(HoldReason::SoftLogout)),
        (opted_in("a"), not_agreed()),
    ] {
        let mut machine = asking(Record::default());
        machine.read(&seen);
        machine.inner.handle_session(Session::SoftLogout, machine.now);
        assert_eq!(machine.gate(), gate);
    }
}

#[tokio::test]
async fn an_agreement_that_another_process_forgot_does_not_hold_events() {
    let mut record = Record::default();
    let agreement = Agreement { policy: policy(), at: TODAY };
    record.agree_here(&id("a"), Some(&agreement));
    record.remember_id(&id("a"));
    record.decision = Consent::Granted;
    let mut machine = asking(record.clone());
    assert_eq!(machine.gate(), GateState::Holding(HoldReason::Unverified));
    machine.inner.take_wipe();

    // The other process has seen another ID.
    let mut theirs = record.clone();
    theirs.see_agreement(&id("b"), &policy(), None);
    machine.inner.handle_deny_on_this_device();
    machine.inner.handle_allow_on_this_device();
    machine.inner.take_wipe();
    let epoch = machine.inner.epoch();
    let Action::Save(save) = machine.inner.poll(machine.now) else { panic!("nothing to save") };
    let stored = Record::merge(&save.base, &save.record, &theirs);
    let random = machine.random();
    machine.inner.handle_saved(Ok(stored), machine.now, &random);
    assert_eq!(machine.gate(), GateState::Closed(ClosedReason::Unknown));
    assert!(machine.inner.epoch() > epoch);
    assert!(machine.inner.take_wipe().is_some());
}
