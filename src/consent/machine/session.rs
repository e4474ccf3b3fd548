//! The session: its loss, and evidence that it works.

use tokio::time::Instant;

use super::{CallId, LastAnswer, Machine, Outcome, calls::CallKind};
use crate::{consent::state::Consent, gate::WipeReason};

/// Whether the session can read and write the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum Session {
    Live,
    SoftLogout,
    /// The account is a guest account.
    Unavailable,
    /// The homeserver no longer accepts the token. Evidence may show that there is a new
    /// one.
    Lost,
    /// The app ended the session. This state is final.
    Ended,
}

impl Machine {
    /// Handles that the app ended the session. No more events are sent. A pending removal
    /// is tried once more for the call `id`.
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
            // A request in flight may have used the previous token.
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

    /// Handles that session changes were missed, so that the opt-in has to be proven again.
    pub(crate) fn handle_missed_session_changes(&mut self) {
        self.overtake_requests();
        self.distrust();
    }

    /// Notes evidence that the session works. It leads to a GET, whose answer decides.
    pub(super) fn note_evidence(&mut self) {
        match self.session {
            Session::Live | Session::Ended => {}
            Session::SoftLogout | Session::Lost | Session::Unavailable => {
                self.wake.session_may_work = true;
                self.wake.fetch_wanted = true;
            }
        }
    }

    /// Requests a GET for a call of the app, even if the session did not work before.
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
            // The next login proves an opt-in again. If it were kept, a later session would
            // hold events that may belong to another user.
            self.record.decision = Consent::Undecided;
            self.record.forget_id();
        }
        if session == Session::Lost {
            self.server.answer = LastAnswer::None;
        }
        self.raise_epoch(WipeReason::Withdrawn);
    }
}
