//! Delivers events from a queue to one backend: batches, retries, cuts.
//!
//! Each backend has its own lane, so that an outage of one backend does not delay another.
//! All lanes run in the task of [`Sink::run`](crate::sink::Sink::run).

mod flush;
mod per_event;
mod refusals;
mod retry;
mod retry_state;
mod settle;
mod state;
mod user;

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;
use tokio::{
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};
use tracing::warn;

pub(crate) use self::{flush::FlushKind, user::PendingUser};
use self::{
    retry_state::RetryState,
    settle::SentBatch,
    state::{Connection, LaneState},
};
use super::{
    counted::{Counted, CountedGuard},
    counters::DropSignal,
    limits::Limits,
    queue::{Journal, Queued, Row},
    stats::DropReason,
};
use crate::{
    analytics_id::AnalyticsId,
    backend::{
        Batch, DeliveryError, Destination, DynBackend, Identity,
        identity::{KnownAs, Session},
        jsonl,
    },
    event::OutgoingEvent,
    gate::{Gate, Pass},
    stop::Stop,
};

/// A backend and its queue.
#[derive(Debug)]
pub(crate) struct Lane {
    backend: Box<dyn DynBackend>,
    known_as: KnownAs,
    /// Read once, because the backend's code must not run under our locks.
    name: &'static str,
    state: Counted<LaneState>,
    /// Notified when the lane may have work to do.
    wake: Notify,
    /// Notified when the state of the lane has changed.
    progressed: Notify,
}

/// The outcome of one attempt.
enum Outcome {
    Answered(Result<(), DeliveryError>),
    /// The gate closed or is holding, so the request was cut.
    Cut,
    Panicked,
    Stopped,
}

/// The error of a backend that exceeded the time limit for a batch.
#[derive(Debug, thiserror::Error)]
#[error("the backend did not answer in time")]
struct TooSlow;

impl Lane {
    pub(crate) fn new(to: Destination, signal: &DropSignal) -> Self {
        Self {
            name: to.backend.name(),
            backend: to.backend,
            known_as: to.known_as,
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

    /// Waits until no request is in flight and no connection is left: neither an open one
    /// nor a closing one that still holds a part of a batch.
    ///
    /// This may never complete. The lane itself does not wait for it, because each epoch
    /// has its own connections.
    pub(crate) async fn disconnected(&self) {
        self.until(|state| state.in_flight == 0 && state.connected.is_none()).await;
        let closed = AssertUnwindSafe(async { self.backend.closed().await }).catch_unwind();
        if closed.await.is_err() {
            warn!(backend = self.name(), "the backend panicked while its connections closed");
            // The backend can no longer report it. The caller's wait is bounded.
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

    /// Delivers events until `stop`.
    pub(crate) async fn run(&self, gate: &Gate, limits: &Limits, stop: &Stop) {
        let mut retries = RetryState::new(limits.batch_events);
        while !stop.is_stopped() {
            if self.is_connection_stale(gate.capture_epoch()) {
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
                    // The lock is released before the backend's code is called.
                    let update = self.lock().user.offer(pass.epoch);
                    let (events, update) =
                        user::attach(&batch, update, |event| self.carries_user_properties(event));
                    let request = self.batch(&pass, &events);
                    let outcome = self.send(gate, limits, stop, &pass, &request).await;
                    let sent = SentBatch { batch, carried: update };
                    self.settle(&outcome, sent, gate, &pass, limits, &mut retries);
                }
                None => self.woken_or_expired(limits).await,
            }
        }
    }

    /// Drops the events that have exceeded the maximum age.
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

    /// Waits until the lane may have work to do, or an event exceeds the maximum age.
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

    /// Tells `journal` which events have left, until `stop`. The journal identifies this
    /// lane by `number`.
    pub(crate) async fn sync_journal(&self, number: usize, journal: &Journal, stop: &Stop) {
        loop {
            let progressed = self.progressed.notified();
            let done = self.lock().done();
            self.note_left_early(number, journal);
            journal.mark(number, done);
            self.keep_user(number, journal);
            tokio::select! {
                biased;
                () = stop.stopped() => return,
                () = progressed => {}
            }
        }
    }

    /// Gives the waiting user properties to `journal`, if they have changed. Only the
    /// background task may call this, so that a newer state is never overwritten by an
    /// older one.
    pub(crate) fn keep_user(&self, number: usize, journal: &Journal) {
        let changed = self.lock().user.take_changed();
        if let Some(update) = changed {
            journal.keep_user(number, update);
        }
    }

    /// Tells `journal` which events have left although earlier ones wait.
    pub(crate) fn note_left_early(&self, number: usize, journal: &Journal) {
        let left = self.lock().take_left_early(number);
        if !left.is_empty() {
            journal.refuse(left);
        }
    }

    /// Ends the lane after the background task has ended. Events in the file, from the row
    /// `durable_from` on, are kept for the next process; all others are dropped. Returns
    /// the row up to which all events have left.
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

    /// Returns the next batch and the gate's pass for it, if there are both.
    fn next_batch(
        &self,
        gate: &Gate,
        limits: &Limits,
        retries: &RetryState,
    ) -> Option<(Pass, Vec<Queued>)> {
        let mut state = self.lock();
        let pass = gate.pass();
        if let (Some(pass), false) = (pass, state.queue.is_empty()) {
            let session = self.next_session(&state);
            let connection = Connection { epoch: pass.epoch, session };
            if state.connected.is_some_and(|connected| connected != connection) {
                // The epoch or the session has changed since `run` checked it, so `run` must
                // check again.
                self.wake();
                return None;
            }
            let batch = state.queue.take(retries.batch_events, limits.batch_bytes, |event| {
                self.known_as.session(event) == session
            });
            // The last check before sending, should an earlier wipe have missed an event.
            let (batch, withdrawn): (Vec<_>, Vec<_>) =
                batch.into_iter().partition(|queued| queued.event.epoch == pass.epoch);
            state.drops.add(DropReason::Withdrawn, withdrawn.len());
            if !batch.is_empty() {
                state.start_flight(&batch);
                state.connected = Some(connection);
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

    /// Returns whether the connection, if there is one, must not be used for what comes next.
    ///
    /// Epochs may have different IDs, and sessions have different ones for an anonymous
    /// recipient. A shared connection would link them.
    fn is_connection_stale(&self, epoch: Option<u64>) -> bool {
        let state = self.lock();
        state.connected.is_some_and(|connected| {
            let next = self.next_session(&state);
            epoch != Some(connected.epoch) || (next.is_some() && next != connected.session)
        })
    }

    /// Returns the session of the oldest event in the queue, if the recipient must not be able to
    /// join it with another one.
    fn next_session(&self, state: &LaneState) -> Option<Session> {
        state.queue.first().and_then(|queued| self.known_as.session(&queued.event))
    }

    /// Returns the request for `events`, which belong to one session.
    fn batch(&self, pass: &Pass, events: &[Arc<OutgoingEvent>]) -> Batch {
        let id = events.first().map(|event| self.known_as.distinct_id(&pass.id, event));
        let events = events.iter().map(|event| self.known_as.veil(event)).collect();
        Batch::new(self.known_as.identity, id.unwrap_or_default(), events)
    }

    /// Returns whether the recipient gets user properties, which could identify a person among
    /// others.
    pub(super) fn takes_user_properties(&self) -> bool {
        self.known_as.identity != Identity::Anonymous
    }

    /// Returns the kind of identifier that the recipient gets, and the one under which it stores
    /// the events of `account`, if that is the same for all of them.
    pub(super) fn stored_identifier(&self, account: &AnalyticsId) -> (Identity, Option<String>) {
        let stored = self.known_as.lasting_id(account).and_then(|id| {
            let stored = AssertUnwindSafe(|| self.backend.stored_identifier(&id));
            std::panic::catch_unwind(stored)
                .inspect_err(|_| {
                    warn!(backend = self.name(), "the backend panicked in stored_identifier");
                })
                .ok()
        });
        (self.known_as.identity, stored)
    }

    /// Returns the text that would be sent for `event`.
    pub(crate) fn render(&self, event: &Arc<OutgoingEvent>) -> String {
        let batch = &Batch::preview(self.known_as.identity, self.known_as.veil(event));
        let rendered = AssertUnwindSafe(|| self.backend.render(batch));
        let rendered = std::panic::catch_unwind(rendered).unwrap_or_else(|_| {
            warn!(backend = self.name(), "the backend panicked in render");
            None
        });
        rendered.unwrap_or_else(|| {
            let lines = jsonl::lines(batch).unwrap_or_default();
            String::from_utf8_lossy(&lines).into_owned()
        })
    }

    fn carries_user_properties(&self, event: &OutgoingEvent) -> bool {
        let asked = AssertUnwindSafe(|| self.backend.carries_user_properties(event));
        std::panic::catch_unwind(asked).unwrap_or_else(|_| {
            warn!(backend = self.name(), "the backend panicked in carries_user_properties");
            false
        })
    }

    fn disconnect(&self) {
        if std::panic::catch_unwind(AssertUnwindSafe(|| self.backend.close())).is_err() {
            warn!(backend = self.name(), "the backend panicked while it closed");
        }
        // Set after `close`, because a withdrawal then considers the connection closed.
        self.lock().connected = None;
        self.progressed.notify_waiters();
    }
}
