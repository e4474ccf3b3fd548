//! The consent state machine, without I/O, a clock or randomness.
//!
//! The machine owns the order of every operation. [`Machine::poll`] returns the next
//! action. The caller carries it out and passes the result to a `handle_…` method. Calls
//! of the app, sync and session changes enter through `handle_…` methods as well. The
//! caller makes no decision of its own. The model check drives the same interface.
//!
//! # Transitions: this device's record and the answer to a GET
//!
//! | record | `true` + usable ID | `true`, no ID | `false` | nothing, or not a boolean |
//! |---|---|---|---|---|
//! | none | Granted, Open | Granted, Holding(MissingId) | Denied | Undecided, Ask |
//! | Granted | same ID: Open; another: wipe, adopt, Open | Holding(MissingId) | Denied, wipe | Closed(DecisionErased), wipe, nothing written |
//! | Denied, clean | an ID retired here: Denied, one clean-up an epoch; another: Granted, Open | Denied | Denied | Denied |
//! | Denied, removal pending | PUT, read back | PUT, read back | `id` member or agreements: PUT, read back; else discharged | `id` member or agreements: PUT, read back; else discharged |
//!
//! With a policy, "Open" also takes an agreement to it: in the content, or given on this
//! device under the same ID. Without one, the gate is Closed(PolicyNotAgreed), with a wipe,
//! and so it is for `true` without an ID. [`policy`] has the details.
//!
//! A retired ID is not usable, except where the table names it. Every wipe raises the
//! epoch, and the gate wipes whenever it closes.
//!
//! # Layers of the state
//!
//! - The *decision* is the [`Record`], which [`Disk`] saves.
//! - The *confirmation* is [`Server`]: the content last known to be on the homeserver.
//! - The *gate* is derived from both by [`Machine::gate`].
//!
//! At most one [`Operation`] is in flight. [`Wake`] decides when the machine begins the
//! next one without a call of the app.

mod backoff;
mod calls;
mod decision;
mod fetch;
#[cfg(test)]
#[path = "../../tests/model/model.rs"]
mod model;
mod operation;
mod opt_in;
mod policy;
mod queries;
mod removal;
mod request;
mod save;
mod server;
mod session;
mod sync;
#[cfg(test)]
mod tests;
mod upcoming;

use std::time::Duration;

use tokio::time::Instant;

use self::{
    calls::Calls,
    operation::Operation,
    opt_in::OptIn,
    policy::Asked,
    save::Disk,
    server::{Generation, LastAnswer, Server},
    upcoming::Wake,
};
pub(crate) use self::{
    calls::{CallId, Outcome},
    request::{Failure, FailureKind},
    session::Session,
};
use super::{content::Change, record::Record};
use crate::{analytics_id::AnalyticsId, gate::WipeReason};

/// The state behind [`ConsentState`](crate::consent::state::ConsentState).
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(crate) struct Machine {
    settings: Settings,
    asked: Asked,
    record: Record,
    disk: Disk,
    server: Server,
    session: Session,
    opt_in: OptIn,
    /// Whether the user opted out in this process, so that the account needs a `false`
    /// for other devices to see.
    removal_ordered: bool,
    /// Whether a clean-up was sent and no read has shown yet that it was applied.
    cleanup_unanswered: bool,
    operation: Option<Operation>,
    calls: Calls,
    wake: Wake,
    pending_wipe: Option<WipeReason>,
}

/// Settings that are fixed while the process runs.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(crate) struct Settings {
    pub(crate) do_not_track: bool,
    /// The time limit of one read and of one write.
    pub(crate) request_timeout: Duration,
}

impl Settings {
    /// Returns how long a new ID has to stay on the account before it is used.
    ///
    /// Another device that read before our write may still write its own ID, which takes
    /// it at most the time limit of one read and one write.
    fn settle_time(self) -> Duration {
        2 * self.request_timeout
    }

    /// Returns when an ID settles whose write was abandoned at `now`. The write may still
    /// be applied within the time limit of a write.
    fn settles_after_failure(self, now: Instant) -> Instant {
        now + self.request_timeout + self.settle_time()
    }
}

/// The next thing that the caller has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Write a record to the disk. A request may be in flight at the same time.
    Save(Box<Save>),
    /// Read the event, as the first request of an operation. Stop waiting for a request
    /// that is still in flight.
    Get,
    /// Read the event again, in the same operation.
    GetAgain,
    /// Merge this change into the content of the last read, and write the result.
    Put(Change),
    /// Wait for a result, an input, or this time.
    Wait(Option<Instant>),
}

/// A record to write to the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Save {
    /// The record that this process last read or wrote, the base of the three-way merge.
    ///
    /// It changes only together with the machine's own record. Otherwise a save would take
    /// a withdrawal of another process for one that this process knew and took back.
    pub(crate) base: Record,
    pub(crate) record: Record,
}

/// The random values that an input may need.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    /// A new ID.
    pub(crate) id: AnalyticsId,
    /// At least 0 and below 1.
    pub(crate) jitter: f64,
}

impl Machine {
    /// Creates a machine that starts from `record` while the disk holds `stored`.
    /// `jitter` is at least 0 and below 1.
    pub(crate) fn new(record: Record, stored: Record, settings: Settings, jitter: f64) -> Self {
        Self {
            settings,
            asked: Asked::default(),
            disk: Disk::holding(stored),
            record,
            server: Server::default(),
            session: Session::Live,
            opt_in: OptIn::default(),
            removal_ordered: false,
            cleanup_unanswered: false,
            operation: None,
            calls: Calls::default(),
            wake: Wake::new(jitter),
            pending_wipe: None,
        }
    }

    /// Returns the next action as of `now`. Call it again after starting each action and
    /// after each input.
    pub(crate) fn poll(&mut self, now: Instant) -> Action {
        loop {
            if let Some(save) = self.begin_save(now) {
                return Action::Save(Box::new(save));
            }
            if let Some(action) = self.send_request() {
                return action;
            }
            self.report_end();
            if self.operation.is_some() || !self.begin_operation(now) {
                return Action::Wait(self.wakes_at(now));
            }
        }
    }

    // Inputs: the app. `opt_in` and `removal` have those of `opt_in()` and `opt_out()`.

    /// Vetoes analytics on this device.
    pub(crate) fn handle_deny_on_this_device(&mut self) {
        self.server.generation.closing += 1;
        self.record.veto();
        self.raise_epoch(WipeReason::Withdrawn);
    }

    /// Returns the save that is still due when the last handle is dropped, if any.
    pub(crate) fn last_save(&self) -> Option<Save> {
        let is_unsaved = self.is_unsaved() || self.disk.is_saving();
        is_unsaved.then(|| Save { base: self.disk.stored.clone(), record: self.record.clone() })
    }

    /// Lifts the veto. The gate opens only after a new GET.
    pub(crate) fn handle_allow_on_this_device(&mut self) {
        self.server.generation.closing += 1;
        if self.record.lift_veto() {
            self.unconfirm();
        }
    }
}
