//! Takes events from the queue to one backend: batches, retries, cuts.
//!
//! One lane a backend, so that the outage of one delays no other. All lanes run
//! in the one task of [`Sink::run`](crate::sink::Sink::run).

mod course;
mod retry;
mod state;

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};
use tracing::warn;

use self::{
    course::{Course, Pause},
    retry::RetryDecision,
    state::LaneState,
};
use crate::{
    DeliveryError,
    backend::{Batch, DynBackend},
    gate::{Gate, Pass},
    limits::Limits,
    locks::{Mutex, MutexGuard, PoisonError},
    queue::{Journal, Queued, Row},
    stats::DropReason,
    stop::Stop,
};

/// One backend, and what waits for it.
#[derive(Debug)]
pub(crate) struct Lane {
    backend: Box<dyn DynBackend>,
    state: Mutex<LaneState>,
    /// There may be something new to do.
    wake: Notify,
    /// Something was done.
    progressed: Notify,
}

/// One call of `flush()`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flush {
    number: u64,
    /// How many events have left in all once those that wait now have.
    gone: u64,
}

/// How one try ended.
enum Outcome {
    Answered(Result<(), DeliveryError>),
    /// Consent ended, or is in doubt, while the request was out.
    Cut,
    Panicked,
    Stopped,
}

/// A backend took longer for a batch than it may.
#[derive(Debug, thiserror::Error)]
#[error("the backend did not answer in time")]
struct TooSlow;

impl Lane {
    pub(crate) fn new(backend: Box<dyn DynBackend>) -> Self {
        Self { backend, state: Mutex::default(), wake: Notify::new(), progressed: Notify::new() }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.backend.name()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Asks for everything that waits to be tried now.
    pub(crate) fn ask_flush(&self) -> Flush {
        let flush = {
            let mut state = self.lock();
            state.flush_asked += 1;
            let waiting = (state.queue.len() + state.in_flight) as u64;
            Flush { number: state.flush_asked, gone: state.gone() + waiting }
        };
        self.wake();
        flush
    }

    /// Waits until all that waited when `flush` was asked for has left, or could
    /// not.
    pub(crate) async fn flushed(&self, flush: Flush) {
        self.until(|state| state.flush_done >= flush.number || state.gone() >= flush.gone).await;
    }

    /// Waits until no request is out and the backend holds no connection.
    pub(crate) async fn disconnected(&self) {
        self.until(|state| state.in_flight == 0 && state.connected.is_none()).await;
    }

    async fn until(&self, done: impl Fn(&LaneState) -> bool) {
        loop {
            let progressed = self.progressed.notified();
            if done(&self.lock()) {
                return;
            }
            progressed.await;
        }
    }

    /// Delivers until `stop`.
    pub(crate) async fn run(&self, gate: &Gate, limits: &Limits, stop: &Stop) {
        let mut course = Course::new(limits.batch_events);
        while !stop.is_stopped() {
            // Two epochs may have two IDs: one connection would tie them together.
            let connected = self.lock().connected;
            if connected.is_some_and(|epoch| gate.capture_epoch() != Some(epoch)) {
                self.disconnect();
            }
            if let Some(pause) = course.pause {
                if self.pause_is_over(pause, stop).await {
                    course.pause = None;
                }
                continue;
            }
            match self.next_batch(gate, limits, &course) {
                Some((pass, batch)) => {
                    let outcome = self.send(gate, limits, stop, &pass, &batch).await;
                    self.settle(outcome, batch, gate, &pass, limits, &mut course);
                }
                None => self.wake.notified().await,
            }
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Tells `journal`, which knows this lane by its number, what has left, until
    /// `stop`.
    pub(crate) async fn keep(&self, number: usize, journal: &Journal, stop: &Stop) {
        loop {
            let progressed = self.progressed.notified();
            let done = self.lock().done();
            journal.mark(number, done);
            tokio::select! {
                biased;
                () = stop.stopped() => return,
                () = progressed => {}
            }
        }
    }

    /// Gives up what is left, after the task that delivers has ended, but for what
    /// is in a file from the row `durable_from` on. Returns the last row up to which
    /// all have left.
    pub(crate) fn end(&self, durable_from: Row) -> Row {
        let done = {
            let mut state = self.lock();
            let done = state.done();
            let kept = state.durable(durable_from);
            let left = state.queue.clear() + std::mem::take(&mut state.in_flight);
            state.kept += kept;
            state.drops.add(DropReason::Shutdown, left - kept as usize);
            state.flush_done = u64::MAX;
            state.ended = true;
            done
        };
        self.disconnect();
        done
    }

    /// The next batch and the leave to send it, if there are both.
    fn next_batch(
        &self,
        gate: &Gate,
        limits: &Limits,
        course: &Course,
    ) -> Option<(Pass, Vec<Queued>)> {
        let mut state = self.lock();
        let expired = state.queue.expire(Instant::now(), limits.queue_age);
        let reason = if course.parked { DropReason::Parked } else { DropReason::Expired };
        state.drops.add(reason, expired);
        let pass = gate.pass();
        if let (Some(pass), false) = (pass, state.queue.is_empty()) {
            if state.connected.is_some_and(|epoch| epoch != pass.epoch) {
                // The gate moved on since `run` looked: it must look again.
                self.wake();
                return None;
            }
            let batch = state.queue.take(course.batch_events, limits.batch_bytes);
            // Whatever else went wrong, an event of another epoch is not sent.
            let (batch, withdrawn): (Vec<_>, Vec<_>) =
                batch.into_iter().partition(|queued| queued.event.epoch == pass.epoch);
            state.drops.add(DropReason::Withdrawn, withdrawn.len());
            if !batch.is_empty() {
                state.in_flight = batch.len();
                let mut rows = batch.iter().filter_map(|queued| queued.durable_row(0));
                state.in_flight_row = rows.next();
                state.in_flight_rows = usize::from(state.in_flight_row.is_some()) + rows.count();
                state.connected = Some(pass.epoch);
                return Some((pass, batch));
            }
            self.wake();
        } else {
            state.flush_done = state.flush_asked;
        }
        drop(state);
        self.progressed.notify_waiters();
        None
    }

    async fn send(
        &self,
        gate: &Gate,
        limits: &Limits,
        stop: &Stop,
        pass: &Pass,
        batch: &[Queued],
    ) -> Outcome {
        let events = batch.iter().map(|queued| queued.event.clone()).collect();
        let batch = Batch::new(pass.id.clone(), events);
        let sending = AssertUnwindSafe(async { self.backend.send(&batch).await }).catch_unwind();
        tokio::select! {
            biased;
            () = gate.revoked(pass) => Outcome::Cut,
            () = stop.stopped() => Outcome::Stopped,
            sent = timeout(limits.send_time, sending) => match sent {
                Ok(Ok(answer)) => Outcome::Answered(answer),
                Ok(Err(_panic)) => Outcome::Panicked,
                Err(_elapsed) => {
                    Outcome::Answered(Err(DeliveryError::Transient(Box::new(TooSlow))))
                }
            },
        }
    }

    /// Accounts for `batch`, and decides what comes next.
    fn settle(
        &self,
        outcome: Outcome,
        batch: Vec<Queued>,
        gate: &Gate,
        pass: &Pass,
        limits: &Limits,
        course: &mut Course,
    ) {
        let mut state = self.lock();
        state.in_flight = 0;
        state.in_flight_row = None;
        match outcome {
            Outcome::Answered(Ok(())) => {
                state.delivered += batch.len() as u64;
                *course = Course::new(
                    course.batch_events.saturating_mul(2).clamp(1, limits.batch_events),
                );
            }
            Outcome::Answered(Err(error)) => {
                course.tries += 1;
                let decision = retry::decide(&error, batch.len(), course.tries, fastrand::f64());
                if !course.warned {
                    course.warned = true;
                    // The class only: a cause may quote what was sent.
                    warn!(backend = self.name(), "events are not delivered: {error}");
                }
                match decision {
                    RetryDecision::Drop(reason) => {
                        state.drops.add(reason, batch.len());
                        course.tries = 0;
                        course.refuse(1);
                    }
                    RetryDecision::Halve => {
                        course.tries = 0;
                        course.refuse(batch.len() / 2);
                        state.put_back(batch, gate.epoch());
                    }
                    RetryDecision::Wait(time)
                    | RetryDecision::WaitAsked(time)
                    | RetryDecision::Park(time) => {
                        course.parked = matches!(decision, RetryDecision::Park(_));
                        let asked = !matches!(decision, RetryDecision::Wait(_));
                        course.pause = Some(Pause { until: Instant::now() + time, asked });
                        state.put_back(batch, gate.epoch());
                    }
                }
                if course.pause.is_some() {
                    state.flush_done = state.flush_asked;
                }
            }
            // In doubt, the events wait for what the homeserver says; withdrawn,
            // they are gone, and whether they arrived nobody can tell.
            Outcome::Cut if gate.epoch() == pass.epoch => state.queue.put_back(batch),
            Outcome::Cut => state.drops.add(DropReason::CutAtWithdrawal, batch.len()),
            Outcome::Panicked => {
                state.drops.add(DropReason::BackendPanicked, batch.len());
                warn!(backend = self.name(), "the backend panicked; its batch is dropped");
            }
            // What ends the lane knows what becomes of it.
            Outcome::Stopped => state.put_back(batch, gate.epoch()),
        }
        drop(state);
        self.progressed.notify_waiters();
    }

    /// Waits until the pause is over (`true`) or there may be something else to
    /// do (`false`).
    async fn pause_is_over(&self, pause: Pause, stop: &Stop) -> bool {
        {
            let mut state = self.lock();
            if state.flush_asked > state.flush_done {
                if !pause.asked {
                    return true;
                }
                state.flush_done = state.flush_asked;
            }
        }
        self.progressed.notify_waiters();
        tokio::select! {
            biased;
            () = stop.stopped() => false,
            () = sleep_until(pause.until) => true,
            () = self.wake.notified() => false,
        }
    }

    fn disconnect(&self) {
        if std::panic::catch_unwind(AssertUnwindSafe(|| self.backend.close())).is_err() {
            warn!(backend = self.name(), "the backend panicked while it closed");
        }
        // Only now may a withdrawal count it as closed.
        self.lock().connected = None;
        self.progressed.notify_waiters();
    }
}
