//! Two processes on one record, a homeserver and another device, in many orders of events. The
//! user's last decision must hold in each of them.

use super::{
    one_process::{InFlight, Numbers, machine_with},
    *,
};

/// The number of orders to try.
const SEEDS: u64 = 3_000;

/// The number of steps of one order.
const STEPS: usize = 120;

/// The number of decisions that one order contains at most.
const MAX_CALLS: u64 = 6;

struct Process {
    machine: Machine,
    /// The save in progress.
    saving: Option<Save>,
    in_flight: Option<InFlight>,
    /// Account data that sync has not delivered yet.
    inbox: Vec<Observed>,
}

struct Sim {
    now: Instant,
    stored: Record,
    server: Observed,
    processes: Vec<Process>,
    calls: u64,
    ids_used: u64,
    /// The process in which the user last opted out, if the user has not opted in since.
    last_opt_out: Option<usize>,
    /// Whether a save that includes that opt-out has started.
    opt_out_save_started: bool,
    /// Whether such a save has completed.
    opt_out_saved: bool,
    /// Whether the processes also opt in.
    with_opt_ins: bool,
    log: Vec<String>,
}

impl Sim {
    fn new(with_opt_ins: bool) -> Self {
        let mut record = Record::default();
        record.decision = Consent::Granted;
        record.remember_id(&id("a"));
        let process = || Process {
            machine: machine_with(&record),
            saving: None,
            in_flight: None,
            inbox: Vec::new(),
        };
        Self {
            now: Instant::now(),
            processes: vec![process(), process()],
            stored: record.clone(),
            server: opted_in("a"),
            calls: 0,
            ids_used: 0,
            last_opt_out: None,
            opt_out_save_started: false,
            opt_out_saved: false,
            with_opt_ins,
            log: Vec::new(),
        }
    }

    fn random(&self) -> Random {
        Random { id: id(&format!("minted-{}", self.ids_used)), jitter: 0.0 }
    }

    /// Stores `content` in the account, and puts it into the next sync of both processes.
    fn set_account(&mut self, content: &Observed) {
        self.server = content.clone();
        for process in &mut self.processes {
            process.inbox.push(content.clone());
        }
    }

    /// Performs a random step of a random process, of the homeserver or of another device.
    fn step(&mut self, numbers: &mut Numbers) {
        let index = numbers.below(2);
        let may_call = self.calls < MAX_CALLS;
        match numbers.below(24) {
            0 if may_call => self.opt_out(index),
            1 if may_call => self.opt_in_elsewhere(),
            2 if may_call => self.opt_out_elsewhere(),
            3..=7 => self.complete_save(index),
            8..=12 => self.process_request(index),
            13..=17 => self.deliver_answer(index),
            18 | 19 => self.deliver_sync(index),
            20 => self.now += Duration::from_secs(25),
            21 if may_call && self.with_opt_ins => self.opt_in(index),
            // If the ID of an opt-in cannot be saved, the opt-in continues and the other process
            // does not learn the ID. So no save fails during an opt-in.
            22 if self.with_opt_ins && !self.processes[index].machine.is_opting_in() => {
                self.fail_save(index);
            }
            _ => self.poll(index),
        }
    }

    fn opt_out(&mut self, index: usize) {
        self.calls += 1;
        let call = CallId(self.calls);
        self.processes[index].machine.handle_opt_out(call, Removal::Id);
        self.last_opt_out = Some(index);
        (self.opt_out_save_started, self.opt_out_saved) = (false, false);
        self.log.push(format!("{index}: opt-out"));
    }

    fn opt_in(&mut self, index: usize) {
        self.calls += 1;
        self.processes[index].machine.handle_opt_in(CallId(self.calls));
        self.last_opt_out = None;
        self.log.push(format!("{index}: opt-in"));
    }

    fn opt_in_elsewhere(&mut self) {
        self.calls += 1;
        self.set_account(&opted_in(&format!("elsewhere-{}", self.calls)));
        self.last_opt_out = None;
        self.log.push(format!("elsewhere: {:?}", self.server));
    }

    fn opt_out_elsewhere(&mut self) {
        self.calls += 1;
        self.set_account(&opted_out());
        self.log.push("elsewhere: opt-out".to_owned());
    }

    fn complete_save(&mut self, index: usize) {
        let random = self.random();
        let process = &mut self.processes[index];
        let Some(Save { base, record }) = process.saving.take() else { return };
        let merged = Record::merge(&base, &record, &self.stored);
        let [base, record, stored, result] = [&base, &record, &self.stored, &merged].map(brief);
        self.log.push(format!("{index}: saves {record} over {stored} (base {base}): {result}"));
        process.machine.handle_saved(Ok(merged.clone()), self.now, &random);
        self.stored = merged;
        if self.last_opt_out == Some(index) && self.opt_out_save_started {
            self.opt_out_saved = true;
        }
    }

    fn fail_save(&mut self, index: usize) {
        let random = self.random();
        let process = &mut self.processes[index];
        if process.saving.take().is_none() {
            return;
        }
        self.log.push(format!("{index}: a save fails"));
        process.machine.handle_saved(Err(()), self.now, &random);
        if self.last_opt_out == Some(index) {
            self.opt_out_save_started = false;
        }
    }

    /// Lets the homeserver process the request in flight.
    fn process_request(&mut self, index: usize) {
        match &mut self.processes[index].in_flight {
            Some(InFlight::Get(answer @ None)) => *answer = Some(self.server.clone()),
            Some(InFlight::Put(change, applied @ false)) => {
                *applied = true;
                let written = change.outcome();
                self.log.push(format!("{index}: writes {written:?}"));
                self.set_account(&written);
            }
            _ => {}
        }
    }

    fn deliver_answer(&mut self, index: usize) {
        let random = self.random();
        let process = &mut self.processes[index];
        match process.in_flight.take() {
            Some(InFlight::Get(Some(seen))) => {
                self.log.push(format!("{index}: reads {seen:?}"));
                process.machine.handle_got(Ok(seen), self.now, &random);
                self.ids_used += 1;
            }
            Some(InFlight::Put(_, true)) => {
                process.machine.handle_put(Ok(()), self.now, &random);
            }
            unprocessed => process.in_flight = unprocessed,
        }
    }

    fn deliver_sync(&mut self, index: usize) {
        let process = &mut self.processes[index];
        if let Some(seen) = process.inbox.pop() {
            process.inbox.clear();
            self.log.push(format!("{index}: syncs {seen:?}"));
            process.machine.handle_sync_delivers(self.now);
            process.machine.handle_synced(&seen, self.now);
        }
    }

    fn poll(&mut self, index: usize) {
        let process = &mut self.processes[index];
        // A request whose operation was aborted continues in production. Here the next request
        // replaces it.
        loop {
            match process.machine.poll(self.now) {
                Action::Save(save) => {
                    process.saving = Some(*save);
                    if self.last_opt_out == Some(index) {
                        self.opt_out_save_started = true;
                    }
                }
                Action::Get | Action::GetAgain => process.in_flight = Some(InFlight::Get(None)),
                Action::Put(change) => process.in_flight = Some(InFlight::Put(change, false)),
                Action::Wait(_) => return,
            }
        }
    }

    /// Checks that a restart from the stored record stays closed if nothing else happens.
    fn restart_stays_closed(&self) -> Result<(), String> {
        let mut machine = TestMachine::with(self.stored.clone());
        let mut server = self.server.clone();
        for _ in 0..30 {
            match machine.next() {
                Action::Get | Action::GetAgain => machine.answer(&server),
                Action::Put(change) => {
                    server = change.outcome();
                    machine.wrote();
                }
                _ => machine.now += Duration::from_secs(3600),
            }
            if machine.gate() == GateState::Open {
                return Err(format!("open after a restart, server {:?}", self.server));
            }
        }
        Ok(())
    }

    /// Asserts that the last opt-out holds, now and after a restart.
    fn check(&self, context: &str) {
        let Some(index) = self.last_opt_out else { return };
        if self.opt_out_saved
            && let Err(what) = self.restart_stays_closed()
        {
            panic!("{context}: {what}\n{}", self.log.join("\n"));
        }
        let gate = self.processes[index].machine.gate();
        assert!(
            matches!(gate, GateState::Closed(_)),
            "{context}: the process of the last opt-out is {gate:?}\n{}",
            self.log.join("\n")
        );
    }
}

/// Describes the parts of a record that the log needs.
fn brief(record: &Record) -> String {
    format!("{:?}/{:?}/epoch {}", record.decision, record.removal, record.epoch)
}

#[tokio::test]
async fn the_last_decision_holds_in_two_processes() {
    run_seeds(false);
}

#[tokio::test]
async fn the_last_decision_holds_in_two_processes_that_opt_in() {
    run_seeds(true);
}

fn run_seeds(with_opt_ins: bool) {
    for seed in 0..SEEDS {
        let mut numbers = Numbers::new(seed * 7919 + 1);
        let mut sim = Sim::new(with_opt_ins);
        for _ in 0..STEPS {
            sim.step(&mut numbers);
            sim.check(&format!("seed {seed}"));
        }
    }
}

/// Two processes withdrew and began the same epoch. The second withdrawal must stay pending
/// although the first has completed.
#[tokio::test]
async fn a_removal_in_one_process_does_not_complete_that_of_another() {
    let mut record = Record::default();
    record.decision = Consent::Granted;
    record.remember_id(&id("a"));
    let withdrawn = |record: &Record| {
        let mut machine = machine_with(record);
        machine.handle_opt_out(CallId(1), Removal::Id);
        machine.record().clone()
    };
    // One process has opted out and saved it. The account is clean, which it is about to save.
    let one = withdrawn(&record);
    let mut one_done = one.clone();
    one_done.removal = None;
    // The user opts in elsewhere, then opts out in the other process, which has saved nothing.
    let other = withdrawn(&record);
    let stored = Record::merge(&record, &other, &one);
    assert_eq!(stored.removal, Some(Removal::Id));
    let stored = Record::merge(&one, &one_done, &stored);
    assert_eq!(stored.removal, Some(Removal::Id));
}

/// The common base is denied. One process has followed an opt-in and an opt-out elsewhere, the
/// other has saved only the opt-in.
#[tokio::test]
async fn an_opt_out_elsewhere_outweighs_an_opt_in_saved_by_another_process() {
    let mut base = Record::default();
    base.decision = Consent::Denied;
    let mut theirs = base.clone();
    theirs.decision = Consent::Granted;
    theirs.remember_id(&id("b"));
    theirs.epoch += 1;
    let mut here = machine_with(&base);
    let now = Instant::now();
    assert_eq!(here.poll(now), Action::Get);
    let random = Random { id: id("m"), jitter: 0.0 };
    here.handle_got(Ok(opted_in("b")), now, &random);
    assert_eq!(here.gate(), GateState::Open);
    here.handle_synced(&opted_out(), now);
    assert_eq!(here.gate(), GateState::Closed(ClosedReason::Denied));
    let Action::Save(save) = here.poll(now) else { panic!() };
    let merged = Record::merge(&save.base, &save.record, &theirs);
    here.handle_saved(Ok(merged.clone()), now, &random);
    assert!(matches!(here.gate(), GateState::Closed(_)), "{:?}", here.gate());
}

/// Two processes set a veto and began the same epoch. One of them lifts its own.
#[tokio::test]
async fn lifting_a_veto_in_one_process_does_not_lift_that_of_another() {
    let record = Record::default();
    let vetoed = || {
        let mut machine = machine_with(&record);
        machine.handle_deny_on_this_device();
        machine
    };
    let (one, mut one_lifted) = (vetoed().record().clone(), vetoed());
    one_lifted.handle_allow_on_this_device();
    // The other process sets its veto without having read that of the first.
    let stored = Record::merge(&record, vetoed().record(), &one);
    assert!(stored.device_veto);
    let stored = Record::merge(&one, one_lifted.record(), &stored);
    assert!(stored.device_veto);
}
