//! The session: its loss, and the evidence that it works.

use tokio::time::Instant;

use super::{CallId, LastAnswer, Machine, Outcome, calls::CallKind};
use crate::{consent::state::Consent, gate::WipeReason};

/// Whether there is a session that could hold consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum Session {
    Live,
    SoftLogout,
    /// The account is a guest's.
    Unavailable,
    /// The homeserver no longer accepts the token. Evidence may show that there is
    /// another one.
    Lost,
    /// The app ended it, for good.
    Ended,
}

impl Machine {
    /// Handles the end of the session by the app: nothing is sent from here on. A removal
    /// that is pending is tried once more, for `id`.
    pub(crate) fn handle_end_session(&mut self, id: CallId) {
        if self.session != Session::Ended {
            self.lose_session(Session::Ended);
        }
        self.enqueue(id, CallKind::Removal);
    }

    /// Handles a change of the session.
    pub(crate) fn handle_session(&mut self, session: Session, now: Instant) {
        match (self.session, session) {
            (Session::Ended, _) | (Session::Live, Session::Live) => return,
            (_, Session::Ended) => self.lose_session(Session::Ended),
            // A request that is out may have been answered for the token before.
            (Session::Lost, Session::Lost) => self.overtake_requests(),
            (_, Session::Lost) => self.lose_session(Session::Lost),
            (_, Session::Unavailable) => {
                self.session = session;
                self.overtake_requests();
                self.close_if_closed(WipeReason::NotConfirmed);
            }
            (_, Session::SoftLogout) => {
                self.session = session;
                self.overtake_requests();
            }
            (_, Session::Live) => {
                self.session = session;
                self.unconfirm();
                self.wake.backoff.nudge(now);
            }
        }
        self.wake.session_may_work = false;
        if session != Session::Live {
            self.wake.timer.restart(now);
        }
    }

    /// Handles that session changes were missed: what was proven is to be proven again.
    pub(crate) fn handle_missed_session_changes(&mut self) {
        self.overtake_requests();
        self.distrust();
    }

    /// There is evidence that the session works: the homeserver is asked, and its answer
    /// decides.
    pub(super) fn note_evidence(&mut self) {
        match self.session {
            Session::Live | Session::Ended => {}
            Session::SoftLogout | Session::Lost | Session::Unavailable => {
                self.wake.session_may_work = true;
                self.wake.fetch_wanted = true;
            }
        }
    }

    /// The app asks: what it last heard of the session may have changed.
    pub(super) fn expect_answer(&mut self) {
        self.wake.fetch_wanted = true;
        self.note_evidence();
        if matches!(self.session, Session::SoftLogout | Session::Unavailable) {
            self.session = Session::Live;
            self.unconfirm();
        }
    }

    fn lose_session(&mut self, session: Session) {
        self.server.generation.closing += 1;
        self.session = session;
        self.void_opt_ins(Outcome::SessionEnded);
        if self.record.decision == Consent::Granted {
            // An opt-in is proven again at the next login. Keeping it would hold the
            // events of another user.
            self.record.decision = Consent::Undecided;
            self.record.forget_id();
        }
        if session == Session::Lost {
            self.server.answer = LastAnswer::None;
        }
        self.raise_epoch(WipeReason::Withdrawn);
    }
}
