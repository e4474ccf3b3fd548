//! Queries of the machine's state.

use super::{LastAnswer, Machine, Session};
use crate::{
    analytics_id::AnalyticsId,
    consent::state::{ClosedReason, Consent, ConsentState, GateState, HoldReason},
    gate::WipeReason,
};

impl Machine {
    /// Returns the state, in which no erasure is pending: the machine knows none.
    pub(crate) fn state(&self) -> ConsentState {
        ConsentState {
            decision: self.decision(),
            confirmed: match self.server.answer {
                LastAnswer::None | LastAnswer::Stale => false,
                _ if self.opt_in.settling => false,
                LastAnswer::NoDecision
                | LastAnswer::Denied
                | LastAnswer::NoId
                | LastAnswer::Granted(_) => true,
            },
            gate: self.gate(),
            removal_pending: self.record.removal.is_some() && !self.opt_in.settling,
            erasures_pending: false,
        }
    }

    /// Returns the decision that the user has made, as far as that is known. A record that cannot be
    /// read denies, but that is not a decision of the user.
    pub(crate) fn known_decision(&self) -> Consent {
        match self.decision() {
            Consent::Denied if self.record.is_unreadable() => Consent::Undecided,
            decision => decision,
        }
    }

    /// Returns the user's decision. A written opt-in counts before the record contains it.
    pub(super) fn decision(&self) -> Consent {
        if self.opt_in.settling { Consent::Granted } else { self.record.decision }
    }

    pub(crate) fn gate(&self) -> GateState {
        use GateState::{Closed, Holding, Open};

        match self.session {
            Session::Ended | Session::Lost => return Closed(ClosedReason::SessionEnded),
            Session::Unavailable => return Closed(ClosedReason::Unavailable),
            Session::Live | Session::SoftLogout => {}
        }
        if self.settings.do_not_track {
            return Closed(ClosedReason::DoNotTrack);
        }
        if self.record.device_veto {
            return Closed(ClosedReason::DeviceVeto);
        }
        let granted = self.decision() == Consent::Granted;
        if granted
            && self.session == Session::SoftLogout
            && self.server.answer != LastAnswer::NoDecision
            && self.is_agreed()
        {
            return Holding(HoldReason::SoftLogout);
        }
        if self.opt_in.settling {
            return Holding(HoldReason::Settling);
        }
        if granted && matches!(self.server.answer, LastAnswer::Granted(_)) && self.is_agreed() {
            return Open;
        }
        if self.is_opting_in() {
            return Holding(HoldReason::OptingIn);
        }
        match (self.record.decision, &self.server.answer) {
            (Consent::Denied, _) => Closed(ClosedReason::Denied),
            (Consent::Undecided, LastAnswer::None | LastAnswer::Stale) => {
                Closed(ClosedReason::Unknown)
            }
            (Consent::Undecided, _) => Closed(ClosedReason::Undecided),
            (Consent::Granted, LastAnswer::None | LastAnswer::Stale) if !self.is_agreed() => {
                Closed(ClosedReason::Unknown)
            }
            (Consent::Granted, LastAnswer::NoId) if !self.is_agreed() => {
                Closed(ClosedReason::PolicyNotAgreed)
            }
            (Consent::Granted, LastAnswer::None) => Holding(HoldReason::Unverified),
            (Consent::Granted, LastAnswer::Stale) => Holding(HoldReason::Rechecking),
            (Consent::Granted, LastAnswer::NoId) => Holding(HoldReason::MissingId),
            (Consent::Granted, LastAnswer::Granted(_)) => Closed(ClosedReason::PolicyNotAgreed),
            (Consent::Granted, LastAnswer::NoDecision | LastAnswer::Denied) => {
                Closed(ClosedReason::DecisionErased)
            }
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.record.epoch
    }

    /// Returns the ID to send under, or `None` unless the gate is open.
    pub(crate) fn id(&self) -> Option<&AnalyticsId> {
        match &self.server.answer {
            LastAnswer::Granted(id) if self.gate() == GateState::Open => Some(id),
            _ => None,
        }
    }

    #[cfg(test)]
    pub(crate) fn record(&self) -> &crate::consent::record::Record {
        &self.record
    }

    pub(super) fn is_vetoed(&self) -> bool {
        self.settings.do_not_track || self.record.device_veto
    }

    /// Takes the ID that an opt-out removed from the account. Each is returned once.
    pub(crate) fn take_removed_id(&mut self) -> Option<AnalyticsId> {
        self.server.removed_id.take()
    }

    /// Takes the reason of the pending wipe, if any.
    pub(crate) fn take_wipe(&mut self) -> Option<WipeReason> {
        self.pending_wipe.take()
    }
}
