//! What a lane keeps between two tries.

use std::time::Duration;

use tokio::time::Instant;

use super::retry;

/// What a lane keeps between two tries.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) tries: u32,
    /// How many events the next batch may have; fewer after a refusal.
    pub(super) batch_events: usize,
    /// Refusals in a row, each of which halved or dropped a batch.
    pub(super) refused: u32,
    /// The app was told that this backend fails.
    pub(super) warned: bool,
    pub(super) parked: bool,
    pub(super) pause: Option<Pause>,
}

impl Course {
    pub(super) fn new(batch_events: usize) -> Self {
        Self { tries: 0, batch_events, refused: 0, warned: false, parked: false, pause: None }
    }

    /// Goes on with batches of at most `batch_events`, after a pause if the backend
    /// refuses everything.
    pub(super) fn refuse(&mut self, batch_events: usize) {
        self.batch_events = batch_events;
        self.refused = self.refused.saturating_add(1);
        if let Some(time) = retry::pause_after_refusals(self.refused, fastrand::f64()) {
            self.pause = Some(Pause { until: Instant::now() + time, asked: false });
        }
    }
}

/// A time to leave a backend alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    pub(super) until: Instant,
    /// The backend asked for it, so that a flush does not shorten it.
    pub(super) asked: bool,
}
