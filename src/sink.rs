//! The pipeline: gate, intake, guard, queue, delivery, and the counters over all of it.
//!
//! ```text
//!             caller's thread │ one background task
//! app ── capture ─▶ gate ─▶ intake ─▶ guard ─▶ queue ─▶ delivery ─▶ backend(s)
//!                    │         │        │        │         │ gate again
//!                    └─────────┴────────┴────────┴─────────┴──▶ dropped(reason)
//! ```

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::{
    AnalyticsId,
    backend::DynBackend,
    consent::machine::Wipe,
    delivery::Lane,
    event::{CapturedEvent, InvalidEvent, OutgoingEvent, Properties, UserProperties, check_name},
    gate::{Gate, Phase},
    guard::Guard,
    intake::Intake,
    limits::Limits,
    locks::{Mutex, MutexGuard, PoisonError},
    queue::Queued,
    stats::{BackendStats, DropReason, Stats},
    stop::Stop,
};

/// Everything between `capture` and the backends.
#[derive(Debug)]
pub(crate) struct Sink {
    gate: Gate,
    intake: Intake,
    pub(crate) guard: Guard,
    /// Held by whoever empties the intake, so that nothing is on its way unseen.
    drain_turn: Mutex<()>,
    /// Events that left the intake and are on their way into the queues. Locked
    /// after the intake and before the lanes.
    draining: Mutex<usize>,
    lanes: Vec<Lane>,
    said: Mutex<Said>,
    limits: Limits,
    stop: Stop,
}

/// What the app said about all events, and about the user.
#[derive(Debug, Default)]
struct Said {
    super_properties: Option<Arc<Properties>>,
    user: UserProperties,
}

/// What a flush or a shutdown did for one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivered {
    /// The backend's [`name`](crate::Backend::name).
    pub backend: &'static str,
    /// Events that the backend accepted meanwhile.
    pub delivered: u64,
    /// Events that still wait; after a shutdown, events that are given up.
    pub undelivered: u64,
}

/// What [`Analytics::flush`](crate::Analytics::flush) or
/// [`Analytics::shutdown`](crate::Analytics::shutdown) did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeliveryReport {
    /// One entry a backend, in the order in which they were added.
    pub backends: Vec<Delivered>,
}

impl DeliveryReport {
    /// Whether nothing waits any more.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.backends.iter().all(|backend| backend.undelivered == 0)
    }
}

impl Sink {
    pub(crate) fn new(backends: Vec<Box<dyn DynBackend>>, limits: Limits, guard: Guard) -> Self {
        Self {
            gate: Gate::closed(),
            intake: Intake::new(limits.intake_events, limits.intake_bytes, limits.batch_events),
            guard,
            drain_turn: Mutex::default(),
            draining: Mutex::default(),
            lanes: backends.into_iter().map(Lane::new).collect(),
            said: Mutex::default(),
            limits,
            stop: Stop::default(),
        }
    }

    // The caller's side: sync, from any thread.

    pub(crate) fn is_open(&self) -> bool {
        self.gate.is_open()
    }

    /// Takes an event, unless the gate is closed.
    pub(crate) fn capture(
        &self,
        name: impl Into<Cow<'static, str>>,
        properties: impl FnOnce() -> Result<Properties, InvalidEvent>,
    ) {
        let Some(epoch) = self.gate.capture_epoch() else {
            return;
        };
        let name = name.into();
        match check_name(&name).and_then(|()| properties()) {
            Ok(properties) => self.intake.push(CapturedEvent {
                name,
                properties,
                super_properties: self.said().super_properties.clone(),
                at: SystemTime::now(),
                epoch,
            }),
            Err(InvalidEvent::TooLarge) => self.intake.refuse(DropReason::TooLarge),
            Err(_) => self.intake.refuse(DropReason::Invalid),
        }
    }

    pub(crate) fn set_super_properties(&self, properties: Properties) -> Result<(), InvalidEvent> {
        properties.check()?;
        self.said().super_properties =
            (!properties.is_empty()).then(|| Arc::new(properties.without_repeats()));
        Ok(())
    }

    /// Remembers what to say about the user, with the next event.
    pub(crate) fn set_user_properties(
        &self,
        set: &Properties,
        set_once: &Properties,
    ) -> Result<(), InvalidEvent> {
        set.check()?;
        set_once.check()?;
        let Some(epoch) = self.gate.capture_epoch() else {
            return Ok(());
        };
        let mut said = self.said();
        // A wipe may have been here since: what was said before it must not be
        // sent in the next epoch.
        if self.gate.capture_epoch() != Some(epoch) {
            return Ok(());
        }
        let user = UserProperties {
            set: set.over(&said.user.set),
            // The first value of these is the one that counts.
            set_once: said.user.set_once.over(set_once),
        };
        user.set.check()?;
        user.set_once.check()?;
        said.user = user;
        Ok(())
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The side of consent.

    /// Sets what may be done, and wipes if that is asked for: all of it before
    /// this returns.
    pub(crate) fn set_gate(
        &self,
        phase: Phase,
        epoch: u64,
        id: Option<AnalyticsId>,
        wipe: Option<Wipe>,
    ) {
        if wipe.is_some() {
            // Shut first, so that nothing gets in behind the wipe.
            self.gate.set(Phase::Closed, epoch, None);
        }
        if let Some(wipe) = wipe {
            self.wipe(wipe);
        }
        self.gate.set(phase, epoch, id);
        for lane in &self.lanes {
            lane.wake();
        }
    }

    fn wipe(&self, wipe: Wipe) {
        let reason = match wipe {
            Wipe::Withdrawn | Wipe::IdChanged => DropReason::Withdrawn,
            Wipe::NotConfirmed => DropReason::NotConfirmed,
        };
        {
            let mut said = self.said();
            said.user = UserProperties::default();
            if wipe == Wipe::Withdrawn {
                said.super_properties = None;
            }
        }
        {
            let mut intake = self.intake.lock();
            let events = intake.take().len();
            intake.drops.add(reason, events);
        }
        for lane in &self.lanes {
            let mut state = lane.lock();
            let events = state.queue.clear();
            state.drops.add(reason, events);
        }
    }

    /// Waits until no request is out and no connection is held. A task that is
    /// told to stop has yet to do both.
    pub(crate) async fn disconnected(&self) {
        join_all(self.lanes.iter().map(Lane::disconnected)).await;
    }

    // The background task.

    /// Takes events to the backends until [`Sink::stop`].
    pub(crate) async fn run(self: Arc<Self>) {
        let _end = EndWhenDropped(&self);
        let lanes = self.lanes.iter().map(|lane| lane.run(&self.gate, &self.limits, &self.stop));
        tokio::join!(self.drain_when_due(), join_all(lanes));
    }

    /// Ends the background task. What is still queued is given up.
    pub(crate) fn stop(&self) {
        self.intake.close();
        self.stop.stop();
        for lane in &self.lanes {
            lane.wake();
        }
    }

    async fn drain_when_due(&self) {
        let due = async {
            loop {
                self.intake.filled().await;
                tokio::select! {
                    () = self.intake.ripe() => {}
                    () = sleep(self.limits.batch_age) => {}
                }
                self.drain();
            }
        };
        tokio::select! {
            () = due => {}
            () = self.stop.stopped() => {}
        }
    }

    /// Gives up what is left. The task has ended: by itself, with its runtime, or
    /// by a panic.
    fn end(&self) {
        self.stop();
        // After whoever is moving events now.
        drop(self.drain_turn());
        {
            let mut intake = self.intake.lock();
            let left = intake.take().len();
            intake.drops.add(DropReason::Shutdown, left);
        }
        for lane in &self.lanes {
            lane.end();
        }
    }

    /// Moves what is in the intake to the queues.
    fn drain(&self) {
        let _turn = self.drain_turn();
        let captured = {
            let mut intake = self.intake.lock();
            *self.draining() += intake.len();
            intake.take()
        };
        if captured.is_empty() {
            return;
        }
        // The work on each event happens while no lock is held that a caller
        // could wait for.
        let taken = captured.len();
        self.guard.refresh();
        let events: Vec<_> = captured.into_iter().map(|event| self.prepare(event)).collect();

        let mut intake = self.intake.lock();
        let mut draining = self.draining();
        let mut lanes: Vec<_> = self.lanes.iter().map(Lane::lock).collect();
        let epoch = self.gate.epoch();
        // A lane that has ended would keep them for ever.
        let stopped = self.stop.is_stopped();
        for event in events {
            match event {
                Ok(queued) if queued.event.epoch != epoch => {
                    intake.drops.add(DropReason::Withdrawn, 1);
                }
                Ok(_) if stopped => intake.drops.add(DropReason::Shutdown, 1),
                Ok(queued) => {
                    for state in &mut lanes {
                        let state = &mut **state;
                        state.queue.push(queued.clone(), &self.limits, &mut state.drops);
                    }
                }
                Err(reason) => intake.drops.add(reason, 1),
            }
        }
        *draining -= taken;
        drop((lanes, draining, intake));
        for lane in &self.lanes {
            lane.wake();
        }
    }

    fn drain_turn(&self) -> MutexGuard<'_, ()> {
        self.drain_turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draining(&self) -> MutexGuard<'_, usize> {
        self.draining.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completes an event that leaves the intake: its unique ID, the super
    /// properties, and what is to be said about the user. All of it has been past
    /// the guard then.
    fn prepare(&self, captured: CapturedEvent) -> Result<Queued, DropReason> {
        let properties = match &captured.super_properties {
            Some(super_properties) => captured.properties.over(super_properties),
            None => captured.properties.without_repeats(),
        };
        let guarded = self.guard.event(captured.name, properties);
        let (name, properties) = guarded.ok_or(DropReason::Guarded)?;
        properties.check().map_err(|problem| match problem {
            InvalidEvent::TooLarge => DropReason::TooLarge,
            _ => DropReason::Invalid,
        })?;
        let user = {
            let mut said = self.said();
            if captured.epoch == self.gate.epoch() {
                std::mem::take(&mut said.user)
            } else {
                UserProperties::default()
            }
        };
        let user = self.guard.user(&name, user);
        let event = OutgoingEvent {
            uuid: Uuid::new_v4(),
            name,
            at: captured.at,
            properties,
            user,
            epoch: captured.epoch,
        };
        Ok(Queued { event: Arc::new(event), since: Instant::now() })
    }

    // What the app asks for.

    pub(crate) async fn flush(&self) -> DeliveryReport {
        let before = self.stats();
        self.try_everything().await;
        self.report_since(&before)
    }

    pub(crate) async fn shutdown(&self, deadline: Duration) -> DeliveryReport {
        let before = self.stats();
        self.intake.close();
        // Out of time is no error: the report says what was left.
        let _ = timeout(deadline, self.try_everything()).await;
        let report = self.report_since(&before);
        self.stop();
        report
    }

    async fn try_everything(&self) {
        if self.stop.is_stopped() {
            return;
        }
        self.drain();
        let flushes: Vec<_> = self.lanes.iter().map(Lane::ask_flush).collect();
        join_all(self.lanes.iter().zip(flushes).map(|(lane, flush)| lane.flushed(flush))).await;
    }

    pub(crate) fn report_since(&self, before: &Stats) -> DeliveryReport {
        let backends = self.stats().backends.into_iter().zip(&before.backends);
        DeliveryReport {
            backends: backends
                .map(|(now, before)| Delivered {
                    backend: now.name,
                    delivered: now.delivered - before.delivered,
                    undelivered: now.queued + now.in_flight,
                })
                .collect(),
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let intake = self.intake.lock();
        let draining = self.draining();
        let backends = self.lanes.iter().map(|lane| {
            let state = lane.lock();
            BackendStats {
                name: lane.name(),
                captured: intake.captured,
                restored: 0,
                delivered: state.delivered,
                queued: (intake.len() + *draining + state.queue.len()) as u64,
                in_flight: state.in_flight as u64,
                dropped: intake.drops.merged(&state.drops),
            }
        });
        Stats { backends: backends.collect(), guarded: self.guard.found() }
    }
}

/// Ends the sink with its task, however that ends.
struct EndWhenDropped<'a>(&'a Sink);

impl Drop for EndWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
