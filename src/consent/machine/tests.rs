//! Orders of events that once failed, each with the required result. The model check found
//! most of them. `tests/it/table.rs` tests the transition tables over HTTP.

mod failures;
mod one_process;
mod policy;
mod shared_record;
mod two_processes;

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Action, CallId, Failure, FailureKind, Machine, Outcome, Random, Save, Session, Settings,
};
use crate::{
    analytics_id::AnalyticsId,
    consent::{
        content::{Change, Observed, ObservedId},
        record::{Record, Removal},
        state::{ClosedReason, Consent, GateState, HoldReason, Prompt},
    },
};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const UNANSWERED: Failure = Failure { kind: FailureKind::Unanswered, retry_after: None };

/// A machine whose saves succeed. The test answers its requests in place of the homeserver.
struct TestMachine {
    inner: Machine,
    now: Instant,
    calls: u64,
    ids: u64,
}

impl TestMachine {
    fn new() -> Self {
        Self::with(Record::default())
    }

    fn with(record: Record) -> Self {
        let settings = Settings { do_not_track: false, request_timeout: REQUEST_TIMEOUT };
        let inner = Machine::new(record.clone(), record, settings, 0.0);
        Self { inner, now: Instant::now(), calls: 0, ids: 0 }
    }

    /// Creates a machine whose first GET has returned `seen`.
    fn seeing(seen: &Observed) -> Self {
        let mut machine = Self::new();
        machine.read(seen);
        machine
    }

    fn random(&self) -> Random {
        Random { id: id(&format!("minted-{}", self.ids)), jitter: 0.0 }
    }

    fn call(&mut self) -> CallId {
        self.calls += 1;
        CallId(self.calls)
    }

    /// Completes all saves, and returns the next action that is not a save.
    fn next(&mut self) -> Action {
        loop {
            match self.inner.poll(self.now) {
                Action::Save(save) => {
                    let random = self.random();
                    self.inner.handle_saved(Ok(save.record), self.now, &random);
                }
                other => return other,
            }
        }
    }

    /// Returns the duration of the wait that must come next, if it is bounded.
    fn waits_for(&mut self) -> Option<Duration> {
        match self.next() {
            Action::Wait(until) => until.map(|until| until - self.now),
            other => panic!("{other:?}"),
        }
    }

    fn expect_read(&mut self) {
        let next = self.next();
        assert!(matches!(next, Action::Get | Action::GetAgain), "{next:?}");
    }

    fn is_idle(&mut self) -> bool {
        matches!(self.next(), Action::Wait(_))
    }

    /// Answers the GET in flight with `seen`.
    fn answer(&mut self, seen: &Observed) {
        let random = self.random();
        self.inner.handle_got(Ok(seen.clone()), self.now, &random);
        self.ids += 1;
    }

    /// Expects a GET and answers it with `seen`.
    fn read(&mut self, seen: &Observed) {
        self.expect_read();
        self.answer(seen);
    }

    /// Expects a GET and fails it.
    fn fail_read(&mut self, failure: Failure) {
        self.expect_read();
        let random = self.random();
        self.inner.handle_got(Err(failure), self.now, &random);
    }

    fn expect_write(&mut self) -> Change {
        match self.next() {
            Action::Put(change) => change,
            other => panic!("{other:?}"),
        }
    }

    /// Expects a PUT and acknowledges it.
    fn write(&mut self) -> Change {
        let change = self.expect_write();
        self.wrote();
        change
    }

    /// Acknowledges the PUT in flight.
    fn wrote(&mut self) {
        let random = self.random();
        self.inner.handle_put(Ok(()), self.now, &random);
    }

    /// Expects a PUT and fails it.
    fn fail_write(&mut self, failure: Failure) {
        self.expect_write();
        let random = self.random();
        self.inner.handle_put(Err(failure), self.now, &random);
    }

    /// Delivers `seen` in sync.
    fn sync(&mut self, seen: &Observed) {
        self.inner.handle_sync_delivers(self.now);
        self.inner.handle_synced(seen, self.now);
    }

    fn opt_in(&mut self) -> CallId {
        let call = self.call();
        self.inner.handle_opt_in(call);
        call
    }

    fn opt_out(&mut self, removal: Removal) -> CallId {
        let call = self.call();
        self.inner.handle_opt_out(call, removal);
        call
    }

    fn recheck(&mut self) -> CallId {
        let call = self.call();
        self.inner.handle_recheck(call);
        call
    }

    /// Returns the outcome of `call`, if it has finished.
    fn outcome(&mut self, call: CallId) -> Option<Outcome> {
        while let Some((finished, outcome)) = self.inner.take_finished() {
            if finished == call {
                return Some(outcome);
            }
        }
        None
    }

    fn decision(&self) -> Consent {
        self.inner.state().decision
    }

    fn gate(&self) -> GateState {
        self.inner.gate()
    }
}

fn id(name: &str) -> AnalyticsId {
    AnalyticsId::from_foreign(name).unwrap()
}

fn opted_in(name: &str) -> Observed {
    Change::OptIn(id(name), None).outcome()
}

fn opted_out() -> Observed {
    Change::OptOut.outcome()
}

fn opted_out_with(name: &str) -> Observed {
    Observed { id: ObservedId::Usable(id(name)), ..opted_out() }
}

#[tokio::test]
async fn a_repeated_false_in_sync_is_newer_than_a_read_in_flight() {
    let mut machine = TestMachine::seeing(&opted_out());
    machine.recheck();
    machine.expect_read();
    machine.sync(&opted_out());
    machine.answer(&opted_in("a"));
    assert_eq!(machine.decision(), Consent::Denied);
}

#[tokio::test]
async fn a_soft_logout_is_newer_than_a_read_in_flight() {
    let mut machine = TestMachine::seeing(&opted_in("a"));
    assert_eq!(machine.gate(), GateState::Open);
    machine.recheck();
    machine.expect_read();
    machine.inner.handle_session(Session::SoftLogout, machine.now);
    machine.answer(&opted_in("a"));
    assert_eq!(machine.gate(), GateState::Holding(HoldReason::SoftLogout));
}

#[tokio::test]
async fn an_opt_in_keeps_its_unanswered_id_despite_a_pending_removal() {
    let mut machine = TestMachine::new();
    machine.opt_out(Removal::Id);
    machine.fail_read(UNANSWERED);
    machine.opt_in();
    machine.read(&Observed::UNSET);
    machine.fail_write(UNANSWERED);
    machine.fail_read(UNANSWERED);

    let call = machine.opt_in();
    machine.read(&opted_in("minted-0"));
    machine.next();
    assert_eq!(machine.outcome(call), Some(Outcome::Done));
}

#[tokio::test]
async fn an_opt_in_whose_read_back_is_empty_closes_and_wipes() {
    let mut machine = TestMachine::seeing(&Observed::UNSET);
    machine.opt_in();
    machine.read(&Observed::UNSET);
    machine.write();
    assert_eq!(machine.gate(), GateState::Holding(HoldReason::Settling));
    let epoch = machine.inner.epoch();
    machine.next();
    machine.now += 2 * REQUEST_TIMEOUT;
    machine.read(&Observed::UNSET);
    assert_eq!(machine.gate(), GateState::Closed(ClosedReason::DecisionErased));
    assert!(machine.inner.epoch() > epoch);
}

#[tokio::test]
async fn a_dropped_opt_in_whose_write_appeared_in_sync_leads_to_a_read() {
    let mut machine = TestMachine::seeing(&Observed::UNSET);
    let call = machine.opt_in();
    machine.read(&Observed::UNSET);
    machine.expect_write();
    machine.sync(&opted_in("minted-1"));
    machine.inner.handle_opt_in_dropped(call, machine.now);
    machine.expect_read();
}

#[tokio::test]
async fn a_failed_opt_in_reads_again_if_only_its_own_read_saw_a_change() {
    let mut machine = TestMachine::seeing(&Observed::UNSET);
    let call = machine.opt_in();
    machine.read(&opted_out());
    machine.expect_write();
    machine.inner.handle_opt_in_dropped(call, machine.now);
    machine.sync(&opted_out());
    machine.read(&opted_out());
    assert_eq!(machine.decision(), Consent::Denied);
}

#[tokio::test]
async fn a_failed_opt_in_reads_again_if_sync_overtook_its_read() {
    let mut machine = TestMachine::seeing(&opted_out());
    let call = machine.opt_in();
    machine.expect_read();
    machine.sync(&opted_in("b"));
    machine.answer(&opted_out());
    machine.inner.handle_opt_in_dropped(call, machine.now);
    machine.expect_read();
}

#[tokio::test]
async fn a_change_in_sync_during_a_removal_leads_to_another_read() {
    let mut machine = TestMachine::new();
    machine.opt_out(Removal::Id);
    machine.read(&opted_in("a"));
    machine.expect_write();
    // Another client restored the ID after the write. Sync was faster than the answer.
    machine.sync(&opted_in("a"));
    machine.wrote();
    machine.expect_read();
}

#[tokio::test]
async fn an_unusable_id_counts_as_missing() {
    let machine = TestMachine::seeing(&Observed {
        flag: Some(true),
        id: ObservedId::Unusable,
        ..Observed::UNSET
    });
    assert_eq!(machine.gate(), GateState::Holding(HoldReason::MissingId));
}

#[tokio::test]
async fn a_new_opt_out_replaces_an_unreadable_record() {
    let mut machine = TestMachine::with(Record::unreadable("salt".to_owned()));
    machine.read(&opted_in("a"));
    assert_eq!(machine.decision(), Consent::Denied);
    machine.opt_out(Removal::Id);
    machine.read(&opted_in("a"));
    machine.write();
    machine.read(&opted_out());

    // The retired ID stays retired, and a later decision made elsewhere is followed.
    machine.recheck();
    machine.read(&opted_in("a"));
    assert_eq!(machine.decision(), Consent::Denied);
    machine.write();
    machine.read(&opted_out());
    machine.recheck();
    machine.read(&opted_in("b"));
    assert_eq!(machine.gate(), GateState::Open);
}

/// Expects a save, asserts that the machine waits until it completes, and completes it.
fn expect_save_first(machine: &mut TestMachine) {
    let next = machine.inner.poll(machine.now);
    let Action::Save(save) = next else { panic!("{next:?}") };
    let next = machine.inner.poll(machine.now);
    assert!(matches!(next, Action::Wait(_)), "{next:?}");
    let random = machine.random();
    machine.inner.handle_saved(Ok(save.record), machine.now, &random);
}

#[tokio::test]
async fn a_removal_saves_the_id_that_it_finds_as_retired_before_it_writes() {
    let mut machine = TestMachine::seeing(&opted_in("a"));
    machine.opt_out(Removal::Id);
    // Another device has changed the ID.
    machine.read(&opted_in("b"));
    expect_save_first(&mut machine);
    assert!(machine.inner.disk.stored.is_retired(&id("b")));
    assert_eq!(machine.write(), Change::OptOut);
}

#[tokio::test]
async fn an_opt_in_during_a_removal_retires_the_id_that_it_replaces() {
    let mut machine = TestMachine::new();
    machine.opt_out(Removal::Id);
    machine.fail_read(UNANSWERED);
    // The removal has not found the ID that the user withdrew: the opt-in does.
    machine.opt_in();
    machine.read(&opted_in("a"));
    assert_eq!(machine.inner.withdrawn_id(), Some(&id("a")));
    assert_ne!(machine.write(), Change::OptIn(id("a"), None));
    machine.next();
    assert!(machine.inner.disk.stored.is_retired(&id("a")));
}

#[tokio::test]
async fn an_opt_in_saves_its_id_before_it_writes() {
    let mut machine = TestMachine::seeing(&Observed::UNSET);
    machine.opt_in();
    machine.read(&Observed::UNSET);
    expect_save_first(&mut machine);
    let mut stored = machine.inner.disk.stored.clone();
    let Change::OptIn(id, _) = machine.write() else { panic!("expected an opt-in") };
    stored.retire_all();
    assert!(stored.is_retired(&id));
}
