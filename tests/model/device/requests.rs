//! The requests of a device as the network sees them.

use std::time::Duration;

use super::{Device, Monitor, Request, Save, Since, Violation, promises::Race};
use crate::consent::{
    content::Change,
    machine::{
        self, Action, Failure, FailureKind, Outcome, Session,
        model::content::{Content, Id, Member},
        operation::{Operation, Step, Task},
        request::Request as Sent,
    },
};

/// The request in flight.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Wire {
    Get { answer: Option<Content>, since: Since },
    Put { change: Change, content: Content, is_applied: bool, is_lie: bool, since: Since },
}

impl Operation {
    /// Returns whether the next request follows from an earlier one.
    pub(super) fn has_read(&self) -> bool {
        matches!(&self.step, Step::Ready(request) if *request != Sent::Read)
    }

    fn sent(&self) -> Option<&Sent> {
        match &self.step {
            Step::Sent(request) => Some(request),
            Step::Ready(_) | Step::Ended(_) => None,
        }
    }
}

impl Device {
    pub(super) fn since(&mut self) -> Option<&mut Since> {
        match &mut self.request {
            Some(Wire::Get { since, .. } | Wire::Put { since, .. }) => Some(since),
            None => None,
        }
    }

    pub(super) fn outstanding(&self) -> Request {
        match &self.request {
            Some(_) if self.detached.is_some() => Request::WaitsForLock,
            Some(Wire::Get { answer: None, .. }) => Request::Get,
            Some(Wire::Get { .. }) => Request::GetAnswered,
            Some(Wire::Put { change, content, is_applied: false, .. }) => {
                Request::Put { content: *content, is_opt_in: matches!(change, Change::OptIn(..)) }
            }
            Some(Wire::Put { .. }) => Request::PutApplied,
            None => Request::None,
        }
    }

    /// Returns the content of a write in flight that was not applied.
    pub(super) fn unapplied_write(&self) -> Option<Content> {
        match &self.request {
            Some(Wire::Put { content, is_applied: false, .. }) => Some(*content),
            _ => None,
        }
    }

    /// Returns whether `content` may be this device's own write.
    pub(super) fn is_own_write(&self, content: Content) -> bool {
        self.machine.server.write_in_flight.as_ref() == Some(&content.real(self.policy))
    }

    fn sent(&self) -> Option<&Sent> {
        self.machine.operation.as_ref().and_then(Operation::sent)
    }

    fn task(&self) -> Option<Task> {
        self.machine.operation.as_ref().map(|operation| operation.task)
    }

    /// Starts the next action of the machine.
    pub(super) fn go(&mut self) -> Result<(), Violation> {
        match self.machine.poll(self.now) {
            Action::Save(save) => {
                let machine::Save { record, .. } = *save;
                self.saving = Some(Save { record, promises: self.monitor.now });
            }
            Action::Get => {
                let by_itself = self
                    .machine
                    .operation
                    .as_ref()
                    .is_some_and(|operation| operation.call.is_none());
                if !by_itself {
                    self.monitor.app_calls();
                }
                if by_itself && self.monitor.is_asked_to_wait {
                    return Err("P11: a request that the homeserver asked not to send yet");
                }
                if by_itself && self.monitor.must_wait {
                    return Err("P11: a failed operation is tried again at once");
                }
                self.request = Some(Wire::Get { answer: None, since: Since::default() });
            }
            Action::GetAgain => {
                self.request = Some(Wire::Get { answer: None, since: Since::default() });
            }
            Action::Put(change) => {
                let base = std::mem::replace(&mut self.base, Content::UNSET);
                let content = base.after(&change, self.policy);
                let new_id = content.granted().filter(|id| base.usable_id() != Some(*id));
                let new_id = new_id.filter(|_| self.monitor.may_race);
                let day = self.policy.and_then(|policy| content.agreed_on(policy));
                self.monitor.race =
                    new_id.zip(day).map(|(id, day)| Race { id, day, is_written: false });
                // A read before our write does not prove the state after it.
                if self.monitor.proof != content.seen_by(self.policy).opt_in() {
                    self.monitor.proof = None;
                }
                if matches!(self.sent(), Some(Sent::CleanUp { .. })) {
                    if self.monitor.now.has_cleaned {
                        return Err("P5: more than one clean-up in an epoch");
                    }
                    self.monitor.may_be_cleaned = true;
                }
                if let Some(id) = content.granted() {
                    // The ID is on the disk by now, unless the disk fails.
                    self.monitor.now.written |= id.mask();
                    if !self.monitor.has_unreliable_disk {
                        self.each_promise(|promises| promises.written |= id.mask());
                    }
                }
                let since = Since::default();
                self.request =
                    Some(Wire::Put { change, content, is_applied: false, is_lie: false, since });
            }
            Action::Wait(_) => {}
        }
        Ok(())
    }

    /// Detaches a request whose operation was aborted, so that it continues on its own.
    pub(super) fn detach_stale_request(&mut self) {
        if self.request.is_some() && self.sent().is_none() {
            self.detached = self.unapplied_write().or(self.detached);
            self.request = None;
        }
    }

    pub(super) fn answered(&mut self) -> Result<(), Violation> {
        let random = self.random();
        match self.request.take() {
            Some(Wire::Get { answer: Some(content), since }) => {
                self.base = content.without_flag();
                let content = content.seen_by(self.policy);
                self.got(content, since);
                let mints = |device: &Self| {
                    device.machine.opt_in.minted.as_ref().is_some_and(|m| m.id == random.id)
                };
                let had_minted = mints(self);
                let is_first = self.sent() == Some(&Sent::Read);
                self.machine.handle_got(Ok(content.real(self.policy)), self.now, &random);
                if !had_minted && mints(self) {
                    self.minted += 1;
                }
                if self.has_opted_in() {
                    match is_first {
                        true => {
                            if !self.is_agreed_today(content) {
                                return Err("an opt-in recorded no agreement");
                            }
                            self.agree(content, self.day);
                            self.monitor.race.take_if(|race| content.granted() != Some(race.id));
                        }
                        false => self.agree_as_written(content),
                    }
                    self.each_promise(|promises| {
                        promises.opted_out = false;
                        promises.unclean = false;
                        promises.unerased = false;
                    });
                }
                self.note_failure();
            }
            Some(Wire::Put { change, content, since, is_lie, .. }) => {
                match self.sent() {
                    // An acknowledgement does not prove that the write was applied, but the
                    // app shows the user a successful opt-in.
                    Some(Sent::OptIn(_)) => {
                        self.each_promise(|promises| {
                            promises.opted_out = false;
                            promises.forgotten = false;
                            promises.unclean = false;
                            promises.unerased = false;
                            promises.answered |= content.granted().map_or(0, Id::mask);
                        });
                        self.agree_as_written(content);
                        self.new_id_was_written();
                    }
                    Some(Sent::CleanUp { .. }) => {}
                    _ if !is_lie => self.each_promise(|promises| {
                        promises.unerased &= change != Change::Erase;
                        if !since.is_overtaken {
                            promises.cleaned();
                        }
                    }),
                    _ => {}
                }
                self.machine.handle_put(Ok(()), self.now, &random);
            }
            None | Some(Wire::Get { answer: None, .. }) => {}
        }
        Ok(())
    }

    /// Updates the monitor from a read, before the machine sees it.
    fn got(&mut self, content: Content, since: Since) {
        let is_verification = self.sent() == Some(&Sent::Verify);
        if since.proves(content) {
            self.monitor.proof = content.opt_in();
            if self.sent() == Some(&Sent::Read) {
                self.monitor.last_read = content.usable_id();
            }
        }
        if let Some(Sent::ReadBack(plan, _)) = self.sent() {
            let written = Content::of(&plan.change().outcome(), self.policy);
            let day = |content: Content| self.policy.and_then(|policy| content.agreed_on(policy));
            if content.granted() == written.granted() && day(content) >= day(written) {
                self.agree_as_written(content);
                self.new_id_was_written();
            }
        }
        let task = self.task();
        if task == Some(Task::OptIn) && self.sent() == Some(&Sent::Read) {
            self.monitor.may_race = true;
        }
        let is_clean = content == Content::of(&Change::OptOut.outcome(), None);
        let is_restored = content.granted().is_some_and(|id| self.is_retired(id));
        let Monitor { now, may_be_cleaned, saw_clean, .. } = &mut self.monitor;
        if *may_be_cleaned && task == Some(Task::Fetch) && !is_restored {
            *saw_clean = true;
            now.has_cleaned |= since.proves(content) && (!is_verification || is_clean);
        }
        if !since.is_overtaken && content.has_nothing_to_remove() {
            self.each_promise(|promises| promises.cleaned());
        }
        match task {
            Some(Task::Fetch) => {
                if since.proves(content) {
                    let race = self.monitor.race.take().filter(|race| race.is_written);
                    if let Some(id) = content.granted().filter(|_| !is_restored) {
                        match race {
                            Some(Race { day, .. }) => self.monitor.now.agree(id, day),
                            None => self.monitor.now.forget_agreements_but(id),
                        }
                    }
                    self.sees_withdrawal(content, true);
                    if content.id() == Member::Absent {
                        self.each_promise(|promises| promises.forgotten = false);
                    }
                }
            }
            Some(Task::Removal) if is_verification => {
                // Another device opted in after the write.
                let is_later = content.granted().is_some() && !is_restored;
                if is_later && !since.is_overtaken {
                    self.each_promise(|promises| promises.cleaned());
                }
            }
            Some(Task::Removal) => {
                if let Some(id) = content.usable_id()
                    && !since.is_overtaken
                    && !since.is_closed
                {
                    self.monitor.now.retired |= id.mask();
                }
            }
            Some(Task::OptIn) | None => {}
        }
    }

    /// Notes that an opt-in here was acknowledged, or read back.
    fn agree_as_written(&mut self, content: Content) {
        let policy = self.policy;
        if let Some(day) = policy.and_then(|policy| content.agreed_on(policy)) {
            self.agree(content, day);
        }
    }

    /// Notes that the user agreed to the policy on `day`, under the ID of `content`.
    fn agree(&mut self, content: Content, day: u8) {
        if let Some(id) = content.granted().filter(|_| self.policy.is_some()) {
            self.monitor.now.agree(id, day);
        }
    }

    /// Notes that an opt-in here was acknowledged, or read back. Until the settle time ends, the
    /// account may get the ID of another device that opted in at once.
    fn new_id_was_written(&mut self) {
        if let Some(race) = &mut self.monitor.race {
            race.is_written = true;
        }
    }

    /// Returns whether `content` has an agreement of today to the policy, if there is one.
    fn is_agreed_today(&self, content: Content) -> bool {
        self.policy.is_none_or(|policy| content.agreed_on(policy) == Some(self.day))
    }

    fn is_retired(&self, id: Id) -> bool {
        self.monitor.now.retired & id.mask() != 0
    }

    /// Returns whether an opt-in has just succeeded by a read.
    fn has_opted_in(&self) -> bool {
        self.machine.operation.as_ref().is_some_and(|operation| {
            operation.task == Task::OptIn && operation.step == Step::Ended(Outcome::Done)
        })
    }

    pub(super) fn failed(&mut self, kind: FailureKind, retry_after: Option<Duration>) {
        self.request = None;
        match kind {
            FailureKind::Guest => {
                self.monitor.has_evidence = false;
                self.monitor.proof = None;
            }
            FailureKind::Locked => self.monitor.proof = None,
            FailureKind::Unanswered | FailureKind::Refused => {}
        }
        let failure = Failure { kind, retry_after };
        let random = self.random();
        match self.sent() {
            Some(Sent::CleanUp { .. } | Sent::Remove(_) | Sent::OptIn(_)) => {
                self.machine.handle_put(Err(failure), self.now, &random);
            }
            _ => self.machine.handle_got(Err(failure), self.now, &random),
        }
        self.note_failure();
    }

    /// Notes that a failed operation must not be tried again at once.
    fn note_failure(&mut self) {
        if let Some(Operation { task: Task::Fetch | Task::Removal, step, .. }) =
            &self.machine.operation
            && *step == Step::Ended(Outcome::Failed)
        {
            self.monitor.must_wait = true;
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.machine.session == Session::Ended
    }
}

impl Content {
    pub(super) fn usable_id(self) -> Option<Id> {
        match self.id() {
            Member::Usable(id) => Some(id),
            Member::Absent | Member::Unusable => None,
        }
    }
}
