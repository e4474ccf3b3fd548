//! What the app captures, and what it is told of it.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use futures_core::Stream;

use super::Analytics;
use crate::{
    event::{AnalyticsEvent, InvalidEvent, Properties},
    sink::{
        drops::{self, Dropped},
        report::DeliveryReport,
        stats::Stats,
    },
};

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
    /// a lock that is only held for moments: about as much as one `serde_json::to_vec`.
    /// A call that finds the buffer empty wakes the background task, which takes
    /// longer; so does the one that completes a batch, and no other. All other work
    /// is done by that task. `docs/measured.md` has the figures.
    pub fn capture<E: AnalyticsEvent>(&self, event: &E) {
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
    /// [`queue_max_age`](crate::AnalyticsBuilder::queue_max_age) counts from this call, not from
    /// `time`.
    ///
    /// Never pass an event from before the user opted in, in this session or an earlier
    /// one: the consent does not reach back, and this crate cannot know when something
    /// happened.
    pub fn capture_at<E: AnalyticsEvent>(&self, time: SystemTime, event: &E) {
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
    /// and when [`Analytics::state_stream`] shows that the gate opens because
    /// the user opted in elsewhere. What was not sent is forgotten when the user withdraws, the consent is
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
    /// [`build`](crate::AnalyticsBuilder::build) it still holds, or is closed, so await
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
