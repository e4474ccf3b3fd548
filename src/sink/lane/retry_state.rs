//! The state that a lane keeps between two attempts.

use tokio::time::Instant;

use super::{refusals::Refusals, retry::Wait};

/// The state that a lane keeps between two attempts.
#[derive(Debug)]
pub(super) struct RetryState {
    /// Failures in a row. An attempt that a flush brought forward does not count and
    /// leaves the schedule unchanged.
    pub(super) failures: u32,
    /// The maximum number of events in the next batch. A refusal reduces it.
    pub(super) batch_events: usize,
    /// The number of next events among which there is a bad one.
    suspects: usize,
    pub(super) refusals: Refusals,
    /// Whether a warning about this outage has been logged.
    pub(super) warned: bool,
    /// Whether a warning about single events has been logged, in a row of answers that refuse
    /// some.
    pub(super) warned_of_events: bool,
    pub(super) parked: bool,
    pub(super) pause: Option<Pause>,
    /// The scheduled end of the last pause. It is in the future if a flush ended the pause
    /// early.
    scheduled: Option<Instant>,
}

impl RetryState {
    pub(super) fn new(batch_events: usize) -> Self {
        Self {
            failures: 0,
            batch_events,
            suspects: 0,
            refusals: Refusals::default(),
            warned: false,
            warned_of_events: false,
            parked: false,
            pause: None,
            scheduled: None,
        }
    }

    /// Updates the state after `events` events were delivered. `most_events` is the limit
    /// for batches.
    pub(super) fn succeed(&mut self, events: usize, most_events: usize) {
        let mut refusals = std::mem::take(&mut self.refusals);
        refusals.end_streak();
        // During the search for a bad event, batches do not grow beyond the suspects.
        let suspects = self.suspects.saturating_sub(events);
        let next = if suspects > 0 { suspects / 2 } else { self.batch_events.saturating_mul(2) };
        let batch_events = next.clamp(1, most_events.max(1));
        *self = Self { suspects, refusals, ..Self::new(batch_events) };
    }

    /// Notes that `events` events have left, and others of their batch have not.
    pub(super) fn leave(&mut self, events: usize) {
        self.suspects = self.suspects.saturating_sub(events);
    }

    /// Counts a failure, and returns the number of failures in a row.
    pub(super) fn fail(&mut self, now: Instant) -> u32 {
        if self.rest_of_schedule(now).is_none() {
            self.failures = self.failures.saturating_add(1);
        }
        self.failures
    }

    /// Pauses after a temporary failure.
    pub(super) fn wait(&mut self, now: Instant, wait: Wait) {
        let mut pause = Pause::new(now, wait);
        if let Some(scheduled) = self.rest_of_schedule(now) {
            pause.scheduled = scheduled.max(pause.flush);
        }
        self.parked = false;
        self.pause = Some(pause);
    }

    /// Pauses until the configuration may have changed.
    pub(super) fn park(&mut self, now: Instant, wait: Wait) {
        self.failures = 0;
        self.scheduled = None;
        self.parked = true;
        self.pause = Some(Pause::new(now, wait));
    }

    /// Updates the state after a refusal of `events` events, and pauses if refusals are
    /// too frequent. A single event has been dropped.
    pub(super) fn refuse(&mut self, now: Instant, events: usize) {
        self.batch_events = (events / 2).max(1);
        self.suspects = if events > 1 { events } else { 0 };
        self.refuse_batch(now);
    }

    /// Updates the state after a whole batch was dropped because it was refused for good, and
    /// pauses if refusals are too frequent.
    pub(super) fn refuse_batch(&mut self, now: Instant) {
        self.failures = 0;
        self.scheduled = None;
        self.parked = false;
        // Not even a flush shortens this pause, because the next event may be bad as well.
        let pause = self.refusals.add(now, fastrand::f64());
        self.pause = pause.map(|time| Pause::new(now, Wait::fixed(time)));
    }

    /// Ends the pause.
    pub(super) fn resume(&mut self) {
        self.scheduled = self.pause.take().map(|pause| pause.scheduled);
    }

    /// Returns the time of the next scheduled attempt, if the last one was made early.
    fn rest_of_schedule(&self, now: Instant) -> Option<Instant> {
        self.scheduled.filter(|scheduled| *scheduled > now && !self.parked)
    }
}

/// A pause between two attempts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    /// The time of the next scheduled attempt.
    pub(super) scheduled: Instant,
    /// The time from which a flush may make an attempt.
    flush: Instant,
    /// The time from which a shutdown may make an attempt.
    shutdown: Instant,
}

impl Pause {
    fn new(now: Instant, wait: Wait) -> Self {
        Self {
            scheduled: now + wait.scheduled,
            flush: now + wait.flush,
            shutdown: now + wait.shutdown,
        }
    }

    /// Returns whether a flush or a shutdown may make an attempt now.
    pub(super) fn may_be_cut_short(&self, now: Instant, shutting_down: bool) -> bool {
        now >= if shutting_down { self.shutdown } else { self.flush }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{backend::DeliveryError, sink::lane::retry};

    fn fail(retries: &mut RetryState, now: Instant) {
        let error = DeliveryError::Transient("cause".into());
        let failures = retries.fail(now);
        match retry::decide(&error, 1, failures, 0.0) {
            retry::RetryDecision::Wait(wait) => retries.wait(now, wait),
            decision => panic!("{decision:?}"),
        }
    }

    #[test]
    fn early_attempts_of_a_flush_leave_the_schedule_unchanged() {
        let begin = Instant::now();
        let (mut retries, mut now) = (RetryState::new(100), begin);
        for _ in 0..8 {
            fail(&mut retries, now);
            now = retries.pause.unwrap().scheduled;
            retries.resume();
        }
        // The ninth failure waits 128 s (jitter is 0), with or without flushes.
        fail(&mut retries, now);
        let scheduled = retries.pause.unwrap().scheduled;
        assert_eq!(scheduled - now, Duration::from_secs(128));
        for _ in 0..24 {
            now = retries.pause.unwrap().flush;
            retries.resume();
            fail(&mut retries, now);
            assert_eq!(retries.pause.unwrap().scheduled, scheduled);
        }
        assert_eq!((retries.failures, scheduled - now), (9, Duration::from_secs(8)));
        // The floor holds between an early try and the one by the schedule.
        now = scheduled - Duration::from_millis(1);
        retries.resume();
        fail(&mut retries, now);
        assert_eq!(retries.pause.unwrap().scheduled - now, Duration::from_secs(5));
        now = retries.pause.unwrap().scheduled;
        retries.resume();
        fail(&mut retries, now);
        assert_eq!(retries.failures, 10);
    }
}
