//! The promises, derived from the inputs of a device and never from its machine.

use super::{Device, Input, Violation, requests::Wire};
use crate::{
    consent::{
        machine::{
            Session,
            model::content::{Content, Id},
            operation::Task,
        },
        record::Removal,
        state::{ClosedReason, Consent, GateState, Prompt},
    },
    gate::WipeReason,
};

/// The events since a request was sent.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Since {
    /// Whether there was a local call.
    pub(super) is_overtaken: bool,
    /// Whether sync showed a `false`.
    pub(super) is_closed: bool,
    /// The last content in sync; an inner `None` if the session was lost after it.
    pub(super) shown: Option<Option<Content>>,
}

impl Since {
    pub(super) fn proves(self, content: Content) -> bool {
        !self.is_overtaken
            && !self.is_closed
            && self.shown.is_none_or(|shown| shown == Some(content))
    }
}

/// The promises in force, and the events that they depend on.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Monitor {
    pub(super) now: Promises,
    /// The promises that were acknowledged to be on disk.
    pub(super) durable: Promises,
    /// The opt-in that this process has proof of.
    pub(super) proof: Option<Content>,
    /// The new ID of the last opt-in of this process, while another device may have opted in at
    /// the same time.
    pub(super) race: Option<Race>,
    /// Whether the opt-in in progress has read the account, and no withdrawal was seen since.
    pub(super) may_race: bool,
    /// The ID under which the gate was last open.
    pub(super) last_open: Option<Id>,
    /// The ID in the first read of the last operation, unless a `false` has been seen since.
    pub(super) last_read: Option<Id>,
    /// Whether the epoch was raised since the gate was last open.
    pub(super) is_raised: bool,
    /// Whether a clean-up of a restored ID was written in this epoch.
    pub(super) may_be_cleaned: bool,
    /// Whether a later answer showed that the clean-up was applied.
    pub(super) saw_clean: bool,
    /// Whether a save failed, so that it is unknown what is on the disk.
    pub(super) has_unreliable_disk: bool,
    /// Whether an operation failed, and neither the wait has ended nor something has shown
    /// since that the network works.
    pub(super) must_wait: bool,
    /// Whether the homeserver asked to wait, and the wait has not ended.
    pub(super) is_asked_to_wait: bool,
    /// Whether there was evidence that the session works since it was last lost.
    pub(super) has_evidence: bool,
}

impl Monitor {
    /// Notes a call of the app, which is tried at once.
    pub(super) fn app_calls(&mut self) {
        self.must_wait = false;
        self.is_asked_to_wait = false;
    }

    /// Notes a sign that the user withdrew, or that too much time has passed.
    pub(super) fn end_race(&mut self) {
        self.race = None;
        self.may_race = false;
    }

    pub(super) fn session_works(&mut self) {
        self.must_wait = false;
        self.has_evidence = true;
    }
}

/// A new ID that this process writes, and the day of the agreement under it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Race {
    pub(super) id: Id,
    pub(super) day: u8,
    /// Whether the write was acknowledged, or read back.
    pub(super) is_written: bool,
}

/// The promises to the user. IDs are sets of bits, see [`Id::mask`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Promises {
    /// Whether the user opted out, and has not opted in since.
    pub(super) opted_out: bool,
    /// Whether the record could not be read, so that only a new opt-in by the user opens.
    pub(super) forgotten: bool,
    /// Whether the account has yet to be cleaned.
    pub(super) unclean: bool,
    /// Whether the last opt-out was one on this device.
    pub(super) removed_here: bool,
    /// Whether the event has yet to be erased.
    pub(super) unerased: bool,
    /// Whether a clean-up of a restored ID was proven to be applied in this epoch.
    pub(super) has_cleaned: bool,
    /// The IDs that were in use.
    pub(super) used: u16,
    /// The IDs that an opt-in here has begun to write.
    pub(super) written: u16,
    /// The IDs whose write by an opt-in here was acknowledged.
    pub(super) answered: u16,
    /// The IDs that must not be used again.
    pub(super) retired: u16,
    /// The IDs under which the user agreed to the policy on this device, by day.
    pub(super) agreed: [u16; 2],
}

impl Promises {
    /// Notes that the user agreed to the policy on this device under `id`. An agreement has one
    /// time, the last one.
    pub(super) fn agree(&mut self, id: Id, day: u8) {
        self.agreed = [0; 2];
        self.agreed[usize::from(day - 1)] = id.mask();
    }

    /// Notes that the account has `id`. If an earlier ID comes back, the user may be asked again.
    pub(super) fn forget_agreements_but(&mut self, id: Id) {
        self.agreed = self.agreed.map(|ids| ids & id.mask());
    }

    /// Notes that the account was seen clean, or was cleaned.
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

    /// Checks the promises after `input`.
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
                return Err("P2: the gate closed without wiping the queue");
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
        // A session that is lost twice may have been renewed in between. An opt-in that was
        // called in between is evidence of that, and its own answer decides.
        let is_lost = matches!(input, Input::SessionIs(Session::Lost))
            && before.machine.session != Session::Lost;
        let withdraws = is_lost || matches!(input, Input::OptOut(_) | Input::EndSession);
        if withdraws && !before.has_ended() && !self.opt_in_calls().is_empty() {
            return Err("P4: an opt-in continues although the user opted out after it");
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
        if gate == GateState::Closed(ClosedReason::PolicyNotAgreed)
            && let Some(id) = self.monitor.proof.and_then(Content::granted)
            && now.agreed[usize::from(self.day - 1)] & id.mask() != 0
            // An earlier `false` that sync shows late retires more than `now` says.
            && !self.machine.record.is_retired(&id.real())
        {
            return Err("a user who agreed on this device is asked again under the same ID");
        }
        if gate != GateState::Open {
            return Ok(());
        }
        if matches!(input, Input::Ages | Input::ClockGoesBack)
            && before.machine.gate() != GateState::Open
        {
            return Err("P2: time alone opened the gate");
        }

        let Some(id) = self.machine.id().map(Id::of) else { return Err("P6: open under no ID") };
        let Some(proof) = self.monitor.proof.filter(|proof| proof.granted() == Some(id)) else {
            return Err("P1, P2, P6: open without proof of this very ID");
        };
        if !self.agrees_to(proof) {
            return Err("open although the user did not agree to the policy");
        }
        if now.opted_out || now.forgotten {
            return Err("P4: open although the user's last decision was an opt-out");
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

    /// Returns whether `opt_in` agrees to the policy, by itself or because the user did so on
    /// this device.
    fn agrees_to(&self, opt_in: Content) -> bool {
        let Some(policy) = self.policy else { return true };
        let agreed_here = self.monitor.now.agreed[usize::from(self.day - 1)];
        opt_in.agreed_on(policy) == Some(self.day)
            || opt_in.granted().is_some_and(|id| agreed_here & id.mask() != 0)
    }

    /// Checks that the device has converged with the content `server` of the server, in a
    /// state where nothing is in progress. `has_foreign` is whether another client has written.
    pub(in super::super) fn judge_quiet(
        &self,
        server: Content,
        has_foreign: bool,
    ) -> Result<(), Violation> {
        let machine = &self.machine;
        let server = server.seen_by(self.policy);
        let open = machine.id().map(Id::of);
        if open.is_some() && open != server.granted() {
            return Err("P2, P6: quiet and open under another ID than the server's");
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
            return Err("quiet, and an opt-out on the server is not known");
        }
        let Promises { opted_out, removed_here, retired, has_cleaned, .. } = self.monitor.now;
        if opted_out && removed_here && !has_foreign && server.has_agreements() {
            return Err("P4: quiet, and an opt-out left the agreements");
        }
        let restored = server.granted().filter(|id| retired & id.mask() != 0);
        if opted_out && restored.is_some() && !has_cleaned && !self.monitor.saw_clean {
            return Err("P4: quiet, and an ID that was withdrawn here and restored is not removed");
        }
        match server.granted() {
            Some(id) if open.is_none() && !machine.record.is_retired(&id.real()) => {
                match machine.state().prompt() {
                    _ if self.agrees_to(server) => {
                        Err("P6: quiet, and an opt-in on the server is not followed")
                    }
                    Prompt::Ask => Ok(()),
                    _ => Err("quiet, and the user is not asked to agree to the policy"),
                }
            }
            _ => Ok(()),
        }
    }
}

impl Input {
    /// Returns whether this input shows content without a decision.
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
