//! What can happen next.

use super::{
    super::{
        arena::Arena,
        device::{Input, Request},
        foreign::ForeignClient,
        scenario::Scenario,
    },
    World,
};
use crate::consent::{
    machine::{FailureKind, Session},
    record::Removal,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Device(u8, Input),
    /// The server applies the write of a device.
    Apply(u8),
    ApplyDetached(u8),
    ApplyLoose(u8),
    DropLoose(u8),
    /// A write fails, and …
    FailWrite(u8, Fate),
    /// Sync shows the device the nth content that waits for it, and skips those
    /// before.
    Sync(u8, u8),
    /// Sync shows again what it showed the nth last time.
    Replay(u8, u8),
    Crash(u8),
    Foreign(ForeignClient),
    ForeignWrites,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    NotApplied,
    /// Applied within the bound on a write, or not at all.
    Soon,
    /// Applied at any time, or not at all.
    Late,
}

impl World {
    /// What happens by itself, sooner or later.
    pub(super) fn must_come(&self, scenario: &Scenario, arena: &Arena, actions: &mut Vec<Action>) {
        for index in 0..self.count() {
            let device = u8::try_from(index).unwrap();
            let of = self.of(arena, index);
            let mut input = |input| actions.push(Action::Device(device, input));
            if of.can_go {
                input(Input::Go);
            }
            if of.is_saving {
                input(Input::Saved);
            }
            if of.can_retry_save {
                input(Input::SaveRetryDue);
            }
            if of.can_retry {
                input(Input::RetryDue);
            }
            if of.is_asked_to_wait {
                input(Input::RequestedWaitOver);
            }
            match of.request {
                Request::None | Request::WaitsForTurn => {}
                Request::Get => input(Input::Read(self.server)),
                Request::GetAnswered | Request::PutApplied => input(Input::Answered),
                Request::Put { .. } => actions.push(Action::Apply(device)),
            }
            if of.detached.is_some() {
                actions.push(Action::ApplyDetached(device));
            }
            if of.settles
                && (scenario.settles_too_early
                    || self.awaited[index] == 0
                        && of.detached.is_none()
                        && !self.has_bounded_loose(index))
            {
                actions.push(Action::Device(device, Input::Settled));
            }
            for nth in 0..self.inboxes[index].iter().count() {
                actions.push(Action::Sync(device, u8::try_from(nth).unwrap()));
            }
        }
        for nth in 0..self.loose.iter().count() {
            let nth = u8::try_from(nth).unwrap();
            actions.extend([Action::ApplyLoose(nth), Action::DropLoose(nth)]);
        }
        if self.foreign.is_some() {
            actions.push(Action::ForeignWrites);
        }
    }

    /// What may happen or not.
    pub(super) fn may_come(&self, scenario: &Scenario, arena: &Arena, actions: &mut Vec<Action>) {
        let left = self.left;
        for index in 0..self.count() {
            let device = u8::try_from(index).unwrap();
            let of = self.of(arena, index);
            let mut input = |budget: u8, input| {
                if budget > 0 {
                    actions.push(Action::Device(device, input));
                }
            };
            if !of.has_ended {
                input(left.opt_in[index], Input::OptIn);
                input(left.session, Input::EndSession);
                input(left.session, Input::SessionIs(Session::Lost));
                input(left.session, Input::SessionIs(Session::SoftLogout));
                input(left.session, Input::SessionIs(Session::Live));
                input(left.session, Input::MissedSessionChanges);
                input(left.deliver, Input::Delivered);
                input(left.rebuild, Input::Rebuild);
                if of.has_timer {
                    input(left.recheck_due, Input::RecheckDue);
                }
            }
            input(left.opt_out[index], Input::OptOut(Removal::Id));
            input(left.erase[index], Input::OptOut(Removal::Event));
            input(left.veto[index], Input::Deny);
            input(left.veto[index], Input::Allow);
            input(left.recheck, Input::Recheck);
            if of.opts_in {
                input(left.drop_opt_in, Input::DropOptIn);
            }
            if of.is_saving {
                input(left.save_failure, Input::SaveFailed { is_written: false });
                input(left.save_failure, Input::SaveFailed { is_written: true });
            }
            match of.request {
                Request::Get
                | Request::GetAnswered
                | Request::PutApplied
                | Request::WaitsForTurn => {
                    input(left.lose, Input::Failed(FailureKind::Unanswered));
                }
                Request::Put { .. } | Request::None => {}
            }
            if matches!(of.request, Request::Get | Request::Put { .. }) {
                input(left.ask_to_wait, Input::AskedToWait);
                input(left.session, Input::Failed(FailureKind::Guest));
                input(left.session, Input::Failed(FailureKind::Locked));
            }
            if matches!(of.request, Request::Put { .. }) {
                input(left.lie, Input::Lied);
            }
            if matches!(of.request, Request::Put { .. }) && left.lose > 0 {
                actions.push(Action::FailWrite(device, Fate::NotApplied));
                actions.push(Action::FailWrite(device, Fate::Soon));
                if left.late > 0 {
                    actions.push(Action::FailWrite(device, Fate::Late));
                }
            }
            if left.replay > 0 {
                for nth in 0..self.shown[index].iter().count() {
                    actions.push(Action::Replay(device, u8::try_from(nth).unwrap()));
                }
            }
            if left.crash > 0 {
                actions.push(Action::Crash(device));
            }
        }
        if left.foreign > 0 && self.foreign.is_none() {
            actions.extend(scenario.foreign.iter().map(|client| Action::Foreign(*client)));
        }
    }
}
