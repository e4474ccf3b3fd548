//! Two machines on one record, like two processes on one directory: every order of their
//! calls, their saves and the homeserver's answers.

use std::collections::HashSet;

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    OptOut,
    Deny,
    Allow,
    /// The homeserver answers the read in flight with an opt-in under this ID.
    See(&'static str),
}

/// One process.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Process {
    machine: Machine,
    /// The record that it last read or wrote.
    known: Record,
    saving: Option<Save>,
    reads: bool,
    script: &'static [Step],
    has_opted_out: bool,
    has_vetoed: bool,
    /// Whether these withdrawals are on the disk.
    is_saved: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Both {
    stored: Record,
    processes: [Process; 2],
    /// Whether a process may lift a veto that it has read.
    lifts_vetoes: bool,
}

impl Process {
    fn new(record: &Record, now: Instant, script: &'static [Step]) -> Self {
        let settings = Settings { do_not_track: false, request_timeout: REQUEST_TIMEOUT };
        let mut machine = Machine::new(record.clone(), record.clone(), settings, 0.0);
        assert_eq!(machine.poll(now), Action::Get);
        machine.handle_got(Ok(opted_in("a")), now, &random());
        assert_eq!(machine.gate(), GateState::Open);
        Self {
            machine,
            known: record.clone(),
            saving: None,
            reads: false,
            script,
            has_opted_out: false,
            has_vetoed: false,
            is_saved: true,
        }
    }

    fn call(&mut self, step: Step, now: Instant) {
        let machine = &mut self.machine;
        self.is_saved = false;
        match step {
            Step::OptOut => {
                machine.handle_opt_out(CallId(1), Removal::Id);
                self.has_opted_out = true;
            }
            Step::Deny => {
                machine.handle_deny_on_this_device();
                self.has_vetoed = true;
            }
            Step::Allow => {
                machine.handle_allow_on_this_device();
                self.has_vetoed = false;
            }
            Step::See(id) if std::mem::take(&mut self.reads) => {
                machine.handle_got(Ok(opted_in(id)), now, &random());
            }
            Step::See(_) => {}
        }
    }
}

impl Both {
    /// Returns every possible next state.
    fn steps(&self, now: Instant) -> Vec<Self> {
        let mut steps = Vec::new();
        for index in 0..2 {
            let process = &self.processes[index];
            if let Some((step, rest)) = process.script.split_first() {
                let mut next = self.clone();
                next.processes[index].script = rest;
                next.processes[index].call(*step, now);
                steps.push(next);
            }
            let mut next = self.clone();
            let process = &mut next.processes[index];
            match process.machine.poll(now) {
                Action::Save(save) => {
                    process.saving = Some(*save);
                    steps.push(next);
                }
                Action::Get | Action::GetAgain => {
                    process.reads = true;
                    steps.push(next);
                }
                Action::Put(_) | Action::Wait(_) => {}
            }
            let mut next = self.clone();
            let process = &mut next.processes[index];
            if let Some(Save { base, record }) = process.saving.take() {
                let stored = Record::merge(&base, &record, &next.stored);
                next.stored = stored.clone();
                process.known = stored.clone();
                process.machine.handle_saved(Ok(stored), now, &random());
                process.is_saved = !process.machine.is_unsaved();
                steps.push(next);
            }
        }
        steps
    }

    fn check(&self, now: Instant) {
        for process in &self.processes {
            let gate = process.machine.gate();
            let is_closed = matches!(gate, GateState::Closed(_));
            let has_vetoed = process.has_vetoed && !self.lifts_vetoes;
            assert!(is_closed || !process.has_opted_out && !has_vetoed, "{gate:?}");
            if process.has_opted_out && process.is_saved {
                assert_eq!(self.stored.decision, Consent::Denied);
                assert_eq!(self.stored.removal, Some(Removal::Id));
                assert!(self.stored.is_retired(&id("a")));
                self.restart_stays_closed(now);
            }
            if has_vetoed && process.is_saved {
                assert!(self.stored.device_veto);
            }
            // A process obeys a withdrawal in a record that it has read.
            if process.known.decision == Consent::Denied && !process.machine.is_unsaved() {
                assert!(is_closed, "{gate:?}");
            }
        }
    }

    fn restart_stays_closed(&self, now: Instant) {
        let settings = Settings { do_not_track: false, request_timeout: REQUEST_TIMEOUT };
        let record = self.stored.clone();
        let mut machine = Machine::new(record.clone(), record, settings, 0.0);
        assert_eq!(machine.poll(now), Action::Get);
        machine.handle_got(Ok(opted_in("a")), now, &random());
        assert!(matches!(machine.gate(), GateState::Closed(_)));
    }
}

fn random() -> Random {
    Random { id: id("minted"), jitter: 0.0 }
}

#[tokio::test]
async fn no_process_undoes_a_withdrawal_of_another() {
    use Step::{Allow, Deny, OptOut, See};

    let now = Instant::now();
    let mut record = Record::default();
    record.decision = Consent::Granted;
    record.remember_id(&id("a"));
    let scripts: [[&[Step]; 2]; 7] = [
        [&[OptOut], &[Deny, Allow]],
        [&[OptOut], &[OptOut]],
        [&[OptOut, OptOut], &[Deny]],
        [&[OptOut], &[See("b")]],
        [&[Deny], &[Deny, Allow]],
        [&[Deny], &[OptOut]],
        [&[Deny, OptOut], &[Allow]],
    ];
    for [one, other] in scripts {
        let processes = [one, other].map(|script| Process::new(&record, now, script));
        let lifts_vetoes = [one, other].iter().any(|script| script.contains(&Allow));
        let mut seen = HashSet::new();
        let mut left = vec![Both { stored: record.clone(), processes, lifts_vetoes }];
        while let Some(both) = left.pop() {
            if seen.insert(both.clone()) {
                both.check(now);
                left.extend(both.steps(now));
            }
        }
        assert!(seen.len() >= 10, "{}", seen.len());
    }
}

/// A removal in flight writes a `false`, while another process orders the event to be erased.
#[tokio::test]
async fn an_erasure_ordered_by_another_process_is_carried_out() {
    let mut machine = TestMachine::seeing(&opted_in("a"));
    machine.next();
    let base = machine.inner.record().clone();
    let call = machine.opt_out(Removal::Id);
    machine.read(&opted_in("a"));
    machine.expect_write();
    let mut other = TestMachine::with(base.clone());
    other.opt_out(Removal::Event);
    // A save for another reason merges the two.
    let mine = machine.inner.record().clone();
    machine.inner.handle_deny_on_this_device();
    let Action::Save(save) = machine.inner.poll(machine.now) else { panic!() };
    let theirs = Record::merge(&base, other.inner.record(), &mine);
    let stored = Record::merge(&save.base, &save.record, &theirs);
    let random = machine.random();
    machine.inner.handle_saved(Ok(stored), machine.now, &random);

    machine.read(&opted_out());
    assert_eq!(machine.write(), Change::Erase);
    machine.read(&Observed::UNSET);
    machine.next();
    assert_eq!(machine.outcome(call), Some(Outcome::Done));
}
