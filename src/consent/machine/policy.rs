//! The policy that the app asks for, and whether the opt-in agrees to it.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    LastAnswer, Machine,
    operation::{Operation, Step},
    opt_in::Given,
    request::Request,
};
use crate::{
    analytics_id::AnalyticsId,
    clock::EARLIEST_TIME,
    consent::{
        content::Observed,
        policy::{Agreement, Policy},
        state::{ClosedReason, GateState},
    },
    gate::WipeReason,
};

/// The longest wait for the day on which an agreement becomes old. A timer does not run while
/// the device is suspended.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// What the app asks the user to agree to, and the time of day.
#[derive(Clone, Debug, Default)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(super) struct Asked {
    pub(super) policy: Option<Arc<Policy>>,
    /// In milliseconds since 1970.
    pub(super) today: u64,
    /// Whether events of an earlier process wait for the first answer, although the agreement
    /// is old by the clock.
    holds_old: bool,
}

impl Machine {
    /// Requires an agreement to `policy`. `today` is in milliseconds since 1970.
    pub(crate) fn with_policy(mut self, policy: Option<Arc<Policy>>, today: u64) -> Self {
        self.asked = Asked { policy, today, holds_old: false };
        self.date_agreements();
        self
    }

    /// Dates the agreements that were given on this device before its clock was set.
    fn date_agreements(&mut self) {
        let today = self.asked.today;
        if self.asked.policy.is_some() && today > EARLIEST_TIME {
            self.record.date_agreements(EARLIEST_TIME, today);
        }
    }

    /// Notes that the user gave `agreement`, if there is one, on this device under `id`.
    pub(super) fn agree_here(&mut self, id: &AnalyticsId, agreement: Option<&Agreement>) {
        self.record.agree_here(id, agreement);
        // The clock may have been set since the agreement was made.
        self.date_agreements();
    }

    /// Returns whether the events of an earlier process wait for the first answer. They do even
    /// if only the clock rejects the agreement: it may be wrong, and the user may have agreed
    /// again on another device.
    #[cfg(feature = "sqlite")]
    pub(crate) fn keep_events(&mut self) -> bool {
        use crate::consent::state::Consent;

        self.asked.holds_old = self.gate() == GateState::Closed(ClosedReason::Unknown)
            && self.record.decision == Consent::Granted
            && self
                .asked
                .policy
                .as_ref()
                .is_some_and(|policy| self.record.agreed_at(policy).next().is_some());
        !self.is_closed()
    }

    fn is_closed(&self) -> bool {
        match self.gate() {
            GateState::Closed(ClosedReason::Unknown) => !self.asked.holds_old,
            gate => matches!(gate, GateState::Closed(_)),
        }
    }

    /// Handles that it is `today`, in milliseconds since 1970. Call it before each
    /// [`poll`](Self::poll), and before each answer of the homeserver.
    pub(crate) fn handle_time(&mut self, today: u64) {
        if self.asked.policy.is_none() {
            return;
        }
        self.closing_begins_an_epoch(|machine| {
            let was_agreed = machine.is_agreed();
            machine.asked.today = today;
            // The user is not asked twice because the clock was set in between.
            machine.date_agreements();
            machine.refresh_suspended_opt_in();
            let has_answer =
                matches!(machine.server.answer, LastAnswer::Granted(_) | LastAnswer::NoId);
            match (was_agreed, machine.is_agreed()) {
                // The user may have agreed again on another device.
                (true, false) if has_answer => machine.unconfirm(),
                // A clock that goes back proves nothing.
                (false, true) if has_answer => machine.distrust(),
                _ => {}
            }
        });
    }

    /// Returns whether this device knows that the opt-in agrees to the policy: because the
    /// user agreed on this device, or because the account was last seen to say so.
    pub(super) fn is_agreed(&self) -> bool {
        self.agreement_holds_for().is_some()
    }

    /// Returns for how long the agreement that this device knows of still holds.
    fn agreement_holds_for(&self) -> Option<Duration> {
        let Asked { policy, today, .. } = &self.asked;
        let Some(policy) = policy else { return Some(Duration::MAX) };
        self.record.agreed_at(policy).filter_map(|at| policy.holds_for(at, *today)).max()
    }

    /// Returns the time until the agreement has to be looked at again.
    pub(super) fn agreement_wait(&self) -> Option<Duration> {
        let left = self.agreement_holds_for().filter(|left| *left != Duration::MAX)?;
        Some(left.min(LONGEST_WAIT))
    }

    /// Returns whether `seen` has an agreement to the policy that is not old.
    pub(super) fn is_agreed_in(&self, seen: &Observed) -> bool {
        let Asked { policy, today, .. } = &self.asked;
        policy.as_ref().is_none_or(|policy| {
            seen.agreed.is_some_and(|at| policy.holds_for(at, *today).is_some())
        })
    }

    /// Returns whether an opt-in would add nothing to `seen`.
    pub(super) fn adds_nothing_to(&self, seen: &Observed) -> bool {
        let Asked { policy, today, .. } = &self.asked;
        self.is_agreed_in(seen)
            && policy.as_ref().is_none_or(|policy| {
                seen.agreed.is_some_and(|at| policy.is_recent(at, (*today).max(EARLIEST_TIME)))
            })
    }

    /// Returns the agreement that an opt-in gives now under an ID under which the account has
    /// one of `before`.
    pub(super) fn agreement(&self, before: Option<u64>) -> Option<Agreement> {
        let policy = self.asked.policy.clone()?;
        let at = policy.later(before.unwrap_or_default(), self.asked.today.max(EARLIEST_TIME));
        Some(Agreement { policy, at })
    }

    /// Takes the agreement of the opt-in whose ID has settled, or `None` if the answer came too
    /// late. The user may then have withdrawn elsewhere in the meantime, and the ID on the
    /// account may be one that another client created.
    pub(super) fn take_given(&mut self, now: Instant) -> Option<Agreement> {
        let Given { agreement, read_on } = self.opt_in.given.take()?;
        let settled_at = self.opt_in.minted.as_ref()?.settled_at?;
        let limit = self.settings.request_timeout;
        // The write, the settle time, and the read after it.
        let longest = limit + self.settings.settle_time() + limit;
        let is_in_time = now <= settled_at + limit && self.passed_since(read_on) <= longest;
        is_in_time.then_some(agreement)
    }

    /// Returns the time since `before`, by the clock that goes on while the device is suspended.
    fn passed_since(&self, before: u64) -> Duration {
        Duration::from_millis(self.asked.today.abs_diff(before))
    }

    /// Makes an opt-in read the account again if the device was suspended before its write. The
    /// user may have withdrawn on another device in the meantime.
    fn refresh_suspended_opt_in(&mut self) {
        if let Some(Operation { step: Step::Ready(Request::OptIn(plan)), .. }) = &self.operation
            && self.passed_since(plan.read_on) > 2 * self.settings.request_timeout
        {
            self.proceed(Request::Read);
        }
    }

    /// Notes whether the account, last seen to hold `id`, has an agreement to the policy.
    pub(super) fn see_agreement(&mut self, id: &AnalyticsId) {
        let Some(policy) = &self.asked.policy else { return };
        let seen = self.server.on_server.as_ref().and_then(|seen| seen.agreed);
        self.record.see_agreement(id, policy, seen);
    }

    /// Makes `change`. If that closes the gate within an epoch, begins another one, so that
    /// no event captured before is sent.
    pub(super) fn closing_begins_an_epoch(&mut self, change: impl FnOnce(&mut Self)) {
        let (was_closed, epoch) = (self.is_closed(), self.record.epoch);
        change(self);
        if !was_closed && self.is_closed() && self.record.epoch == epoch {
            self.raise_epoch(WipeReason::NotConfirmed);
        }
        self.asked.holds_old &= self.gate() == GateState::Closed(ClosedReason::Unknown);
    }
}
