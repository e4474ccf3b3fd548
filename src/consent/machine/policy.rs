//! The policy that the app asks for, and whether the opt-in agrees to it.

use std::{sync::Arc, time::Duration};

use super::Machine;
use crate::{
    analytics_id::AnalyticsId,
    consent::{
        content::Observed,
        policy::{Agreement, Policy},
        state::GateState,
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
}

impl Machine {
    /// Requires an agreement to `policy`. `today` is in milliseconds since 1970.
    pub(crate) fn with_policy(mut self, policy: Option<Arc<Policy>>, today: u64) -> Self {
        self.asked = Asked { policy, today };
        self
    }

    /// Handles that it is `today`, in milliseconds since 1970. Call it before each
    /// [`poll`](Self::poll).
    pub(crate) fn handle_time(&mut self, today: u64) {
        if self.asked.policy.is_some() {
            self.closing_begins_an_epoch(|machine| machine.asked.today = today);
        }
    }

    /// Returns whether this device knows that the opt-in agrees to the policy: because the
    /// user agreed on this device, or because the account was last seen to say so.
    pub(super) fn is_agreed(&self) -> bool {
        self.agreement_holds_for().is_some()
    }

    /// Returns for how long the agreement that this device knows of still holds.
    fn agreement_holds_for(&self) -> Option<Duration> {
        let Asked { policy, today } = &self.asked;
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
        let Asked { policy, today } = &self.asked;
        policy.as_ref().is_none_or(|policy| {
            seen.agreed.is_some_and(|at| policy.holds_for(at, *today).is_some())
        })
    }

    /// Returns the agreement that an opt-in gives now.
    pub(super) fn agreement(&self) -> Option<Agreement> {
        let Asked { policy, today } = &self.asked;
        policy.clone().map(|policy| Agreement { policy, at: *today })
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
        let is_closed = |machine: &Self| matches!(machine.gate(), GateState::Closed(_));
        let (was_closed, epoch) = (is_closed(self), self.record.epoch);
        change(self);
        if !was_closed && is_closed(self) && self.record.epoch == epoch {
            self.raise_epoch(WipeReason::NotConfirmed);
        }
    }
}
