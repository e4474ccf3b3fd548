//! The handle that an app holds.

pub(crate) mod calls;
pub(crate) mod shared;
mod watch;

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use futures_core::Stream;
use matrix_sdk::{Client, StoreError, event_handler::EventHandlerHandle};
use tokio::sync::{mpsc, oneshot};

use self::{
    calls::{Answer, Call, DroppedOptIn, TaskError, Waiting, saved},
    shared::Inner,
    watch::watch_account_data,
};
use crate::{
    analytics_id::AnalyticsId,
    builder::AnalyticsBuilder,
    claim::Claim,
    consent::{
        machine::{CallId, Machine, Outcome},
        state::{ConsentState, Prompt},
    },
    consent_task,
    event::{Event, InvalidEvent, Properties},
    matrix::{
        account_data::AccountDataError,
        session::{self, own_identifiers},
        sync,
    },
    saving,
    sink::{
        drops::{self, Dropped},
        report::DeliveryReport,
        stats::Stats,
    },
    state_stream,
    stop::Stop,
    withdrawal::{OptOut, OptOutReceipt},
};

/// Consent, identity and telemetry of one logged-in user.
///
/// A cheap handle: clones share everything, and when the last one is dropped the
/// background tasks end. One `Analytics` serves one session; for a second account
/// make a second one. Call [`Analytics::end_session`] before the client logs out.
///
/// See the crate's front page for a walk-through.
#[derive(Clone)]
pub struct Analytics {
    handle: Arc<Handle>,
}

/// What lives as long as the last clone.
struct Handle {
    inner: Arc<Inner>,
    calls: mpsc::UnboundedSender<Call>,
    event_handler: EventHandlerHandle,
    stop: Arc<Stop>,
    claim: Claim,
}

/// Why an opt-in did not succeed. What was closed before is still closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptInError {
    /// The account could not be read or written.
    ///
    /// A write whose answer was lost is read back, and if the homeserver has it, the
    /// call has succeeded. If that cannot be read either, the state says `Unconfirmed`
    /// until the homeserver is reached again, and a yes that it then holds counts, as does
    /// one that it applies later still; unless an opt-out was pending, which then removes
    /// it. So tell the user that it could not be *confirmed*. The next call makes no second
    /// ID; [`opt_out`](Analytics::opt_out) takes it back for certain.
    #[error(transparent)]
    AccountData(#[from] AccountDataError),
    /// The session is over.
    #[error("the session is over")]
    SessionEnded,
    /// An opt-out came after this call, which is no error to show: the user moved the
    /// switch twice.
    #[error("the user opted out meanwhile")]
    Withdrawn,
}

impl fmt::Debug for Analytics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Analytics").field("state", &self.state()).finish_non_exhaustive()
    }
}

/// Consent and identity.
impl Analytics {
    /// Begins to set up analytics for the user of `client`, whose decision is in
    /// the account-data event of type `event_type`.
    ///
    /// There is no default type: whose consent it is must be said. See
    /// [`ELEMENT_EVENT_TYPE`](crate::ELEMENT_EVENT_TYPE).
    pub fn builder(client: Client, event_type: impl Into<String>) -> AnalyticsBuilder {
        AnalyticsBuilder::new(client, event_type.into())
    }

    /// All there is to know about consent now.
    #[must_use]
    pub fn state(&self) -> ConsentState {
        self.inner().machine().state()
    }

    /// The state now, and each one that follows. A slow reader sees the newest.
    ///
    /// Ends when the last handle is dropped, and not with [`Analytics::end_session`] or
    /// [`Analytics::shutdown`]. A task that reads it and holds a handle itself keeps that
    /// from happening: abort such a task when the app is done with the account.
    pub fn state_stream(&self) -> impl Stream<Item = ConsentState> + Send + Unpin + use<> {
        state_stream::stream(&self.handle.inner)
    }

    /// Whether to ask the user for consent now.
    #[must_use]
    pub fn prompt(&self) -> Prompt {
        self.state().prompt()
    }

    /// Whether consent is given and proven, so that events are sent until
    /// [`Analytics::shutdown`]: one atomic load, for apps that would otherwise work to
    /// build an event.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.inner().sink.is_open()
    }

    /// The ID that events are sent under, while the gate is open; else nothing, also if
    /// the account has one.
    ///
    /// For an embedded component of the same app. A request to a service to erase what
    /// it has needs [`OptOutReceipt::analytics_id`].
    #[must_use]
    pub fn analytics_id(&self) -> Option<AnalyticsId> {
        self.inner().machine().id().cloned()
    }

    /// Says yes for the user: call it only when the user said so just now.
    ///
    /// Keeps the account's ID if it has a usable one beside a yes or an open
    /// decision; else makes one, after which the gate holds events for twice the
    /// [`request_timeout`](AnalyticsBuilder::request_timeout) and then adopts what
    /// the homeserver holds. Under `DO_NOT_TRACK` or a veto of this device the
    /// account is written and the gate stays closed, as the returned state says.
    ///
    /// # Errors
    ///
    /// [`OptInError`]; then nothing that was closed is open, and a pending
    /// withdrawal still stands.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no further step is begun. A write that was already
    /// sent may still be applied: the homeserver is asked, and if it holds the yes, that
    /// counts. Call [`Analytics::opt_out`] if it must not.
    pub async fn opt_in(&self) -> Result<ConsentState, OptInError> {
        let answer = self.begin(Machine::handle_opt_in);
        let call = DroppedOptIn { inner: self.inner(), id: answer.id };
        let Answer { outcome, error } = answer.wait().await.unwrap_or(Answer::GONE);
        std::mem::forget(call);
        match (outcome, error) {
            (Outcome::Done, _) => {}
            (Outcome::Withdrawn, _) => return Err(OptInError::Withdrawn),
            (Outcome::SessionEnded, _) => return Err(OptInError::SessionEnded),
            (_, Some(TaskError::AccountData(error))) => return Err(error.into()),
            (Outcome::Failed | Outcome::Pending | Outcome::NotSaved, _) => {
                return Err(AccountDataError::Timeout.into());
            }
        }
        Ok(self.state())
    }

    /// Says no for the user.
    ///
    /// When the returned future is first polled, and before it waits for anything,
    /// the gate shuts, what is queued in memory is wiped, and what was said about the
    /// user is forgotten. Then the request that is out to a backend is cut, the file of
    /// a durable queue is wiped, the no is written to this device's store, and the
    /// account's ID is removed. Offline,
    /// the removal stays pending and is resumed, after a restart too.
    ///
    /// ```no_run
    /// # async fn example(analytics: matrix_analytics::Analytics) {
    /// let receipt = analytics.opt_out().await;
    /// if !receipt.account.is_done() {
    ///     // Nothing is sent any more; the account will be cleaned when it can.
    /// }
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Polled once and dropped, the withdrawal still completes in the background.
    pub fn opt_out(&self) -> OptOut {
        OptOut::new(self.clone())
    }

    /// Says no on this device, whatever the account says: for a shared or a work
    /// computer.
    ///
    /// The account and its ID are left alone. The veto outlives any opt-in and
    /// opt-out, until [`Analytics::allow_on_this_device`].
    ///
    /// # Errors
    ///
    /// The error of the client's store, if the veto could not be written: then it
    /// holds until the process ends.
    ///
    /// # Cancel safety
    ///
    /// Polled once and dropped, the veto still holds and is written.
    pub async fn deny_on_this_device(&self) -> Result<(), StoreError> {
        let answer = self.begin(|machine, call| {
            machine.handle_deny_on_this_device();
            machine.handle_save_wanted(call);
        });
        saved(answer.wait().await)
    }

    /// Takes back [`Analytics::deny_on_this_device`]. The gate opens only after the
    /// homeserver has been asked anew.
    ///
    /// # Errors
    ///
    /// The error of the client's store, if this could not be written: then the
    /// veto is back after a restart.
    ///
    /// # Cancel safety
    ///
    /// Polled once and dropped, the veto is still lifted.
    pub async fn allow_on_this_device(&self) -> Result<(), StoreError> {
        let answer = self.begin(|machine, call| {
            machine.handle_allow_on_this_device();
            machine.handle_save_wanted(call);
        });
        saved(answer.wait().await)
    }

    /// Asks the homeserver now: for an app that was resumed after a long time, or
    /// whose sync carries no account data.
    ///
    /// Asks nothing under `DO_NOT_TRACK` or a veto of this device, while an
    /// [`opt_in`](Analytics::opt_in) is in progress or its ID settles, and after the
    /// end of the session.
    ///
    /// # Errors
    ///
    /// [`AccountDataError`]; then what held before still holds.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the homeserver is still asked.
    pub async fn recheck(&self) -> Result<ConsentState, AccountDataError> {
        let answer = self.begin(Machine::handle_recheck).wait().await.unwrap_or(Answer::GONE);
        match (answer.outcome, answer.error) {
            (_, Some(TaskError::AccountData(error))) => return Err(error),
            // There is no answer only if the runtime is gone.
            (Outcome::Failed | Outcome::SessionEnded, _) => return Err(AccountDataError::Timeout),
            _ => {}
        }
        Ok(self.state())
    }

    /// Ends analytics for this session: call it before the client logs out, which
    /// the SDK does not announce.
    ///
    /// The gate shuts and the queue is wiped as in [`Analytics::opt_out`]; the
    /// account keeps its decision and its ID. A removal that is still pending gets
    /// one bounded try, for after the logout nobody can make it. If the receipt's
    /// [`account`](OptOutReceipt::account) is not done then, the account keeps what the
    /// user wanted removed, until the same user logs in with the same store: say so
    /// before the client logs out.
    ///
    /// The file of a durable queue stays open, until [`Analytics::shutdown`] or until
    /// the last handle is dropped. An app that keeps clones calls `shutdown` after this,
    /// before somebody logs in again on that file.
    ///
    /// # Cancel safety
    ///
    /// Polled once and dropped, it still completes in the background.
    pub async fn end_session(&self) -> OptOutReceipt {
        let removed = self.begin(Machine::handle_end_session);
        self.withdraw(removed).await
    }
}

/// Telemetry.
impl Analytics {
    /// Captures a typed event.
    ///
    /// Never blocks, waits or fails: from any thread, inside a runtime or out of
    /// it. At a gate that is closed for consent nothing is taken; what is taken
    /// and cannot be delivered is counted in [`Analytics::stats`].
    ///
    /// # Cost
    ///
    /// At a closed gate, one atomic load. Else the event is written as JSON into one
    /// allocation of its size, its time is taken, and it is put into a buffer behind
    /// a lock that nobody holds for long: about as much as one `serde_json::to_vec`.
    /// A call that finds the buffer empty wakes the background task, which takes
    /// longer; so does the one that completes a batch, and no other. All other work
    /// is done by that task. `docs/speed.md` has the figures.
    pub fn capture<E: Event>(&self, event: &E) {
        self.inner().sink.capture(E::NAME, || Properties::from_serialize(event));
    }

    /// Captures an event whose name and properties are known at run time only; see
    /// [`Analytics::capture`].
    pub fn capture_named(&self, name: impl Into<Cow<'static, str>>, properties: Properties) {
        self.inner().sink.capture(name, || properties.check().map(|()| properties));
    }

    /// Captures a typed event that happened at `time`; else as [`Analytics::capture`].
    ///
    /// For what an app learns of later, such as a crash that it finds at its next start.
    /// A time in the future becomes now. The age of
    /// [`queue_max_age`](AnalyticsBuilder::queue_max_age) counts from this call, not from
    /// `time`.
    ///
    /// Never pass an event from before the user opted in, in this session or an earlier
    /// one: the consent does not reach back, and this crate cannot know when something
    /// happened.
    pub fn capture_at<E: Event>(&self, time: SystemTime, event: &E) {
        self.inner().sink.capture_at(time, E::NAME, || Properties::from_serialize(event));
    }

    /// Captures an event that happened at `time` and whose name and properties are known
    /// at run time only; see [`Analytics::capture_at`].
    pub fn capture_named_at(
        &self,
        time: SystemTime,
        name: impl Into<Cow<'static, str>>,
        properties: Properties,
    ) {
        self.inner().sink.capture_at(time, name, || properties.check().map(|()| properties));
    }

    /// Sets the properties that every event captured from here on has; where an
    /// event has the same key, the event wins. Replaces those set before.
    ///
    /// They can be set at any time, also before the user was asked, and are kept when
    /// another ID is adopted. They are forgotten at a withdrawal, also at one from
    /// elsewhere or a veto of this device: set them again after it.
    ///
    /// # Errors
    ///
    /// [`InvalidEvent`]: what was set before still holds.
    pub fn set_super_properties(&self, properties: Properties) -> Result<(), InvalidEvent> {
        self.inner().sink.set_super_properties(properties)
    }

    /// Sets properties of the user; a later call for the same key wins.
    ///
    /// They ride on an event: the next one that leaves for a backend and that
    /// [can carry them](crate::Backend::carries_user_properties). For each backend they
    /// are kept until such an event was delivered. If that event is refused, expires or
    /// has no room, they leave with another. They have no age limit. A durable queue writes
    /// them down when events next leave the intake or [`Analytics::flush`] is called, and
    /// restores them after a restart.
    ///
    /// What waits for a backend is bounded like one event. If a call would exceed that
    /// together with what waits, that backend is told of what was set since events last
    /// left the intake, and what waited before is forgotten.
    ///
    /// If a backend refuses ten requests in a row that carry them, what waits for it is
    /// forgotten, also by a durable queue. One warning is logged, which names no property.
    ///
    /// They are taken only while the gate is open or holding: at a closed gate the call
    /// returns `Ok` and takes nothing. Set them after [`Analytics::opt_in`] has returned,
    /// and when [`Analytics::state_stream`] shows that the gate opens for a yes from
    /// elsewhere. What was not sent is forgotten when the user withdraws, the consent is
    /// not confirmed, another ID is adopted, or the session ends.
    ///
    /// # Errors
    ///
    /// [`InvalidEvent`], if the properties are invalid, or exceed
    /// [`MAX_EVENT_BYTES`](crate::MAX_EVENT_BYTES) together with those that were set since
    /// events last left the intake. What was set before still holds.
    pub fn set_user_properties(&self, properties: &Properties) -> Result<(), InvalidEvent> {
        self.inner().sink.set_user_properties(properties, &Properties::new())
    }

    /// Sets properties of the user that the backend takes only if it has none of
    /// that name; else as [`Analytics::set_user_properties`].
    ///
    /// # Errors
    ///
    /// [`InvalidEvent`]: what was set before still holds.
    pub fn set_user_properties_once(&self, properties: &Properties) -> Result<(), InvalidEvent> {
        self.inner().sink.set_user_properties(&Properties::new(), properties)
    }

    /// Tries to deliver everything that was captured until now, and says how that
    /// went.
    ///
    /// Each backend gets one more try at once, also one that refuses the app's
    /// credentials, with three exceptions: it asked to be left alone, it has refused many
    /// batches, or its last try failed just now. "Just now" is half a second after the
    /// first failure of an outage and grows to five seconds, so that calls at any rate
    /// cause few requests. A try that a flush makes leaves the time of the next one as it
    /// was, and costs no event.
    ///
    /// At a gate that is not open nothing is sent: right after
    /// [`build`](AnalyticsBuilder::build) it still holds, or is closed, so await
    /// [`Analytics::recheck`] first to know. What could not be delivered is written down
    /// when this returns, if there is a durable queue and its disk works.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, delivery goes on.
    pub async fn flush(&self) -> DeliveryReport {
        // Not in a task of its own: what is captured after the first poll is no part of it.
        self.inner().sink.flush().await
    }

    /// Takes no more events, delivers what it can until `deadline` from now, and
    /// gives up the rest, which the report and the counters name. What is in a durable
    /// queue is kept for the next start.
    ///
    /// Each backend gets one last try, also one that refuses the app's credentials,
    /// unless one failed in the last 100 ms, it asked to be left alone
    /// ([`Throttled`](crate::DeliveryError::Throttled)), or it has refused many batches.
    ///
    /// Consent is watched on: the state still changes, and `opt_in` and `opt_out` work.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, it still ends at the deadline.
    pub async fn shutdown(&self, deadline: Duration) -> DeliveryReport {
        let sink = self.inner().sink.clone();
        let before = sink.stats();
        let done = self.inner().runtime.spawn(async move { sink.shutdown(deadline).await });
        done.await.unwrap_or_else(|_| self.inner().sink.report_since(&before))
    }

    /// What is dropped from here on: one item for each backend and reason, with how
    /// many it was since the last.
    ///
    /// The reader is told numbers and no event, and nothing is kept for one that is
    /// slow, so that a drop cannot cause another: not even by a reader that captures an
    /// event about each item it is told, for that is one event however many were dropped.
    /// Ends when the last handle is dropped, or after [`Analytics::shutdown`], whose own
    /// drops are its last items: await the task that reads it rather than abort it.
    ///
    /// ```no_run
    /// # async fn example(analytics: matrix_analytics::Analytics) {
    /// use futures_util::StreamExt as _;
    ///
    /// let mut drops = analytics.drops();
    /// while let Some(dropped) = drops.next().await {
    ///     eprintln!("{}: {} lost ({})", dropped.backend, dropped.events, dropped.reason);
    /// }
    /// # }
    /// ```
    pub fn drops(&self) -> impl Stream<Item = Dropped> + Send + Unpin + use<> {
        drops::stream(self.inner().sink.clone())
    }

    /// Where every event is, or why it is gone.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner().sink.stats()
    }
}

impl Analytics {
    pub(crate) fn start(inner: Inner, event_type: String, claim: Claim) -> Self {
        let inner = Arc::new(inner);
        inner.apply(|_| {});

        let weak = Arc::downgrade(&inner);
        inner
            .sink
            .guard
            .watch_session(move || weak.upgrade().map(|inner| own_identifiers(&inner.client)));

        // Watching comes before asking: no change falls between the two.
        let event_handler = watch_account_data(&inner, event_type);
        let stop = Arc::new(Stop::default());
        let (calls, received) = mpsc::unbounded_channel();
        tokio::spawn(inner.sink.clone().run());
        tokio::spawn(consent_task::run(
            Arc::downgrade(&inner),
            received,
            session::changes(&inner.client),
            inner.wake.clone(),
            stop.clone(),
        ));
        Self { handle: Arc::new(Handle { inner, calls, event_handler, stop, claim }) }
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.handle.inner
    }

    pub(crate) fn shared(&self) -> Arc<Inner> {
        self.handle.inner.clone()
    }

    /// Makes the transition of a call, and lets the task carry it out.
    pub(crate) fn begin(&self, call: impl FnOnce(&mut Machine, CallId)) -> Waiting {
        let inner = self.inner();
        let id = CallId(inner.next_call.fetch_add(1, Ordering::Relaxed));
        let (reply, answer) = oneshot::channel();
        // The task is gone only with its runtime; the reply is dropped then, which the
        // caller sees.
        let _ = self.handle.calls.send(Call { id, reply });
        inner.apply(|machine| call(machine, id));
        Waiting { id, answer }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        sync::stop_watching(&self.inner.client, self.event_handler.clone());
        self.stop.stop();
        self.inner.sink.stop();
        // A withdrawal that was made is remembered, even if the handle is dropped
        // before it is written.
        let last = self.inner.machine().last_save();
        if let Some(last) = last {
            let Inner { record_store, saving, account_data, .. } = &*self.inner;
            let save = saving::save_and_leave(
                record_store.clone(),
                saving.clone(),
                last,
                account_data.bound(),
                self.claim.hold(),
            );
            self.inner.runtime.spawn(save);
        }
    }
}
