//! Steps shared by several transitions: granting, closing and raising the epoch.

use tokio::time::Instant;

use super::{LastAnswer, Machine, operation::Task};
use crate::{
    analytics_id::AnalyticsId,
    consent::{
        content::Observed,
        state::{Consent, GateState},
    },
    gate::WipeReason,
};

impl Machine {
    /// Opens under `id`, or begins to settle if this process has just created `id` and
    /// another device may still be writing its own.
    pub(super) fn grant_when_settled(&mut self, id: AnalyticsId, now: Instant) {
        let settled_at = self.settings.settles_after_failure(now);
        if let Some(minted) = &mut self.opt_in.minted
            && self.operation.as_ref().is_none_or(|operation| operation.task != Task::OptIn)
        {
            // Its opt-in was abandoned, and its write may still be applied.
            minted.settled_at.get_or_insert(settled_at);
        }
        let minted = self.opt_in.minted.as_ref();
        if minted.is_some_and(|minted| minted.id == id && minted.is_unsettled(now)) {
            self.opt_in.settling = true;
        } else {
            self.opt_in.minted = None;
            self.grant(id);
        }
    }

    pub(super) fn grant(&mut self, id: AnalyticsId) {
        if self.record.remembers_other_than(&id) {
            self.raise_epoch(WipeReason::IdChanged);
        }
        self.record.remember_id(&id);
        self.see_agreement(&id);
        self.record.decision = Consent::Granted;
        self.record.removal = None;
        self.record.trust();
        self.removal_ordered = false;
        self.wake.fetch_wanted = self.server.sync_hint.is_some();
        self.server.answer = LastAnswer::Granted(id);
    }

    /// Retires the IDs that a `false` withdraws, whichever device wrote it: the ID in the
    /// same content, the ID last seen on the account, and the IDs of this device. Call this
    /// before `on_server` is updated with `seen`.
    ///
    /// An ID created here is spared while the `false` may be older than the ID: in sync,
    /// until the ID has settled; in a GET, until the homeserver has acknowledged its write.
    pub(super) fn retire_withdrawn(&mut self, seen: &Observed, is_proven: bool, now: Instant) {
        if seen.flag != Some(false) {
            return;
        }
        if let Some(id) = seen.usable_id() {
            self.record.retire(id);
        }
        // A device that opted out cleans up every ID that it has retired. After an opt-out
        // here, a `false` in sync may be the echo of that opt-out and arrive after another
        // device has opted in again. Retiring the new ID would remove it.
        let follows = self.decision() != Consent::Denied || self.is_opting_in();
        if !follows && !is_proven {
            return;
        }
        let minted = self.opt_in.minted.as_ref();
        let spared = minted
            .filter(|minted| minted.is_unsettled(now) && !(is_proven && minted.is_written))
            .map(|minted| minted.id.clone());
        let last_seen = self.server.on_server.as_ref().and_then(Observed::usable_id);
        if let Some(id) = last_seen.filter(|id| follows && Some(*id) != spared.as_ref()) {
            self.record.retire(id);
        }
        self.record.retire_all_but(spared.as_ref());
    }

    pub(super) fn withdrawn_elsewhere(&mut self) {
        self.opt_in.settling = false;
        self.opt_in.given = None;
        self.record.withdraw_elsewhere();
        self.server.answer = LastAnswer::Denied;
        self.raise_epoch(WipeReason::Withdrawn);
        // The device that withdrew the ID cleans up. The user may opt in again elsewhere
        // under the same ID, and this device must not undo that.
        self.record.cleaned_in_epoch = Some(self.record.epoch);
    }

    /// Wipes the queues if the gate is closed.
    pub(super) fn close_if_closed(&mut self, wipe: WipeReason) {
        if matches!(self.gate(), GateState::Closed(_)) {
            self.raise_epoch(wipe);
        }
    }

    /// Begins a new epoch. Events captured before are never sent.
    pub(super) fn raise_epoch(&mut self, wipe: WipeReason) {
        self.cleanup_unanswered = false;
        self.record.epoch = self.record.epoch.saturating_add(1);
        self.wipe(wipe);
    }

    pub(super) fn wipe(&mut self, wipe: WipeReason) {
        if self.pending_wipe != Some(WipeReason::Withdrawn) {
            self.pending_wipe = Some(wipe);
        }
    }
}
