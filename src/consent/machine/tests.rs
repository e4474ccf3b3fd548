//! Orders of events that a model check of the machine found to go wrong, each with
//! what must come of it. The tables are tested over the wire, in `tests/it/table.rs`.

use super::*;
use crate::account_data::content::ObservedId;

fn machine() -> Machine {
    Machine::new(Record::default(), false, 0.0)
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

/// A GET that shows `seen`, answered at once.
fn fetch(machine: &mut Machine, seen: &Observed) {
    let sent = machine.sign();
    machine.fetched(sent, seen, Instant::now());
}

/// An opt-in that finds `seen`, up to its write.
fn begin_opt_in(machine: &mut Machine, seen: &Observed, new_id: &str) -> (Ticket, OptInPlan) {
    let ticket = machine.opt_in_begins();
    let sent = machine.sign();
    let plan = machine.opt_in_plan(ticket, sent, seen, Instant::now(), id(new_id));
    (ticket, plan.unwrap())
}

#[tokio::test]
async fn a_no_that_sync_repeats_is_newer_than_an_answer_that_is_out() {
    let mut machine = machine();
    fetch(&mut machine, &no());
    let sent = machine.sign();
    machine.synced(&no());
    machine.fetched(sent, &yes("a"), Instant::now());
    assert_eq!(machine.state().decision, Consent::Denied);
}

#[tokio::test]
async fn a_soft_logout_is_newer_than_an_answer_that_is_out() {
    let mut machine = machine();
    fetch(&mut machine, &yes("a"));
    assert_eq!(machine.gate(), GateState::Open);
    let sent = machine.sign();
    machine.session_is(Session::SoftLogout);
    machine.fetched(sent, &yes("a"), Instant::now());
    assert_eq!(machine.gate(), GateState::Holding(HoldReason::SoftLogout));
}

#[tokio::test]
async fn an_id_whose_write_may_be_lost_is_kept_beside_a_pending_removal() {
    let mut machine = machine();
    machine.opt_out(Removal::Id);
    let (ticket, plan) = begin_opt_in(&mut machine, &Observed::UNSET, "a");
    assert_eq!(plan, OptInPlan::Mint(id("a")));
    machine.opt_in_ended(ticket, false, Instant::now());

    let (_, plan) = begin_opt_in(&mut machine, &yes("a"), "b");
    assert_eq!(plan, OptInPlan::Done);
}

#[tokio::test]
async fn an_opt_in_that_reads_nothing_back_closes_and_wipes() {
    let mut machine = machine();
    fetch(&mut machine, &Observed::UNSET);
    let (ticket, plan) = begin_opt_in(&mut machine, &Observed::UNSET, "a");
    let (sent, now) = (machine.sign(), Instant::now());
    machine.opt_in_wrote(ticket, sent, plan, now, Duration::ZERO).unwrap();
    machine.opt_in_ended(ticket, true, now);
    assert_eq!(machine.gate(), GateState::Holding(HoldReason::Settling));
    let epoch = machine.epoch();
    fetch(&mut machine, &Observed::UNSET);
    assert_eq!(machine.gate(), GateState::Closed(ClosedReason::Unproven));
    assert!(machine.epoch() > epoch);
}

#[tokio::test]
async fn a_failed_opt_in_whose_write_sync_has_shown_asks_the_homeserver() {
    let mut machine = machine();
    fetch(&mut machine, &Observed::UNSET);
    let (ticket, _) = begin_opt_in(&mut machine, &Observed::UNSET, "a");
    machine.synced(&yes("a"));
    machine.opt_in_ended(ticket, false, Instant::now());
    assert_eq!(machine.next_request(Instant::now()), Next::Fetch);
}

#[tokio::test]
async fn a_failed_opt_in_asks_for_what_only_its_own_read_has_seen() {
    let mut machine = machine();
    fetch(&mut machine, &Observed::UNSET);
    let (ticket, _) = begin_opt_in(&mut machine, &no(), "a");
    machine.opt_in_ended(ticket, false, Instant::now());
    machine.synced(&no());
    assert_eq!(machine.next_request(Instant::now()), Next::Fetch);
    fetch(&mut machine, &no());
    assert_eq!(machine.state().decision, Consent::Denied);
}

#[tokio::test]
async fn a_failed_opt_in_asks_again_if_sync_overtook_its_read() {
    let mut machine = machine();
    fetch(&mut machine, &no());
    let ticket = machine.opt_in_begins();
    let sent = machine.sign();
    machine.synced(&yes("b"));
    machine.opt_in_plan(ticket, sent, &no(), Instant::now(), id("a")).unwrap();
    machine.opt_in_ended(ticket, false, Instant::now());
    assert_eq!(machine.next_request(Instant::now()), Next::Fetch);
}

#[tokio::test]
async fn what_sync_shows_during_a_clean_up_is_asked_for_after_it() {
    let mut machine = machine();
    machine.opt_out(Removal::Id);
    let sent = machine.sign();
    let change = machine.removal_fetched(sent, &yes("a")).unwrap();
    machine.removal_writes(&change);
    // Somebody restored it after the write, and sync was faster than the answer.
    machine.synced(&yes("a"));
    machine.removal_wrote(sent, &change);
    assert_eq!(machine.next_request(Instant::now()), Next::Fetch);
}

#[tokio::test]
async fn an_unusable_id_is_no_id() {
    let mut machine = machine();
    fetch(&mut machine, &Observed { flag: Some(true), id: ObservedId::Unusable });
    assert_eq!(machine.gate(), GateState::Holding(HoldReason::NoId));
}

#[tokio::test]
async fn after_a_new_no_it_matters_no_more_that_the_record_could_not_be_read() {
    let mut machine = Machine::new(Record::unreadable("salt".to_owned()), false, 0.0);
    fetch(&mut machine, &yes("a"));
    assert_eq!(machine.state().decision, Consent::Denied);
    machine.opt_out(Removal::Id);
    let sent = machine.sign();
    let change = machine.removal_fetched(sent, &yes("a")).unwrap();
    machine.removal_wrote(sent, &change);

    // The retired ID stays retired, and a decision made elsewhere is followed.
    fetch(&mut machine, &yes("a"));
    assert_eq!(machine.state().decision, Consent::Denied);
    fetch(&mut machine, &yes("b"));
    assert_eq!(machine.gate(), GateState::Open);
}
