//! The consent machine: pure, without I/O, without a clock and without randomness.
//!
//! It owns the order of every operation. [`Machine::poll`] returns what has to be done
//! next; the results come back through the `handle_…` methods, as do the calls of the
//! app, what sync shows, and changes of the session. A caller that follows the actions
//! one by one makes no decision of its own. The model check drives the same interface.
//!
//! # What this device remembers × what a GET answers
//!
//! | record | `true` + usable ID | `true`, no ID | `false` | nothing, or no boolean |
//! |---|---|---|---|---|
//! | none | Granted, Open | Granted, Holding(MissingId) | Denied | Undecided, Ask |
//! | Granted | same ID: Open; another: wipe, adopt, Open | Holding(MissingId) | Denied, wipe | Closed(DecisionErased), wipe, nothing written |
//! | Denied, clean | an ID retired here: Denied, one clean-up an epoch; another: Granted, Open | Denied | Denied | Denied |
//! | Denied, removal pending | PUT, read back | PUT, read back | `id` member: PUT, read back; else discharged | `id` member: PUT, read back; else discharged |
//!
//! A retired ID counts as no usable ID, except where the table names it. Every wipe
//! raises the epoch, and every closing wipes.
//!
//! # The three layers of the state
//!
//! - The *decision* is the [`Record`], which [`Disk`] keeps on the disk.
//! - The *confirmation* is [`Server`]: what the homeserver was last seen to hold.
//! - The *gate* is derived from both by [`Machine::gate`].
//!
//! At most one [`Operation`] is in flight. [`Wake`] holds what makes the machine begin
//! the next one by itself.

mod backoff;
mod calls;
mod decision;
mod fetch;
#[cfg(test)]
#[path = "../../tests/model/model.rs"]
mod model;
mod operation;
mod opt_in;
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
    record: Record,
    disk: Disk,
    server: Server,
    session: Session,
    opt_in: OptIn,
    /// The user opted out in this process: other devices have to see a `false`.
    removal_ordered: bool,
    /// A clean-up got no answer: only the homeserver knows whether it was applied.
    cleanup_unanswered: bool,
    operation: Option<Operation>,
    calls: Calls,
    wake: Wake,
    pending_wipe: Option<WipeReason>,
}

/// What does not change while the process runs.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(crate) struct Settings {
    pub(crate) do_not_track: bool,
    /// The bound on one read and on one write.
    pub(crate) request_timeout: Duration,
}

impl Settings {
    /// Returns how long a new ID has to hold before it is used: no shorter than the
    /// bounds on one read and one write, in which another device that read before our
    /// write may still write its own.
    fn settle_time(self) -> Duration {
        2 * self.request_timeout
    }

    /// Returns when an ID has settled whose write was given up at `now`: it may still be
    /// applied within the bound on a write.
    fn settles_after_failure(self, now: Instant) -> Instant {
        now + self.request_timeout + self.settle_time()
    }
}

/// What has to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Write a record to the disk. A request may be out at the same time.
    Save(Box<Save>),
    /// Read the event: the first request of an operation. A request that is still out is
    /// waited for no longer.
    Get,
    /// Read the event again, in the same operation.
    GetAgain,
    /// Merge this change into what the last read returned, and write the result.
    Put(Change),
    /// Wait for a result, an input, or this time.
    Wait(Option<Instant>),
}

/// A record that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Save {
    /// What this process last read or wrote. It moves on only together with the machine: to
    /// a save in between, what another process withdrew would look like something that this
    /// one has known and taken back.
    pub(crate) base: Record,
    pub(crate) record: Record,
}

/// What an input may need of chance.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    /// A new ID.
    pub(crate) id: AnalyticsId,
    /// At least 0 and below 1.
    pub(crate) jitter: f64,
}

impl Machine {
    /// Creates the machine of a process that begins with `record`, where the disk holds
    /// `stored`. `jitter` is at least 0 and below 1.
    pub(crate) fn new(record: Record, stored: Record, settings: Settings, jitter: f64) -> Self {
        Self {
            settings,
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

    /// Returns what has to be done as of `now`. To be called again after each action
    /// that was begun, and after each input.
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

    // Inputs: the app. Those of `opt_in` and `opt_out` are in modules of their own.

    /// Vetoes analytics on this device.
    pub(crate) fn handle_deny_on_this_device(&mut self) {
        self.server.generation.closing += 1;
        self.record.veto();
        self.raise_epoch(WipeReason::Withdrawn);
    }

    /// Returns what has still to be saved when the last handle is dropped, if anything.
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
