//! Orders of events that went wrong once, each with what must come of it. Most were found
//! by the model check. The tables are tested over the wire, in `tests/it/table.rs`.

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

/// A machine, a disk that works, and a homeserver that a test answers for.
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

    /// A machine whose first GET has shown `seen`.
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

    /// Lets the disk take what it is given, and returns what else is to be done.
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

    fn asks(&mut self) {
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

    /// A GET that shows `seen`, answered at once.
    fn read(&mut self, seen: &Observed) {
        self.asks();
        self.answer(seen);
    }

    fn fail_read(&mut self, failure: Failure) {
        self.asks();
        let random = self.random();
        self.machine.handle_got(Err(failure), self.now, &random);
    }

    fn writes(&mut self) -> Change {
        match self.next() {
            Action::Put(change) => change,
            other => panic!("{other:?}"),
        }
    }

    /// A PUT that is answered at once.
    fn write(&mut self) -> Change {
        let change = self.writes();
        self.wrote();
        change
    }

    fn wrote(&mut self) {
        let random = self.random();
        self.machine.handle_put(Ok(()), self.now, &random);
    }

    fn fail_write(&mut self, failure: Failure) {
        self.writes();
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

fn yes(name: &str) -> Observed {
    Change::OptIn(id(name)).outcome()
}

fn no() -> Observed {
    Change::OptOut.outcome()
}

fn no_beside(name: &str) -> Observed {
    Observed { flag: Some(false), id: ObservedId::Usable(id(name)) }
}

#[tokio::test]
async fn a_no_that_sync_repeats_is_newer_than_an_answer_that_is_out() {
    let mut driven = Driven::seeing(&no());
    driven.recheck();
    driven.asks();
    driven.sync(&no());
    driven.answer(&yes("a"));
    assert_eq!(driven.decision(), Consent::Denied);
}

#[tokio::test]
async fn a_soft_logout_is_newer_than_an_answer_that_is_out() {
    let mut driven = Driven::seeing(&yes("a"));
    assert_eq!(driven.gate(), GateState::Open);
    driven.recheck();
    driven.asks();
    driven.machine.handle_session(Session::SoftLogout, driven.now);
    driven.answer(&yes("a"));
    assert_eq!(driven.gate(), GateState::Holding(HoldReason::SoftLogout));
}

#[tokio::test]
async fn an_id_whose_write_may_be_lost_is_kept_beside_a_pending_removal() {
    let mut driven = Driven::new();
    driven.opt_out(Removal::Id);
    driven.fail_read(UNANSWERED);
    driven.opt_in();
    driven.read(&Observed::UNSET);
    driven.fail_write(UNANSWERED);
    driven.fail_read(UNANSWERED);

    let call = driven.opt_in();
    driven.read(&yes("minted-0"));
    driven.next();
    assert_eq!(driven.outcome(call), Some(Outcome::Done));
}

#[tokio::test]
async fn an_opt_in_that_reads_nothing_back_closes_and_wipes() {
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
async fn a_dropped_opt_in_whose_write_sync_has_shown_asks_the_homeserver() {
    let mut driven = Driven::seeing(&Observed::UNSET);
    let call = driven.opt_in();
    driven.read(&Observed::UNSET);
    driven.writes();
    driven.sync(&yes("minted-1"));
    driven.machine.handle_opt_in_dropped(call, driven.now);
    driven.asks();
}

#[tokio::test]
async fn a_failed_opt_in_asks_for_what_only_its_own_read_has_seen() {
    let mut driven = Driven::seeing(&Observed::UNSET);
    let call = driven.opt_in();
    driven.read(&no());
    driven.writes();
    driven.machine.handle_opt_in_dropped(call, driven.now);
    driven.sync(&no());
    driven.read(&no());
    assert_eq!(driven.decision(), Consent::Denied);
}

#[tokio::test]
async fn a_failed_opt_in_asks_again_if_sync_overtook_its_read() {
    let mut driven = Driven::seeing(&no());
    let call = driven.opt_in();
    driven.asks();
    driven.sync(&yes("b"));
    driven.answer(&no());
    driven.machine.handle_opt_in_dropped(call, driven.now);
    driven.asks();
}

#[tokio::test]
async fn what_sync_shows_during_a_clean_up_is_asked_for_after_it() {
    let mut driven = Driven::new();
    driven.opt_out(Removal::Id);
    driven.read(&yes("a"));
    driven.writes();
    // Another client restored it after the write, and sync was faster than the answer.
    driven.sync(&yes("a"));
    driven.wrote();
    driven.asks();
}

#[tokio::test]
async fn an_unusable_id_is_no_id() {
    let driven = Driven::seeing(&Observed { flag: Some(true), id: ObservedId::Unusable });
    assert_eq!(driven.gate(), GateState::Holding(HoldReason::MissingId));
}

#[tokio::test]
async fn after_a_new_no_it_matters_no_more_that_the_record_could_not_be_read() {
    let mut driven = Driven::with(Record::unreadable("salt".to_owned()));
    driven.read(&yes("a"));
    assert_eq!(driven.decision(), Consent::Denied);
    driven.opt_out(Removal::Id);
    driven.read(&yes("a"));
    driven.write();
    driven.read(&no());

    // The retired ID stays retired, and a decision made elsewhere is followed.
    driven.recheck();
    driven.read(&yes("a"));
    assert_eq!(driven.decision(), Consent::Denied);
    driven.write();
    driven.read(&no());
    driven.recheck();
    driven.read(&yes("b"));
    assert_eq!(driven.gate(), GateState::Open);
}

/// That the next action is a save, and that nothing else is done before the disk has taken it.
fn saves_first(driven: &mut Driven) {
    let next = driven.machine.poll(driven.now);
    let Action::Save(save) = next else { panic!("{next:?}") };
    let next = driven.machine.poll(driven.now);
    assert!(matches!(next, Action::Wait(_)), "{next:?}");
    let random = driven.random();
    driven.machine.handle_saved(Ok(save.record), driven.now, &random);
}

#[tokio::test]
async fn an_id_that_a_removal_finds_is_on_the_disk_as_retired_before_it_is_removed() {
    let mut driven = Driven::seeing(&yes("a"));
    driven.opt_out(Removal::Id);
    // Another device has changed the ID.
    driven.read(&yes("b"));
    saves_first(&mut driven);
    assert!(driven.machine.disk.stored.is_retired(&id("b")));
    assert_eq!(driven.write(), Change::OptOut);
}

#[tokio::test]
async fn an_id_is_on_the_disk_before_an_opt_in_writes_it() {
    let mut driven = Driven::seeing(&Observed::UNSET);
    driven.opt_in();
    driven.read(&Observed::UNSET);
    saves_first(&mut driven);
    let mut stored = driven.machine.disk.stored.clone();
    let Change::OptIn(id) = driven.write() else { panic!("it opts in") };
    stored.retire_all();
    assert!(stored.is_retired(&id));
}
