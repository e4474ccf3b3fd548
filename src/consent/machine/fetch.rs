//! Decisions that follow from an answer of the homeserver.

use tokio::time::Instant;

use super::{Generation, LastAnswer, Machine, Outcome, Random, Session, request::Request};
use crate::{
    consent::{content::Observed, state::Consent},
    gate::WipeReason,
};

impl Machine {
    /// Handles the answer to `request` of a fetch, sent at `asked_at`.
    pub(super) fn fetched(
        &mut self,
        asked_at: Generation,
        request: &Request,
        seen: &Observed,
        now: Instant,
        random: &Random,
    ) {
        let removal_pending = self.record.removal.is_some() && !self.opt_in.settling;
        let counts =
            self.session != Session::Ended && !removal_pending && self.is_proof(asked_at, seen);
        if *request == Request::Verify && !(counts && seen.is_clean()) {
            // The clean-up was acknowledged but not applied, or another client has written
            // since. The next read decides, because a `false` in sync during this one was
            // taken for the clean-up.
            self.wake.fetch_wanted = true;
            self.wake.backoff.failed(now, random.jitter);
            self.end_operation(Outcome::Pending);
        } else if counts && self.decide(seen, now) {
            self.proceed(Request::CleanUp { epoch: self.record.epoch });
        } else {
            self.end_operation(Outcome::Done);
        }
    }

    /// Updates the decision from the content of the event. Returns whether a restored ID
    /// has to be cleaned up.
    fn decide(&mut self, seen: &Observed, now: Instant) -> bool {
        self.retire_withdrawn(seen, true, now);
        self.answered(seen, now);
        if std::mem::take(&mut self.opt_in.settling) {
            // The user opted in in this process, and no withdrawal has followed.
            self.record.decision = Consent::Granted;
            self.record.removal = None;
            self.record.trust();
            self.removal_ordered = false;
            let given = self.take_given(now);
            // The ID of another device that opted in at the same time may have prevailed.
            let id = seen.usable_id().filter(|id| !self.record.is_retired(id));
            if let Some(id) = id.filter(|_| seen.flag == Some(true)) {
                self.agree_here(id, given.as_ref());
            }
            // An answer from before the opt-in says nothing about the account after it.
            self.server.answer = LastAnswer::None;
        }
        let id = seen.usable_id();
        let fresh_id = id.filter(|id| !self.record.is_retired(id)).cloned();
        let is_restored = seen.flag == Some(true) && id.is_some() && fresh_id.is_none();
        if std::mem::take(&mut self.cleanup_unanswered) && !is_restored {
            self.record.cleaned_in_epoch = Some(self.record.epoch);
        }
        match (self.record.decision, seen.flag, fresh_id) {
            (Consent::Denied, Some(true), Some(id)) => {
                self.raise_epoch(WipeReason::IdChanged);
                self.grant_when_settled(id, now);
            }
            (Consent::Denied, Some(true), None) => {
                self.server.answer = LastAnswer::Denied;
                let is_cleaned = self.record.cleaned_in_epoch == Some(self.record.epoch);
                return is_restored && !is_cleaned && !self.record.is_unreadable();
            }
            (Consent::Denied, _, _) if self.record.is_unreadable() && !seen.has_id_member() => {
                // The lost record may have held a pending removal, but the account has no ID
                // left to remove.
                self.record.reset();
                match seen.flag {
                    Some(_) => self.withdrawn_elsewhere(),
                    None => self.server.answer = LastAnswer::NoDecision,
                }
            }
            (Consent::Denied, _, _) => self.server.answer = LastAnswer::Denied,
            (_, Some(false), _) => self.withdrawn_elsewhere(),
            (_, Some(true), Some(id)) => self.grant_when_settled(id, now),
            (_, Some(true), None) => {
                self.record.decision = Consent::Granted;
                self.record.see_no_agreement();
                self.server.answer = LastAnswer::NoId;
            }
            (Consent::Granted, None, _) => {
                if self.server.answer != LastAnswer::NoDecision {
                    self.server.answer = LastAnswer::NoDecision;
                    self.raise_epoch(WipeReason::Withdrawn);
                }
            }
            (Consent::Undecided, None, _) => self.server.answer = LastAnswer::NoDecision,
        }
        false
    }

    /// Notes that the clean-up of `epoch` was acknowledged or may have been applied. The
    /// next read decides.
    pub(super) fn cleanup_sent(&mut self, epoch: u64) {
        self.cleanup_unanswered = self.record.epoch == epoch;
        self.wake.fetch_wanted = true;
    }
}
