//! The promises, told by what happened to a device and never by its machine.

use super::{Device, Input, Violation, requests::Wire};
use crate::{
    consent::{
        machine::{
            Session,
            model::content::{Content, Id},
            operation::Task,
        },
        record::Removal,
        state::{Consent, GateState},
    },
    gate::WipeReason,
};

/// What came since a request was sent.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Since {
    /// A local call.
    pub(super) is_overtaken: bool,
    /// Sync showed a no.
    pub(super) is_closed: bool,
    /// What sync showed last; nothing, if the session was lost and it showed nothing
    /// since.
    pub(super) shown: Option<Option<Content>>,
}

impl Since {
    pub(super) fn proves(self, content: Content) -> bool {
        !self.is_overtaken
            && !self.is_closed
            && self.shown.is_none_or(|shown| shown == Some(content))
    }
}

/// What was promised to the user, told by what happened and never by the machine.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Monitor {
    pub(super) now: Promises,
    /// What of it was acknowledged to be on disk.
    pub(super) durable: Promises,
    /// The ID beside the yes that this process has proof of.
    pub(super) proof: Option<Id>,
    pub(super) last_open: Option<Id>,
    /// The ID that the last operation began with, and no `false` in sync came since.
    pub(super) last_read: Option<Id>,
    /// The epoch went up since then.
    pub(super) is_raised: bool,
    /// An unasked clean-up was written in this epoch.
    pub(super) may_be_cleaned: bool,
    /// An answer since then showed that it was applied.
    pub(super) saw_clean: bool,
    /// A save failed: what a receipt says of the disk is not sure.
    pub(super) has_unreliable_disk: bool,
    /// An operation that the machine began by itself failed, and neither time nor a sign
    /// that the network is there has come since.
    pub(super) must_wait: bool,
    /// The homeserver asked to be left alone, and the time is not over.
    pub(super) is_asked_to_wait: bool,
    /// There was evidence that the session works since it was last lost.
    pub(super) has_evidence: bool,
}

impl Monitor {
    /// A call of the app: it is tried at once.
    pub(super) fn app_calls(&mut self) {
        self.must_wait = false;
        self.is_asked_to_wait = false;
    }

    pub(super) fn session_works(&mut self) {
        self.must_wait = false;
        self.has_evidence = true;
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Promises {
    /// The user said no, and nobody has said yes since.
    pub(super) no: bool,
    /// The record could not be read: only the user's own new yes opens.
    pub(super) forgotten: bool,
    /// The account has still to be cleaned.
    pub(super) unclean: bool,
    /// The event has still to be erased.
    pub(super) unerased: bool,
    /// An unasked clean-up was proved to be applied in this epoch.
    pub(super) has_cleaned: bool,
    /// The IDs that were in use.
    pub(super) used: u16,
    /// The IDs that an opt-in here has begun to write, and of these those whose write was
    /// answered.
    pub(super) written: u16,
    pub(super) answered: u16,
    /// The IDs that must not be used again.
    pub(super) retired: u16,
}

impl Promises {
    /// The account was seen without an ID, or left so.
    pub(super) fn cleaned(&mut self) {
        if !self.unerased && std::mem::take(&mut self.unclean) {
            self.forgotten = false;
        }
    }
}

impl Device {
    pub(super) fn each_promise(&mut self, change: impl Fn(&mut Promises)) {
        change(&mut self.monitor.now);
        change(&mut self.monitor.durable);
        if let Some(save) = &mut self.saving {
            change(&mut save.promises);
        }
    }

    /// Checks what holds after `input`.
    pub(super) fn judge(&mut self, before: &Self, input: Input) -> Result<(), Violation> {
        let Monitor { now, durable, .. } = self.monitor;
        let wipe = self.machine.take_wipe();
        let is_raised = self.machine.epoch() > before.machine.epoch();
        let gate = self.machine.gate();
        let is_closed = matches!(gate, GateState::Closed(_));

        if matches!(input, Input::OptOut(_) | Input::Deny | Input::EndSession)
            && !before.has_ended()
            && !(is_closed && wipe == Some(WipeReason::Withdrawn) && is_raised)
        {
            return Err("P3: a withdrawal closes, wipes and raises the epoch at once");
        }
        // A new process, or a new handle, begins with an empty queue.
        if !matches!(input, Input::Crash | Input::Rebuild) {
            if self.machine.epoch() < before.machine.epoch() {
                return Err("P6: the epoch went down");
            }
            if is_raised != wipe.is_some() {
                return Err("P6: an epoch without a wipe, or a wipe without an epoch");
            }
            let was_closed = matches!(before.machine.gate(), GateState::Closed(_));
            if is_closed && !was_closed && !is_raised {
                return Err("P2: the gate closed and left the queue behind");
            }
            let (old, new) = (before.machine.decision(), self.machine.decision());
            let opts_in = !before.opt_in_calls().is_empty();
            if old == Consent::Granted && new == Consent::Denied && !is_raised && !opts_in {
                return Err("P6: a withdrawal did not raise the epoch");
            }
            if old != new && input.says_nothing(before) {
                return Err("P5: a decision was overwritten by an absence");
            }
        }
        // A session that is lost twice was perhaps renewed in between, for which an opt-in
        // that was begun in between is evidence: its own answer decides.
        let is_lost = matches!(input, Input::SessionIs(Session::Lost))
            && before.machine.session != Session::Lost;
        let withdraws = is_lost || matches!(input, Input::OptOut(_) | Input::EndSession);
        if withdraws && !before.has_ended() && !self.opt_in_calls().is_empty() {
            return Err("P4: an opt-in goes on although the user opted out after it");
        }
        if now.unclean && self.machine.record.removal.is_none() {
            return Err("P4: a removal was forgotten");
        }
        if now.unerased && self.machine.record.removal != Some(Removal::Event) {
            return Err("P4: an erasure was forgotten");
        }
        if durable.unclean && self.durable.removal.is_none() {
            return Err("P4: a removal was forgotten on disk");
        }
        self.monitor.is_raised |= is_raised;
        self.monitor.now.has_cleaned &= !is_raised;
        self.monitor.may_be_cleaned &= !is_raised;
        self.monitor.saw_clean &= !is_raised;
        if gate != GateState::Open {
            return Ok(());
        }

        let Some(id) = self.machine.id().map(Id::of) else { return Err("P6: open under no ID") };
        if self.monitor.proof != Some(id) {
            return Err("P1, P2, P6: open without proof of this very ID");
        }
        if now.no || now.forgotten {
            return Err("P4: open although the user's last word was no");
        }
        if now.unclean {
            return Err("P4: open while a removal is pending");
        }
        if now.retired & id.mask() != 0 {
            return Err("P6: a retired ID is in use");
        }
        if self.monitor.last_open.is_some_and(|last| last != id) && !self.monitor.is_raised {
            return Err("P6: a new ID in an old epoch");
        }
        self.monitor.last_open = Some(id);
        self.monitor.now.used |= id.mask();
        self.monitor.is_raised = false;
        Ok(())
    }

    /// Checks what must hold when nothing is under way, while the server holds
    /// `server`.
    pub(in super::super) fn judge_quiet(&self, server: Content) -> Result<(), Violation> {
        let machine = &self.machine;
        let open = machine.id().map(Id::of);
        if open.is_some() && open != server.granted() {
            return Err("P2, P6: quiet and open, and the server holds something else");
        }
        if !matches!(machine.session, Session::Live | Session::Ended)
            && self.monitor.has_evidence
            && !machine.is_vetoed()
        {
            return Err("quiet, and a session that works is not used");
        }
        let may_open = machine.session != Session::Ended && !machine.is_vetoed();
        if may_open && machine.upcoming(self.now).is_none() {
            return Err("P2: quiet, and nothing would ever ask the homeserver again");
        }
        let has_network = matches!(machine.session, Session::Live | Session::Unavailable);
        if has_network && machine.record.removal.is_some() && !machine.opt_in.settling {
            return Err("P4: quiet, and a removal is pending");
        }
        if machine.is_unsaved() || machine.record != self.durable {
            return Err("P4: quiet, and the record is not saved");
        }
        if machine.session != Session::Live || machine.is_vetoed() {
            return Ok(());
        }
        if machine.opt_in.settling || machine.is_opting_in() {
            return Err("quiet, and an opt-in is in progress");
        }
        if server.flag() == Some(false) && machine.decision() != Consent::Denied {
            return Err("quiet, and a no of the server is not known");
        }
        let Promises { no, retired, has_cleaned, .. } = self.monitor.now;
        let restored = server.granted().filter(|id| retired & id.mask() != 0);
        if no && restored.is_some() && !has_cleaned && !self.monitor.saw_clean {
            return Err("P4: quiet, and an ID that was withdrawn here and restored is not removed");
        }
        match server.granted() {
            Some(id) if open.is_none() && !machine.record.is_retired(&id.real()) => {
                Err("P6: quiet, and a yes of the server is not followed")
            }
            _ => Ok(()),
        }
    }
}

impl Input {
    /// Whether it shows a content without a decision.
    fn says_nothing(self, before: &Device) -> bool {
        let task = before.machine.operation.as_ref().map(|operation| operation.task);
        match (self, &before.request) {
            (Self::Synced(content), _) => content.flag().is_none(),
            (Self::Answered, Some(Wire::Get { answer: Some(content), .. }))
                if task != Some(Task::OptIn) =>
            {
                content.flag().is_none() && !before.machine.record.is_unreadable()
            }
            _ => false,
        }
    }
}
