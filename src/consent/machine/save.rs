//! Saves of the record, one at a time.

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

/// The stored record, the save in flight, and those that wait for a save.
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(super) struct Disk {
    /// The record that was last read from the disk or written to it.
    pub(super) stored: Record,
    pub(super) saving: Option<Record>,
    pub(super) backoff: Backoff,
    pub(super) waiters: Vec<Waiter>,
}

/// A call or an operation that waits for a save which begins after its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Waiter {
    /// The call that waits; `None` for the operation in flight.
    pub(super) call: Option<CallId>,
    /// Whether the save in flight began after the request.
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

    /// Handles a call that waits until its change was saved, or could not be.
    pub(crate) fn handle_save_wanted(&mut self, id: CallId) {
        self.await_save(Some(id));
    }

    /// Makes `call`, or the operation in flight, wait for a save.
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

    /// Handles the end of a save: the record now on the disk, or a failure.
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
                self.closing_begins_an_epoch(|machine| machine.adopt(&written, stored));
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

    /// Changes the outcome of a removal that could not be saved.
    ///
    /// A removal is done only once the disk holds no pending removal. Otherwise it would be
    /// repeated after a restart.
    fn end_unsaved(&mut self) {
        if let Some(Operation { task: Task::Removal, step: Step::Ended(outcome), .. }) =
            &mut self.operation
            && *outcome == Outcome::Done
        {
            *outcome = Outcome::NotSaved;
        }
    }

    /// Merges `stored`, the record on the disk after `written` was saved, into the machine.
    /// They differ if another process has saved as well.
    fn adopt(&mut self, written: &Record, stored: Record) {
        let merged = Record::merge(written, &self.record, &stored);
        self.disk.stored = stored;
        let before = std::mem::replace(&mut self.record, merged);
        if self.record == before {
            return;
        }
        // A change by another process counts like a local call.
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
