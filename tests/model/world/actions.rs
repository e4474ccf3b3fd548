//! The actions that can follow a state.

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
    /// A write gets no answer.
    FailWrite(u8, Fate),
    /// Sync shows the nth pending content to a device, and skips those before.
    Sync(u8, u8),
    /// Sync shows the nth of the last shown contents again.
    Replay(u8, u8),
    Crash(u8),
    /// A year passes.
    Ages,
    Foreign(ForeignClient),
    ForeignWrites,
}

/// The effect of a write that got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    NotApplied,
    /// Applied within the time limit of a write, or not at all.
    Soon,
    /// Applied at any time, or not at all.
    Late,
}

impl World {
    /// Collects the actions that have to happen eventually.
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
                Request::None | Request::WaitsForLock => {}
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

    /// Collects the actions that may or may not happen.
    pub(super) fn may_come(&self, scenario: &Scenario, arena: &Arena, actions: &mut Vec<Action>) {
        let remaining = self.remaining;
        for index in 0..self.count() {
            let device = u8::try_from(index).unwrap();
            let of = self.of(arena, index);
            let mut input = |budget: u8, input| {
                if budget > 0 {
                    actions.push(Action::Device(device, input));
                }
            };
            if !of.has_ended {
                input(remaining.opt_in[index], Input::OptIn);
                input(remaining.session, Input::EndSession);
                input(remaining.session, Input::SessionIs(Session::Lost));
                input(remaining.session, Input::SessionIs(Session::SoftLogout));
                input(remaining.session, Input::SessionIs(Session::Live));
                input(remaining.session, Input::MissedSessionChanges);
                input(remaining.deliver, Input::Delivered);
                input(remaining.rebuild, Input::Rebuild);
                if of.has_timer {
                    input(remaining.recheck_due, Input::RecheckDue);
                }
                if of.settles && self.awaited[index] == 0 {
                    input(remaining.sleep, Input::SettledLongAgo);
                }
                if of.has_later_day {
                    input(remaining.clock, Input::ClockGoesBack);
                }
            }
            input(remaining.opt_out[index], Input::OptOut(Removal::Id));
            input(remaining.erase[index], Input::OptOut(Removal::Event));
            input(remaining.veto[index], Input::Deny);
            input(remaining.veto[index], Input::Allow);
            input(remaining.recheck, Input::Recheck);
            if of.opts_in {
                input(remaining.drop_opt_in, Input::DropOptIn);
            }
            if of.is_saving {
                input(remaining.save_failure, Input::SaveFailed { is_written: false });
                input(remaining.save_failure, Input::SaveFailed { is_written: true });
            }
            match of.request {
                Request::Get
                | Request::GetAnswered
                | Request::PutApplied
                | Request::WaitsForLock => {
                    input(remaining.lose, Input::Failed(FailureKind::Unanswered));
                }
                Request::Put { .. } | Request::None => {}
            }
            if matches!(of.request, Request::Get | Request::Put { .. }) {
                input(remaining.ask_to_wait, Input::AskedToWait);
                input(remaining.session, Input::Failed(FailureKind::Guest));
                input(remaining.session, Input::Failed(FailureKind::Locked));
            }
            if matches!(of.request, Request::Put { .. }) {
                input(remaining.lie, Input::Lied);
            }
            if matches!(of.request, Request::Put { .. }) && remaining.lose > 0 {
                actions.push(Action::FailWrite(device, Fate::NotApplied));
                actions.push(Action::FailWrite(device, Fate::Soon));
                if remaining.late > 0 {
                    actions.push(Action::FailWrite(device, Fate::Late));
                }
            }
            if remaining.replay > 0 {
                for nth in 0..self.shown[index].iter().count() {
                    actions.push(Action::Replay(device, u8::try_from(nth).unwrap()));
                }
            }
            if remaining.crash > 0 {
                actions.push(Action::Crash(device));
            }
        }
        if remaining.age > 0 {
            actions.push(Action::Ages);
        }
        if remaining.foreign > 0 && self.foreign.is_none() {
            actions.extend(scenario.foreign.iter().map(|client| Action::Foreign(*client)));
        }
    }
}
