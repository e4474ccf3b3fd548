//! Two processes on one record, the homeserver and another device, in many orders of events:
//! the user's last decision holds.

use super::{
    one_process::{Numbers, Out, machine},
    *,
};

/// The number of orders to try.
const SEEDS: u64 = 3_000;

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
    /// The process in which the user opted out last, if the user has not opted in since.
    last_opt_out: Option<usize>,
    /// Whether a save that began after that opt-out has ended.
    is_saved: bool,
    has_begun: bool,
    opts_in: bool,
    log: Vec<String>,
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
            server: opted_in("a"),
            calls: 0,
            made: 0,
            last_opt_out: None,
            is_saved: false,
            has_begun: false,
            opts_in: false,
            log: Vec::new(),
        }
    }

    fn random(&self) -> Random {
        Random { id: id(&format!("minted-{}", self.made)), jitter: 0.0 }
    }

    fn write(&mut self, seen: &Observed) {
        self.server = seen.clone();
        for process in &mut self.processes {
            process.inbox.push(seen.clone());
        }
    }

    fn poll(&mut self, index: usize) {
        let now = self.now;
        let process = &mut self.processes[index];
        // In reality a request whose operation was aborted continues. Here it is dropped.
        loop {
            match process.machine.poll(now) {
                Action::Save(save) => {
                    process.saving = Some(*save);
                    if self.last_opt_out == Some(index) {
                        self.has_begun = true;
                    }
                }
                Action::Get | Action::GetAgain => process.out = Some(Out::Get(None)),
                Action::Put(change) => process.out = Some(Out::Put(change, false)),
                Action::Wait(_) => return,
            }
        }
    }

    fn step(&mut self, numbers: &mut Numbers) {
        let index = numbers.below(2);
        let random = self.random();
        let now = self.now;
        match numbers.below(24) {
            0 if self.calls < 6 => {
                self.calls += 1;
                let call = CallId(self.calls);
                self.processes[index].machine.handle_opt_out(call, Removal::Id);
                self.last_opt_out = Some(index);
                (self.is_saved, self.has_begun) = (false, false);
                self.log.push(format!("{index}: opt-out"));
            }
            1 if self.calls < 6 => {
                self.calls += 1;
                self.write(&opted_in(&format!("elsewhere-{}", self.calls)));
                self.last_opt_out = None;
                self.log.push(format!("elsewhere: {:?}", self.server));
            }
            2 if self.calls < 6 => {
                self.calls += 1;
                self.write(&opted_out());
                self.log.push("elsewhere: opt-out".to_owned());
            }
            3..=7 => {
                let stored = self.stored.clone();
                let process = &mut self.processes[index];
                if let Some(Save { base, record }) = process.saving.take() {
                    let merged = Record::merge(&base, &record, &stored);
                    self.log.push(format!("{index}: saves {:?}/{:?}/e{} over {:?}/{:?}/e{} (base {:?}/{:?}/e{}) -> {:?}/{:?}/e{}", record.decision, record.removal, record.epoch, stored.decision, stored.removal, stored.epoch, base.decision, base.removal, base.epoch, merged.decision, merged.removal, merged.epoch));
                    process.machine.handle_saved(Ok(merged.clone()), now, &random);
                    self.stored = merged;
                    if self.last_opt_out == Some(index) && self.has_begun {
                        self.is_saved = true;
                    }
                }
            }
            8..=12 => {
                // The homeserver processes the request in flight.
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
                    self.write(&written);
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
                self.last_opt_out = None;
                self.log.push(format!("{index}: opt-in"));
            }
            // If the ID of an opt-in cannot be saved, the opt-in continues and no other
            // process knows the ID. So no save fails during an opt-in.
            22 if self.opts_in && !self.processes[index].machine.is_opting_in() => {
                let process = &mut self.processes[index];
                if let Some(Save { .. }) = process.saving.take() {
                    self.log.push(format!("{index}: a save fails"));
                    process.machine.handle_saved(Err(()), now, &random);
                    if self.last_opt_out == Some(index) {
                        self.has_begun = false;
                    }
                }
            }
            20 => self.now += Duration::from_secs(25),
            _ => self.poll(index),
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

    fn check(&self, who: &str) {
        if self.last_opt_out.is_some()
            && self.is_saved
            && let Err(what) = self.restart_stays_closed()
        {
            panic!("{who}: {what}\n{}", self.log.join("\n"));
        }
        if let Some(index) = self.last_opt_out {
            let gate = self.processes[index].machine.gate();
            assert!(
                matches!(gate, GateState::Closed(_)),
                "{who}: the process of the last opt-out is {gate:?}\n{}",
                self.log.join("\n")
            );
        }
    }
}

#[tokio::test]
async fn the_last_decision_holds_in_two_processes() {
    search(false);
}

#[tokio::test]
async fn the_last_decision_holds_in_two_processes_that_opt_in() {
    search(true);
}

fn search(opts_in: bool) {
    for seed in 0..SEEDS {
        let mut numbers = Numbers::new(seed * 7919 + 1);
        let mut sim = Sim { opts_in, ..Sim::new() };
        for _ in 0..120 {
            sim.step(&mut numbers);
            sim.check(&format!("seed {seed}"));
        }
    }
}

/// Two processes withdrew and began the same epoch. The second withdrawal must not be taken for
/// the first, which is done.
#[tokio::test]
async fn a_removal_in_one_process_does_not_discharge_that_of_another() {
    let mut record = Record::default();
    record.decision = Consent::Granted;
    record.remember_id(&id("a"));
    let withdrawn = |record: &Record| {
        let mut machine = machine(record);
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
    let mut here = machine(&base);
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
        let mut machine = machine(&record);
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
