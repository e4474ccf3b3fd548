//! When the next try is due.

use std::time::Duration;

use tokio::time::Instant;

use super::Next;

/// When the next try is due, after failures in a row.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(super) struct Retry {
    pub(super) failures: u32,
    pub(super) not_before: Option<Instant>,
}

impl Retry {
    pub(super) fn failed(&mut self, now: Instant, jitter: f64) {
        self.not_before = Some(now + retry_delay(self.failures, jitter));
        self.failures = self.failures.saturating_add(1);
    }

    /// `wanted` if its time has come, else a sleep until then.
    pub(super) fn gate(self, now: Instant, wanted: Next) -> Next {
        match self.not_before {
            Some(later) if later > now => Next::Sleep(Some(later)),
            _ => wanted,
        }
    }
}

/// Asks again from time to time, where sync carries no account data: sliding sync
/// without the extension for it.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(super) struct RecheckTimer {
    interval: Duration,
    pub(super) due: Option<Instant>,
    /// Sync was seen to carry account data, of whatever type: the timer is off.
    pub(super) sync_delivers: bool,
}

impl RecheckTimer {
    /// From 6 to 12 hours, so that the clients of one server spread out. `jitter`
    /// is at least 0 and below 1.
    pub(super) fn new(jitter: f64) -> Self {
        const LONGEST: Duration = Duration::from_secs(12 * 3600);

        let interval = LONGEST.mul_f64(0.5 + jitter / 2.0);
        Self { interval, due: None, sync_delivers: false }
    }

    pub(super) fn restart(&mut self, now: Instant) {
        self.due = Some(now + self.interval);
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due.filter(|_| !self.sync_delivers)
    }
}

/// The longest wait between two tries at the homeserver, whatever it asks for.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// The wait after the `failures`-th failure in a row: from 2 s, doubling up to
/// 10 min, of which at least half is kept. `jitter` is at least 0 and below 1.
fn retry_delay(failures: u32, jitter: f64) -> Duration {
    const FIRST: Duration = Duration::from_secs(2);

    let full = FIRST.saturating_mul(1 << failures.min(16)).min(LONGEST_WAIT);
    full.mul_f64(0.5 + jitter / 2.0)
}
