//! Orders of events that once failed, each with the required result. The model check found
//! most of them. `tests/it/table.rs` tests the transition tables over HTTP.

mod failures;
mod one_process;
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

/// A machine with a working disk. The test plays the homeserver.
struct Driven {
    machine: Machine,
    now: Instant,
    calls: u64,
    ids: u64,
}

impl Driven {
    fn new() -> Self {
        Self::with(Record::default())
    }

    fn with(record: Record) -> Self {
        let settings = Settings { do_not_track: false, request_timeout: REQUEST_TIMEOUT };
        let machine = Machine::new(record.clone(), record, settings, 0.0);
        Self { machine, now: Instant::now(), calls: 0, ids: 0 }
    }

    /// Creates a machine whose first GET has returned `seen`.
    fn seeing(seen: &Observed) -> Self {
        let mut driven = Self::new();
        driven.read(seen);
        driven
    }

    fn random(&self) -> Random {
        Random { id: id(&format!("minted-{}", self.ids)), jitter: 0.0 }
    }

    fn call(&mut self) -> CallId {
        self.calls += 1;
        CallId(self.calls)
    }

    /// Completes all saves, and returns the next other action.
    fn next(&mut self) -> Action {
        loop {
            match self.machine.poll(self.now) {
                Action::Save(save) => {
                    let random = self.random();
                    self.machine.handle_saved(Ok(save.record), self.now, &random);
                }
                other => return other,
            }
        }
    }

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

    fn answer(&mut self, seen: &Observed) {
        let random = self.random();
        self.machine.handle_got(Ok(seen.clone()), self.now, &random);
        self.ids += 1;
    }

    /// Expects a GET and answers it with `seen`.
    fn read(&mut self, seen: &Observed) {
        self.expect_read();
        self.answer(seen);
    }

    fn fail_read(&mut self, failure: Failure) {
        self.expect_read();
        let random = self.random();
        self.machine.handle_got(Err(failure), self.now, &random);
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

    fn wrote(&mut self) {
        let random = self.random();
        self.machine.handle_put(Ok(()), self.now, &random);
    }

    fn fail_write(&mut self, failure: Failure) {
        self.expect_write();
        let random = self.random();
        self.machine.handle_put(Err(failure), self.now, &random);
    }

    fn sync(&mut self, seen: &Observed) {
        self.machine.handle_sync_delivers(self.now);
        self.machine.handle_synced(seen, self.now);
    }

    fn opt_in(&mut self) -> CallId {
        let call = self.call();
        self.machine.handle_opt_in(call);
        call
    }

    fn opt_out(&mut self, removal: Removal) -> CallId {
        let call = self.call();
        self.machine.handle_opt_out(call, removal);
        call
    }

    fn recheck(&mut self) -> CallId {
        let call = self.call();
        self.machine.handle_recheck(call);
        call
    }

    fn outcome(&mut self, call: CallId) -> Option<Outcome> {
        while let Some((finished, outcome)) = self.machine.take_finished() {
            if finished == call {
                return Some(outcome);
            }
        }
        None
    }

    fn decision(&self) -> Consent {
        self.machine.state().decision
    }

    fn gate(&self) -> GateState {
        self.machine.gate()
    }
}

fn id(name: &str) -> AnalyticsId {
    AnalyticsId::from_foreign(name).unwrap()
}

fn opted_in(name: &str) -> Observed {
    Change::OptIn(id(name)).outcome()
}

fn opted_out() -> Observed {
    Change::OptOut.outcome()
}

fn opted_out_with(name: &str) -> Observed {
    Observed { flag: Some(false), id: ObservedId::Usable(id(name)) }
}

#[tokio::test]
async fn a_repeated_false_in_sync_is_newer_than_a_read_in_flight() {
    let mut driven = Driven::seeing(&opted_out());
    driven.recheck();
    driven.expect_read();
    driven.sync(&opted_out());
    driven.answer(&opted_in("a"));
    assert_eq!(driven.decision(), Consent::Denied);
}

#[tokio::test]
async fn a_soft_logout_is_newer_than_a_read_in_flight() {
    let mut driven = Driven::seeing(&opted_in("a"));
    assert_eq!(driven.gate(), GateState::Open);
    driven.recheck();
    driven.expect_read();
    driven.machine.handle_session(Session::SoftLogout, driven.now);
    driven.answer(&opted_in("a"));
    assert_eq!(driven.gate(), GateState::Holding(HoldReason::SoftLogout));
}

#[tokio::test]
async fn an_opt_in_keeps_its_unanswered_id_despite_a_pending_removal() {
    let mut driven = Driven::new();
    driven.opt_out(Removal::Id);
    driven.fail_read(UNANSWERED);
    driven.opt_in();
    driven.read(&Observed::UNSET);
    driven.fail_write(UNANSWERED);
    driven.fail_read(UNANSWERED);

    let call = driven.opt_in();
    driven.read(&opted_in("minted-0"));
    driven.next();
    assert_eq!(driven.outcome(call), Some(Outcome::Done));
}

#[tokio::test]
async fn an_opt_in_whose_read_back_is_empty_closes_and_wipes() {
    let mut driven = Driven::seeing(&Observed::UNSET);
    driven.opt_in();
    driven.read(&Observed::UNSET);
    driven.write();
    assert_eq!(driven.gate(), GateState::Holding(HoldReason::Settling));
    let epoch = driven.machine.epoch();
    driven.next();
    driven.now += 2 * REQUEST_TIMEOUT;
    driven.read(&Observed::UNSET);
    assert_eq!(driven.gate(), GateState::Closed(ClosedReason::DecisionErased));
    assert!(driven.machine.epoch() > epoch);
}

#[tokio::test]
async fn a_dropped_opt_in_whose_write_appeared_in_sync_leads_to_a_read() {
    let mut driven = Driven::seeing(&Observed::UNSET);
    let call = driven.opt_in();
    driven.read(&Observed::UNSET);
    driven.expect_write();
    driven.sync(&opted_in("minted-1"));
    driven.machine.handle_opt_in_dropped(call, driven.now);
    driven.expect_read();
}

#[tokio::test]
async fn a_failed_opt_in_reads_again_if_only_its_own_read_saw_a_change() {
    let mut driven = Driven::seeing(&Observed::UNSET);
    let call = driven.opt_in();
    driven.read(&opted_out());
    driven.expect_write();
    driven.machine.handle_opt_in_dropped(call, driven.now);
    driven.sync(&opted_out());
    driven.read(&opted_out());
    assert_eq!(driven.decision(), Consent::Denied);
}

#[tokio::test]
async fn a_failed_opt_in_reads_again_if_sync_overtook_its_read() {
    let mut driven = Driven::seeing(&opted_out());
    let call = driven.opt_in();
    driven.expect_read();
    driven.sync(&opted_in("b"));
    driven.answer(&opted_out());
    driven.machine.handle_opt_in_dropped(call, driven.now);
    driven.expect_read();
}

#[tokio::test]
async fn a_change_in_sync_during_a_removal_leads_to_another_read() {
    let mut driven = Driven::new();
    driven.opt_out(Removal::Id);
    driven.read(&opted_in("a"));
    driven.expect_write();
    // Another client restored the ID after the write. Sync was faster than the answer.
    driven.sync(&opted_in("a"));
    driven.wrote();
    driven.expect_read();
}

#[tokio::test]
async fn an_unusable_id_counts_as_missing() {
    let driven = Driven::seeing(&Observed { flag: Some(true), id: ObservedId::Unusable });
    assert_eq!(driven.gate(), GateState::Holding(HoldReason::MissingId));
}

#[tokio::test]
async fn a_new_opt_out_replaces_an_unreadable_record() {
    let mut driven = Driven::with(Record::unreadable("salt".to_owned()));
    driven.read(&opted_in("a"));
    assert_eq!(driven.decision(), Consent::Denied);
    driven.opt_out(Removal::Id);
    driven.read(&opted_in("a"));
    driven.write();
    driven.read(&opted_out());

    // The retired ID stays retired, and a later decision made elsewhere is followed.
    driven.recheck();
    driven.read(&opted_in("a"));
    assert_eq!(driven.decision(), Consent::Denied);
    driven.write();
    driven.read(&opted_out());
    driven.recheck();
    driven.read(&opted_in("b"));
    assert_eq!(driven.gate(), GateState::Open);
}

/// Asserts that the next action is a save and that nothing else happens before it ends.
fn saves_first(driven: &mut Driven) {
    let next = driven.machine.poll(driven.now);
    let Action::Save(save) = next else { panic!("{next:?}") };
    let next = driven.machine.poll(driven.now);
    assert!(matches!(next, Action::Wait(_)), "{next:?}");
    let random = driven.random();
    driven.machine.handle_saved(Ok(save.record), driven.now, &random);
}

#[tokio::test]
async fn a_removal_saves_the_id_that_it_finds_as_retired_before_it_writes() {
    let mut driven = Driven::seeing(&opted_in("a"));
    driven.opt_out(Removal::Id);
    // Another device has changed the ID.
    driven.read(&opted_in("b"));
    saves_first(&mut driven);
    assert!(driven.machine.disk.stored.is_retired(&id("b")));
    assert_eq!(driven.write(), Change::OptOut);
}

#[tokio::test]
async fn an_opt_in_saves_its_id_before_it_writes() {
    let mut driven = Driven::seeing(&Observed::UNSET);
    driven.opt_in();
    driven.read(&Observed::UNSET);
    saves_first(&mut driven);
    let mut stored = driven.machine.disk.stored.clone();
    let Change::OptIn(id) = driven.write() else { panic!("it opts in") };
    stored.retire_all();
    assert!(stored.is_retired(&id));
}
