//! The record on its way to the disk, one save at a time.

use tokio::time::Instant;

use super::{
    CallId, Machine, Outcome, Random, Save,
    backoff::Backoff,
    operation::{Operation, Step, Task},
};
use crate::{
    consent::{record::Record, state::Consent},
    gate::WipeReason,
};

/// What is known of the disk, and who waits for it.
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(super) struct Disk {
    /// What it was last seen to hold.
    pub(super) stored: Record,
    pub(super) saving: Option<Record>,
    pub(super) backoff: Backoff,
    pub(super) waiters: Vec<Waiter>,
}

/// Waits for the end of a save that begins after it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Waiter {
    /// A call, or else the operation in flight.
    pub(super) call: Option<CallId>,
    pub(super) is_covered: bool,
}

impl Disk {
    pub(super) fn holding(stored: Record) -> Self {
        Self { stored, saving: None, backoff: Backoff::default(), waiters: Vec::new() }
    }

    pub(super) fn is_saving(&self) -> bool {
        self.saving.is_some()
    }

    /// Returns when a save that failed is tried again.
    pub(super) fn retry_at(&self, record: &Record, now: Instant) -> Option<Instant> {
        let is_idle = self.saving.is_none() && self.stored != *record;
        self.backoff.waits_until(now).filter(|_| is_idle)
    }
}

impl Machine {
    pub(crate) fn is_unsaved(&self) -> bool {
        self.disk.stored != self.record
    }

    /// Handles a call that waits until what it changed is saved, or could not be.
    pub(crate) fn handle_save_wanted(&mut self, id: CallId) {
        self.await_save(Some(id));
    }

    /// Lets the operation in flight, or a call, wait for the disk.
    pub(super) fn await_save(&mut self, call: Option<CallId>) {
        self.disk.waiters.push(Waiter { call, is_covered: false });
    }

    pub(super) fn operation_awaits_save(&self) -> bool {
        self.disk.waiters.iter().any(|waiter| waiter.call.is_none())
    }

    pub(super) fn begin_save(&mut self, now: Instant) -> Option<Save> {
        if self.disk.is_saving() {
            return None;
        }
        if !self.is_unsaved() {
            self.save_ended(Outcome::Done, |_| true);
            return None;
        }
        let is_asked_for = !self.disk.waiters.is_empty();
        if !is_asked_for && self.disk.backoff.waits_until(now).is_some() {
            return None;
        }
        for waiter in &mut self.disk.waiters {
            waiter.is_covered = true;
        }
        let save = Save { base: self.disk.stored.clone(), record: self.record.clone() };
        self.disk.saving = Some(save.record.clone());
        Some(save)
    }

    /// Handles the end of a save: what the disk holds now, or that it failed.
    pub(crate) fn handle_saved(
        &mut self,
        result: Result<Record, ()>,
        now: Instant,
        random: &Random,
    ) {
        let Some(written) = self.disk.saving.take() else { return };
        let outcome = match result {
            Ok(stored) => {
                self.disk.backoff.succeeded();
                self.adopt(&written, stored);
                Outcome::Done
            }
            Err(()) => {
                self.disk.backoff.failed(now, random.jitter);
                Outcome::NotSaved
            }
        };
        self.save_ended(outcome, |waiter| waiter.is_covered);
    }

    fn save_ended(&mut self, outcome: Outcome, ended: impl Fn(&Waiter) -> bool) {
        let (over, left) = self.disk.waiters.iter().copied().partition(ended);
        self.disk.waiters = left;
        for Waiter { call, .. } in over {
            if call.is_some() {
                self.finish(call, outcome);
            } else if outcome == Outcome::NotSaved {
                self.end_unsaved();
            }
        }
    }

    /// A removal is done once this device remembers that nothing is left to remove: what it
    /// remembers instead would remove again after a restart.
    fn end_unsaved(&mut self) {
        if let Some(Operation { task: Task::Removal, step: Step::Ended(outcome), .. }) =
            &mut self.operation
            && *outcome == Outcome::Done
        {
            *outcome = Outcome::NotSaved;
        }
    }

    /// The disk holds `stored` where `written` was to be written: another process may have
    /// written, too.
    fn adopt(&mut self, written: &Record, stored: Record) {
        let merged = Record::merge(written, &self.record, &stored);
        self.disk.stored = stored;
        let before = std::mem::replace(&mut self.record, merged);
        if self.record == before {
            return;
        }
        // What another process did is a sign of the kind that a local call is.
        self.server.generation.closing += 1;
        if self.record.is_withdrawn_since(&before) {
            self.void_opt_ins(Outcome::Withdrawn);
            self.restart_removal();
        }
        self.unconfirm();
        if self.record.epoch > before.epoch {
            let is_withdrawn = self.record.decision != Consent::Granted || self.record.device_veto;
            self.wipe(if is_withdrawn { WipeReason::Withdrawn } else { WipeReason::IdChanged });
        }
    }
}
