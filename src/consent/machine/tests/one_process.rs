//! One process, its homeserver and another device, in many orders of calls, failures, lost
//! sessions and restarts: once everything is idle, the user's last decision holds.

use super::*;

/// The number of orders to try.
const SEEDS: u64 = 2_000;

/// A generator of pseudo-random numbers that are the same in every run.
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn new(seed: u64) -> Self {
        let mut numbers = Self(seed);
        // The first numbers of similar seeds are similar.
        for _ in 0..3 {
            numbers.below(2);
        }
        numbers
    }

    pub(super) fn below(&mut self, below: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

/// The request in flight.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum InFlight {
    /// A read, with its answer once the homeserver has processed it.
    Get(Option<Observed>),
    /// A write, and whether it was applied.
    Put(Change, bool),
}

pub(super) fn machine_with(record: &Record) -> Machine {
    let settings = Settings { do_not_track: false, request_timeout: REQUEST_TIMEOUT };
    Machine::new(record.clone(), record.clone(), settings, 0.0)
}

fn run_until_idle(seed: u64, may_opt_in: bool) {
    let mut numbers = Numbers::new(seed * 104_729 + 7);
    let mut machine = TestMachine::new();
    let mut server = Observed::UNSET;
    let mut in_flight: Option<InFlight> = None;
    let mut inbox: Vec<Observed> = Vec::new();
    let mut shown: Vec<Observed> = Vec::new();
    // The write of a process that has ended.
    let mut late: Option<Change> = None;
    let mut is_withdrawn = false;
    let mut is_saved = false;
    let mut names = 0;
    let mut calls = 0;
    let mut log: Vec<String> = Vec::new();
    for step in 0..220 {
        let is_ending = step >= 120;
        if is_ending && step == 120 {
            machine.inner.handle_session(Session::Live, machine.now);
        }
        let random = Random { id: id(&format!("own-{step}")), jitter: 0.0 };
        let now = machine.now;
        match numbers.below(if is_ending { 12 } else { 24 }) {
            0..=3 => {
                match machine.next() {
                    Action::Get | Action::GetAgain => in_flight = Some(InFlight::Get(None)),
                    Action::Put(change) => in_flight = Some(InFlight::Put(change, false)),
                    _ => {}
                }
                is_saved = true;
            }
            4..=6 => match &mut in_flight {
                Some(InFlight::Get(answer @ None)) => *answer = Some(server.clone()),
                Some(InFlight::Put(change, applied @ false)) => {
                    *applied = true;
                    server = change.outcome();
                    log.push(format!("writes {server:?}"));
                    inbox.push(server.clone());
                }
                _ => {}
            },
            7..=9 => match in_flight.take() {
                Some(InFlight::Get(Some(seen))) => {
                    log.push(format!("reads {seen:?}"));
                    machine.inner.handle_got(Ok(seen), now, &random);
                }
                Some(InFlight::Put(_, true)) => machine.inner.handle_put(Ok(()), now, &random),
                other => in_flight = other,
            },
            10 => {
                if let Some(seen) = inbox.pop() {
                    inbox.clear();
                    log.push(format!("syncs {seen:?}"));
                    machine.sync(&seen);
                    shown.push(seen);
                }
            }
            11 => machine.now += Duration::from_secs([1, 25, 3600, 50_000][numbers.below(4)]),
            12 | 13 if calls < 5 => {
                calls += 1;
                let erases = numbers.below(4) == 0;
                log.push(format!("opt-out, erases: {erases}"));
                machine.opt_out(if erases { Removal::Event } else { Removal::Id });
                is_withdrawn = true;
                is_saved = false;
            }
            14 if calls < 5 => {
                calls += 1;
                names += 1;
                server = opted_in(&format!("elsewhere-{names}"));
                log.push(format!("elsewhere {server:?}"));
                inbox.push(server.clone());
                is_withdrawn = false;
            }
            15 if calls < 5 => {
                calls += 1;
                server = opted_out();
                log.push("elsewhere: opt-out".to_owned());
                inbox.push(server.clone());
            }
            16 if calls < 5 && may_opt_in => {
                calls += 1;
                log.push("opt-in".to_owned());
                machine.opt_in();
                is_withdrawn = false;
            }
            17 | 18 => {
                let kind = [
                    FailureKind::Unanswered,
                    FailureKind::Refused,
                    FailureKind::Guest,
                    FailureKind::Locked,
                ][numbers.below(4)];
                let retry_after = (numbers.below(4) == 0).then_some(Duration::from_secs(600));
                let failure = Failure { kind, retry_after };
                match in_flight.take() {
                    Some(InFlight::Get(_)) => {
                        log.push(format!("read fails {kind:?}"));
                        machine.inner.handle_got(Err(failure), now, &random);
                    }
                    Some(InFlight::Put(_, applied)) => {
                        let kind = if applied { FailureKind::Unanswered } else { kind };
                        log.push(format!("write fails {kind:?}"));
                        machine.inner.handle_put(Err(Failure { kind, ..failure }), now, &random);
                    }
                    None => {}
                }
            }
            19 => {
                let session = [Session::Lost, Session::SoftLogout, Session::Live][numbers.below(3)];
                log.push(format!("{session:?}"));
                machine.inner.handle_session(session, now);
            }
            20 => {
                machine.recheck();
            }
            21 if !shown.is_empty() && numbers.below(3) == 0 => {
                let old = shown[numbers.below(shown.len())].clone();
                log.push(format!("syncs again {old:?}"));
                machine.sync(&old);
                inbox.push(server.clone());
            }
            22 if numbers.below(4) == 0 => {
                // The process crashes. Only the saved record is left.
                let record = machine.inner.disk.stored.clone();
                log.push("restart".to_owned());
                if let Some(InFlight::Put(change, false)) = in_flight.take() {
                    late = Some(change);
                }
                is_withdrawn &= is_saved;
                machine = TestMachine { inner: machine_with(&record), ..machine };
            }
            23 => {
                let denies = numbers.below(2) == 0;
                log.push(format!("veto {denies}"));
                if denies {
                    machine.inner.handle_deny_on_this_device();
                } else {
                    machine.inner.handle_allow_on_this_device();
                }
            }
            _ => {}
        }
        if let Some(change) = late.take_if(|_| numbers.below(8) == 0) {
            server = change.outcome();
            log.push(format!("is written late {server:?}"));
            inbox.push(server.clone());
        }
        if is_ending && numbers.below(10) == 0 {
            machine.inner.handle_sync_delivers(machine.now);
        }
        if is_withdrawn {
            let gate = machine.gate();
            assert!(
                matches!(gate, GateState::Closed(_)),
                "seed {seed}: {gate:?}\n{}",
                log.join("\n")
            );
        }
    }
    // From here on nothing fails until everything is idle.
    machine.inner.handle_allow_on_this_device();
    for _ in 0..40 {
        if let Some(InFlight::Put(change, false)) = &in_flight {
            server = change.outcome();
            inbox.push(server.clone());
        }
        let random = Random { id: id("own-last"), jitter: 0.0 };
        match in_flight.take() {
            Some(InFlight::Get(seen)) => {
                let seen = seen.unwrap_or(server.clone());
                machine.inner.handle_got(Ok(seen), machine.now, &random);
            }
            Some(InFlight::Put(..)) => machine.inner.handle_put(Ok(()), machine.now, &random),
            None => {}
        }
        match machine.next() {
            Action::Get | Action::GetAgain => in_flight = Some(InFlight::Get(Some(server.clone()))),
            Action::Put(change) => in_flight = Some(InFlight::Put(change, false)),
            _ => {
                if let Some(seen) = inbox.pop() {
                    inbox.clear();
                    machine.sync(&seen);
                } else {
                    machine.now += Duration::from_secs(13 * 3600);
                }
            }
        }
    }
    let trace =
        || format!("seed {seed}: {server:?} {:?}\n{}", machine.inner.state(), log.join("\n"));
    let gate = machine.gate();
    if is_withdrawn {
        assert!(matches!(gate, GateState::Closed(_)), "{}", trace());
        assert!(server.flag != Some(true) && !server.has_id_member(), "{}", trace());
    }
    if server.flag == Some(false) {
        assert_eq!(machine.decision(), Consent::Denied, "{}", trace());
    }
    if let (Some(true), Some(held)) = (server.flag, server.usable_id()) {
        let follows = machine.inner.id() == Some(held);
        assert!(follows || machine.inner.record().is_retired(held), "{}", trace());
    }
}

#[tokio::test]
async fn the_last_decision_holds_once_everything_is_idle() {
    for seed in 0..SEEDS {
        run_until_idle(seed, false);
    }
}

#[tokio::test]
async fn the_last_decision_holds_once_everything_is_idle_with_opt_ins() {
    for seed in 0..SEEDS {
        run_until_idle(seed, true);
    }
}
