//! Takes events from the queue to one backend: batches, retries, cuts.
//!
//! One lane a backend, so that the outage of one delays no other. All lanes run
//! in the one task of [`Sink::run`](crate::sink::Sink::run).

mod flush;
mod refusals;
mod retry;
mod retry_state;
mod settle;
mod state;
mod user;

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use tokio::{
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};
use tracing::warn;

pub(crate) use self::{flush::Occasion, user::PendingUser};
use self::{retry_state::RetryState, settle::Load, state::LaneState};
use super::{
    counted::{Counted, CountedGuard},
    counters::DropSignal,
    limits::Limits,
    queue::{Journal, Queued, Row},
    stats::DropReason,
};
use crate::{
    backend::{Batch, DeliveryError, DynBackend},
    event::OutgoingEvent,
    gate::{Gate, Pass},
    stop::Stop,
};

/// One backend, and what waits for it.
#[derive(Debug)]
pub(crate) struct Lane {
    backend: Box<dyn DynBackend>,
    /// Asked once: the backend's code runs under none of our locks.
    name: &'static str,
    state: Counted<LaneState>,
    /// There may be something new to do.
    wake: Notify,
    /// Something was done.
    progressed: Notify,
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
    pub(crate) fn new(backend: Box<dyn DynBackend>, signal: &DropSignal) -> Self {
        Self {
            name: backend.name(),
            backend,
            state: Counted::new(LaneState::default(), signal),
            wake: Notify::new(),
            progressed: Notify::new(),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn lock(&self) -> CountedGuard<'_, LaneState> {
        self.state.lock()
    }

    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits until no request is out, and no connection is left: neither one that the
    /// backend holds nor one that is closing and still has a part of a batch.
    ///
    /// That may take for ever, and the lane does not wait for it: a later epoch has
    /// connections of its own.
    pub(crate) async fn disconnected(&self) {
        self.until(|state| state.in_flight == 0 && state.connected.is_none()).await;
        let closed = AssertUnwindSafe(async { self.backend.closed().await }).catch_unwind();
        if closed.await.is_err() {
            warn!(backend = self.name(), "the backend panicked while its connections closed");
            // It cannot tell any more. A caller has a bound.
            std::future::pending::<()>().await;
        }
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
        let mut retries = RetryState::new(limits.batch_events);
        while !stop.is_stopped() {
            // Two epochs may have two IDs: one connection would tie them together.
            let connected = self.lock().connected;
            if connected.is_some_and(|epoch| gate.capture_epoch() != Some(epoch)) {
                self.disconnect();
            }
            self.expire(limits, &retries);
            if let Some(pause) = retries.pause {
                if self.pause_is_over(pause, gate, limits, stop).await {
                    retries.resume();
                }
                continue;
            }
            match self.next_batch(gate, limits, &retries) {
                Some((pass, batch)) => {
                    // The backend is asked while no lock is held.
                    let said = self.lock().user.offer(pass.epoch);
                    let (events, said) =
                        user::attach(&batch, said, |event| self.carries_user_properties(event));
                    let request = Batch::new(pass.id.clone(), events);
                    let outcome = self.send(gate, limits, stop, &pass, &request).await;
                    let load = Load { batch, carried: said };
                    self.settle(&outcome, load, gate, &pass, limits, &mut retries);
                }
                None => self.woken_or_expired(limits).await,
            }
        }
    }

    /// Drops what has waited for too long.
    fn expire(&self, limits: &Limits, retries: &RetryState) {
        let mut state = self.lock();
        let expired = state.queue.expire(Instant::now(), limits.queue_age);
        let reason = if retries.parked { DropReason::Unauthorized } else { DropReason::Expired };
        state.drops.add(reason, expired);
        drop(state);
        if expired > 0 {
            self.progressed.notify_waiters();
        }
    }

    /// Waits until there may be something to do, or an event has waited for too long.
    async fn woken_or_expired(&self, limits: &Limits) {
        let expiry = self.lock().queue.next_expiry(limits.queue_age);
        match expiry {
            Some(expiry) => drop(timeout_at(expiry, self.wake.notified()).await),
            None => self.wake.notified().await,
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
            self.keep_user(number, journal);
            tokio::select! {
                biased;
                () = stop.stopped() => return,
                () = progressed => {}
            }
        }
    }

    /// Tells `journal` what is still to be said about the user, if that has changed. Only the
    /// background task may call this, so that an older state never follows a newer one.
    pub(crate) fn keep_user(&self, number: usize, journal: &Journal) {
        let news = self.lock().user.news();
        if let Some(said) = news {
            journal.keep_user(number, said);
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
        retries: &RetryState,
    ) -> Option<(Pass, Vec<Queued>)> {
        let mut state = self.lock();
        let pass = gate.pass();
        if let (Some(pass), false) = (pass, state.queue.is_empty()) {
            if state.connected.is_some_and(|epoch| epoch != pass.epoch) {
                // The gate moved on since `run` looked: it must look again.
                self.wake();
                return None;
            }
            let batch = state.queue.take(retries.batch_events, limits.batch_bytes);
            // Whatever else went wrong, an event of another epoch is not sent.
            let (batch, withdrawn): (Vec<_>, Vec<_>) =
                batch.into_iter().partition(|queued| queued.event.epoch == pass.epoch);
            state.drops.add(DropReason::Withdrawn, withdrawn.len());
            if !batch.is_empty() {
                state.took_off(&batch);
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
        batch: &Batch,
    ) -> Outcome {
        let sending = AssertUnwindSafe(async { self.backend.send(batch).await }).catch_unwind();
        let mut sending = Box::pin(sending);
        let outcome = tokio::select! {
            biased;
            () = gate.revoked(pass) => Outcome::Cut,
            () = stop.stopped() => Outcome::Stopped,
            sent = timeout(limits.send_time, &mut sending) => match sent {
                Ok(Ok(answer)) => Outcome::Answered(answer),
                Ok(Err(_panic)) => Outcome::Panicked,
                Err(_elapsed) => {
                    Outcome::Answered(Err(DeliveryError::Transient(Box::new(TooSlow))))
                }
            },
        };
        if std::panic::catch_unwind(AssertUnwindSafe(|| drop(sending))).is_err() {
            warn!(backend = self.name(), "the backend panicked while its request was cut");
        }
        outcome
    }

    fn carries_user_properties(&self, event: &OutgoingEvent) -> bool {
        let asked = AssertUnwindSafe(|| self.backend.carries_user_properties(event));
        std::panic::catch_unwind(asked).unwrap_or_else(|_| {
            warn!(backend = self.name(), "the backend panicked over user properties");
            false
        })
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
