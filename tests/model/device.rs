//! A device: the real [`Machine`], whose actions are carried out one by one, and a monitor of
//! the promises that does not depend on the machine.

mod input;
mod normal;
mod promises;
mod requests;
mod summary;

use std::time::Duration;

use tokio::time::Instant;

pub(super) use self::{
    input::{Input, Kind, Memory},
    summary::{Request, Summary},
};
use self::{
    promises::{Monitor, Promises, Since},
    requests::Wire,
};
use super::content::{self, Content, Id, Member};
use crate::consent::{
    machine::{
        CallId, FailureKind, Machine, Outcome, Random, Session, Settings,
        calls::CallKind,
        operation::{Step, Task},
    },
    record::{Record, Removal},
    state::Consent,
};

/// A description of the broken promise.
pub(super) type Violation = &'static str;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const SALT: &str = "salt";

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Device {
    index: usize,
    /// Whether a save takes no time. That hides no state in a run without crashes and failed
    /// saves, because nothing else depends on the duration of a save.
    has_quick_disk: bool,
    /// The time, which never changes. An [`Input`] ends a wait instead.
    now: Instant,
    policy: Option<u8>,
    /// The day, which is 1 or 2.
    day: u8,
    machine: Machine,
    /// The record that a restart finds.
    durable: Record,
    saving: Option<Save>,
    request: Option<Wire>,
    /// The ID and the agreements in the last read, which the next write is merged into.
    base: Content,
    /// A write that the driver no longer waits for. The next request waits for its end.
    detached: Option<Content>,
    /// The number of IDs created here.
    minted: u8,
    calls: u64,
    monitor: Monitor,
}

/// A record that is being saved, and the promises that it contains.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Save {
    record: Record,
    promises: Promises,
}

impl Device {
    pub(super) fn new(index: usize, now: Instant, memory: Memory, kind: Kind) -> Self {
        let Kind { do_not_track, has_quick_disk, policy } = kind;
        let settings = Settings { do_not_track, request_timeout: REQUEST_TIMEOUT };
        let mut promises = Promises::default();
        let fresh = Record::new(SALT.to_owned());
        let begin = |record: Record| {
            let machine = Machine::new(record.clone(), record, settings, 0.0);
            machine.with_policy(policy.map(content::policy), content::millis(1))
        };
        let mut machine = begin(fresh);
        match memory {
            Memory::Nothing => {}
            Memory::Unreadable => {
                machine.record = Record::unreadable(SALT.to_owned());
                promises.forgotten = true;
            }
            Memory::OptedIn | Memory::RemovalPending | Memory::OptedOut => {
                machine.grant(Id::OLD.real());
            }
            Memory::AgreedHere => {
                machine.record.agree_here(&Id::OLD.real(), machine.agreement(None).as_ref());
                machine.grant(Id::OLD.real());
                promises.agree(Id::OLD, 1);
            }
            Memory::SawAgreement => {
                let seen = Content::new(Some(true), Member::Usable(Id::OLD));
                let seen = policy.map_or(seen, |policy| seen.agreed(policy, 1));
                machine.server.on_server = Some(seen.real(policy));
                machine.grant(Id::OLD.real());
            }
        }
        if matches!(memory, Memory::OptedOut | Memory::RemovalPending) {
            machine.handle_opt_out(CallId(0), Removal::Id);
            promises = Promises {
                opted_out: true,
                unclean: memory == Memory::RemovalPending,
                removed_here: memory == Memory::RemovalPending,
                retired: Id::OLD.mask(),
                ..promises
            };
        }
        if matches!(memory, Memory::OptedIn | Memory::AgreedHere | Memory::SawAgreement) {
            promises.used = Id::OLD.mask();
        }
        if memory == Memory::OptedOut {
            machine.discharge();
        }
        let durable = machine.record;
        let mut device = Self {
            index,
            has_quick_disk,
            now,
            policy,
            day: 1,
            machine: begin(durable.clone()),
            durable,
            saving: None,
            request: None,
            base: Content::UNSET,
            detached: None,
            minted: 0,
            calls: 0,
            monitor: Monitor { now: promises, durable: promises, ..Monitor::default() },
        };
        device.machine.handle_sync_delivers(now);
        device.save_at_once();
        device.normalise();
        device
    }

    /// Returns this device after `input`.
    pub(super) fn step(&self, input: Input) -> Result<Self, Violation> {
        let mut next = self.clone();
        next.react(input)?;
        next.detach_stale_request();
        next.save_at_once();
        // An operation that has ended is reported before anything else happens.
        next.machine.report_end();
        next.answer_calls()?;
        next.judge(self, input)?;
        next.normalise();
        Ok(next)
    }

    fn save_at_once(&mut self) {
        if !self.has_quick_disk {
            return;
        }
        let random = self.random();
        while let Some(save) = self.machine.begin_save(self.now) {
            self.machine.handle_saved(Ok(save.record.clone()), self.now, &random);
            self.durable = save.record;
            self.monitor.durable = self.monitor.now;
            // A waiter of this save may have more to save.
            self.machine.report_end();
        }
    }

    fn random(&self) -> Random {
        Random { id: Id::minted(self.index, self.minted.min(1)).real(), jitter: 0.0 }
    }

    /// The offset of the numbers of removal calls. All other calls have lower numbers.
    const CALLS: u64 = 100;

    fn call(&mut self) -> CallId {
        self.calls += 1;
        CallId(self.calls)
    }

    fn removal_call(&mut self) -> CallId {
        let CallId(call) = self.call();
        CallId(Self::CALLS + call)
    }

    fn react(&mut self, input: Input) -> Result<(), Violation> {
        match input {
            Input::OptIn => {
                self.overtake();
                self.monitor.app_calls();
                let call = self.call();
                self.machine.handle_opt_in(call);
            }
            Input::DropOptIn => {
                if let Some(call) = self.opt_in_calls().first() {
                    self.machine.handle_opt_in_dropped(*call, self.now);
                }
            }
            Input::OptOut(removal) => {
                self.withdraw();
                self.monitor.now.opted_out = true;
                self.monitor.now.unclean = true;
                self.monitor.now.removed_here = true;
                self.monitor.now.unerased |= removal == Removal::Event;
                let call = self.removal_call();
                self.machine.handle_opt_out(call, removal);
                self.save();
            }
            Input::Deny => {
                self.overtake();
                self.monitor.proof = None;
                self.machine.handle_deny_on_this_device();
                self.save();
            }
            Input::Allow => {
                self.overtake();
                self.machine.handle_allow_on_this_device();
                self.save();
            }
            Input::EndSession => {
                self.overtake();
                self.monitor.end_race();
                self.monitor.proof = None;
                let call = self.removal_call();
                self.machine.handle_end_session(call);
                self.save();
            }
            Input::Recheck => {
                self.monitor.app_calls();
                self.monitor.session_works();
                let call = self.call();
                self.machine.handle_recheck(call);
            }
            Input::Rebuild => {
                // The last save of the predecessor ends before the record is read.
                self.durable = self.machine.record().clone();
                self.monitor.durable = self.monitor.now;
                self.saving = None;
                if let Some(content) = self.unapplied_write() {
                    self.detached = Some(content);
                }
                let detached = self.detached;
                self.restart();
                self.detached = detached;
            }
            Input::Go => return self.go(),
            Input::Saved => {
                let Some(Save { record, promises }) = self.saving.take() else { return Ok(()) };
                let random = self.random();
                self.machine.handle_saved(Ok(record.clone()), self.now, &random);
                self.durable = record;
                self.monitor.durable = promises;
            }
            Input::SaveFailed { is_written } => {
                let Some(Save { record, promises }) = self.saving.take() else { return Ok(()) };
                let random = self.random();
                self.machine.handle_saved(Err(()), self.now, &random);
                self.monitor.has_unreliable_disk = true;
                if is_written {
                    self.durable = record;
                    self.monitor.durable = promises;
                }
            }
            Input::Read(content) => {
                if let Some(Wire::Get { answer, .. }) = &mut self.request {
                    *answer = Some(content);
                }
            }
            Input::Applied => {
                if let Some(Wire::Put { is_applied, .. }) = &mut self.request {
                    *is_applied = true;
                }
            }
            Input::Lied => {
                if let Some(Wire::Put { is_applied, is_lie, .. }) = &mut self.request {
                    *is_applied = true;
                    *is_lie = true;
                }
            }
            Input::Answered => return self.answered(),
            Input::Failed(kind) => self.failed(kind, None),
            Input::AskedToWait => {
                self.failed(FailureKind::Refused, Some(Duration::from_secs(3000)));
                self.monitor.is_asked_to_wait = true;
            }
            Input::DetachedEnded => self.detached = None,
            Input::Synced(content) => {
                let content = content.seen_by(self.policy);
                if let Some(since) = self.since() {
                    since.shown = Some(Some(content));
                    since.is_closed |= content.flag() == Some(false);
                }
                if self.monitor.proof.is_some() && self.monitor.proof != content.opt_in() {
                    self.monitor.proof = None;
                }
                if !self.is_own_write(content) && self.machine.session != Session::Ended {
                    self.sees_withdrawal(content, false);
                    if content.flag() == Some(false) {
                        self.monitor.end_race();
                    }
                }
                self.delivered();
                self.machine.handle_synced(&content.real(self.policy), self.now);
            }
            Input::Delivered => self.delivered(),
            Input::SessionIs(session) => {
                match session {
                    Session::Live => self.monitor.session_works(),
                    _ => {
                        self.lose_proof();
                        self.monitor.has_evidence = false;
                        if session == Session::Lost {
                            self.monitor.end_race();
                        }
                    }
                }
                self.machine.handle_session(session, self.now);
            }
            Input::MissedSessionChanges => {
                self.lose_proof();
                self.machine.handle_missed_session_changes();
            }
            Input::SaveRetryDue => self.machine.disk.backoff.end_wait(),
            Input::RetryDue => {
                self.monitor.must_wait = false;
                self.machine.wake.backoff.end_retry_wait();
            }
            Input::RequestedWaitOver => {
                self.monitor.is_asked_to_wait = false;
                self.machine.wake.backoff.end_requested_wait();
            }
            Input::Settled => {
                if let Some(minted) = &mut self.machine.opt_in.minted
                    && minted.settled_at.is_some()
                {
                    minted.settled_at = Some(self.now);
                }
            }
            Input::SettledLongAgo => {
                self.monitor.end_race();
                if let Some(minted) = &mut self.machine.opt_in.minted {
                    let ago = REQUEST_TIMEOUT + Duration::from_secs(1);
                    minted.settled_at = minted.settled_at.map(|_| self.now - ago);
                }
            }
            Input::RecheckDue => self.machine.wake.timer.due = Some(self.now),
            Input::Crash => self.restart(),
            Input::Ages => self.day_is(2),
            Input::ClockGoesBack => self.day_is(1),
            Input::OptInWritten(id) => self.each_promise(|promises| {
                if promises.retired & id.mask() == 0 {
                    promises.opted_out = false;
                }
            }),
            Input::OwnOptInWritten(id) => self.each_promise(|promises| {
                if promises.retired & id.mask() == 0 {
                    promises.opted_out = false;
                    promises.forgotten = false;
                }
            }),
        }
        Ok(())
    }

    // Calls of the app

    fn save(&mut self) {
        let call = self.call();
        self.machine.handle_save_wanted(call);
    }

    /// Notes a local call or a closing sign, after which a request in flight proves nothing.
    fn overtake(&mut self) {
        if let Some(since) = self.since() {
            since.is_overtaken = true;
        }
    }

    /// Notes that the session was lost, so that not even a request in flight proves anything.
    fn lose_proof(&mut self) {
        self.monitor.proof = None;
        if let Some(since) = self.since() {
            since.shown = Some(None);
        }
    }

    fn day_is(&mut self, day: u8) {
        self.monitor.end_race();
        self.day = day;
        self.machine.handle_time(content::millis(day));
    }

    fn withdraw(&mut self) {
        self.overtake();
        self.monitor.end_race();
        self.monitor.app_calls();
        // IDs that were in use, that were or may still be written, or that were last seen on
        // the account are never used again.
        let now = &mut self.monitor.now;
        now.retired |= now.used | now.written;
        now.retired |= self.monitor.last_read.map_or(0, Id::mask);
        self.monitor.proof = None;
    }

    /// Retires the IDs that a `false` withdraws, wherever it was written. A `false` in sync may
    /// be older than an ID written here.
    fn sees_withdrawal(&mut self, content: Content, is_proven: bool) {
        if content.flag() == Some(false) {
            let follows = self.machine.decision() != Consent::Denied;
            let Monitor { now, last_read, .. } = &mut self.monitor;
            now.retired |= content.usable_id().map_or(0, Id::mask);
            let read = last_read.take();
            if follows {
                now.retired |= now.used | read.map_or(0, Id::mask) & !now.written;
            }
            if is_proven {
                now.retired |= now.answered;
            }
        }
    }

    fn delivered(&mut self) {
        self.monitor.must_wait = false;
        self.monitor.session_works();
        self.machine.handle_sync_delivers(self.now);
    }

    /// Returns the opt-ins that have not ended, starting with the one in flight.
    fn opt_in_calls(&self) -> Vec<CallId> {
        let Machine { operation, calls, .. } = &self.machine;
        let running = operation.iter().filter(|operation| {
            operation.task == Task::OptIn && !matches!(operation.step, Step::Ended(_))
        });
        let running = running.filter_map(|operation| operation.call);
        let queued = calls.queue.iter().filter(|call| call.kind == CallKind::OptIn);
        running.chain(queued.map(|call| call.id)).collect()
    }

    /// Takes the answers to calls, and checks that receipts of withdrawals are true.
    fn answer_calls(&mut self) -> Result<(), Violation> {
        while let Some((call, outcome)) = self.machine.take_finished() {
            let says_removed = call.0 >= Self::CALLS && outcome == Outcome::Done;
            let may_come_back =
                self.durable.removal.is_some() && self.machine.record.removal.is_none();
            if says_removed && may_come_back {
                return Err("P4: a receipt says done, and a restart would remove again");
            }
            if says_removed && self.monitor.now.unerased && !self.has_pending_removal() {
                return Err("P3: a receipt says done, and the event was not erased");
            }
        }
        Ok(())
    }

    /// Returns whether a removal is pending, as after a later call.
    fn has_pending_removal(&self) -> bool {
        self.machine.record.removal.is_some()
    }

    fn restart(&mut self) {
        // `World` keeps an unapplied write as a loose one.
        let was_saved = !self.machine.is_unsaved();
        self.machine =
            Machine::new(self.durable.clone(), self.durable.clone(), self.machine.settings, 0.0)
                .with_policy(self.policy.map(content::policy), content::millis(self.day));
        self.machine.handle_sync_delivers(self.now);
        self.saving = None;
        self.request = None;
        self.base = Content::UNSET;
        self.detached = None;
        let promises = self.monitor.durable;
        self.monitor = Monitor {
            now: promises,
            durable: promises,
            last_open: self.monitor.last_open.filter(|_| was_saved),
            is_raised: self.monitor.is_raised && was_saved,
            ..Monitor::default()
        };
    }

    /// Describes the device for the report of a violation.
    pub(super) fn describe(&self) -> String {
        let Self { machine, monitor, .. } = self;
        format!(
            "{:?}, {:?}, answer {:?}, epoch {}, removal {:?}, session {:?}{}{}{}{}; {:?}; proof {:?}",
            machine.gate(),
            machine.decision(),
            machine.server.answer,
            machine.epoch(),
            machine.record.removal,
            machine.session,
            if machine.opt_in.settling { ", settling" } else { "" },
            if machine.wake.fetch_wanted { ", fetch wanted" } else { "" },
            if machine.is_unsaved() { ", unsaved" } else { "" },
            if self.saving.is_some() { ", saving" } else { "" },
            machine.operation.as_ref().map(|operation| (operation.task, &operation.step)),
            monitor.proof,
        )
    }
}
