//! The handle that an app holds.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use futures_core::Stream;
use matrix_sdk::{
    Client, StoreError,
    event_handler::{EventHandlerHandle, RawEvent},
    ruma::events::AnyGlobalAccountDataEvent,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    runtime::Handle as Runtime,
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};

use crate::{
    AnalyticsBuilder, AnalyticsId, ConsentState, DeliveryReport, Dropped, Event, GateState,
    InvalidEvent, OptOut, OptOutReceipt, Prompt, Properties, Stats, Step,
    account_data::{AccountData, AccountDataError, content::Observed},
    consent::machine::{Machine, Session},
    consent_task::{self, Command},
    drops,
    gate::Phase,
    guard::OwnIdentifiers,
    local_record::RecordStore,
    sink::Sink,
    state_stream,
    stop::Stop,
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
    commands: mpsc::UnboundedSender<Command>,
    event_handler: EventHandlerHandle,
    stop: Arc<Stop>,
}

/// What the tasks share with the handle. They hold it weakly: it has the `Client`.
pub(crate) struct Inner {
    /// Where the tasks run, for calls that come from elsewhere.
    runtime: Runtime,
    client: Client,
    machine: Mutex<Machine>,
    pub(crate) account_data: AccountData,
    pub(crate) record_store: RecordStore,
    /// Held while the record is written: the newest is written last.
    pub(crate) saving: Arc<tokio::sync::Mutex<()>>,
    pub(crate) sink: Arc<Sink>,
    /// Tells the consent task that there may be something to do.
    wake: Arc<Notify>,
    /// Every transition of the machine, and the end of this.
    pub(crate) transitions: Arc<Notify>,
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
        if self.inner().machine().session() == Session::Ended {
            return Err(OptInError::SessionEnded);
        }
        let ticket = self.inner().apply(Machine::opt_in_begins);
        let (reply, answer) = oneshot::channel();
        self.command(Command::OptIn(ticket, reply));
        answer.await.unwrap_or(Err(OptInError::SessionEnded))?;
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
        self.inner().apply(Machine::deny_on_this_device);
        self.save().await
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
        self.inner().apply(Machine::allow_on_this_device);
        self.save().await
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
        let (reply, answer) = oneshot::channel();
        self.command(Command::Recheck(reply));
        // There is no answer only if the runtime is gone.
        answer.await.unwrap_or(Err(AccountDataError::Timeout))?;
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
        self.inner().apply(Machine::end_session);
        self.withdraw(Command::EndSession).await
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
    pub(crate) fn start(inner: Inner, event_type: String) -> Self {
        let inner = Arc::new(inner);
        inner.apply(|_| {});

        let session = Arc::downgrade(&inner);
        inner
            .sink
            .guard
            .watch_session(move || session.upgrade().map(|inner| own_identifiers(&inner.client)));

        // Watching comes before asking: no change falls between the two.
        let event_handler = watch_account_data(&inner, event_type);
        let stop = Arc::new(Stop::default());
        let (commands, received) = mpsc::unbounded_channel();
        tokio::spawn(inner.sink.clone().run());
        tokio::spawn(consent_task::run(
            Arc::downgrade(&inner),
            received,
            inner.client.subscribe_to_session_changes(),
            inner.wake.clone(),
            stop.clone(),
        ));
        Self { handle: Arc::new(Handle { inner, commands, event_handler, stop }) }
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.handle.inner
    }

    pub(crate) fn command(&self, command: Command) {
        // The task is gone only with its runtime; the reply is dropped then, which
        // the caller sees.
        let _ = self.handle.commands.send(command);
    }

    /// Waits, within a bound, for what the sink, this device's store and the
    /// consent task do for a withdrawal whose first half is done.
    pub(crate) async fn withdraw(
        &self,
        command: impl FnOnce(oneshot::Sender<Step<AccountDataError>>) -> Command,
    ) -> OptOutReceipt {
        // Begun before anything is awaited: from here on it completes by itself.
        let (reply, answer) = oneshot::channel();
        self.command(command(reply));
        let inner = self.handle.inner.clone();
        // In a task of its own: the caller may have no runtime, and may go away.
        let done = self.inner().runtime.spawn(async move {
            let bound = inner.account_data.bound();
            let requests = timeout(bound, inner.sink.disconnected());
            // A read and a write, and the request that may be out before them.
            let account = timeout(3 * bound, answer);
            let queue = timeout(bound, inner.sink.wiped());
            let (requests, queue, record, account) =
                tokio::join!(requests, queue, inner.save(), account);
            OptOutReceipt {
                requests: requests.map_or(Step::Pending(None), |()| Step::Done),
                queue: match queue {
                    Ok(Ok(())) => Step::Done,
                    Ok(Err(error)) => Step::Pending(Some(error)),
                    Err(_) => Step::Pending(None),
                },
                record: record.map_or_else(Step::Failed, |()| Step::Done),
                account: match account {
                    Ok(Ok(step)) => step,
                    Ok(Err(_)) | Err(_) => Step::Pending(None),
                },
                analytics_id: inner.machine().take_lost_id(),
            }
        });
        done.await.unwrap_or_else(|_| OptOutReceipt::unknown())
    }

    /// Writes what changed in a task of its own, which outlives the caller.
    async fn save(&self) -> Result<(), StoreError> {
        let inner = self.handle.inner.clone();
        let saved = self.inner().runtime.spawn(async move { inner.save().await });
        saved.await.unwrap_or_else(|gone| Err(StoreError::Backend(Box::new(gone))))
    }
}

impl Inner {
    pub(crate) fn new(
        runtime: Runtime,
        client: Client,
        machine: Machine,
        account_data: AccountData,
        record_store: RecordStore,
        sink: Sink,
    ) -> Self {
        Self {
            runtime,
            client,
            machine: Mutex::new(machine),
            account_data,
            record_store,
            saving: Arc::default(),
            sink: Arc::new(sink),
            wake: Arc::default(),
            transitions: Arc::default(),
        }
    }

    pub(crate) fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a transition, and lets the gate, the queue and everybody who watches
    /// follow it before this returns.
    pub(crate) fn apply<R>(&self, transition: impl FnOnce(&mut Machine) -> R) -> R {
        let (result, untold) = {
            let mut machine = self.machine();
            let result = transition(&mut machine);
            let phase = match machine.state().gate {
                GateState::Closed(_) => Phase::Closed,
                GateState::Holding(_) => Phase::Holding,
                GateState::Open => Phase::Open,
            };
            let wipe = machine.take_wipe();
            let untold = self.sink.set_gate(phase, machine.epoch(), machine.id().cloned(), wipe);
            (result, untold)
        };
        // The app's own wakers, which may call anything: no lock is held any more.
        drop(untold);
        self.transitions.notify_waiters();
        self.wake.notify_one();
        result
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Readers of the states see that there are no more.
        self.transitions.notify_waiters();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inner.client.remove_event_handler(self.event_handler.clone());
        self.stop.stop();
        self.inner.sink.stop();
        // A withdrawal that was made is remembered, even if the handle is dropped
        // before it is written.
        if self.inner.machine().is_unsaved() {
            let inner = self.inner.clone();
            self.inner.runtime.spawn(async move { inner.save().await });
        }
    }
}

/// What `client` knows that its session is known by, now.
pub(crate) fn own_identifiers(client: &Client) -> OwnIdentifiers {
    let homeserver = client.homeserver();
    // The SDK lends this URL in 0.18 and gives it in 0.19.
    let server = client.server().and_then(|url| url.host_str().map(str::to_owned));
    let hosts = server.into_iter().chain(homeserver.host_str().map(str::to_owned));
    let mut own = OwnIdentifiers { hosts: hosts.collect(), ..OwnIdentifiers::default() };
    if let Some(session) = client.session_meta() {
        own.user_id = session.user_id.to_string();
        own.localpart = session.user_id.localpart().to_owned();
        own.server_name = session.user_id.server_name().to_string();
        own.hosts.push(session.user_id.server_name().host().to_owned());
        own.device_id = session.device_id.to_string();
    }
    if let Some(tokens) = client.session_tokens() {
        own.tokens.push(tokens.access_token);
        own.tokens.extend(tokens.refresh_token);
    }
    own
}

/// Lets every account-data event of `event_type` that sync carries reach the
/// machine: classic and sliding sync both call the handler.
fn watch_account_data(inner: &Arc<Inner>, event_type: String) -> EventHandlerHandle {
    #[derive(Deserialize)]
    struct SyncedEvent<'a> {
        #[serde(borrow, rename = "type")]
        event_type: Cow<'a, str>,
        #[serde(borrow)]
        content: &'a RawValue,
    }

    let weak = Arc::downgrade(inner);
    let event_type: Arc<str> = event_type.into();
    inner.client.add_event_handler(move |_: AnyGlobalAccountDataEvent, raw: RawEvent| {
        let (inner, event_type) = (weak.clone(), event_type.clone());
        async move {
            let Some(inner) = inner.upgrade() else { return };
            inner.apply(Machine::sync_delivers);
            if let Ok(event) = serde_json::from_str::<SyncedEvent<'_>>(raw.get())
                && *event.event_type == *event_type
            {
                let seen = Observed::read(event.content);
                inner.apply(|machine| machine.synced(&seen));
            }
        }
    })
}
