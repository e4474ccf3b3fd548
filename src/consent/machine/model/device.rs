//! One device: the real [`Machine`], driven as `consent_task.rs` drives it, and a
//! monitor that knows the promises and not the machine.

mod normal;
mod promises;

use std::time::Duration;

use tokio::time::Instant;

use self::promises::{Monitor, Promises, Since};
use super::content::{Content, Id, Member};
use crate::{
    account_data::content::Change,
    consent::machine::{
        Machine, Next, OptInPlan, Session, Sign, Ticket,
        opt_in::{Known, MadeId},
        timing::Retry,
    },
    local_record::{Record, Removal},
};

/// The promise that does not hold, and how.
pub(super) type Violation = &'static str;

const SETTLE: Duration = Duration::from_secs(60);
const SALT: &str = "salt";

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Device {
    index: usize,
    /// Time stands still here; what waits for it is let go by an [`Input`].
    now: Instant,
    machine: Machine,
    /// What a restart finds.
    durable: Record,
    saving: Option<Save>,
    /// Somebody waits to save after that.
    save_wanted: bool,
    queue: Vec<Command>,
    running: Option<Running>,
    /// A write that nobody waits for any more. It keeps its turn.
    detached: Option<Content>,
    /// How many IDs were made here.
    made: u8,
    monitor: Monitor,
}

/// A record on its way to the disk, and what it promises.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Save {
    record: Record,
    promises: Promises,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Command {
    OptIn(OptIn),
    Recheck,
    Withdraw,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct OptIn {
    ticket: Ticket,
    /// The caller has dropped its future.
    is_dropped: bool,
    /// A withdrawal came after the call.
    is_withdrawn: bool,
}

/// What the consent task is doing.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Running {
    Saving,
    SavingBeforeOptIn(OptIn),
    SavingBeforeRemoval {
        op: Op,
        sent: Sign,
        change: Change,
        since: Since,
    },
    SavingForRecheck,
    WaitingForTurn(Op),
    Getting {
        op: Op,
        sent: Sign,
        answer: Option<Content>,
        /// The write of an opt-in that got no answer, and is read back.
        wrote: Option<(OptInPlan, Known)>,
        since: Since,
    },
    Putting {
        op: Op,
        sent: Sign,
        change: Change,
        plan: Option<OptInPlan>,
        is_applied: bool,
        since: Since,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Op {
    Fetch,
    OptIn(OptIn),
    Remove(Removal),
}

/// What happens to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Input {
    // The app.
    OptIn,
    DropOptIn,
    OptOut(Removal),
    Deny,
    Allow,
    EndSession,
    Recheck,
    // The task and the disk.
    Go,
    Saved,
    SaveFailed {
        is_written: bool,
    },
    SaveRetry,
    // The network.
    Read(Content),
    Applied,
    Answered,
    Failed {
        is_forbidden: bool,
    },
    DetachedEnded,
    Synced(Content),
    SessionIs(Session),
    Doubt,
    // Time, and the end of it.
    Settled,
    Crash,
    /// Somebody's yes under this ID was written to the server.
    YesWritten(Id),
    /// This device's own.
    OwnYesWritten(Id),
}

/// What a device remembers when a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    Nothing,
    /// A yes, under [`Id::OLD`].
    Yes,
    /// A no, of which the account has still to be cleaned.
    NoPending,
    /// A no, and the account was clean.
    No,
    Unreadable,
}

/// What the world has to know of a device.
#[derive(Clone, Copy)]
pub(super) struct Summary {
    pub(super) open: Option<Id>,
    pub(super) request: Request,
    pub(super) detached: Option<Content>,
    /// A request or a detached write is out.
    pub(super) in_flight: bool,
    pub(super) can_go: bool,
    pub(super) is_saving: bool,
    pub(super) can_retry_save: bool,
    /// A new ID waits for its settle time.
    pub(super) settles: bool,
    pub(super) opts_in: bool,
    pub(super) has_ended: bool,
    /// The next thing that the task does is to save.
    goes_to_save: bool,
    removes: bool,
    promises: Promises,
}

impl Summary {
    pub(super) fn is_about_to_save(&self) -> bool {
        self.is_saving || self.goes_to_save
    }

    /// Whether the device must not take up `id`: it is to be removed, or was.
    pub(super) fn refuses(&self, id: Id) -> bool {
        self.removes || self.promises.forgotten || self.promises.retired & id.mask() != 0
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    None,
    Get,
    GetAnswered,
    Put { content: Content, is_opt_in: bool },
    PutApplied,
}

impl Device {
    pub(super) fn new(index: usize, now: Instant, memory: Memory, do_not_track: bool) -> Self {
        let mut promises = Promises::default();
        let mut machine = Machine::new(Record::default().with_salt(SALT), do_not_track, 0.0);
        match memory {
            Memory::Nothing => {}
            Memory::Unreadable => {
                machine.record = Record::unreadable(SALT.to_owned());
                promises.forgotten = true;
            }
            Memory::Yes | Memory::NoPending | Memory::No => {
                machine.grant(Id::OLD.real());
            }
        }
        if matches!(memory, Memory::No | Memory::NoPending) {
            machine.opt_out(Removal::Id);
            promises = Promises {
                no: true,
                unclean: memory == Memory::NoPending,
                retired: Id::OLD.mask(),
                ..promises
            };
        }
        if memory == Memory::No {
            machine.discharge();
        }
        let durable = machine.record;
        let machine = Machine::new(durable.clone(), do_not_track, 0.0);
        let monitor = Monitor { now: promises, durable: promises, ..Monitor::default() };
        let mut device = Self {
            index,
            now,
            machine,
            durable,
            saving: None,
            save_wanted: false,
            queue: Vec::new(),
            running: None,
            detached: None,
            made: 0,
            monitor,
        };
        device.machine.sync_delivers();
        device.normalise();
        device
    }

    /// This device after `input`.
    pub(super) fn step(&self, input: Input) -> Result<Self, Violation> {
        let mut next = self.clone();
        next.react(input)?;
        next.abort_void_opt_ins();
        next.judge(self, input)?;
        next.normalise();
        Ok(next)
    }

    fn react(&mut self, input: Input) -> Result<(), Violation> {
        match input {
            Input::OptIn => {
                self.overtake();
                let ticket = self.machine.opt_in_begins();
                self.queue.push(Command::OptIn(OptIn {
                    ticket,
                    is_dropped: false,
                    is_withdrawn: false,
                }));
            }
            Input::DropOptIn => self.drop_opt_in(),
            Input::OptOut(removal) => {
                self.withdraw();
                self.monitor.now.no = true;
                self.monitor.now.unclean = true;
                self.machine.opt_out(removal);
                self.queue.push(Command::Withdraw);
                self.save();
            }
            Input::Deny => {
                self.overtake();
                self.monitor.proof = None;
                self.machine.deny_on_this_device();
                self.save();
            }
            Input::Allow => {
                self.overtake();
                self.machine.allow_on_this_device();
                self.save();
            }
            Input::EndSession => {
                self.overtake();
                self.monitor.proof = None;
                self.mark_withdrawn();
                self.machine.end_session();
                self.queue.push(Command::Withdraw);
                self.save();
            }
            Input::Recheck => self.queue.push(Command::Recheck),
            Input::Go => self.go(),
            Input::Saved => {
                let Some(Save { record, promises }) = self.saving.take() else { return Ok(()) };
                self.machine.saved(&record, &record);
                self.durable = record;
                self.monitor.durable = promises;
                self.save_ended();
            }
            Input::SaveFailed { is_written } => {
                let Some(Save { record, promises }) = self.saving.take() else { return Ok(()) };
                self.machine.save_failed(self.now, 0.0);
                if is_written {
                    self.durable = record;
                    self.monitor.durable = promises;
                }
                self.save_ended();
            }
            Input::SaveRetry => self.machine.saves = Retry::default(),
            Input::Read(content) => {
                if let Some(Running::Getting { answer, .. }) = &mut self.running {
                    *answer = Some(content);
                }
            }
            Input::Applied => {
                if let Some(Running::Putting { is_applied, .. }) = &mut self.running {
                    *is_applied = true;
                }
            }
            Input::Answered => self.answered()?,
            Input::Failed { is_forbidden } => self.failed(is_forbidden),
            Input::DetachedEnded => self.detached = None,
            Input::Synced(content) => {
                let since = self.since();
                if let Some(since) = since {
                    since.shown = Some(Some(content));
                    since.is_closed |= content.flag() == Some(false);
                }
                if self.monitor.proof.is_some() && self.monitor.proof != content.granted() {
                    self.monitor.proof = None;
                }
                self.machine.sync_delivers();
                self.machine.synced(&content.real());
            }
            Input::SessionIs(session) => {
                if session != Session::Live {
                    self.lose_proof();
                }
                if session == Session::Ended {
                    self.mark_withdrawn();
                }
                self.machine.session_is(session);
            }
            Input::Doubt => {
                self.lose_proof();
                self.machine.doubt();
            }
            Input::Settled => {
                if let Some(MadeId { settled_at: Some(settled_at), .. }) = &mut self.machine.made {
                    *settled_at = self.now;
                }
            }
            Input::Crash => self.crash(),
            Input::YesWritten(id) => self.each_promise(|promises| {
                if promises.retired & id.mask() == 0 {
                    promises.no = false;
                }
            }),
            Input::OwnYesWritten(id) => self.each_promise(|promises| {
                if promises.retired & id.mask() == 0 {
                    promises.no = false;
                    promises.forgotten = false;
                }
            }),
        }
        Ok(())
    }

    // What the app does.

    /// A local call or a closing sign: requests that are out prove nothing.
    fn overtake(&mut self) {
        if let Some(since) = self.since() {
            since.is_overtaken = true;
        }
    }

    /// The session is lost: nothing is proven, not even by what is on its way.
    fn lose_proof(&mut self) {
        self.monitor.proof = None;
        if let Some(since) = self.since() {
            since.shown = Some(None);
        }
    }

    fn since(&mut self) -> Option<&mut Since> {
        match &mut self.running {
            Some(
                Running::Getting { since, .. }
                | Running::Putting { since, .. }
                | Running::SavingBeforeRemoval { since, .. },
            ) => Some(since),
            _ => None,
        }
    }

    fn withdraw(&mut self) {
        self.overtake();
        self.mark_withdrawn();
        // What was last in use, or was made to be, is never used again.
        let writing = match &self.running {
            Some(Running::Putting { plan: Some(OptInPlan::Mint(id)), .. }) => Some(Id::of(id)),
            _ => None,
        };
        let made = self.machine.made.as_ref().map(|made| Id::of(&made.id));
        let used = self.monitor.last_open.filter(|id| self.machine.record.remembers(&id.real()));
        for id in [writing, made, used].into_iter().flatten() {
            self.monitor.now.retired |= id.mask();
        }
        self.monitor.proof = None;
    }

    fn mark_withdrawn(&mut self) {
        for command in &mut self.queue {
            if let Command::OptIn(opt_in) = command {
                opt_in.is_withdrawn = true;
            }
        }
        if let Some(opt_in) = self.running_opt_in() {
            opt_in.is_withdrawn = true;
        }
    }

    fn running_opt_in(&mut self) -> Option<&mut OptIn> {
        match &mut self.running {
            Some(
                Running::SavingBeforeOptIn(opt_in)
                | Running::WaitingForTurn(Op::OptIn(opt_in))
                | Running::Getting { op: Op::OptIn(opt_in), .. }
                | Running::Putting { op: Op::OptIn(opt_in), .. },
            ) => Some(opt_in),
            _ => None,
        }
    }

    fn drop_opt_in(&mut self) {
        if self.running_opt_in().is_some() {
            self.abort();
        } else if let Some(Command::OptIn(opt_in)) =
            self.queue.iter_mut().find(|command| matches!(command, Command::OptIn(_)))
        {
            opt_in.is_dropped = true;
        }
    }

    /// Ends the opt-in that is running; its request goes on by itself.
    fn abort(&mut self) {
        let Some(OptIn { ticket, .. }) = self.running_opt_in().copied() else { return };
        if let Some(Running::Putting { change, is_applied: false, .. }) = self.running.take() {
            self.detached = Some(Content::of(&change.outcome()));
        }
        self.opt_in_ended(ticket, false);
    }

    fn abort_void_opt_ins(&mut self) {
        if let Some(OptIn { ticket, .. }) = self.running_opt_in().copied()
            && !self.machine.opt_in_is_valid(ticket)
        {
            self.abort();
        }
        let machine = &self.machine;
        self.queue.retain(|command| match command {
            Command::OptIn(OptIn { ticket, .. }) => machine.opt_in_is_valid(*ticket),
            Command::Recheck | Command::Withdraw => true,
        });
    }

    // What the task does.

    fn go(&mut self) {
        if let Some(Running::WaitingForTurn(op)) = self.running {
            return self.take_turn(op);
        }
        if !self.queue.is_empty() {
            return match self.queue.remove(0) {
                Command::OptIn(OptIn { ticket, is_dropped: true, .. }) => {
                    self.opt_in_ended(ticket, false);
                }
                Command::OptIn(opt_in) => {
                    self.running = Some(Running::SavingBeforeOptIn(opt_in));
                    self.save();
                    self.proceed_after_save();
                }
                Command::Recheck => {
                    self.machine.recheck();
                    self.recheck();
                }
                Command::Withdraw => {
                    if let Some(removal) = self.machine.record.removal {
                        self.take_turn(Op::Remove(removal));
                    }
                }
            };
        }
        match self.machine.next(self.now) {
            Next::Fetch => self.take_turn(Op::Fetch),
            Next::Remove(removal) => self.take_turn(Op::Remove(removal)),
            Next::Save => {
                self.running = Some(Running::Saving);
                self.save();
            }
            Next::Sleep(_) => {}
        }
    }

    fn recheck(&mut self) {
        self.running = None;
        match self.machine.next(self.now) {
            Next::Fetch => self.take_turn(Op::Fetch),
            Next::Remove(removal) => self.take_turn(Op::Remove(removal)),
            Next::Save => {
                self.running = Some(Running::SavingForRecheck);
                self.save();
            }
            Next::Sleep(_) => {}
        }
    }

    fn take_turn(&mut self, op: Op) {
        if self.detached.is_some() {
            self.running = Some(Running::WaitingForTurn(op));
            return;
        }
        let sent = self.machine.sign();
        let since = Since::default();
        self.running = Some(match op {
            Op::Remove(Removal::Event) => {
                return self.save_and_remove(op, sent, Change::Erase, since);
            }
            Op::Fetch | Op::OptIn(_) | Op::Remove(Removal::Id) => {
                Running::Getting { op, sent, answer: None, wrote: None, since }
            }
        });
    }

    fn save_and_remove(&mut self, op: Op, sent: Sign, change: Change, since: Since) {
        self.running = Some(Running::SavingBeforeRemoval { op, sent, change, since });
        self.save();
        self.proceed_after_save();
    }

    fn put(
        &mut self,
        op: Op,
        sent: Sign,
        change: Change,
        plan: Option<OptInPlan>,
        since: Since,
    ) -> Running {
        // What was seen before our write is no proof of what holds after it.
        if self.monitor.proof != Content::of(&change.outcome()).granted() {
            self.monitor.proof = None;
        }
        Running::Putting { op, sent, change, plan, is_applied: false, since }
    }

    fn answered(&mut self) -> Result<(), Violation> {
        match self.running.take() {
            Some(Running::Getting { op, sent, answer: Some(content), wrote, since }) => {
                match (op, wrote) {
                    (Op::OptIn(OptIn { ticket, .. }), Some(wrote)) => {
                        self.read_back(ticket, (sent, content), wrote, since);
                        Ok(())
                    }
                    _ => self.got(op, sent, content, since),
                }
            }
            Some(Running::Putting { op, sent, change, plan, since, .. }) => {
                let content = Content::of(&change.outcome());
                match (op, plan) {
                    (Op::OptIn(OptIn { ticket, .. }), Some(plan)) => {
                        if matches!(plan, OptInPlan::Keep(_)) && since.proves(content) {
                            self.monitor.proof = content.granted();
                        }
                        self.each_promise(|promises| promises.unclean = false);
                        let wrote = self.machine.opt_in_wrote(ticket, sent, plan, self.now, SETTLE);
                        self.opt_in_ended(ticket, wrote.is_ok());
                    }
                    _ => {
                        if !since.is_overtaken {
                            self.each_promise(Promises::cleaned);
                        }
                        self.machine.removal_wrote(sent, &change);
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn write_is_unanswered(&mut self, opt_in: OptIn, plan: OptInPlan) {
        let Ok(known) = self.machine.opt_in_unanswered(opt_in.ticket) else {
            return self.opt_in_ended(opt_in.ticket, false);
        };
        self.take_turn(Op::OptIn(opt_in));
        if let Some(Running::Getting { wrote, .. }) = &mut self.running {
            *wrote = Some((plan, known));
        }
    }

    /// The GET after a write that got no answer was answered.
    fn read_back(
        &mut self,
        ticket: Ticket,
        (sent, content): (Sign, Content),
        (plan, known): (OptInPlan, Known),
        since: Since,
    ) {
        if since.proves(content) {
            self.monitor.proof = content.granted();
        }
        let seen = (sent, &content.real());
        let applied = self.machine.opt_in_read_back(ticket, seen, plan, known, self.now, SETTLE);
        let is_applied = applied == Ok(true);
        if is_applied {
            self.each_promise(|promises| promises.unclean = false);
        }
        self.opt_in_ended(ticket, is_applied);
    }

    /// A GET was answered.
    fn got(&mut self, op: Op, sent: Sign, content: Content, since: Since) -> Result<(), Violation> {
        if since.proves(content) {
            self.monitor.proof = content.granted();
        }
        if !since.is_overtaken && content.has_nothing_to_remove() {
            self.each_promise(Promises::cleaned);
        }
        if matches!(op, Op::Fetch) && since.proves(content) && content.id() == Member::Absent {
            self.each_promise(|promises| promises.forgotten = false);
        }
        let seen = content.real();
        match op {
            Op::Fetch => {
                if let Some(change) = self.machine.fetched(sent, &seen, self.now) {
                    if std::mem::replace(&mut self.monitor.has_cleaned, true) {
                        return Err("P5: more than one clean-up in an epoch");
                    }
                    self.running = Some(self.put(op, sent, change, None, since));
                }
            }
            Op::Remove(_) => {
                if let Member::Usable(id) = content.id()
                    && !since.is_overtaken
                    && !since.is_closed
                {
                    self.monitor.now.retired |= id.mask();
                }
                if let Some(change) = self.machine.removal_fetched(sent, &seen) {
                    self.save_and_remove(op, sent, change, since);
                }
            }
            Op::OptIn(OptIn { ticket, .. }) => {
                let new_id = Id::made(self.index, self.made).real();
                let plan = self.machine.opt_in_plan(ticket, sent, &seen, self.now, new_id);
                match plan {
                    Ok(OptInPlan::Done) => {
                        self.each_promise(|promises| {
                            promises.no = false;
                            promises.unclean = false;
                        });
                        self.opt_in_ended(ticket, true);
                    }
                    Ok(OptInPlan::Keep(ref id) | OptInPlan::Mint(ref id)) => {
                        if matches!(plan, Ok(OptInPlan::Mint(_))) {
                            self.made += 1;
                        }
                        let sent = self.machine.sign();
                        let change = Change::OptIn(id.clone());
                        self.running =
                            Some(self.put(op, sent, change, plan.ok(), Since::default()));
                    }
                    Err(_) => self.opt_in_ended(ticket, false),
                }
            }
        }
        Ok(())
    }

    fn failed(&mut self, is_forbidden: bool) {
        let op = match self.running.take() {
            Some(Running::Putting { op: Op::OptIn(opt_in), plan: Some(plan), .. })
                if !is_forbidden =>
            {
                return self.write_is_unanswered(opt_in, plan);
            }
            Some(Running::Getting { op, .. } | Running::Putting { op, .. }) => op,
            _ => return,
        };
        if is_forbidden {
            self.machine.session_is(Session::Unavailable);
            self.monitor.proof = None;
        }
        match op {
            Op::OptIn(OptIn { ticket, .. }) => self.opt_in_ended(ticket, false),
            Op::Fetch | Op::Remove(_) => self.machine.request_failed(self.now, 0.0, None),
        }
    }

    fn opt_in_ended(&mut self, ticket: Ticket, is_ok: bool) {
        self.machine.opt_in_ended(ticket, is_ok, self.now + SETTLE);
        self.running = Some(Running::Saving);
        self.save();
        self.proceed_after_save();
    }

    // The disk.

    fn save(&mut self) {
        if self.saving.is_some() {
            self.save_wanted = true;
        } else if self.machine.is_unsaved() {
            let record = self.machine.record().clone();
            self.saving = Some(Save { record, promises: self.monitor.now });
        }
    }

    fn save_ended(&mut self) {
        if std::mem::take(&mut self.save_wanted) {
            self.save();
        }
        self.proceed_after_save();
    }

    fn proceed_after_save(&mut self) {
        if self.saving.is_some() {
            return;
        }
        match self.running.take() {
            Some(Running::Saving) => {}
            Some(Running::SavingBeforeOptIn(opt_in)) => self.take_turn(Op::OptIn(opt_in)),
            Some(Running::SavingBeforeRemoval { op, sent, change, since }) => {
                self.machine.removal_writes(&change);
                self.running = Some(self.put(op, sent, change, None, since));
            }
            Some(Running::SavingForRecheck) => self.recheck(),
            other => self.running = other,
        }
    }

    fn crash(&mut self) {
        // An unapplied write is the network's now: see `World`.
        let was_saved = !self.machine.is_unsaved();
        self.machine = Machine::new(self.durable.clone(), self.machine.do_not_track, 0.0);
        self.machine.sync_delivers();
        self.saving = None;
        self.save_wanted = false;
        self.queue.clear();
        self.running = None;
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

    pub(super) fn summary(&self) -> Summary {
        let request = match &self.running {
            Some(Running::Getting { answer: None, .. }) => Request::Get,
            Some(Running::Getting { .. }) => Request::GetAnswered,
            Some(Running::Putting { change, plan, is_applied: false, .. }) => {
                Request::Put { content: Content::of(&change.outcome()), is_opt_in: plan.is_some() }
            }
            Some(Running::Putting { .. }) => Request::PutApplied,
            _ => Request::None,
        };
        let can_go = match &self.running {
            None => {
                !self.queue.is_empty() || !matches!(self.machine.next(self.now), Next::Sleep(_))
            }
            Some(Running::WaitingForTurn(_)) => self.detached.is_none(),
            Some(_) => false,
        };
        let mut this = self.clone();
        let opts_in = this.running_opt_in().is_some()
            || self
                .queue
                .iter()
                .any(|command| matches!(command, Command::OptIn(opt_in) if !opt_in.is_dropped));
        Summary {
            open: self.machine.id().map(Id::of),
            request,
            detached: self.detached,
            in_flight: request != Request::None
                || self.detached.is_some()
                || matches!(self.running, Some(Running::SavingBeforeRemoval { .. })),
            can_go,
            is_saving: self.saving.is_some(),
            can_retry_save: self.machine.saves.not_before.is_some(),
            settles: self
                .machine
                .made
                .as_ref()
                .and_then(|made| made.settled_at)
                .is_some_and(|settled_at| settled_at > self.now),
            opts_in,
            has_ended: self.machine.has_ended(),
            goes_to_save: self.running.is_none()
                && self.queue.is_empty()
                && self.machine.next(self.now) == Next::Save,
            removes: self.machine.record.removal.is_some(),
            promises: self.monitor.now,
        }
    }

    /// For the report of a violation.
    pub(super) fn describe(&self) -> String {
        let Self { machine, monitor, .. } = self;
        format!(
            "{:?}, {:?}, standing {:?}, epoch {}, removal {:?}, session {:?}{}{}{}{}; proof {:?}",
            machine.gate(),
            machine.decision(),
            machine.standing,
            machine.epoch(),
            machine.record.removal,
            machine.session,
            if machine.settling { ", settling" } else { "" },
            if machine.fetch_wanted { ", fetch wanted" } else { "" },
            if machine.unsaved { ", unsaved" } else { "" },
            if self.saving.is_some() { ", saving" } else { "" },
            monitor.proof,
        )
    }
}

impl Machine {
    fn has_ended(&self) -> bool {
        self.session == Session::Ended
    }
}
