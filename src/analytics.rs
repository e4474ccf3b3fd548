//! The handle that an app holds.

pub(crate) mod builder;
mod calls;
mod claim;
pub(crate) mod opt_out;
pub(crate) mod outcome;
mod saving;
mod shared;
mod state_stream;
mod task;
mod telemetry;
mod watch;

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use futures_core::Stream;
use matrix_sdk::{Client, StoreError, event_handler::EventHandlerHandle};
use tokio::sync::{mpsc, oneshot};

use self::{
    builder::AnalyticsBuilder,
    calls::{Answer, Call, DroppedOptIn, TaskError, Waiting, saved},
    claim::Claim,
    opt_out::OptOut,
    outcome::{OptInError, OptOutReceipt},
    shared::Shared,
    watch::watch_account_data,
};
use crate::{
    analytics_id::AnalyticsId,
    consent::{
        machine::{CallId, Machine, Outcome},
        state::{ConsentState, Prompt},
    },
    matrix::{
        account_data::AccountDataError,
        session::{self, own_identifiers},
        sync,
    },
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
    inner: Arc<Shared>,
    calls: mpsc::UnboundedSender<Call>,
    event_handler: EventHandlerHandle,
    stop: Arc<Stop>,
    claim: Claim,
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

    /// The state now, and each one that follows. A slow reader sees the newest. If the ID
    /// has changed, the next item can equal the one before it, so an app that shows
    /// [`Analytics::analytics_id`] reads it again at each item.
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
        tokio::spawn(inner.sink.clone().run());
        tokio::spawn(task::run(
            Arc::downgrade(&inner),
            received,
            session::changes(&inner.client),
            inner.wake.clone(),
            stop.clone(),
        ));
        Self { handle: Arc::new(Handle { inner, calls, event_handler, stop, claim }) }
    }

    pub(crate) fn inner(&self) -> &Shared {
        &self.handle.inner
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
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
            let Shared { record_store, save_lock, account_data, .. } = &*self.inner;
            let save = saving::save_and_leave(
                record_store.clone(),
                save_lock.clone(),
                self.claim.hold(last),
                account_data.request_timeout(),
            );
            self.inner.runtime.spawn(save);
        }
    }
}
