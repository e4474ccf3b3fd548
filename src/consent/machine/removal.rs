//! The steps of an opt-out, and the removal from the account.

use std::ops::Range;

use tokio::time::Instant;

use super::{
    CallId, Generation, LastAnswer, Machine, Outcome, Random, Session,
    calls::CallKind,
    operation::{Step, Task},
    request::Request,
};
use crate::{
    analytics_id::AnalyticsId,
    consent::{
        content::{Change, Observed},
        record::Removal,
        state::Consent,
    },
    gate::WipeReason,
};

impl Machine {
    /// Handles a call of `opt_out()`. The call `id` ends once `removal` was tried.
    pub(crate) fn handle_opt_out(&mut self, id: CallId, removal: Removal) {
        self.server.generation.closing += 1;
        self.void_opt_ins(Outcome::Withdrawn);
        self.restart_removal();
        if let Some(id) = self.server.on_server.as_ref().and_then(Observed::usable_id) {
            self.record.retire(id);
            self.server.removed_id = Some(id.clone());
        }
        self.opt_in.minted = None;
        self.record.retire_all();
        self.record.trust();
        self.record.withdraw(removal);
        self.server.answer = LastAnswer::None;
        self.removal_ordered = true;
        self.raise_epoch(WipeReason::Withdrawn);
        self.enqueue(id, CallKind::Removal);
    }

    /// Restarts the removal in flight, because its requests came before the new
    /// withdrawal. Its caller waits for the restarted one.
    pub(super) fn restart_removal(&mut self) {
        let is_in_flight = self.operation.as_ref().is_some_and(|operation| {
            operation.task == Task::Removal && !matches!(operation.step, Step::Ended(_))
        });
        if is_in_flight {
            self.proceed(Request::Read);
        }
    }

    /// Handles the answer to the first read of a removal, sent at `asked_at`.
    pub(super) fn removal_read(&mut self, asked_at: Generation, seen: &Observed, now: Instant) {
        let Some(removal) = self.removal_that_holds(asked_at) else { return };
        let is_newest = self.is_proof(asked_at, seen);
        self.answered(seen, now);
        self.wake.fetch_wanted = !is_newest;
        if let Some(id) = seen.usable_id() {
            self.record.retire(id);
            self.server.removed_id = Some(id.clone());
        }
        // Save the retired ID before it is removed from the account: this device could not
        // learn it afterwards.
        match removal {
            Removal::Event => self.proceed_after_save(Request::Remove(Change::Erase)),
            Removal::Id if self.has_nothing_to_remove(seen) => {
                self.discharge();
                self.end_operation(Outcome::Done);
            }
            Removal::Id => self.proceed_after_save(Request::Remove(Change::OptOut)),
        }
    }

    fn has_nothing_to_remove(&self, seen: &Observed) -> bool {
        if self.removal_ordered { seen.is_clean() } else { seen.has_nothing_to_remove() }
    }

    /// Handles the read that follows the write of a removal. An acknowledged write is not
    /// always an applied one.
    pub(super) fn removal_verified(
        &mut self,
        asked_at: Generation,
        seen: &Observed,
        now: Instant,
        random: &Random,
    ) {
        let Some(removal) = self.removal_that_holds(asked_at) else { return };
        let is_newest = self.is_proof(asked_at, seen);
        let is_removed = match removal {
            Removal::Id => seen.is_clean(),
            Removal::Event => *seen == Observed::UNSET,
        };
        // The user opted in elsewhere after the write, under a new ID.
        let is_overwritten = seen.flag == Some(true)
            && seen.usable_id().is_some_and(|id| !self.record.is_retired(id));
        self.answered(seen, now);
        self.wake.fetch_wanted = !is_newest || is_overwritten;
        if is_removed || is_overwritten {
            self.discharge();
            self.end_operation(Outcome::Done);
        } else {
            self.wake.backoff.failed(now, random.jitter);
            self.end_operation(Outcome::Pending);
        }
    }

    /// Returns the pending removal. If a local call or a closing sign came after
    /// `asked_at`, restarts the removal and returns `None`.
    fn removal_that_holds(&mut self, asked_at: Generation) -> Option<Removal> {
        if self.record.removal.is_none() {
            self.end_operation(Outcome::Pending);
        } else if self.server.generation.closing != asked_at.closing {
            self.proceed(Request::Read);
            return None;
        }
        self.record.removal
    }

    /// Returns the ID that the account held when it was last seen, if it was withdrawn.
    pub(crate) fn withdrawn_id(&self) -> Option<&AnalyticsId> {
        let id = self.server.on_server.as_ref().and_then(Observed::usable_id);
        id.filter(|id| self.record.is_retired(id))
    }

    /// Returns whether the account is being cleaned, or will be as soon as it can be reached.
    pub(crate) fn is_removing(&self) -> bool {
        self.state().removal_pending
            && !matches!(self.session, Session::Ended | Session::Lost | Session::Unavailable)
    }

    /// Takes the fingerprints of the IDs that this device has used since the last withdrawal that
    /// asked for erasures. Call it with [`handle_opt_out`](Self::handle_opt_out), if that asks for
    /// them.
    ///
    /// An ID that another device has withdrawn since counts: recipients have its events.
    pub(crate) fn take_used(&mut self) -> Vec<String> {
        self.record.take_used()
    }

    /// Returns a text by which this device recognises `id`, as long as it has its record.
    pub(crate) fn fingerprint(&self, id: &AnalyticsId) -> String {
        self.record.fingerprint(id)
    }

    /// Returns whether the opt-in that holds may be one of this device, even if its call has
    /// failed.
    pub(crate) fn may_have_opted_in(&self) -> bool {
        self.record.has_offered_current()
    }

    /// Returns the epochs of the records that lack the withdrawal of the current epoch: from that
    /// of the record on the disk to the one before the withdrawal.
    pub(crate) fn epochs_without_withdrawal(&self) -> Range<u64> {
        self.disk.stored.epoch..self.record.epoch
    }

    /// Returns the removal from the account that is pending.
    pub(crate) fn removal(&self) -> Option<Removal> {
        self.record.removal
    }

    /// Returns whether the record lacks a withdrawal for which there is other evidence.
    /// `epochs_without` are the epochs of the records that lack it. So does one of a later epoch
    /// that began without a withdrawal: another process has begun it. A record of an earlier epoch
    /// is a new one.
    ///
    /// The decision says nothing about it: an opt-in whose ID settles is not in the record yet.
    #[cfg(feature = "sqlite")]
    pub(crate) fn lacks_withdrawal(&self, epochs_without: &Range<u64>) -> bool {
        let is_older = self.record.epoch < epochs_without.start;
        !is_older && !self.record.has_withdrawal(epochs_without.end) || self.is_unreadable()
    }

    /// Returns whether the record replaces one that could not be read.
    #[cfg(feature = "sqlite")]
    pub(crate) fn is_unreadable(&self) -> bool {
        self.record.is_unreadable()
    }

    /// Returns whether the record on the disk has the withdrawal that began the epoch
    /// `withdrawn_in`, or a later one.
    pub(crate) fn has_stored_withdrawal(&self, withdrawn_in: u64) -> bool {
        self.disk.stored.has_withdrawal(withdrawn_in)
    }

    pub(super) fn discharge(&mut self) {
        self.record.removal = None;
        self.removal_ordered = false;
        if self.record.decision == Consent::Denied {
            self.server.answer = LastAnswer::Denied;
        }
    }
}
