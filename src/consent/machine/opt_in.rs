//! The steps of a yes: `opt_in()` from its call to its end.

use std::time::Duration;

use tokio::time::Instant;

use super::{Machine, Sign, Standing, Wipe};
use crate::{
    AnalyticsId, Consent,
    account_data::content::{Change, Observed},
};

/// The calls of `opt_in()` that have not ended.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(super) struct OptIns {
    pub(super) in_progress: u32,
    pub(super) next: u64,
    /// Calls before this one are void: a withdrawal came after them.
    pub(super) first_valid: u64,
}

/// One call of `opt_in()`; a later withdrawal makes it void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Ticket(pub(super) u64);

#[derive(Clone, Debug)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(super) struct MadeId {
    pub(super) id: AnalyticsId,
    /// When it has held for long enough; none while its write is in progress.
    pub(super) settled_at: Option<Instant>,
}

/// How an `opt_in()` goes on after its GET.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum OptInPlan {
    /// The account holds all that is needed.
    Done,
    /// The account's ID is kept and the flag is written.
    Keep(AnalyticsId),
    /// A new ID is written.
    Mint(AnalyticsId),
}

impl OptInPlan {
    /// What the account holds after the write, if there is one.
    fn outcome(&self) -> Option<Observed> {
        match self {
            Self::Done => None,
            Self::Keep(id) | Self::Mint(id) => Some(Change::OptIn(id.clone()).outcome()),
        }
    }
}

/// What was known before a write got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Known {
    standing: Standing,
    fetch_wanted: bool,
}

/// A withdrawal came after the `opt_in()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overtaken;

impl Machine {
    /// The user says yes; what follows are the `opt_in_…` methods.
    pub(crate) fn opt_in_begins(&mut self) -> Ticket {
        self.sign.closing += 1;
        let ticket = Ticket(self.opt_ins.next);
        self.opt_ins.next += 1;
        self.opt_ins.in_progress += 1;
        ticket
    }

    /// Whether no withdrawal came after the call.
    pub(crate) fn opt_in_is_valid(&self, ticket: Ticket) -> bool {
        ticket.0 >= self.opt_ins.first_valid
    }

    /// A GET that was sent at `sent` answered: what has to be written? `new_id` is
    /// used if the account has no ID to keep.
    pub(crate) fn opt_in_plan(
        &mut self,
        ticket: Ticket,
        sent: Sign,
        seen: &Observed,
        now: Instant,
        new_id: AnalyticsId,
    ) -> Result<OptInPlan, Overtaken> {
        if !self.opt_in_is_valid(ticket) {
            return Err(Overtaken);
        }
        let was_confirmed = !matches!(self.standing, Standing::Unconfirmed | Standing::Doubted);
        let is_news = self.held.as_ref() != Some(seen);
        let proven = self.is_proof(sent, seen);
        self.answered(seen);
        let made = self.made.as_ref().map(|made| &made.id);
        let kept = seen
            .usable_id()
            // An ID that a withdrawal was to remove is not taken up again.
            .filter(|id| self.record.removal.is_none() || made == Some(*id))
            .filter(|id| !self.record.is_retired(id))
            .filter(|_| seen.flag != Some(false))
            .cloned();
        let plan = match kept {
            Some(id) if seen.flag == Some(true) && proven => {
                self.grant_when_settled(id, now);
                return Ok(OptInPlan::Done);
            }
            Some(id) => OptInPlan::Keep(id),
            None => OptInPlan::Mint(new_id),
        };

        // What was proven before is proven no more, whatever becomes of the write.
        if self.decision() == Consent::Granted {
            self.settling = false;
            if seen.flag == Some(false) {
                self.withdrawn_elsewhere();
            } else {
                self.standing = Standing::Unconfirmed;
                self.id = None;
            }
        }
        // For the case that the write fails: nothing else has looked at this answer.
        self.fetch_wanted =
            is_news || !was_confirmed || !proven || self.standing == Standing::Unconfirmed;
        if let OptInPlan::Mint(id) = &plan {
            if self.record.remembers_other_than(id) {
                // What was captured under the old ID does not leave under the new.
                self.record.forget_id();
                self.raise_epoch(Wipe::IdChanged);
            }
            self.made = Some(MadeId { id: id.clone(), settled_at: None });
        }
        self.expected = plan.outcome();
        Ok(plan)
    }

    /// The write of `plan`, begun at `sent`, succeeded at `now`. A new ID counts
    /// once it has held for `settle`.
    pub(crate) fn opt_in_wrote(
        &mut self,
        ticket: Ticket,
        sent: Sign,
        plan: OptInPlan,
        now: Instant,
        settle: Duration,
    ) -> Result<(), Overtaken> {
        if !self.opt_in_is_valid(ticket) {
            return Err(Overtaken);
        }
        self.expected = None;
        let (id, is_new) = match plan {
            OptInPlan::Done => return Ok(()),
            OptInPlan::Keep(id) => (id, false),
            OptInPlan::Mint(id) => (id, true),
        };
        self.held = Some(Change::OptIn(id.clone()).outcome());
        if is_new {
            self.made = Some(MadeId { id, settled_at: Some(now + settle) });
            self.settling = true;
        } else if sent == self.sign {
            // The server took this very ID just now, and every writer of ours that
            // opts in keeps it too: that is sight of it.
            self.grant_when_settled(id, now);
        } else {
            // Something else was written meanwhile: only a GET can tell.
            self.settling = true;
        }
        Ok(())
    }

    /// The write got no answer, and is read back next. Until then, and if that fails, only
    /// the homeserver knows what holds.
    pub(crate) fn opt_in_unanswered(&mut self, ticket: Ticket) -> Result<Known, Overtaken> {
        if !self.opt_in_is_valid(ticket) {
            return Err(Overtaken);
        }
        let known = Known { standing: self.standing, fetch_wanted: self.fetch_wanted };
        self.expected = None;
        self.unconfirm();
        Ok(known)
    }

    /// A GET that was sent at `sent`, after a write of `plan` that got no answer, shows
    /// `seen`. Returns whether the write was applied, which is as good as an answer.
    pub(crate) fn opt_in_read_back(
        &mut self,
        ticket: Ticket,
        (sent, seen): (Sign, &Observed),
        plan: OptInPlan,
        known: Known,
        now: Instant,
        settle: Duration,
    ) -> Result<bool, Overtaken> {
        if plan.outcome().as_ref() == Some(seen) {
            self.opt_in_wrote(ticket, sent, plan, now, settle)?;
            return Ok(true);
        }
        if self.opt_in_is_valid(ticket)
            && self.is_proof(sent, seen)
            && self.held.as_ref() == Some(seen)
        {
            // Nothing has changed since the plan was made.
            self.standing = known.standing;
            self.fetch_wanted = known.fetch_wanted;
        }
        Ok(false)
    }

    /// The call ended. If it failed, an ID that it made may still be written, and
    /// has settled only at `settled_at`.
    pub(crate) fn opt_in_ended(&mut self, ticket: Ticket, is_ok: bool, settled_at: Instant) {
        if !self.opt_in_is_valid(ticket) {
            return;
        }
        self.opt_ins.in_progress = self.opt_ins.in_progress.saturating_sub(1);
        if is_ok {
            return;
        }
        if self.expected.take().is_some() {
            // Whether the write was applied only the homeserver knows.
            self.unconfirm();
        }
        if let Some(made) = &mut self.made {
            made.settled_at.get_or_insert(settled_at);
        }
        self.close_if_closed(Wipe::NotConfirmed);
    }

    pub(super) fn void_opt_ins(&mut self) {
        self.opt_ins.in_progress = 0;
        self.opt_ins.first_valid = self.opt_ins.next;
        self.expected = None;
        self.settling = false;
    }

    /// Opens under `id`, unless it was made here a moment ago, so that another
    /// device may still be writing its own.
    pub(super) fn grant_when_settled(&mut self, id: AnalyticsId, now: Instant) {
        let settles = self.made.as_ref().is_some_and(|made| {
            made.id == id && made.settled_at.is_none_or(|settled_at| settled_at > now)
        });
        if settles {
            self.settling = true;
        } else {
            self.made = None;
            self.grant(id);
        }
    }
}
