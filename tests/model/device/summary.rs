//! The part of a device that [`World`](super::super::world::World) depends on.

use super::{
    super::content::{Content, Id},
    Device,
    promises::Promises,
};
use crate::consent::machine::{Action, Session, operation::Operation};

/// The properties of a device that decide which actions are possible.
#[derive(Clone, Copy)]
pub(crate) struct Summary {
    pub(crate) open: Option<Id>,
    pub(crate) request: Request,
    pub(crate) detached: Option<Content>,
    /// Whether a request is in flight, or a write that follows from a read is due.
    pub(crate) in_flight: bool,
    pub(crate) can_go: bool,
    pub(crate) is_saving: bool,
    pub(crate) can_retry_save: bool,
    pub(crate) can_retry: bool,
    pub(crate) is_asked_to_wait: bool,
    pub(crate) has_timer: bool,
    /// Whether a new ID waits for the end of its settle time.
    pub(crate) settles: bool,
    pub(crate) opts_in: bool,
    /// Whether a year has passed.
    pub(crate) has_later_day: bool,
    pub(crate) has_ended: bool,
    removes: bool,
    promises: Promises,
}

impl Summary {
    /// Returns whether the device must not use `id`, because it was or is to be removed.
    pub(crate) fn refuses(&self, id: Id) -> bool {
        self.removes || self.promises.forgotten || self.promises.retired & id.mask() != 0
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    None,
    /// The request waits until a detached write has ended.
    WaitsForLock,
    Get,
    GetAnswered,
    Put {
        content: Content,
        is_opt_in: bool,
    },
    PutApplied,
}

impl Device {
    pub(crate) fn summary(&self) -> Summary {
        let mut polled = self.machine.clone();
        let action = polled.poll(self.now);
        let machine = &self.machine;
        let request = self.outstanding();
        let is_between = machine.operation.as_ref().is_some_and(Operation::has_read);
        Summary {
            open: machine.id().map(Id::of),
            request,
            detached: self.detached,
            in_flight: request != Request::None || self.detached.is_some() || is_between,
            can_go: !matches!(action, Action::Wait(_)) || polled != *machine,
            is_saving: self.saving.is_some(),
            can_retry_save: machine.disk.backoff.is_waiting_to_retry(),
            can_retry: machine.wake.backoff.is_waiting_to_retry(),
            is_asked_to_wait: machine.wake.backoff.is_asked_to_wait(),
            has_timer: machine.wake.timer.due.is_some_and(|due| due > self.now),
            settles: machine
                .opt_in
                .minted
                .as_ref()
                .and_then(|minted| minted.settled_at)
                .is_some_and(|settled_at| settled_at > self.now),
            opts_in: !self.opt_in_calls().is_empty(),
            has_later_day: self.day > 1,
            has_ended: machine.session == Session::Ended,
            removes: machine.record.removal.is_some(),
            promises: self.monitor.now,
        }
    }
}
