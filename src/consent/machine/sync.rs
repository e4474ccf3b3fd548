//! Account data that arrives in sync, and the proof that an answer can give.

use tokio::time::Instant;

use super::{Generation, LastAnswer, Machine, Session};
use crate::consent::{content::Observed, state::Consent};

impl Machine {
    /// Handles that sync carried an account-data event of any type. It shows that the
    /// network and the session work, and that a change of our event would have arrived.
    pub(crate) fn handle_sync_delivers(&mut self, now: Instant) {
        self.wake.timer.restart(now);
        self.note_evidence();
        self.nudge(now);
    }

    /// Handles that sync showed `seen`. Makes no request if that is the content last seen
    /// on the homeserver.
    pub(crate) fn handle_synced(&mut self, seen: &Observed, now: Instant) {
        if self.session == Session::Ended {
            return;
        }
        if self.server.write_in_flight.as_ref() == Some(seen) {
            return;
        }
        // Even known content may be newer than the answer to a request in flight.
        if seen.flag == Some(false) {
            self.server.generation.closing += 1;
            self.server.sync_hint = None;
            self.opt_in.given = None;
        } else {
            self.server.generation.change += 1;
            self.server.sync_hint = Some(seen.clone());
        }
        if self.server.on_server.as_ref() == Some(seen) {
            // It may also be newer than a write in flight.
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

    /// Returns whether the answer to a GET sent at `asked_at` is proof: no local call or
    /// closing sign came after it, and sync has shown no other content since.
    pub(super) fn is_proof(&self, asked_at: Generation, seen: &Observed) -> bool {
        let Generation { closing, change } = self.server.generation;
        asked_at.closing == closing
            && (asked_at.change == change || self.server.sync_hint.as_ref() == Some(seen))
    }

    /// Makes the answer to a GET in flight worthless as proof.
    pub(super) fn overtake_requests(&mut self) {
        self.server.generation.change += 1;
        self.server.sync_hint = None;
    }

    /// Notes that the homeserver answered a GET with `seen`.
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

    /// Holds events until a GET has proven the opt-in again. A user who had not decided may
    /// have done so since, and is not asked before that GET.
    pub(super) fn distrust(&mut self) {
        self.wake.fetch_wanted = true;
        let is_stale = match self.server.answer {
            LastAnswer::Granted(_) | LastAnswer::NoId => true,
            // With an opt-in in the record it closes the gate, which only proof opens.
            LastAnswer::NoDecision => self.record.decision == Consent::Undecided,
            LastAnswer::Denied | LastAnswer::None | LastAnswer::Stale => false,
        };
        if is_stale {
            self.server.answer = LastAnswer::Stale;
        }
    }

    /// Discards all proof and requests a GET.
    pub(super) fn unconfirm(&mut self) {
        self.server.answer = LastAnswer::None;
        self.wake.fetch_wanted = true;
    }
}
