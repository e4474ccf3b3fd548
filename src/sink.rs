//! The pipeline from `capture` to the backends: gate, intake, guard, queues, lanes, and the
//! counters of all of them.
//!
//! ```text
//!             caller's thread │ one background task
//! app ── capture ─▶ gate ─▶ intake ─▶ guard ─▶ queue ─▶ lane ─▶ backend(s)
//!                    │         │        │        │       │ gate again
//!                    └─────────┴────────┴────────┴───────┴──▶ dropped(reason)
//! ```
//!
//! A durable queue is a journal of the queue in memory: events are written before they are
//! queued, and deleted after they have left. Only the start of the next process reads it.

pub(crate) mod counted;
pub(crate) mod counters;
mod drain;
pub(crate) mod drops;
pub(crate) mod intake;
pub(crate) mod lane;
pub(crate) mod limits;
pub(crate) mod queue;
pub(crate) mod report;
pub(crate) mod stats;
mod user;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::SystemTime};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, JoinAll, join_all},
};
use tokio::time::Instant;

#[cfg(feature = "sqlite")]
use self::queue::{Refused, Restored};
use self::{
    counted::{Counted, PendingSignal},
    counters::DropSignal,
    drain::{DrainCalls, Draining},
    intake::Intake,
    lane::{Lane, PendingUser},
    limits::Limits,
    queue::{Journal, QueueError, Queued, Row},
    stats::{BackendStats, DropReason, Stats},
    user::UserUpdates,
};
use crate::{
    analytics_id::AnalyticsId,
    backend::{Destination, Identity},
    erasure::report::ErasureStats,
    event::{
        AnalyticsEvent, BorrowedProperties, CapturedEvent, InvalidEvent, OutgoingEvent, Process,
        Properties, UniqueIds, UserProperties, check_name, counted_bytes, is_plain_name,
        unix_time::from_unix_nanos, write_flat,
    },
    gate::{Gate, Phase, WipeReason},
    guard::Guard,
    locks::Mutex,
    stop::Stop,
};

/// The pipeline that the handle of the app and the consent half share.
#[derive(Debug)]
pub(crate) struct Sink {
    gate: Gate,
    intake: Intake,
    pub(crate) guard: Arc<Guard>,
    drain_calls: DrainCalls,
    /// Locked before the intake and the lanes. It is held while a batch moves to the
    /// queues, so `capture` must not wait for it.
    draining: Counted<Draining>,
    lanes: Vec<Lane>,
    process: Process,
    journal: Option<Arc<Journal>>,
    /// The super properties of the builder, which apply again after each withdrawal.
    super_properties: Option<Arc<Properties>>,
    user: Mutex<UserUpdates>,
    drop_signal: DropSignal,
    limits: Limits,
    stop: Stop,
}

impl Sink {
    pub(crate) fn new(destinations: Vec<Destination>, limits: Limits, guard: Arc<Guard>) -> Self {
        let drop_signal = DropSignal::default();
        Self {
            gate: Gate::closed(),
            intake: Intake::new(&limits, &drop_signal),
            guard,
            drain_calls: DrainCalls::default(),
            draining: Counted::new(Draining::default(), &drop_signal),
            lanes: destinations.into_iter().map(|to| Lane::new(to, &drop_signal)).collect(),
            process: Process::random(),
            journal: None,
            super_properties: None,
            user: Mutex::default(),
            drop_signal,
            limits,
            stop: Stop::default(),
        }
    }

    /// Sets the properties that apply from the start and again after each withdrawal. Both
    /// were checked.
    pub(crate) fn with_properties(mut self, shared: Properties, user: UserProperties) -> Self {
        let shared = self.guard.without_refused(shared);
        let user = self.guard.without_refused_user(user);
        self.super_properties = (!shared.is_empty()).then(|| Arc::new(shared.without_repeats()));
        self.intake.lock().super_properties.clone_from(&self.super_properties);
        self.user = Mutex::new(UserUpdates::configured(user));
        self
    }

    /// Adds a journal, and queues the events that the last process left in it.
    #[cfg(feature = "sqlite")]
    pub(crate) fn with_journal(mut self, journal: Arc<Journal>, mut restored: Restored) -> Self {
        let mut refused = Vec::new();
        let rows = std::mem::take(&mut restored.rows);
        for (number, lane) in self.lanes.iter().enumerate() {
            let mut state = lane.lock();
            for (row, event) in &rows {
                if !restored.waits(number, *row) {
                    continue;
                }
                state.restored += 1;
                match event {
                    Ok(queued) => {
                        state.push(queued.clone(), &self.limits, |row| {
                            Refused::note(&mut refused, number, row);
                        });
                    }
                    Err(reason) => state.drops.add(*reason, 1),
                }
            }
            state.note_row(restored.last);
            if let Some(place) = restored.users.iter().position(|(lane, _)| *lane == number) {
                state.user = PendingUser::restored(restored.users.swap_remove(place).1);
            }
        }
        if !refused.is_empty() {
            journal.refuse(refused);
        }
        self.journal = Some(journal);
        self
    }

    // Called by the app, on any thread.

    pub(crate) fn is_open(&self) -> bool {
        self.gate.is_open()
    }

    /// Returns the epoch to capture in, or `None` if the gate is closed.
    #[inline]
    pub(crate) fn capture_epoch(&self) -> Option<u64> {
        self.gate.capture_epoch()
    }

    #[cfg(feature = "health")]
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Captures a typed event in `epoch`. It happens now, unless `at` gives its time.
    pub(crate) fn capture<E: AnalyticsEvent>(&self, epoch: u64, at: Option<SystemTime>, event: &E) {
        let checked = if const { is_plain_name(E::NAME) } { Ok(()) } else { check_name(E::NAME) };
        let pushed = checked.and_then(|()| {
            write_flat(event, |properties| {
                Properties::check_borrowed(properties)
                    .map(|()| self.push(epoch, at, E::NAME.into(), properties))
            })
        });
        if let Err(invalid) = pushed {
            self.intake.refuse(invalid.into());
        }
    }

    /// Captures an event whose name is known at run time only; otherwise like
    /// [`Sink::capture`].
    pub(crate) fn capture_named(
        &self,
        epoch: u64,
        at: Option<SystemTime>,
        name: Cow<'static, str>,
        properties: Properties,
    ) {
        let checked = check_name(&name).and_then(|()| properties.check());
        match checked.map(|()| properties) {
            Ok(properties) => self.push(epoch, at, name, properties.borrowed()),
            Err(invalid) => self.intake.refuse(invalid.into()),
        }
    }

    /// Passes an event to the intake.
    ///
    /// A time in the future becomes the current time. A time before 1677 becomes the
    /// earliest time that a durable queue can store.
    fn push(
        &self,
        epoch: u64,
        at: Option<SystemTime>,
        name: Cow<'static, str>,
        properties: BorrowedProperties<'_>,
    ) {
        let now = SystemTime::now();
        let at = at.map_or(now, |at| from_unix_nanos(-i64::MAX).max(at).min(now));
        self.intake.push(CapturedEvent { name, super_properties: None, at, epoch }, properties);
    }

    pub(crate) fn set_super_properties(&self, properties: Properties) -> Result<(), InvalidEvent> {
        properties.check()?;
        let properties = self.guard.without_refused(properties);
        let properties = match &self.super_properties {
            Some(configured) => properties.over(configured),
            None => properties.without_repeats(),
        };
        properties.check()?;
        self.intake.lock().super_properties =
            (!properties.is_empty()).then(|| Arc::new(properties));
        Ok(())
    }

    // Called by the consent half.

    /// Sets the gate, and wipes if `wipe` gives a reason. Both are complete when this
    /// returns. Dropping the returned value wakes the readers of drops.
    pub(crate) fn set_gate(
        &self,
        phase: Phase,
        epoch: u64,
        id: Option<AnalyticsId>,
        wipe: Option<WipeReason>,
    ) -> PendingSignal<'_> {
        if wipe.is_some() {
            // Closed first, so that no event gets in after the wipe.
            self.gate.set(Phase::Closed, epoch, None);
        }
        let signal = wipe.map(|wipe| self.wipe(wipe, epoch)).unwrap_or_default();
        self.gate.set(phase, epoch, id);
        for lane in &self.lanes {
            lane.wake();
        }
        signal
    }

    /// Wipes everything that belongs to an epoch before `epoch`, which begins now.
    fn wipe(&self, wipe: WipeReason, epoch: u64) -> PendingSignal<'_> {
        if let Some(journal) = &self.journal {
            journal.begin_wipe(epoch);
        }
        let reason = match wipe {
            WipeReason::Withdrawn | WipeReason::IdChanged => DropReason::Withdrawn,
            WipeReason::NotConfirmed => DropReason::NotConfirmed,
        };
        self.user().wipe();
        let mut signal = {
            let mut intake = self.intake.lock();
            if wipe == WipeReason::Withdrawn {
                intake.super_properties.clone_from(&self.super_properties);
            }
            let events = intake.take().len();
            intake.drops.add(reason, events);
            intake.unlock()
        };
        for lane in &self.lanes {
            let mut state = lane.lock();
            let events = state.queue.clear() + std::mem::take(&mut state.kept) as usize;
            state.drops.add(reason, events);
            state.user = PendingUser::default();
            signal.join(state.unlock());
        }
        signal
    }

    /// Waits until all wipes so far have reached the file.
    pub(crate) async fn wiped(&self) -> Result<(), QueueError> {
        match &self.journal {
            Some(journal) => journal.wiped().await,
            None => Ok(()),
        }
    }

    /// Waits until no request is in flight and no connection is open. A background task
    /// that was told to stop may still have both.
    pub(crate) async fn disconnected(&self) {
        self.on_each_lane(|_, lane| lane.disconnected()).await;
    }

    /// Calls `start` for each lane, and waits until all futures that it returned have
    /// completed.
    ///
    /// They are boxed, because `join_all` is compiled again for each type of future.
    fn on_each_lane<'a, F: Future<Output = ()> + Send + 'a>(
        &'a self,
        start: impl Fn(usize, &'a Lane) -> F,
    ) -> JoinAll<BoxFuture<'a, ()>> {
        join_all(self.lanes.iter().enumerate().map(|(number, lane)| start(number, lane).boxed()))
    }

    // The background task.

    /// Delivers events to the backends until [`Sink::stop`].
    pub(crate) fn run(self: Arc<Self>) -> impl Future<Output = ()> + Send {
        // Made outside the future, because a runtime may end before it polls the future.
        let end = EndWhenDropped(self);
        async move {
            let sink = &*end.0;
            sink.pass_user_updates_before_restored_events();
            let lanes = sink.on_each_lane(|_, lane| lane.run(&sink.gate, &sink.limits, &sink.stop));
            tokio::join!(sink.drain_when_due(), lanes, sink.sync_journal());
            if sink.journal.is_some() {
                // Write the events that were captured last.
                sink.drain().await;
            }
        }
    }

    /// Tells the journal which events have left, until [`Sink::stop`].
    async fn sync_journal(&self) {
        if let Some(journal) = &self.journal {
            self.on_each_lane(|number, lane| lane.sync_journal(number, journal, &self.stop)).await;
        }
    }

    /// Takes no more events.
    pub(crate) fn close(&self) {
        self.intake.close();
    }

    /// Returns whether no more events are taken, whatever the gate says.
    pub(crate) fn is_closed(&self) -> bool {
        self.intake.is_closed()
    }

    /// Ends the background task, which gives up the events that are still queued.
    pub(crate) fn stop(&self) {
        self.intake.close();
        self.stop.stop();
        for lane in &self.lanes {
            lane.wake();
        }
    }

    /// Gives up all remaining events. Called when the background task has ended, whether
    /// by itself, with its runtime, or by a panic.
    fn end(&self) {
        self.stop();
        {
            let mut intake = self.intake.lock();
            let left = intake.take().len();
            intake.drops.add(DropReason::Shutdown, left);
        }
        let durable_from = self.durable_from();
        self.keep_user();
        let marks = self.lanes.iter().map(|lane| lane.end(durable_from)).collect();
        if let Some(journal) = &self.journal {
            for (number, lane) in self.lanes.iter().enumerate() {
                lane.note_left_early(number, journal);
            }
            journal.begin_close(marks);
        }
        // The streams of drops end here.
        self.drop_signal.raise();
    }

    /// Returns the first row that survives a kill of the process.
    fn durable_from(&self) -> Row {
        self.journal.as_ref().map_or(0, |journal| journal.durable_from())
    }

    /// Completes an event that leaves the intake: adds its unique ID and the super
    /// properties, and passes all of it through the guard.
    fn prepare(
        &self,
        captured: CapturedEvent,
        properties: BorrowedProperties<'_>,
        ids: &mut UniqueIds,
        now: Instant,
    ) -> Result<Queued, DropReason> {
        let bytes = captured.bytes(properties);
        let super_properties = captured.super_properties.as_deref();
        let (name, properties) =
            complete(&self.guard, captured.name, properties.into(), super_properties)?;
        let event = OutgoingEvent {
            uuid: ids.next(),
            name,
            at: captured.at,
            properties,
            user: None,
            epoch: captured.epoch,
            process: self.process,
        };
        Ok(Queued { bytes, ..Queued::new(Arc::new(event), now) })
    }

    /// Returns the name and the properties that would leave if an event were captured now.
    pub(crate) fn preview(
        &self,
        name: Cow<'static, str>,
        properties: Properties,
    ) -> Result<(Cow<'static, str>, Properties), DropReason> {
        if self.is_closed() {
            return Err(DropReason::AfterShutdown);
        }
        let super_properties = self.intake.lock().super_properties.clone();
        let (name, properties) =
            complete(&self.guard.uncounted(), name, properties, super_properties.as_deref())?;
        let fits = counted_bytes(&name, properties.held_bytes()) <= self.limits.queue_bytes;
        fits.then_some((name, properties)).ok_or(DropReason::TooLarge)
    }

    /// Returns the text that each backend would send for `event`.
    pub(crate) fn render(&self, event: &Arc<OutgoingEvent>) -> Vec<String> {
        self.lanes.iter().map(|lane| lane.render(event)).collect()
    }

    /// Returns, for each backend, the kind of identifier that it gets, and the one under which
    /// its service stores the events of `account`, if that is the same for all of them.
    pub(crate) fn stored_identifiers(
        &self,
        account: &AnalyticsId,
    ) -> Vec<(Identity, Option<String>)> {
        self.lanes.iter().map(|lane| lane.stored_identifier(account)).collect()
    }

    pub(crate) fn drop_signal(&self) -> &DropSignal {
        &self.drop_signal
    }

    /// Returns whether the background task has ended and no event is left.
    pub(crate) fn has_ended(&self) -> bool {
        self.lanes.iter().all(Lane::has_ended)
    }

    pub(crate) fn stats(&self) -> Stats {
        let draining = self.draining();
        let intake = self.intake.lock();
        let backends = self.lanes.iter().map(|lane| {
            let state = lane.lock();
            let mut dropped = BTreeMap::new();
            for drops in [&intake.drops, &draining.drops, &state.drops] {
                drops.add_to(&mut dropped);
            }
            BackendStats {
                name: lane.name(),
                captured: intake.captured,
                restored: state.restored,
                delivered: state.delivered,
                queued: (intake.len() + draining.events + state.queue.len()) as u64,
                in_flight: state.in_flight as u64,
                kept: state.kept,
                dropped,
            }
        });
        let backends = backends.collect();
        let queue = self.journal.as_ref().map(|journal| journal.stats()).unwrap_or_default();
        Stats {
            backends,
            queue,
            guarded: self.guard.found(),
            refused_texts: self.guard.refused_texts(),
            // The sink knows nothing of them.
            erasures: ErasureStats::default(),
        }
    }
}

/// Adds the super properties to an event, and passes all of it through `guard`.
fn complete(
    guard: &Guard,
    name: Cow<'static, str>,
    properties: Properties,
    super_properties: Option<&Properties>,
) -> Result<(Cow<'static, str>, Properties), DropReason> {
    if matches!(name, Cow::Owned(_)) && guard.refuses_computed_name() {
        return Err(DropReason::Guarded);
    }
    let properties = guard.without_refused(properties);
    let properties = match super_properties {
        Some(super_properties) => properties.over(super_properties),
        None => properties.without_repeats(),
    };
    let (name, properties) = guard.event(name, properties).ok_or(DropReason::Guarded)?;
    properties.check()?;
    Ok((name, properties))
}

/// Ends the sink when its background task ends, for whatever reason.
struct EndWhenDropped(Arc<Sink>);

impl Drop for EndWhenDropped {
    fn drop(&mut self) {
        self.0.end();
    }
}
