//! The progress of a watch, which its task tells the app's guard.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{state::HealthState, stats::HealthStats};
use crate::stop::Stop;

/// State and counters of a watch, and the signal to end it.
#[derive(Debug)]
pub(crate) struct Progress {
    now: Mutex<(HealthState, HealthStats)>,
    pub(crate) stop: Stop,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let now = (HealthState::WaitingForConsent, HealthStats::default());
        Self { now: Mutex::new(now), stop: Stop::default() }
    }

    pub(crate) fn state(&self) -> HealthState {
        self.lock().0
    }

    pub(crate) fn stats(&self) -> HealthStats {
        self.lock().1
    }

    pub(super) fn set(&self, state: HealthState, stats: HealthStats) {
        *self.lock() = (state, stats);
    }

    pub(super) fn set_state(&self, state: HealthState) {
        self.lock().0 = state;
    }

    fn lock(&self) -> MutexGuard<'_, (HealthState, HealthStats)> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
