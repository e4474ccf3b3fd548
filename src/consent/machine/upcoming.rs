//! What the machine begins by itself, and when: the one place that says why a GET will
//! ever come.

use tokio::time::Instant;

use super::{
    Machine, Session,
    backoff::{Backoff, RecheckTimer},
    operation::Task,
};

/// What makes the machine begin an operation by itself.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(super) struct Wake {
    pub(super) fetch_wanted: bool,
    pub(super) timer: RecheckTimer,
    pub(super) backoff: Backoff,
    /// There is evidence that a session that is not live works after all.
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
    /// Returns the operation that begins by itself, and when.
    pub(super) fn upcoming(&self, now: Instant) -> Option<(Task, Instant)> {
        if self.session == Session::Ended {
            return None;
        }
        let wake = &self.wake;
        let earliest = wake.backoff.waits_until(now).unwrap_or(now);
        let asks = self.session == Session::Live || wake.session_may_work;
        // The timer goes on for a session that does not work: evidence may be missed.
        let begins = |is_wanted: bool| {
            if is_wanted { Some(earliest) } else { wake.timer.due.map(|due| due.max(earliest)) }
        };
        if self.record.removal.is_some() && !self.opt_in.settling {
            // A removal was promised: it goes on under a veto, and for an account that
            // was forbidden once.
            let at = begins(asks || self.session == Session::Unavailable)?;
            return Some((Task::Removal, at));
        }
        if self.opt_in.settling {
            // An opt-in that was written is read back under a veto too.
            let settled_at = self.opt_in.minted.as_ref().and_then(|minted| minted.settled_at);
            return Some((Task::Fetch, begins(asks)?.max(settled_at.unwrap_or(now))));
        }
        if self.is_vetoed() {
            return None;
        }
        Some((Task::Fetch, begins(asks && wake.fetch_wanted)?))
    }

    /// Returns the time of the next thing that happens by itself.
    pub(super) fn wakes_at(&self, now: Instant) -> Option<Instant> {
        let save = self.disk.retry_at(&self.record, now);
        let request = match self.operation {
            // A request begins once the disk has taken what is to be saved.
            _ if self.disk.is_saving() => None,
            Some(_) => None,
            None => self.upcoming(now).map(|(_, at)| at),
        };
        save.into_iter().chain(request).min()
    }
}
