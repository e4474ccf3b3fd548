//! Two processes on one record, the homeserver, and another device: random orders, and what the
//! user said last.

use super::*;

struct Rng(u64);

impl Rng {
    fn below(&mut self, below: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Out {
    Get(Option<Observed>),
    /// Applied or not.
    Put(Change, bool),
}

struct Process {
    machine: Machine,
    saving: Option<Save>,
    out: Option<Out>,
    inbox: Vec<Observed>,
}

struct Sim {
    now: Instant,
    stored: Record,
    server: Observed,
    processes: Vec<Process>,
    calls: u64,
    made: u64,
    /// The user's last word is the no of this process, and the yes that the homeserver held then.
    last_no: Option<usize>,
    /// A save that began after that no has ended.
    is_saved: bool,
    has_begun: bool,
    opts_in: bool,
    log: Vec<String>,
}

fn machine(record: &Record) -> Machine {
    let settings = Settings { do_not_track: false, request_timeout: REQUEST_TIMEOUT };
    Machine::new(record.clone(), record.clone(), settings, 0.0)
}

impl Sim {
    fn new() -> Self {
        let mut record = Record::default();
        record.decision = Consent::Granted;
        record.remember_id(&id("a"));
        let process =
            || Process { machine: machine(&record), saving: None, out: None, inbox: Vec::new() };
        Self {
            now: Instant::now(),
            processes: vec![process(), process()],
            stored: record.clone(),
            server: yes("a"),
            calls: 0,
            made: 0,
            last_no: None,
            is_saved: false,
            has_begun: false,
            opts_in: false,
            log: Vec::new(),
        }
    }

    fn random(&self) -> Random {
        Random { id: id(&format!("minted-{}", self.made)), jitter: 0.0 }
    }

    fn write(&mut self, seen: Observed) {
        self.server = seen.clone();
        for process in &mut self.processes {
            process.inbox.push(seen.clone());
        }
    }

    fn poll(&mut self, index: usize) {
        let now = self.now;
        let process = &mut self.processes[index];
        // A request whose operation is gone goes on by itself; here it is simply gone.
        loop {
            match process.machine.poll(now) {
                Action::Save(save) => {
                    process.saving = Some(*save);
                    if self.last_no == Some(index) {
                        self.has_begun = true;
                    }
                }
                Action::Get | Action::GetAgain => process.out = Some(Out::Get(None)),
                Action::Put(change) => process.out = Some(Out::Put(change, false)),
                Action::Wait(_) => return,
            }
        }
    }

    fn step(&mut self, rng: &mut Rng) {
        let index = rng.below(2);
        let random = self.random();
        let now = self.now;
        match rng.below(24) {
            // That one is f1.
            0 if self.calls < 6
                && self.processes.iter().all(|process| {
                    !process.machine.is_opting_in() && process.machine.opt_in.minted.is_none()
                })
                && self.processes[index].machine.operation.as_ref().is_none_or(|operation| {
                    operation.task != super::super::operation::Task::Removal
                }) =>
            {
                self.calls += 1;
                let call = CallId(self.calls);
                // Two withdrawals in epochs of the same number are tested below.
                for _ in 0..7 * self.calls {
                    self.processes[index].machine.raise_epoch(crate::gate::WipeReason::IdChanged);
                }
                self.processes[index].machine.handle_opt_out(call, Removal::Id);
                self.last_no = Some(index);
                (self.is_saved, self.has_begun) = (false, false);
                self.log.push(format!("{index}: opt-out"));
            }
            1 if self.calls < 6 => {
                self.calls += 1;
                self.write(yes(&format!("elsewhere-{}", self.calls)));
                self.last_no = None;
                self.log.push(format!("elsewhere: {:?}", self.server));
            }
            2 if self.calls < 6 => {
                self.calls += 1;
                self.write(no());
                self.log.push("elsewhere: no".to_owned());
            }
            3..=7 => {
                let stored = self.stored.clone();
                let process = &mut self.processes[index];
                if let Some(Save { base, record }) = process.saving.take() {
                    let merged = Record::merge(&base, &record, &stored);
                    self.log.push(format!("{index}: saves {:?}/{:?}/e{} over {:?}/{:?}/e{} (base {:?}/{:?}/e{}) -> {:?}/{:?}/e{}", record.decision, record.removal, record.epoch, stored.decision, stored.removal, stored.epoch, base.decision, base.removal, base.epoch, merged.decision, merged.removal, merged.epoch));
                    process.machine.handle_saved(Ok(merged.clone()), now, &random);
                    self.stored = merged;
                    if self.last_no == Some(index) && self.has_begun {
                        self.is_saved = true;
                    }
                }
            }
            8..=12 => {
                // The homeserver takes what is out.
                let server = self.server.clone();
                let mut written = None;
                match &mut self.processes[index].out {
                    Some(Out::Get(answer @ None)) => *answer = Some(server),
                    Some(Out::Put(change, applied @ false)) => {
                        *applied = true;
                        written = Some(change.outcome());
                    }
                    _ => {}
                }
                if let Some(written) = written {
                    self.log.push(format!("{index}: writes {written:?}"));
                    self.write(written);
                }
            }
            13..=17 => {
                let process = &mut self.processes[index];
                match process.out.take() {
                    Some(Out::Get(Some(seen))) => {
                        self.log.push(format!("{index}: reads {seen:?}"));
                        process.machine.handle_got(Ok(seen), now, &random);
                        self.made += 1;
                    }
                    Some(Out::Put(_, true)) => process.machine.handle_put(Ok(()), now, &random),
                    other => process.out = other,
                }
            }
            18 | 19 => {
                let process = &mut self.processes[index];
                if let Some(seen) = process.inbox.pop() {
                    process.inbox.clear();
                    self.log.push(format!("{index}: syncs {seen:?}"));
                    process.machine.handle_sync_delivers(now);
                    process.machine.handle_synced(&seen, now);
                }
            }
            21 if self.calls < 6 && self.opts_in => {
                self.calls += 1;
                let call = CallId(self.calls);
                self.processes[index].machine.handle_opt_in(call);
                self.last_no = None;
                self.log.push(format!("{index}: opt-in"));
            }
            22 if self.opts_in => {
                let process = &mut self.processes[index];
                if let Some(Save { .. }) = process.saving.take() {
                    self.log.push(format!("{index}: a save fails"));
                    process.machine.handle_saved(Err(()), now, &random);
                    if self.last_no == Some(index) {
                        self.has_begun = false;
                    }
                }
            }
            20 => self.now += Duration::from_secs(25),
            _ => self.poll(index),
        }
    }

    /// A restart from what is stored, while nothing else happens.
    fn restart_stays_closed(&self) -> Result<(), String> {
        let mut driven = Driven::with(self.stored.clone());
        let mut server = self.server.clone();
        for _ in 0..30 {
            match driven.next() {
                Action::Get | Action::GetAgain => driven.answer(&server),
                Action::Put(change) => {
                    server = change.outcome();
                    driven.wrote();
                }
                _ => driven.now += Duration::from_secs(3600),
            }
            if driven.gate() == GateState::Open {
                return Err(format!("open after a restart, server {:?}", self.server));
            }
        }
        Ok(())
    }

    fn check(&self, who: &str) {
        if let (Some(_), true) = (self.last_no, self.is_saved) {
            if let Err(what) = self.restart_stays_closed() {
                panic!("{who}: {what}\n{}", self.log.join("\n"));
            }
        }
        if let Some(index) = self.last_no {
            let gate = self.processes[index].machine.gate();
            assert!(
                matches!(gate, GateState::Closed(_)),
                "{who}: the process of the last no is {gate:?}\n{}",
                self.log.join("\n")
            );
        }
    }
}

#[tokio::test]
async fn random_orders_of_two_processes_on_one_record() {
    search(false);
}

#[tokio::test]
async fn random_orders_of_two_processes_that_opt_in_too() {
    search(true);
}

fn search(opts_in: bool) {
    for seed in 0..3_000 {
        let mut rng = Rng(seed * 7919 + 1);
        for _ in 0..3 {
            rng.below(2);
        }
        let mut sim = Sim { opts_in, ..Sim::new() };
        for _ in 0..120 {
            sim.step(&mut rng);
            sim.check(&format!("seed {seed}"));
        }
    }
}

/// The record of two processes that withdrew in epochs of the same number: the second withdrawal
/// is taken for the first, which is done.
#[tokio::test]
async fn a_removal_of_one_process_is_not_crossed_off_by_the_removal_of_another() {
    let mut record = Record::default();
    record.decision = Consent::Granted;
    record.remember_id(&id("a"));
    let withdrawn = |record: &Record| {
        let mut machine = machine(record);
        machine.handle_opt_out(CallId(1), Removal::Id);
        machine.record().clone()
    };
    // One has opted out, and saved it; the account is clean, and it is about to save that.
    let one = withdrawn(&record);
    let mut one_done = one.clone();
    one_done.removal = None;
    // The user opts in elsewhere, and opts out in the other process, which had saved nothing.
    let other = withdrawn(&record);
    let stored = Record::merge(&record, &other, &one);
    assert_eq!(stored.removal, Some(Removal::Id));
    let stored = Record::merge(&one, &one_done, &stored);
    assert_eq!(stored.removal, Some(Removal::Id));
}

/// Base: denied. One process followed a yes elsewhere and then a no; the other saved the yes.
#[tokio::test]
async fn a_no_from_elsewhere_stands_beside_a_yes_of_the_other_process() {
    let mut base = Record::default();
    base.decision = Consent::Denied;
    let mut theirs = base.clone();
    theirs.decision = Consent::Granted;
    theirs.remember_id(&id("b"));
    theirs.epoch += 1;
    let mut here = machine(&base);
    let now = Instant::now();
    assert_eq!(here.poll(now), Action::Get);
    let random = Random { id: id("m"), jitter: 0.0 };
    here.handle_got(Ok(yes("b")), now, &random);
    assert_eq!(here.gate(), GateState::Open);
    here.handle_synced(&no(), now);
    assert_eq!(here.gate(), GateState::Closed(ClosedReason::Denied));
    let Action::Save(save) = here.poll(now) else { panic!() };
    let merged = Record::merge(&save.base, &save.record, &theirs);
    here.handle_saved(Ok(merged.clone()), now, &random);
    assert!(matches!(here.gate(), GateState::Closed(_)), "{:?}", here.gate());
}

/// One process: failures, sessions, yes and no elsewhere, calls. What the user said last holds
/// when everything has come to rest.
fn rest(seed: u64, opts_in: bool) {
    let mut rng = Rng(seed * 104_729 + 7);
    let mut driven = Driven::new();
    let mut server = Observed::UNSET;
    let mut out: Option<Out> = None;
    let mut inbox: Vec<Observed> = Vec::new();
    let mut shown: Vec<Observed> = Vec::new();
    let mut says_no = false;
    let mut is_saved = false;
    let mut names = 0;
    let mut calls = 0;
    let mut log: Vec<String> = Vec::new();
    for step in 0..220 {
        let is_over = step >= 120;
        if is_over && step == 120 {
            driven.machine.handle_session(Session::Live, driven.now);
        }
        let random = Random { id: id(&format!("own-{step}")), jitter: 0.0 };
        let now = driven.now;
        match rng.below(if is_over { 12 } else { 24 }) {
            0..=3 => {
                match driven.next() {
                    Action::Get | Action::GetAgain => out = Some(Out::Get(None)),
                    Action::Put(change) => out = Some(Out::Put(change, false)),
                    _ => {}
                }
                is_saved = true;
            }
            4..=6 => match &mut out {
                Some(Out::Get(answer @ None)) => *answer = Some(server.clone()),
                Some(Out::Put(change, applied @ false)) => {
                    *applied = true;
                    server = change.outcome();
                    log.push(format!("writes {server:?}"));
                    inbox.push(server.clone());
                }
                _ => {}
            },
            7..=9 => match out.take() {
                Some(Out::Get(Some(seen))) => {
                    log.push(format!("reads {seen:?}"));
                    driven.machine.handle_got(Ok(seen), now, &random);
                }
                Some(Out::Put(_, true)) => driven.machine.handle_put(Ok(()), now, &random),
                other => out = other,
            },
            10 => {
                if let Some(seen) = inbox.pop() {
                    inbox.clear();
                    log.push(format!("syncs {seen:?}"));
                    driven.sync(&seen);
                    shown.push(seen);
                }
            }
            11 => driven.now += Duration::from_secs([1, 25, 3600, 50_000][rng.below(4)]),
            12 | 13 if calls < 5 => {
                let is_removing = driven.machine.operation.as_ref().is_some_and(|operation| {
                    operation.task == super::super::operation::Task::Removal
                });
                if !is_removing {
                    calls += 1;
                    let erases = rng.below(4) == 0;
                    log.push(format!("opt-out, erases: {erases}"));
                    driven.opt_out(if erases { Removal::Event } else { Removal::Id });
                    says_no = true;
                    is_saved = false;
                }
            }
            14 if calls < 5 => {
                calls += 1;
                names += 1;
                server = yes(&format!("elsewhere-{names}"));
                log.push(format!("elsewhere {server:?}"));
                inbox.push(server.clone());
                says_no = false;
            }
            15 if calls < 5 => {
                calls += 1;
                server = no();
                log.push("elsewhere no".to_owned());
                inbox.push(server.clone());
            }
            16 if calls < 5 && opts_in => {
                calls += 1;
                log.push("opt-in".to_owned());
                driven.opt_in();
                says_no = false;
            }
            17 | 18 => {
                let kind = [
                    FailureKind::Unanswered,
                    FailureKind::Refused,
                    FailureKind::Guest,
                    FailureKind::Locked,
                ][rng.below(4)];
                let retry_after = (rng.below(4) == 0).then_some(Duration::from_secs(600));
                let failure = Failure { kind, retry_after };
                match out.take() {
                    Some(Out::Get(_)) => {
                        log.push(format!("read fails {kind:?}"));
                        driven.machine.handle_got(Err(failure), now, &random);
                    }
                    Some(Out::Put(_, applied)) => {
                        let kind = if applied { FailureKind::Unanswered } else { kind };
                        log.push(format!("write fails {kind:?}"));
                        driven.machine.handle_put(Err(Failure { kind, ..failure }), now, &random);
                    }
                    None => {}
                }
            }
            19 => {
                let session = [Session::Lost, Session::SoftLogout, Session::Live][rng.below(3)];
                log.push(format!("{session:?}"));
                driven.machine.handle_session(session, now);
            }
            20 => {
                driven.recheck();
            }
            21 if !shown.is_empty() && rng.below(3) == 0 => {
                let old = shown[rng.below(shown.len())].clone();
                log.push(format!("syncs again {old:?}"));
                driven.sync(&old);
                inbox.push(server.clone());
            }
            22 if rng.below(4) == 0 => {
                // A crash; what was saved is all.
                let record = driven.machine.disk.stored.clone();
                log.push("restart".to_owned());
                if opts_in {
                    continue;
                }
                says_no &= is_saved;
                driven = Driven { machine: machine(&record), ..driven };
                out = None;
            }
            23 => {
                let denies = rng.below(2) == 0;
                log.push(format!("veto {denies}"));
                if denies {
                    driven.machine.handle_deny_on_this_device();
                } else {
                    driven.machine.handle_allow_on_this_device();
                }
            }
            _ => {}
        }
        if is_over && rng.below(10) == 0 {
            driven.machine.handle_sync_delivers(driven.now);
        }
        if says_no {
            let gate = driven.gate();
            assert!(
                matches!(gate, GateState::Closed(_)),
                "seed {seed}: {gate:?}\n{}",
                log.join("\n")
            );
        }
    }
    // All comes to rest.
    driven.machine.handle_allow_on_this_device();
    for _ in 0..40 {
        if let Some(Out::Put(change, false)) = &out {
            server = change.outcome();
            inbox.push(server.clone());
        }
        let random = Random { id: id("own-last"), jitter: 0.0 };
        match out.take() {
            Some(Out::Get(seen)) => {
                let seen = seen.unwrap_or(server.clone());
                driven.machine.handle_got(Ok(seen), driven.now, &random);
            }
            Some(Out::Put(..)) => driven.machine.handle_put(Ok(()), driven.now, &random),
            None => {}
        }
        match driven.next() {
            Action::Get | Action::GetAgain => out = Some(Out::Get(Some(server.clone()))),
            Action::Put(change) => out = Some(Out::Put(change, false)),
            _ => {
                if let Some(seen) = inbox.pop() {
                    inbox.clear();
                    driven.sync(&seen);
                } else {
                    driven.now += Duration::from_secs(13 * 3600);
                }
            }
        }
    }
    let trace =
        || format!("seed {seed}: {server:?} {:?}\n{}", driven.machine.state(), log.join("\n"));
    let gate = driven.gate();
    if says_no {
        assert!(matches!(gate, GateState::Closed(_)), "{}", trace());
        assert!(server.flag != Some(true) && !server.has_id_member(), "{}", trace());
    }
    if server.flag == Some(false) {
        assert_eq!(driven.decision(), Consent::Denied, "{}", trace());
    }
    if let (Some(true), Some(held)) = (server.flag, server.usable_id()) {
        let follows = driven.machine.id() == Some(held);
        assert!(follows || driven.machine.record().is_retired(held), "{}", trace());
    }
}

#[tokio::test]
async fn random_orders_of_one_process_come_to_rest() {
    for seed in 0..2_000 {
        rest(seed, false);
    }
}

#[tokio::test]
async fn random_orders_of_one_process_that_opts_in_come_to_rest() {
    for seed in 0..2_000 {
        rest(seed, true);
    }
}

/// The same for vetoes: one process lifts its own, and the other's of the same number goes too.
#[tokio::test]
async fn a_veto_of_one_process_is_not_lifted_with_that_of_another() {
    let record = Record::default();
    let vetoed = || {
        let mut machine = machine(&record);
        machine.handle_deny_on_this_device();
        machine
    };
    let (one, mut one_lifted) = (vetoed().record().clone(), vetoed());
    one_lifted.handle_allow_on_this_device();
    // The other sets its own, without having read that of the first.
    let stored = Record::merge(&record, vetoed().record(), &one);
    assert!(stored.device_veto);
    let stored = Record::merge(&one, one_lifted.record(), &stored);
    assert!(stored.device_veto);
}
