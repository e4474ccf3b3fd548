//! Calls of the app that wait for their end.

use std::collections::VecDeque;

use super::Machine;

/// The number of a call of the app, chosen by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CallId(pub(crate) u64);

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum Outcome {
    Done,
    /// A request failed.
    Failed,
    /// The record could not be saved.
    NotSaved,
    /// The removal is not done, and continues in the background.
    Pending,
    /// An opt-out followed the `opt_in()`.
    Withdrawn,
    SessionEnded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) enum CallKind {
    OptIn,
    Recheck,
    /// An opt-out or the end of the session, which tries a pending removal once.
    Removal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Call {
    pub(super) id: CallId,
    pub(super) kind: CallKind,
}

/// The calls that wait and the calls that have ended. Calls are processed one at a time,
/// in their order.
#[derive(Clone, Debug, Default)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(super) struct Calls {
    pub(super) queue: VecDeque<Call>,
    pub(super) finished: VecDeque<(CallId, Outcome)>,
}

impl Machine {
    /// Takes the next call that has ended, with its outcome.
    pub(crate) fn take_finished(&mut self) -> Option<(CallId, Outcome)> {
        self.calls.finished.pop_front()
    }

    /// Handles a call of `recheck()`.
    pub(crate) fn handle_recheck(&mut self, id: CallId) {
        self.enqueue(id, CallKind::Recheck);
    }

    pub(super) fn enqueue(&mut self, id: CallId, kind: CallKind) {
        self.calls.queue.push_back(Call { id, kind });
    }

    pub(super) fn finish(&mut self, call: Option<CallId>, outcome: Outcome) {
        self.calls.finished.extend(call.map(|call| (call, outcome)));
    }
}
