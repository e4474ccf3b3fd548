//! The steps of an opt-in, from the call of `opt_in()` to its end.

use tokio::time::Instant;

use super::{
    CallId, Generation, LastAnswer, Machine, Outcome, Random, Session,
    calls::CallKind,
    operation::{Operation, Step, Task},
    request::{BeforeWrite, OptInPlan, Request},
};
use crate::{
    analytics_id::AnalyticsId,
    consent::{content::Observed, policy::Agreement, state::Consent},
    gate::WipeReason,
};

/// The progress of this process's opt-ins.
#[derive(Clone, Debug, Default)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(super) struct OptIn {
    /// Whether the user opted in in this process and the homeserver has not yet confirmed
    /// the ID.
    pub(super) settling: bool,
    pub(super) minted: Option<MintedId>,
    pub(super) given: Option<Given>,
}

/// The agreement that the user gave with a new ID. It also counts under the ID of another device
/// that opted in at the same time, unless a withdrawal was seen since.
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(super) struct Given {
    pub(super) agreement: Agreement,
    /// The time of day of the read before the write, in milliseconds since 1970.
    pub(super) read_on: u64,
}

/// The last ID that this process created. Until it has been on the account for the settle
/// time, another device may be writing its own.
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(super) struct MintedId {
    pub(super) id: AnalyticsId,
    /// The end of the settle time; `None` while the write is in progress.
    pub(super) settled_at: Option<Instant>,
    /// Whether the homeserver acknowledged the write, so that it is applied by now or never.
    pub(super) is_written: bool,
}

impl MintedId {
    /// Returns whether another device may still be writing its own ID.
    pub(super) fn is_unsettled(&self, now: Instant) -> bool {
        self.settled_at.is_none_or(|settled_at| settled_at > now)
    }
}

impl Machine {
    /// Handles a call of `opt_in()`.
    pub(crate) fn handle_opt_in(&mut self, id: CallId) {
        if self.session == Session::Ended {
            return self.finish(Some(id), Outcome::SessionEnded);
        }
        self.server.generation.closing += 1;
        self.enqueue(id, CallKind::OptIn);
    }

    /// Handles that the caller of `opt_in()` stopped waiting. No further step begins.
    pub(crate) fn handle_opt_in_dropped(&mut self, id: CallId, now: Instant) {
        let queued = self.calls.queue.len();
        self.calls.queue.retain(|call| call.id != id);
        if self.opt_in_operation().is_some_and(|operation| operation.call == Some(id)) {
            self.opt_in_failed(now);
            self.abort_operation();
        } else if self.calls.queue.len() < queued {
            self.close_if_closed_after_opt_in();
        }
    }

    pub(super) fn is_opting_in(&self) -> bool {
        self.opt_in_operation().is_some()
            || self.calls.queue.iter().any(|call| call.kind == CallKind::OptIn)
    }

    /// Returns the opt-in in flight, unless it has ended and is only waiting to be reported.
    fn opt_in_operation(&self) -> Option<&Operation> {
        self.operation.as_ref().filter(|operation| {
            operation.task == Task::OptIn && !matches!(operation.step, Step::Ended(_))
        })
    }

    /// Handles the answer to the first read, sent at `asked_at`.
    pub(super) fn opt_in_read(
        &mut self,
        asked_at: Generation,
        seen: &Observed,
        now: Instant,
        random: &Random,
    ) {
        let was_confirmed = !matches!(self.server.answer, LastAnswer::None | LastAnswer::Stale);
        let is_news = self.server.on_server.as_ref() != Some(seen);
        let is_proven = self.is_proof(asked_at, seen);
        self.retire_withdrawn(seen, is_proven, now);
        self.answered(seen, now);
        let minted = self.opt_in.minted.as_ref().map(|minted| &minted.id);
        let seen_id = seen.usable_id();
        if self.record.removal.is_some()
            && let Some(id) = seen_id.filter(|id| minted != Some(*id))
        {
            // A pending removal was meant to remove this ID, so it is not reused.
            self.record.retire(id);
        }
        let kept = seen_id
            .filter(|id| !self.record.is_retired(id))
            .filter(|_| seen.flag != Some(false))
            .cloned();
        let agreement = self.agreement(kept.as_ref().and(seen.agreed));
        let plan = match kept {
            Some(id) if seen.flag == Some(true) && is_proven && self.adds_nothing_to(seen) => {
                self.record.agree_here(&id, agreement.as_ref());
                self.grant_when_settled(id, now);
                return self.end_operation(Outcome::Done);
            }
            Some(id) => self.plan(id, false, agreement),
            // The write of an earlier failed opt-in may still be applied: reuse its ID.
            None => {
                let reusable = minted.filter(|id| !self.record.is_retired(id));
                let id = reusable.unwrap_or(&random.id).clone();
                self.plan(id, true, agreement)
            }
        };

        // Earlier proof is void, whether or not the write succeeds.
        if self.decision() == Consent::Granted {
            self.opt_in.settling = false;
            if seen.flag == Some(false) {
                self.withdrawn_elsewhere();
            } else {
                self.server.answer = LastAnswer::None;
            }
        }
        // If the write fails, a fetch has to evaluate this answer: this read did not.
        self.wake.fetch_wanted =
            is_news || !was_confirmed || !is_proven || self.server.answer == LastAnswer::None;
        if plan.is_minted {
            let id = &plan.id;
            if self.record.remembers_other_than(id) {
                // Events captured under the old ID must not be sent under the new one.
                self.record.forget_id();
                self.raise_epoch(WipeReason::IdChanged);
            }
            let is_written = self
                .opt_in
                .minted
                .as_ref()
                .is_some_and(|minted| minted.id == *id && minted.is_written);
            self.opt_in.minted = Some(MintedId { id: id.clone(), settled_at: None, is_written });
        }
        let agreement = plan.agreement.clone().filter(|_| plan.is_minted);
        self.opt_in.given =
            agreement.map(|agreement| Given { agreement, read_on: self.asked.today });
        // The write may be applied after this process has ended. Save the ID first, so that
        // a later withdrawal can retire it.
        self.record.offer(&plan.id);
        self.proceed_after_save(Request::OptIn(plan));
    }

    fn plan(&self, id: AnalyticsId, is_minted: bool, agreement: Option<Agreement>) -> OptInPlan {
        OptInPlan { id, is_minted, is_repeated: false, agreement, read_on: self.asked.today }
    }

    /// Handles that the homeserver acknowledged the write of `plan`.
    pub(super) fn opt_in_wrote(&mut self, plan: OptInPlan, now: Instant) {
        self.server.on_server = Some(plan.change().outcome());
        if self.record.is_retired(&plan.id) && !self.record.is_unreadable() {
            // Another device withdrew this ID in the meantime: the account needs a new one.
            self.server.write_in_flight = None;
            return self.proceed(Request::Read);
        }
        self.record.agree_here(&plan.id, plan.agreement.as_ref());
        if plan.is_minted {
            let settled_at = Some(now + self.settings.settle_time());
            self.opt_in.minted = Some(MintedId { id: plan.id, settled_at, is_written: true });
            self.opt_in.settling = true;
            self.end_operation(Outcome::Done);
        } else {
            self.proceed(Request::Confirm(plan));
        }
    }

    /// Handles the read that follows an acknowledged write of `plan`, which kept the ID.
    pub(super) fn opt_in_confirmed(
        &mut self,
        asked_at: Generation,
        seen: &Observed,
        plan: &OptInPlan,
        now: Instant,
    ) {
        let holds_id = seen.flag == Some(true) && seen.usable_id() == Some(&plan.id);
        let holds = holds_id && self.is_proof(asked_at, seen) && !self.record.is_retired(&plan.id);
        let given_at = plan.agreement.as_ref().map(|agreement| agreement.at);
        if holds && seen.agreed < given_at && !plan.is_repeated {
            // Another device may have written an agreement of its own at the same time.
            let agreement = self.agreement(seen.agreed);
            self.answered(seen, now);
            self.wake.fetch_wanted = true;
            let plan = self.plan(plan.id.clone(), plan.is_minted, agreement);
            return self.proceed(Request::OptIn(OptInPlan { is_repeated: true, ..plan }));
        }
        if holds && seen.agreed == given_at {
            self.record.agree_here(&plan.id, plan.agreement.as_ref());
            self.answered(seen, now);
            self.grant_when_settled(plan.id.clone(), now);
        } else {
            // The next GET decides.
            self.opt_in.settling = true;
            self.wake.fetch_wanted = true;
        }
        self.end_operation(Outcome::Done);
    }

    /// Handles that the write of `plan` got no answer. It is read back next. Until that
    /// succeeds, it is unknown whether the write was applied.
    pub(super) fn opt_in_unanswered(&mut self, plan: OptInPlan) {
        let before = BeforeWrite {
            answer: self.server.answer.clone(),
            fetch_wanted: self.wake.fetch_wanted,
        };
        self.server.write_in_flight = None;
        self.unconfirm();
        self.proceed(Request::ReadBack(plan, before));
    }

    /// Handles the read that follows an unanswered write of `plan`. If it shows the write,
    /// that counts as its acknowledgement.
    pub(super) fn opt_in_read_back(
        &mut self,
        asked_at: Generation,
        seen: &Observed,
        plan: OptInPlan,
        before: BeforeWrite,
        now: Instant,
    ) {
        let given_at = plan.agreement.as_ref().map(|agreement| agreement.at);
        // Another device may have agreed later under the same ID.
        if seen.flag == Some(true) && seen.usable_id() == Some(&plan.id) && seen.agreed >= given_at
        {
            if plan.is_minted {
                self.opt_in_wrote(plan, now);
            } else {
                self.opt_in_confirmed(asked_at, seen, &plan, now);
            }
            return;
        }
        if self.is_proof(asked_at, seen) && self.server.on_server.as_ref() == Some(seen) {
            // The account is as it was when the plan was made.
            self.server.answer = before.answer;
            self.wake.fetch_wanted = before.fetch_wanted;
        }
        self.opt_in_failed(now);
    }

    /// Ends the opt-in in flight as failed. The write of a new ID may still be applied.
    pub(super) fn opt_in_failed(&mut self, now: Instant) {
        if self.server.write_in_flight.is_some() {
            // It is unknown whether the write was applied.
            self.unconfirm();
        }
        self.end_operation(Outcome::Failed);
        let settled_at = self.settings.settles_after_failure(now);
        if let Some(minted) = &mut self.opt_in.minted {
            minted.settled_at.get_or_insert(settled_at);
        }
        self.close_if_closed_after_opt_in();
    }

    fn close_if_closed_after_opt_in(&mut self) {
        if !self.is_opting_in() {
            self.close_if_closed(WipeReason::NotConfirmed);
        }
    }

    /// Ends every opt-in that was called before a withdrawal, with `outcome`.
    pub(super) fn void_opt_ins(&mut self, outcome: Outcome) {
        self.opt_in.settling = false;
        self.opt_in.given = None;
        for call in std::mem::take(&mut self.calls.queue) {
            if call.kind == CallKind::OptIn {
                self.finish(Some(call.id), outcome);
            } else {
                self.calls.queue.push_back(call);
            }
        }
        if let Some(call) = self.opt_in_operation().map(|operation| operation.call) {
            self.finish(call, outcome);
            self.abort_operation();
        }
    }

    /// Forgets the operation in flight. Its request runs on, and the answer is ignored.
    fn abort_operation(&mut self) {
        self.operation = None;
        self.server.write_in_flight = None;
        self.disk.waiters.retain(|waiter| waiter.call.is_some());
    }
}
