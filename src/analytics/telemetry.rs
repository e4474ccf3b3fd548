//! Capture, properties, delivery, and the counters over them.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use futures_core::Stream;

use super::Analytics;
use crate::{
    event::{AnalyticsEvent, InvalidEvent, Properties, UserProperties},
    sink::{
        drops::{self, Dropped},
        report::DeliveryReport,
        stats::Stats,
    },
    spawn::spawn,
};

impl Analytics {
    /// Captures a typed event.
    ///
    /// Never does I/O, waits or fails, on any thread, inside a runtime or outside of one. While
    /// the gate is closed because there is no consent, nothing is taken. An event that is taken
    /// and cannot be delivered is counted in [`Analytics::stats`].
    ///
    /// # Cost
    ///
    /// While the gate is closed, one atomic load. Otherwise the event is written as JSON, its
    /// time is taken, and both are copied into a buffer behind a lock that is held briefly:
    /// about as much as one `serde_json::to_vec`. Once the buffer has grown, a usual event
    /// allocates nothing. A call that finds the buffer empty wakes the background task, which takes
    /// longer, as does the call that completes a batch. That task does all other work.
    /// `docs/measured.md` has the figures.
    #[inline]
    pub fn capture<E: AnalyticsEvent>(&self, event: &E) {
        if let Some(epoch) = self.sink.capture_epoch() {
            self.sink.capture(epoch, None, event);
        }
    }

    /// Captures an event whose name and properties are known at run time only; otherwise like
    /// [`Analytics::capture`].
    ///
    /// The properties are built even at a closed gate; [`Analytics::capture_with`] avoids that.
    #[inline]
    pub fn capture_named(&self, name: impl Into<Cow<'static, str>>, properties: Properties) {
        self.capture_with(name, || properties);
    }

    /// Captures an event whose properties are built by `properties`, which is not called at a
    /// closed gate; otherwise like [`Analytics::capture`].
    ///
    /// ```
    /// # use matrix_analytics::{Analytics, Properties};
    /// fn loaded(analytics: &Analytics, plugin: &str) {
    ///     analytics.capture_with("PluginLoaded", || {
    ///         Properties::new().with("plugin", plugin.to_owned())
    ///     });
    /// }
    /// ```
    #[inline]
    pub fn capture_with(
        &self,
        name: impl Into<Cow<'static, str>>,
        properties: impl FnOnce() -> Properties,
    ) {
        if let Some(epoch) = self.sink.capture_epoch() {
            self.sink.capture_named(epoch, None, name.into(), properties());
        }
    }

    /// Captures a typed event that happened at `time`; otherwise like [`Analytics::capture`].
    ///
    /// For events that an app learns of later, such as a crash that it finds at its next start.
    /// A time in the future becomes now. The age of
    /// [`queue_max_age`](crate::Limits::queue_max_age) counts from this call, not from
    /// `time`.
    ///
    /// Never pass an event from before the user opted in, in this session or an earlier one:
    /// consent does not apply to the past, and this crate cannot know when something happened.
    pub fn capture_at<E: AnalyticsEvent>(&self, time: SystemTime, event: &E) {
        if let Some(epoch) = self.sink.capture_epoch() {
            self.sink.capture(epoch, Some(time), event);
        }
    }

    /// Captures an event that happened at `time` and whose name and properties are known
    /// at run time only; see [`Analytics::capture_at`].
    pub fn capture_named_at(
        &self,
        time: SystemTime,
        name: impl Into<Cow<'static, str>>,
        properties: Properties,
    ) {
        if let Some(epoch) = self.sink.capture_epoch() {
            self.sink.capture_named(epoch, Some(time), name.into(), properties);
        }
    }

    /// Sets properties that are added to every event captured from now on. They replace those
    /// of an earlier call. A property of the event itself takes precedence over them, and they
    /// take precedence over those of
    /// [`AnalyticsBuilder::super_properties`](crate::AnalyticsBuilder::super_properties).
    ///
    /// They can be set at any time, even before the user was asked, and stay when another ID
    /// is adopted. A withdrawal deletes them, as does a veto of this device or a withdrawal on
    /// another device. Properties that never change belong to the builder, which applies them
    /// again.
    ///
    /// # Errors
    ///
    /// [`InvalidEvent`], if the properties are invalid or, together with those of the builder,
    /// too large. The earlier properties then still apply.
    pub fn set_super_properties(
        &self,
        properties: impl Into<Properties>,
    ) -> Result<(), InvalidEvent> {
        self.sink.set_super_properties(properties.into())
    }

    /// Sets properties of the user. They are added to those that were set before, and to those
    /// of [`AnalyticsBuilder::user_properties`](crate::AnalyticsBuilder::user_properties).
    ///
    /// They are sent with the next event that
    /// [can carry them](crate::Backend::carries_user_properties). For each backend they are
    /// kept until such an event was delivered: if that event is rejected, expires or has no
    /// room, they are sent with another. They have no age limit. A durable queue writes them
    /// down when events next leave the intake or [`Analytics::flush`] is called, and restores
    /// them after a restart.
    ///
    /// The properties that wait for a backend are bounded like one event. If a call would
    /// exceed that, the properties that waited before are dropped in favour of the new ones.
    /// If a backend refuses ten requests in a row that carry them, the properties that wait
    /// for it are dropped, and a warning is logged that names no property.
    ///
    /// At a closed gate the call returns `Ok` and takes nothing: properties that are known
    /// from the start belong to the builder. Unsent properties are deleted when the user
    /// withdraws, when the consent is not confirmed, when another ID is adopted, and when the
    /// session ends.
    ///
    /// # Errors
    ///
    /// [`InvalidEvent`], if the properties are invalid, or if they exceed
    /// [`MAX_EVENT_BYTES`](crate::MAX_EVENT_BYTES) together with those that were set since
    /// events last left the intake. The earlier properties then still apply.
    pub fn set_user_properties(
        &self,
        properties: impl Into<UserProperties>,
    ) -> Result<(), InvalidEvent> {
        self.sink.set_user_properties(&properties.into())
    }

    /// Tries to deliver everything that was captured until now, and returns what was delivered
    /// and what still waits after at most `deadline`.
    ///
    /// Each backend is tried once more at once, even one that refuses the app's credentials,
    /// with three exceptions: it asked to be left alone, it has refused many batches, or its
    /// last try failed just now. "Just now" is half a second after the first failure of an
    /// outage and grows to five seconds, so that calls at any rate cause few requests. A try
    /// that a flush makes leaves the time of the next one as it was, and costs no event.
    ///
    /// At a gate that is not open nothing is sent: right after
    /// [`build`](crate::AnalyticsBuilder::build) it is still holding or closed, so await
    /// [`Analytics::recheck`] first. Undelivered events are in the file when this returns
    /// before its deadline, if there is a durable queue and its disk works.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, delivery goes on.
    pub async fn flush(&self, deadline: Duration) -> DeliveryReport {
        let sink = &self.sink;
        let before = sink.stats();
        // The caller may have no runtime, and the deadline needs one.
        let done = spawn(&self.inner().runtime, sink.flush(deadline));
        done.await.unwrap_or_else(|_| sink.report_since(&before))
    }

    /// Takes no more events, delivers what it can within `deadline`, and gives up the rest, which
    /// the report and the counters name. Events in a durable queue are kept for the next start.
    ///
    /// Each backend is tried once more, even one that refuses the app's credentials, unless a
    /// try failed in the last 100 ms, it asked to be left alone
    /// ([`Throttled`](crate::DeliveryError::Throttled)), or it has refused many batches.
    ///
    /// Consent goes on: the state still changes, and `opt_in` and `opt_out` work.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, it still ends at the deadline.
    pub async fn shutdown(&self, deadline: Duration) -> DeliveryReport {
        let sink = self.sink.clone();
        let before = sink.stats();
        sink.close();
        #[cfg(feature = "health")]
        self.handle.health.stop();
        // A caller of `should_ask` waits no longer.
        self.inner().wake_readers();
        let done = spawn(&self.inner().runtime, async move { sink.shutdown(deadline).await });
        done.await.unwrap_or_else(|_| self.sink.report_since(&before))
    }

    /// Returns a stream of the events that are dropped from now on: one item for each backend
    /// and reason, with the number of events since the last item.
    ///
    /// An item holds numbers only, and nothing is kept for a slow reader. So a drop cannot
    /// cause another, even if the reader captures an event about each item.
    ///
    /// Ends when the last handle is dropped, or after [`Analytics::shutdown`], whose own drops
    /// are its last items: await the task that reads it, rather than abort it.
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
        drops::stream(self.sink.clone())
    }

    /// Returns where every event is, or why it was dropped.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.sink.stats()
    }
}
