//! Operations that the machine begins without a call of the app, and their time.

use tokio::time::Instant;

use super::{
    Machine, Session,
    backoff::{Backoff, RecheckTimer},
    operation::Task,
};

/// The triggers of an operation without a call of the app.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(super) struct Wake {
    pub(super) fetch_wanted: bool,
    pub(super) timer: RecheckTimer,
    pub(super) backoff: Backoff,
    /// Whether there is evidence that a session that is not live works after all.
    pub(super) session_may_work: bool,
}

impl Wake {
    pub(super) fn new(jitter: f64) -> Self {
        Self {
            fetch_wanted: true,
            timer: RecheckTimer::new(jitter),
            backoff: Backoff::default(),
            session_may_work: false,
        }
    }
}

impl Machine {
    /// Returns the next operation that needs no call, and the time when it is due.
    pub(super) fn upcoming(&self, now: Instant) -> Option<(Task, Instant)> {
        if self.session == Session::Ended {
            return None;
        }
        let wake = &self.wake;
        let earliest = wake.backoff.waits_until(now).unwrap_or(now);
        let asks = self.session == Session::Live || wake.session_may_work;
        // The timer runs even if the session does not work, because evidence may be missed.
        let begins = |is_wanted: bool| {
            if is_wanted { Some(earliest) } else { wake.timer.due.map(|due| due.max(earliest)) }
        };
        if self.record.removal.is_some() && !self.opt_in.settling {
            // A promised removal continues under a veto, and for an account that was once
            // denied access.
            let at = begins(asks || self.session == Session::Unavailable)?;
            return Some((Task::Removal, at));
        }
        if self.opt_in.settling {
            // A written opt-in is read back even under a veto.
            let settled_at = self.opt_in.minted.as_ref().and_then(|minted| minted.settled_at);
            return Some((Task::Fetch, begins(asks)?.max(settled_at.unwrap_or(now))));
        }
        if self.is_vetoed() {
            return None;
        }
        Some((Task::Fetch, begins(asks && wake.fetch_wanted)?))
    }

    /// Returns when the machine next acts without an input.
    pub(super) fn wakes_at(&self, now: Instant) -> Option<Instant> {
        let save = self.disk.retry_at(&self.record, now);
        let request = match self.operation {
            // No operation begins before the save in flight has ended.
            _ if self.disk.is_saving() => None,
            Some(_) => None,
            None => self.upcoming(now).map(|(_, at)| at),
        };
        let agreement = self.agreement_wait().map(|wait| now + wait);
        save.into_iter().chain(request).chain(agreement).min()
    }
}
