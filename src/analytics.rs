//! The handle that an app holds.

#[cfg(feature = "rageshake")]
mod bug_report;
pub(crate) mod build_error;
pub(crate) mod builder;
mod calls;
mod claim;
mod consent_record;
pub(crate) mod current;
mod erasure_task;
mod erasures;
#[cfg(feature = "health")]
pub(crate) mod health;
pub(crate) mod opt_in;
pub(crate) mod opt_out;
pub(crate) mod outcome;
pub(crate) mod preview;
mod saving;
mod shared;
mod should_ask;
mod state_stream;
mod task;
mod telemetry;
mod watch;

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use futures_core::Stream;
use matrix_sdk::{StoreError, event_handler::EventHandlerHandle};
use tokio::sync::{mpsc, oneshot};

use self::{
    builder::AnalyticsBuilder,
    calls::{Answer, Call, TaskError, Waiting, saved},
    claim::Claim,
    opt_in::OptIn,
    opt_out::OptOut,
    outcome::{OptOutReceipt, RecipientIdentifier},
    shared::Shared,
    watch::watch_account_data,
};
#[cfg(feature = "health")]
use crate::health::current::CurrentWatch;
use crate::{
    analytics_id::AnalyticsId,
    consent::{
        machine::{CallId, Machine, Outcome},
        state::ConsentState,
    },
    consent_record::ConsentRecord,
    disclosure::{AccountEvent, Disclosure},
    history::{self, sent_event::SentEvent},
    matrix::{
        account_data::AccountDataError,
        client::{MatrixClient, into_client},
        session::{self, own_identifiers},
        sync,
    },
    sink::Sink,
    spawn,
    stop::Stop,
};

/// Consent, identity and telemetry of one logged-in user.
///
/// A cheap handle: clones share everything, and the background tasks end when the last one is
/// dropped. One `Analytics` serves one session; a second account needs a second one. Call
/// [`Analytics::end_session`] before the client logs out.
///
/// See the crate's front page for a walk-through.
#[derive(Clone)]
pub struct Analytics {
    /// Kept outside of the handle, so that a capture follows one pointer to the gate.
    sink: Arc<Sink>,
    handle: Arc<Handle>,
}

/// The part that lives as long as the last clone.
struct Handle {
    inner: Arc<Shared>,
    calls: mpsc::UnboundedSender<Call>,
    event_handler: EventHandlerHandle,
    stop: Arc<Stop>,
    claim: Claim,
    #[cfg(feature = "health")]
    health: CurrentWatch,
}

impl fmt::Debug for Analytics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Analytics").field("state", &self.state()).finish_non_exhaustive()
    }
}

/// Consent and identity.
impl Analytics {
    /// Creates a builder for the user of `client`, whose decision is in the account-data event
    /// of type `event_type`.
    ///
    /// There is no default type, because an opt-in belongs to the vendor whose event holds it:
    /// see [`ELEMENT_EVENT_TYPE`](crate::ELEMENT_EVENT_TYPE).
    pub fn builder(client: impl MatrixClient, event_type: impl Into<String>) -> AnalyticsBuilder {
        AnalyticsBuilder::new(into_client(client), event_type.into())
    }

    /// Returns the state of consent now.
    #[must_use]
    pub fn state(&self) -> ConsentState {
        self.inner().state()
    }

    /// Returns a stream of the state now and of each one that follows. A slow reader sees the
    /// newest. If the ID has changed, an item can equal the one before it, so an app that shows
    /// [`Analytics::analytics_id`] reads it again at each item.
    ///
    /// Ends when the last handle is dropped, and not with [`Analytics::end_session`] or
    /// [`Analytics::shutdown`]. A task that reads the stream and holds a handle prevents that:
    /// abort it when the app no longer needs the account.
    pub fn state_stream(&self) -> impl Stream<Item = ConsentState> + Send + Unpin + use<> {
        state_stream::stream(&self.handle.inner)
    }

    /// Returns whether to ask the user for consent, once that is known.
    ///
    /// Waits while the homeserver has not answered, so a user who decided long ago is not
    /// asked again, except about a [`policy`](AnalyticsBuilder::policy) that the opt-in does not
    /// agree to. Returns `false` if the user has decided or must not be asked: under
    /// `DO_NOT_TRACK` or a veto of this device, for a guest, and after the end of the session,
    /// [`Analytics::shutdown`] or the runtime, even if that happens during the wait. The future
    /// keeps no handle alive.
    ///
    /// If the user dismisses the question, the app has to remember that itself.
    /// [`ConsentState::prompt`] says the same without waiting.
    ///
    /// # Cancel safety
    ///
    /// The future changes nothing and can be dropped at any time.
    pub fn should_ask(&self) -> impl Future<Output = bool> + Send + use<> {
        should_ask::should_ask(&self.handle.inner, self.handle.calls.clone())
    }

    /// Returns whether the opt-in is confirmed, so that events are sent until
    /// [`Analytics::shutdown`]. Costs one atomic load.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.sink.is_open()
    }

    /// Returns the ID of the account. There is none unless the gate is open, even if the account
    /// has one.
    ///
    /// It serves an embedded component of the same app. Recipients may know the person by another
    /// identifier: see [`Analytics::identifiers`].
    #[must_use]
    pub fn analytics_id(&self) -> Option<AnalyticsId> {
        self.inner().machine().id().cloned()
    }

    /// Returns the identifiers under which the recipients know the person, in the order in which
    /// the recipients were added. A user who asks a service for the data that it has needs the one
    /// that this service knows.
    ///
    /// There are none unless the gate is open. After an opt-out,
    /// [`OptOutReceipt::identifiers`] has them.
    #[must_use]
    pub fn identifiers(&self) -> Vec<RecipientIdentifier> {
        self.inner().identifiers(self.analytics_id().as_ref())
    }

    /// Returns a list of the data that this configuration stores and sends: identifiers,
    /// recipients, copies on this device, and what is kept back. An app can show it on a settings
    /// page, or quote it in a privacy policy.
    ///
    /// ```no_run
    /// # fn example(analytics: matrix_analytics::Analytics) {
    /// println!("{}", analytics.disclosure().to_markdown());
    /// # }
    /// ```
    #[must_use]
    pub fn disclosure(&self) -> Disclosure {
        let inner = self.inner();
        let event = AccountEvent {
            homeserver: session::homeserver_host(&inner.client),
            event_type: &inner.account_data.event_type(),
        };
        Disclosure::new(&inner.configuration, &event, &inner.sink.guard)
    }

    /// Returns the decisions of the user that this device knows of, for a controller who has to
    /// show them: when and where, how they were expressed, and what a withdrawal removed. They are
    /// in the client's store, without an ID.
    ///
    /// ```no_run
    /// # async fn example(analytics: matrix_analytics::Analytics) -> Result<(), Box<dyn std::error::Error>> {
    /// analytics.opt_in().expressed_by("the button \"Help us\" of the first dialog").await?;
    /// println!("{}", serde_json::to_string_pretty(&analytics.consent_record())?);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn consent_record(&self) -> ConsentRecord {
        let inner = self.inner();
        ConsentRecord {
            event_type: inner.account_data.event_type().to_string(),
            decisions: inner.decisions.all(),
        }
    }

    /// Returns the newest sent events, oldest first, as they left: for the question "what exactly
    /// do you send?". Empty unless [`AnalyticsBuilder::history`] is set.
    #[must_use]
    pub fn history(&self) -> Vec<SentEvent> {
        self.inner().history.as_ref().map(|history| history.events()).unwrap_or_default()
    }

    /// Returns a stream of the [`history`](Self::history) now and after each change. A slow
    /// reader sees the newest.
    ///
    /// Ends when the last handle is dropped, or at once if no history is kept.
    pub fn history_stream(&self) -> impl Stream<Item = Vec<SentEvent>> + Send + Unpin + use<> {
        history::stream(self.inner().history.as_ref())
    }

    /// Opts the user in. Call it only when the user has just agreed.
    ///
    /// With a [`policy`](AnalyticsBuilder::policy), the user has agreed to that one, and the
    /// account's event then says so.
    ///
    /// Keeps a usable ID of the account, unless the account holds an opt-out. Otherwise
    /// creates one; the gate then holds events for twice the
    /// [`request_timeout`](AnalyticsBuilder::request_timeout), after which the ID that the
    /// homeserver holds is adopted. Under `DO_NOT_TRACK` or a veto of this device the
    /// account is written and the gate stays closed, as the returned state shows.
    ///
    /// An opt-out that is made here during the call wins, and the call returns `Ok` with the
    /// state that follows from it. The same holds for an opt-out of another process that shares
    /// the client's store, even one from before the call, if this process learns of it only
    /// when it saves the opt-in. So show the returned state. An opt-out on another device is
    /// only read from the account: between devices the last write wins.
    ///
    /// # Errors
    ///
    /// [`OptInError`](crate::OptInError). The gate is then no more open than before, and a pending
    /// withdrawal still stands.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no further step is begun. A write that was already sent may
    /// still be applied: the homeserver is then asked, and an opt-in that it holds counts.
    /// Call [`Analytics::opt_out`] to take it back.
    pub fn opt_in(&self) -> OptIn {
        OptIn::new(self.clone())
    }

    /// Opts the user out.
    ///
    /// When the returned future is first polled, and before it waits for anything, the gate
    /// shuts, queued events in memory are wiped, and the properties of the user are deleted.
    /// Then a request in flight to a backend is cut, the file of a durable queue is wiped, the
    /// opt-out is written to this device's store, and the ID is removed from the account.
    /// Offline, the removal stays pending and is resumed, even after a restart.
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
    /// If the future is dropped after its first poll, the withdrawal still completes in the
    /// background.
    pub fn opt_out(&self) -> OptOut {
        OptOut::new(self.clone())
    }

    /// Vetoes analytics on this device, whatever the account holds: for a shared or a work
    /// computer.
    ///
    /// The account and its ID stay as they are. The veto outlives any opt-in and opt-out, until
    /// [`Analytics::allow_on_this_device`].
    ///
    /// # Errors
    ///
    /// The error of the client's store, if the veto could not be written: then it
    /// holds until the process ends.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after its first poll, the veto still takes effect and is saved.
    pub async fn deny_on_this_device(&self) -> Result<(), StoreError> {
        let answer = self.begin(|machine, call| {
            machine.handle_deny_on_this_device();
            machine.handle_save_wanted(call);
        });
        saved(answer.wait().await)
    }

    /// Lifts the veto of [`Analytics::deny_on_this_device`]. The gate opens only after the
    /// homeserver has been asked again.
    ///
    /// # Errors
    ///
    /// The error of the client's store, if this could not be written: then the
    /// veto is back after a restart.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after its first poll, the veto is still lifted.
    pub async fn allow_on_this_device(&self) -> Result<(), StoreError> {
        let answer = self.begin(|machine, call| {
            machine.handle_allow_on_this_device();
            machine.handle_save_wanted(call);
        });
        saved(answer.wait().await)
    }

    /// Asks the homeserver now: for an app that was resumed after a long time, or whose sync
    /// carries no account data.
    ///
    /// Asks nothing under `DO_NOT_TRACK` or a veto of this device, while an
    /// [`opt_in`](Analytics::opt_in) is in progress or its ID settles, and after the
    /// end of the session.
    ///
    /// # Errors
    ///
    /// [`AccountDataError`]; the state is then as before.
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

    /// Ends analytics for this session. Call it before the client logs out, which the SDK does
    /// not announce.
    ///
    /// The gate shuts and the queue is wiped as in [`Analytics::opt_out`]; the account keeps its
    /// decision and its ID. Call [`Analytics::flush`] before, to deliver waiting events. A pending removal is tried once more, because it is not possible
    /// after the logout. If the receipt's [`account`](OptOutReceipt::account) is not done, the
    /// account keeps the ID until the same user logs in with the same store: tell the user
    /// before the client logs out.
    ///
    /// The file of a durable queue stays open until [`Analytics::shutdown`], or until the last
    /// handle is dropped. An app that keeps clones calls `shutdown` as well, before a user logs
    /// in again on that file.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after its first poll, it still completes in the background.
    pub async fn end_session(&self) -> OptOutReceipt {
        let removed = self.begin(Machine::handle_end_session);
        self.withdraw(removed, None).await
    }
}

impl Analytics {
    pub(crate) fn start(inner: Shared, event_type: String, claim: Claim) -> Self {
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
        spawn::detach(&inner.runtime, inner.sink.clone().run());
        let task = task::run(
            Arc::downgrade(&inner),
            received,
            session::changes(&inner.client),
            inner.wake.clone(),
            stop.clone(),
        );
        spawn::detach(&inner.runtime, task);
        erasure_task::start(&inner, &stop);
        let sink = inner.sink.clone();
        let handle = Handle {
            inner,
            calls,
            event_handler,
            stop,
            claim,
            #[cfg(feature = "health")]
            health: CurrentWatch::default(),
        };
        Self { sink, handle: Arc::new(handle) }
    }

    pub(crate) fn inner(&self) -> &Shared {
        &self.handle.inner
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.handle.inner.clone()
    }

    /// Makes the transition of a call, and lets the task carry it out.
    pub(crate) fn begin(&self, call: impl FnOnce(&mut Machine, CallId)) -> Waiting {
        self.begin_then(call, |_| {})
    }

    /// Begins a call as [`begin`](Self::begin) does, and calls `then` once the gate has followed.
    fn begin_then(
        &self,
        call: impl FnOnce(&mut Machine, CallId),
        then: impl FnOnce(&Machine),
    ) -> Waiting {
        let inner = self.inner();
        let id = CallId(inner.next_call.fetch_add(1, Ordering::Relaxed));
        let (reply, answer) = oneshot::channel();
        // The task is gone only with its runtime; the reply is dropped then, which the
        // caller sees.
        let _ = self.handle.calls.send(Call { id, reply });
        inner.apply_then(|machine| call(machine, id), then);
        Waiting { id, answer }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        sync::stop_watching(&self.inner.client, self.event_handler.clone());
        self.stop.stop();
        self.inner.sink.stop();
        self.inner.erasures.warn_of_loss();
        // A withdrawal that was made is remembered, even if the handle is dropped
        // before it is written.
        let last = self.inner.machine().last_save();
        if let Some(last) = last {
            let Shared { record_store, save_lock, account_data, .. } = &*self.inner;
            let save = saving::save_and_leave(
                record_store.clone(),
                save_lock.clone(),
                self.claim.hold(last),
                account_data.request_timeout(),
            );
            // In the order of a withdrawal: a record that has it before the file has its erasures
            // would lose them.
            let kept = self.inner.erasures_kept();
            spawn::detach(&self.inner.runtime, async move {
                kept.await;
                save.await;
            });
        }
    }
}
