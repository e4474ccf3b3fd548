//! What the homeserver was last seen to hold, and what sync shows of it.

use tokio::time::Instant;

use super::Machine;
use crate::{
    analytics_id::AnalyticsId,
    consent::{content::Observed, state::Consent},
};

/// What is known of the event on the homeserver.
#[derive(Clone, Debug, Default)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(super) struct Server {
    pub(super) answer: LastAnswer,
    pub(super) generation: Generation,
    /// What it was last known to hold.
    pub(super) on_server: Option<Observed>,
    /// What sync last showed that differed from that.
    pub(super) sync_hint: Option<Observed>,
    /// What it will hold once the write in flight is applied.
    pub(super) write_in_flight: Option<Observed>,
    /// The ID that the account loses, or lost, by an opt-out, until a receipt has told.
    pub(super) removed_id: Option<AnalyticsId>,
}

/// What the last answer said that counts as proof.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) enum LastAnswer {
    /// There was none in this process, or what followed has made it worthless.
    #[default]
    None,
    /// Something has changed since.
    Stale,
    NoDecision,
    Denied,
    NoId,
    /// Granted under an ID that may be sent under.
    Granted(AnalyticsId),
}

/// Generation counters. A response proves nothing if either has advanced since its
/// request was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Generation {
    /// Local calls and signs of withdrawal.
    pub(super) closing: u64,
    /// Any sign of change that sync showed.
    pub(super) change: u64,
}

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
        if self.session == super::Session::Ended {
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
            self.server.on_server = Some(seen.clone());
            self.retire_withdrawn(seen);
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
        if self.session != super::Session::Ended {
            self.session = super::Session::Live;
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
