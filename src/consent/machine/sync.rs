//! What sync shows of the account data.

use tokio::time::Instant;

use super::{Generation, LastAnswer, Machine, Session};
use crate::consent::{content::Observed, state::Consent};

impl Machine {
    /// Handles that sync carried an account-data event, of whatever type: the network is
    /// there, the session works, and a change of our event would have come.
    pub(crate) fn handle_sync_delivers(&mut self, now: Instant) {
        self.wake.timer.restart(now);
        self.note_evidence();
        self.nudge(now);
    }

    /// Handles that sync showed `seen`. Costs no request unless it differs from what the
    /// homeserver was last seen to hold.
    pub(crate) fn handle_synced(&mut self, seen: &Observed, now: Instant) {
        if self.session == Session::Ended {
            return;
        }
        if self.server.write_in_flight.as_ref() == Some(seen) {
            return;
        }
        // Even what is known may be newer than the answer of a request that is out.
        if seen.flag == Some(false) {
            self.server.generation.closing += 1;
            self.server.sync_hint = None;
        } else {
            self.server.generation.change += 1;
            self.server.sync_hint = Some(seen.clone());
        }
        if self.server.on_server.as_ref() == Some(seen) {
            // Or newer than a write that is out.
            self.wake.fetch_wanted |= self.server.write_in_flight.is_some();
            return;
        }
        self.nudge(now);
        if seen.flag == Some(false) {
            self.retire_withdrawn(seen, false, now);
            self.server.on_server = Some(seen.clone());
            if self.decision() != Consent::Denied {
                self.withdrawn_elsewhere();
            }
            return;
        }
        self.distrust();
    }

    fn nudge(&mut self, now: Instant) {
        self.wake.backoff.nudge(now);
        self.disk.backoff.nudge(now);
    }

    /// Returns whether a GET that was sent at `asked_at` proves anything: no local call
    /// or closing sign came after it was sent, and sync has shown nothing else since.
    pub(super) fn is_proof(&self, asked_at: Generation, seen: &Observed) -> bool {
        let Generation { closing, change } = self.server.generation;
        asked_at.closing == closing
            && (asked_at.change == change || self.server.sync_hint.as_ref() == Some(seen))
    }

    /// A GET that is out proves nothing, whatever it shows.
    pub(super) fn overtake_requests(&mut self) {
        self.server.generation.change += 1;
        self.server.sync_hint = None;
    }

    /// The homeserver answered a GET.
    pub(super) fn answered(&mut self, seen: &Observed, now: Instant) {
        self.wake.fetch_wanted = false;
        self.wake.timer.restart(now);
        self.wake.session_may_work = false;
        self.server.sync_hint = None;
        self.server.on_server = Some(seen.clone());
        if self.session != Session::Ended {
            self.session = Session::Live;
        }
    }

    /// What was proven is held until it is proven again.
    pub(super) fn distrust(&mut self) {
        self.wake.fetch_wanted = true;
        if matches!(self.server.answer, LastAnswer::Granted(_) | LastAnswer::NoId) {
            self.server.answer = LastAnswer::Stale;
        }
    }

    /// Nothing is proven any more.
    pub(super) fn unconfirm(&mut self) {
        self.server.answer = LastAnswer::None;
        self.wake.fetch_wanted = true;
    }
}
