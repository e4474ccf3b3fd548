//! What a lane keeps between two tries.

use tokio::time::Instant;

use super::{refusals::Refusals, retry::Wait};

/// What a lane keeps between two tries.
#[derive(Debug)]
pub(super) struct RetryState {
    /// Failures in a row. A try that a flush made early does not count: the schedule
    /// goes on as if it had not been made.
    pub(super) failures: u32,
    /// How many events the next batch may have; fewer after a refusal.
    pub(super) batch_events: usize,
    /// How many of the next events are known to have a bad one among them.
    suspects: usize,
    pub(super) refusals: Refusals,
    /// The app was told that this backend fails.
    pub(super) warned: bool,
    pub(super) parked: bool,
    pub(super) pause: Option<Pause>,
    /// When the last pause was to end. It is still to come if a flush cut it short.
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
            parked: false,
            pause: None,
            scheduled: None,
        }
    }

    /// Goes on after `events` events were delivered, with batches of at most
    /// `most_events`.
    pub(super) fn succeed(&mut self, events: usize, most_events: usize) {
        let mut refusals = std::mem::take(&mut self.refusals);
        refusals.interrupt();
        // While a bad event is being looked for, the batches do not grow past it.
        let suspects = self.suspects.saturating_sub(events);
        let next = if suspects > 0 { suspects / 2 } else { self.batch_events.saturating_mul(2) };
        let batch_events = next.clamp(1, most_events.max(1));
        *self = Self { suspects, refusals, ..Self::new(batch_events) };
    }

    /// Counts a failure, and returns how many there were in a row.
    pub(super) fn fail(&mut self, now: Instant) -> u32 {
        if self.rest_of_schedule(now).is_none() {
            self.failures = self.failures.saturating_add(1);
        }
        self.failures
    }

    /// Pauses after a failure that may pass.
    pub(super) fn wait(&mut self, now: Instant, wait: Wait) {
        let mut pause = Pause::new(now, wait);
        if let Some(scheduled) = self.rest_of_schedule(now) {
            pause.scheduled = scheduled.max(pause.flush);
        }
        self.parked = false;
        self.pause = Some(pause);
    }

    /// Pauses for long.
    pub(super) fn park(&mut self, now: Instant, wait: Wait) {
        self.failures = 0;
        self.scheduled = None;
        self.parked = true;
        self.pause = Some(Pause::new(now, wait));
    }

    /// Goes on after a refusal of `events` events, at once or after a pause. One that was
    /// alone is gone.
    pub(super) fn refuse(&mut self, now: Instant, events: usize) {
        self.failures = 0;
        self.scheduled = None;
        self.parked = false;
        self.batch_events = (events / 2).max(1);
        self.suspects = if events > 1 { events } else { 0 };
        // Nothing shortens this pause: the app cannot know that the next event is good.
        let pause = self.refusals.add(now, fastrand::f64());
        self.pause = pause.map(|time| Pause::new(now, Wait::fixed(time)));
    }

    /// Ends the pause.
    pub(super) fn resume(&mut self) {
        self.scheduled = self.pause.take().map(|pause| pause.scheduled);
    }

    /// When the next try is due by the schedule, if the last one came before its time.
    fn rest_of_schedule(&self, now: Instant) -> Option<Instant> {
        self.scheduled.filter(|scheduled| *scheduled > now && !self.parked)
    }
}

/// A time to leave a backend alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    /// Until when, if nothing asks for a try before.
    pub(super) scheduled: Instant,
    /// From when on a flush gets a try.
    flush: Instant,
    /// From when on a shutdown gets a try.
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

    /// Returns whether to make the try that a flush or a shutdown asks for. One that
    /// failed just now was as good as another.
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
    fn tries_that_a_flush_makes_early_leave_the_schedule_as_it_was() {
        let begin = Instant::now();
        let (mut retries, mut now) = (RetryState::new(100), begin);
        for _ in 0..8 {
            fail(&mut retries, now);
            now = retries.pause.unwrap().scheduled;
            retries.resume();
        }
        // 64 s after the next failure comes the one after it: with flushes, too.
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
