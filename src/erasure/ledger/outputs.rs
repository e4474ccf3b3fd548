//! What the app learns of the ledger.

use super::{Address, Ended, Ledger, Search, Waiting};
use crate::erasure::report::{ErasureReceipt, ErasureState, ErasureStats, ErasureStorage};

impl Ledger {
    /// Returns the number of erasures that were done, by which a receipt finds those that follow.
    pub(crate) fn done_ever(&self) -> u64 {
        self.done_ever
    }

    /// Returns whether there is an erasure whose first try has not ended.
    pub(crate) fn has_untried(&self, is_known: impl Fn(&Address) -> bool) -> bool {
        let is_untried = |waiting: &Waiting| waiting.tries <= u32::from(waiting.is_in_flight);
        self.waiting.iter().any(|waiting| is_untried(waiting) && is_known(&waiting.to))
    }

    /// Returns the number of erasures that wait, and of withdrawals whose ID is not known yet.
    pub(crate) fn pending(&self) -> usize {
        self.waiting.len() + usize::from(self.open_search().is_some())
    }

    /// Returns the search, if it has yet to find an ID that was used.
    fn open_search(&self) -> Option<&Search> {
        self.search.as_ref().filter(|search| !search.missing.is_empty())
    }

    /// Returns what a receipt says: the erasures that wait, in `kept_in`, those done since there
    /// were `done_before`, and those that have failed, until
    /// [`handle_reported`](Self::handle_reported).
    pub(crate) fn report<'a>(
        &self,
        done_before: u64,
        kept_in: ErasureStorage,
        recipients: impl IntoIterator<Item = &'a Address>,
    ) -> Vec<ErasureReceipt> {
        let receipt = |ended: &Ended, state| ErasureReceipt {
            recipient: ended.recipient.clone(),
            withdrawn_at: ended.withdrawn_at,
            state,
            cause: ended.cause,
            tries: ended.tries,
            kept_in,
        };
        let mut report: Vec<_> =
            self.failed.iter().map(|ended| receipt(ended, ErasureState::Failed)).collect();
        let done = (self.done_ever - done_before).min(self.done.len() as u64) as usize;
        let done = self.done.iter().skip(self.done.len() - done);
        report.extend(done.map(|ended| receipt(ended, ErasureState::Done)));
        let pending = |recipient: &str, withdrawn_at, cause, tries| ErasureReceipt {
            recipient: recipient.to_owned(),
            withdrawn_at,
            state: ErasureState::Pending,
            cause,
            tries,
            kept_in,
        };
        report.extend(self.waiting.iter().map(|waiting| {
            pending(&waiting.to.label, waiting.withdrawn_at, waiting.cause, waiting.tries)
        }));
        if let Some(search) = self.open_search() {
            let recipients = recipients.into_iter();
            report.extend(recipients.map(|to| pending(&to.label, search.withdrawn_at, None, 0)));
        }
        report
    }

    /// Handles that the app has `report`. Each failure is reported once.
    pub(crate) fn handle_reported(&mut self, report: &[ErasureReceipt]) {
        for receipt in report.iter().filter(|receipt| receipt.state == ErasureState::Failed) {
            let place = self.failed.iter().position(|ended| {
                ended.recipient == receipt.recipient
                    && ended.withdrawn_at == receipt.withdrawn_at
                    && ended.cause == receipt.cause
            });
            self.is_changed |= place.and_then(|place| self.failed.remove(place)).is_some();
        }
    }

    pub(crate) fn stats(&self) -> ErasureStats {
        ErasureStats {
            pending: self.pending() as u64,
            tries: self.tries_ever,
            done: self.done_ever,
            failed: self.failed_ever.clone(),
            last_cause: self.last_cause,
        }
    }
}
