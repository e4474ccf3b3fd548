//! What an answer of the homeserver means for the decision.

use tokio::time::Instant;

use super::{Generation, LastAnswer, Machine, Outcome, Random, Session, request::Request};
use crate::{
    consent::{content::Observed, state::Consent},
    gate::WipeReason,
};

impl Machine {
    /// A GET that was sent at `asked_at` was answered: `request` of a fetch.
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
            // The homeserver only said that it had applied the clean-up, or another client was
            // faster. The next read decides: while this one was out, a `false` in sync was
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

    /// Follows what the homeserver was seen to hold. Returns whether it has to be cleaned
    /// of an ID that was restored.
    fn decide(&mut self, seen: &Observed, now: Instant) -> bool {
        self.retire_withdrawn(seen, true, now);
        self.answered(seen, now);
        if std::mem::take(&mut self.opt_in.settling) {
            // The user opted in in this process, and no withdrawal came after.
            self.record.decision = Consent::Granted;
            self.record.removal = None;
            self.record.trust();
            self.removal_ordered = false;
            // What was seen before the opt-in says nothing about what it left.
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
                // Nothing is left that a forgotten withdrawal could have to remove.
                self.record.start_anew();
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

    /// The clean-up of `epoch` was answered, or may have been applied: the next read tells.
    pub(super) fn cleanup_sent(&mut self, epoch: u64) {
        self.cleanup_unanswered = self.record.epoch == epoch;
        self.wake.fetch_wanted = true;
    }
}
