//! A handle for code that is created before there is a session.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, Weak},
};

use super::{Analytics, Handle};
use crate::{
    event::{AnalyticsEvent, Properties},
    sink::Sink,
};

/// The [`Analytics`] of the session that is logged in now, for code that is created before
/// there is one.
///
/// An app creates it at its start, gives clones to all code that captures, and
/// [sets](Self::set) it after each login. Until then, and again from the end of the session
/// on, events are dropped and not counted. An event goes to the `Analytics` that is set when
/// it is captured, or nowhere: it never waits for a login.
///
/// It keeps nothing alive. When the app drops its last `Analytics`, the tasks end and the same
/// user can log in again, however many clones of this type exist.
///
/// ```
/// use matrix_analytics::{Analytics, CurrentAnalytics, Properties};
///
/// struct Timeline {
///     analytics: CurrentAnalytics,
/// }
///
/// impl Timeline {
///     fn on_click(&self) {
///         self.analytics.capture_named("Clicked", Properties::new().with("button", "send"));
///     }
/// }
///
/// # #[cfg(feature = "testing")]
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // At the start of the app, before anyone has logged in.
/// let current = CurrentAnalytics::new();
/// let timeline = Timeline { analytics: current.clone() };
/// timeline.on_click(); // does nothing
///
/// // After each login.
/// # let homeserver = matrix_analytics::testing::AccountDataServer::start().await;
/// # let client = homeserver.client(&homeserver.add_device("@alice:example.org", "PHONE")).await?;
/// let analytics = Analytics::builder(client, "org.example.analytics").build().await?;
/// current.set(&analytics);
/// assert!(current.get().is_some());
///
/// // At each logout.
/// analytics.end_session().await;
/// drop(analytics);
/// assert!(current.get().is_none());
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "testing"))]
/// # fn main() {}
/// ```
#[derive(Clone, Default)]
pub struct CurrentAnalytics {
    current: Arc<RwLock<Current>>,
}

#[derive(Default)]
struct Current {
    handle: Weak<Handle>,
    /// What captures use in place of the handle. An upgraded handle would keep the record
    /// claimed for the length of a capture, so that a login at this moment failed.
    sink: Weak<Sink>,
}

impl fmt::Debug for CurrentAnalytics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_set = self.read().handle.strong_count() > 0;
        f.debug_struct("CurrentAnalytics").field("is_set", &is_set).finish_non_exhaustive()
    }
}

impl CurrentAnalytics {
    /// Creates a handle for which no [`Analytics`] is set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the [`Analytics`] that all clones use from now on, in place of an earlier one.
    ///
    /// The app has to keep `analytics` itself, for as long as the session lasts.
    pub fn set(&self, analytics: &Analytics) {
        let current = Current {
            handle: Arc::downgrade(&analytics.handle),
            sink: Arc::downgrade(&analytics.sink),
        };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
    }

    /// Returns the [`Analytics`] that was set, if the app has not dropped it.
    ///
    /// Like any clone, the returned one keeps the tasks alive and the same user from logging
    /// in again, so do not keep it.
    #[must_use]
    pub fn get(&self) -> Option<Analytics> {
        let handle = self.read().handle.upgrade()?;
        Some(Analytics { sink: handle.inner.sink.clone(), handle })
    }

    /// Returns whether the opt-in is confirmed, like [`Analytics::is_open`]. Returns `false` if
    /// no [`Analytics`] is set.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.sink().is_some_and(|sink| sink.is_open())
    }

    /// Captures a typed event, like [`Analytics::capture`].
    ///
    /// Costs a lock that is held briefly, and a reference count, in addition.
    pub fn capture<E: AnalyticsEvent>(&self, event: &E) {
        if let Some(sink) = self.sink()
            && let Some(epoch) = sink.capture_epoch()
        {
            sink.capture(epoch, None, event);
        }
    }

    /// Captures an event whose name and properties are known at run time only, like
    /// [`Analytics::capture_named`].
    pub fn capture_named(&self, name: impl Into<Cow<'static, str>>, properties: Properties) {
        self.capture_with(name, || properties);
    }

    /// Captures an event whose properties are built by `properties`, which is not called at a
    /// closed gate or without an [`Analytics`]; like [`Analytics::capture_with`].
    pub fn capture_with(
        &self,
        name: impl Into<Cow<'static, str>>,
        properties: impl FnOnce() -> Properties,
    ) {
        if let Some(sink) = self.sink()
            && let Some(epoch) = sink.capture_epoch()
        {
            sink.capture_named(epoch, None, name.into(), properties());
        }
    }

    /// Returns the sink, unless the app has dropped its last [`Analytics`]. The tasks may hold
    /// the sink for a moment longer.
    fn sink(&self) -> Option<Arc<Sink>> {
        let current = self.read();
        if current.handle.strong_count() == 0 {
            return None;
        }
        current.sink.upgrade()
    }

    fn read(&self) -> RwLockReadGuard<'_, Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }
}
