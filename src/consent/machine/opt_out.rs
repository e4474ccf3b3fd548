//! The steps of a no: `opt_out()`, and what the account has still to lose.

use super::{Machine, Sign, Standing, Wipe, timing::Retry};
use crate::{
    Consent,
    account_data::content::{Change, Observed},
    local_record::Removal,
};

impl Machine {
    /// The user said no. `removal` is what the account will lose.
    pub(crate) fn opt_out(&mut self, removal: Removal) {
        self.sign.closing += 1;
        self.void_opt_ins();
        // An ID that was made here and is perhaps written is retired like one that
        // was used.
        if let Some(made) = self.made.take() {
            self.record.remember_id(&made.id);
        }
        if let Some(id) = self.held.as_ref().and_then(Observed::usable_id) {
            self.lost_id = Some(id.clone());
        }
        self.record.retire_current();
        self.record.trust();
        self.record.withdraw(removal);
        self.standing = Standing::Unconfirmed;
        self.removal_ordered = true;
        self.close(Wipe::Withdrawn);
        self.retry_now();
    }

    /// A GET for the pending removal answered. What is returned has to be
    /// written; nothing means that the removal is done.
    pub(crate) fn removal_fetched(&mut self, sent: Sign, seen: &Observed) -> Option<Change> {
        if self.sign.closing != sent.closing {
            return None;
        }
        let is_newest = self.is_proof(sent, seen);
        self.answered(seen);
        self.fetch_wanted = !is_newest;
        if let Some(id) = seen.usable_id() {
            self.record.retire(id);
            self.lost_id = Some(id.clone());
            self.unsaved = true;
        }
        let clean = if self.removal_ordered {
            seen.is_clean()
        } else {
            seen.flag != Some(true) && !seen.has_id_member()
        };
        if clean {
            self.discharge();
            return None;
        }
        Some(Change::OptOut)
    }

    /// A write of `change` for a withdrawal begins: what sync then shows of it is
    /// no sign of anything.
    pub(crate) fn removal_writes(&mut self, change: &Change) {
        self.expected = Some(change.outcome());
    }

    /// A write of `change`, begun at `sent`, succeeded.
    pub(crate) fn removal_wrote(&mut self, sent: Sign, change: &Change) {
        self.expected = None;
        self.requests = Retry::default();
        if self.sign.closing == sent.closing {
            self.held = Some(change.outcome());
            self.discharge();
        }
    }

    pub(super) fn discharge(&mut self) {
        self.record.removal = None;
        self.removal_ordered = false;
        self.unsaved = true;
        if self.record.decision == Consent::Denied {
            self.standing = Standing::Denied;
        }
    }
}
