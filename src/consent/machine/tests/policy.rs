//! Agreements to a policy.

use std::sync::Arc;

use super::*;
use crate::{
    consent::policy::{Agreement, Policy},
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
    assert_eq!(machine.gate(), not_agreed());
    assert_eq!(machine.inner.state().prompt(), Prompt::Ask);
    assert_eq!(machine.inner.take_wipe(), Some(WipeReason::NotConfirmed));
    assert_eq!(machine.inner.epoch(), epoch + 1);
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
async fn an_opt_in_that_agreed_already_writes_nothing() {
    let mut machine = asking(Record::default());
    let seen = agreed("a", TODAY - DAY);
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
