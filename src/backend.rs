//! Where events go: the open [`Backend`] trait and the backends of this crate.

#[cfg(feature = "posthog")]
mod http;
mod jsonl;
#[cfg(feature = "posthog")]
mod posthog;

use std::{error::Error, fmt, pin::Pin, sync::Arc, time::Duration};

pub use self::jsonl::JsonLines;
#[cfg(feature = "posthog")]
pub use self::posthog::{PostHog, PostHogBuildError, PostHogBuilder};
use crate::{analytics_id::AnalyticsId, event::OutgoingEvent};

/// A service that takes batches of events.
///
/// Implement it to send to a service of your own; `examples/custom_backend.rs`
/// is a complete one, and `testing::contract` (feature `testing`) checks
/// an implementation.
///
/// The sink calls [`send`](Backend::send) only while consent is proven, one
/// batch at a time, and *drops the future* when consent ends: a backend must do
/// all its work for a batch inside that future and leave nothing running behind
/// it. A backend has no default endpoint and opens no connection before its
/// first `send`.
///
/// The trait is not dyn-compatible. To choose a backend at run time, branch where the
/// builder is made: [`AnalyticsBuilder::backend`](crate::AnalyticsBuilder::backend)
/// returns the builder, whatever the backend.
pub trait Backend: Send + Sync + 'static {
    /// A short name for counters and log lines, such as `"posthog"`. A durable queue
    /// knows the backend by it, from one start to the next.
    fn name(&self) -> &'static str;

    /// Sends one batch and says how it went.
    ///
    /// It must not block its thread, with a synchronous client or file, say: one task
    /// serves all backends, moves what is captured into their queues, and notices when
    /// consent ends. While a `send` blocks, none of this happens, and neither
    /// `send_timeout` nor a withdrawal can end it. Move such work to a thread that ends
    /// when this future is dropped.
    ///
    /// # Errors
    ///
    /// [`DeliveryError`], whose variant decides whether and when the sink tries
    /// again.
    fn send(&self, batch: &Batch) -> impl Future<Output = Result<(), DeliveryError>> + Send;

    /// Whether the service takes user properties that come with `event`; `true` unless
    /// the backend knows better.
    ///
    /// User properties ride on an event. One for which this says no never has any; they
    /// wait for one that can carry them.
    fn carries_user_properties(&self, event: &OutgoingEvent) -> bool {
        let _ = event;
        true
    }

    /// Lets go of everything held for the account: connections, buffers.
    ///
    /// Called when the user withdraws, when the session ends, and at shutdown.
    /// A later `send` begins anew. What takes time goes on after this returned, and
    /// [`closed`](Self::closed) waits for it.
    fn close(&self) {}

    /// Waits until all that was held at the last [`close`](Self::close) is really gone:
    /// no connection of that time holds a part of a batch any more.
    ///
    /// [`OptOutReceipt::requests`](crate::OptOutReceipt::requests) is done only then.
    /// The sink calls it after `close`, perhaps several times and while a later `send` is
    /// under way, for which it must not wait. By default it is done at once, which is
    /// right for a backend whose `close` leaves nothing behind.
    ///
    /// # Cancel safety
    ///
    /// The sink waits for a bounded time only, and then drops the future. Nothing may
    /// depend on it being polled.
    fn closed(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// A shared backend: the app keeps one handle, and the sink has the other.
impl<B: Backend> Backend for Arc<B> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn send(&self, batch: &Batch) -> impl Future<Output = Result<(), DeliveryError>> + Send {
        (**self).send(batch)
    }

    fn carries_user_properties(&self, event: &OutgoingEvent) -> bool {
        (**self).carries_user_properties(event)
    }

    fn close(&self) {
        (**self).close();
    }

    fn closed(&self) -> impl Future<Output = ()> + Send {
        (**self).closed()
    }
}

/// Events that leave together, and the ID they leave under.
#[derive(Clone, Debug)]
pub struct Batch {
    id: AnalyticsId,
    events: Vec<Arc<OutgoingEvent>>,
}

impl Batch {
    pub(crate) fn new(id: AnalyticsId, events: Vec<Arc<OutgoingEvent>>) -> Self {
        Self { id, events }
    }

    /// The ID of the account, as the homeserver holds it.
    #[must_use]
    pub fn analytics_id(&self) -> &AnalyticsId {
        &self.id
    }

    /// The events, oldest first.
    pub fn events(&self) -> impl ExactSizeIterator<Item = &OutgoingEvent> {
        self.events.iter().map(AsRef::as_ref)
    }

    /// The number of events; at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.events.len()
    }
}

/// Why a backend did not take a batch, classified by what to do next.
///
/// | | what happens to the batch | the next try |
/// |---|---|---|
/// | `Rejected`, `TooLarge` | it is halved; an event that is alone is dropped | at once; from the tenth refusal on, one in 6 seconds, and fewer if every batch is refused (up to 5 minutes apart) |
/// | `Transient`, `Throttled` | it waits | after a second, then twice as long each time, up to 5 minutes; half of each wait is random; not before the time that the backend asked for (up to an hour) |
/// | `Unauthorized`, `Misconfigured` | it waits | after an hour |
///
/// What waits is dropped when it is older than
/// [`queue_max_age`](crate::AnalyticsBuilder::queue_max_age), and for no number of
/// tries. [`flush`](crate::Analytics::flush) and
/// [`shutdown`](crate::Analytics::shutdown) make a try earlier.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// The backend finds fault with an event (such as HTTP 400), or cannot put one into
    /// its service's form: the batch is halved until the faulty event is alone, which is
    /// dropped. A batch over which a backend panics is treated alike.
    #[error("the backend refuses an event of this batch")]
    Rejected(#[source] BoxError),
    /// The backend asks to be left alone for a while (such as HTTP 429).
    #[error("the backend asks to wait")]
    Throttled {
        /// How long the backend asked to wait, if it said so.
        retry_after: Option<Duration>,
        /// What the backend answered.
        #[source]
        source: BoxError,
    },
    /// The batch is larger than the backend takes (such as HTTP 413): it is
    /// halved; an event that is too large alone is dropped.
    #[error("the batch is larger than the backend takes")]
    TooLarge(#[source] BoxError),
    /// A failure that may pass (no network, HTTP 5xx): tried again, with growing pauses,
    /// until the events are too old.
    #[error("the backend cannot be reached now")]
    Transient(#[source] BoxError),
    /// The backend refuses this app's credentials (HTTP 401, 403): it is left
    /// alone for long, and the events wait.
    #[error("the backend refuses this app's credentials")]
    Unauthorized(#[source] BoxError),
    /// The backend cannot take any event as it is set up now, such as an endpoint that
    /// answers with a redirect, with HTTP 404 or from a proxy (HTTP 407), or a writer
    /// that is closed: it is left alone for long, and the events wait.
    #[error("the backend is not set up to take events")]
    Misconfigured(#[source] BoxError),
}

/// The cause of a [`DeliveryError`].
pub type BoxError = Box<dyn Error + Send + Sync>;

/// [`Backend`] behind a pointer.
pub(crate) trait DynBackend: Send + Sync {
    fn name(&self) -> &'static str;
    fn send<'a>(&'a self, batch: &'a Batch) -> SendFuture<'a>;
    fn carries_user_properties(&self, event: &OutgoingEvent) -> bool;
    fn close(&self);
    fn closed(&self) -> ClosedFuture<'_>;
}

pub(crate) type SendFuture<'a> =
    Pin<Box<dyn Future<Output = Result<(), DeliveryError>> + Send + 'a>>;

pub(crate) type ClosedFuture<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

impl<B: Backend> DynBackend for B {
    fn name(&self) -> &'static str {
        Backend::name(self)
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> SendFuture<'a> {
        Box::pin(Backend::send(self, batch))
    }

    fn carries_user_properties(&self, event: &OutgoingEvent) -> bool {
        Backend::carries_user_properties(self, event)
    }

    fn close(&self) {
        Backend::close(self);
    }

    fn closed(&self) -> ClosedFuture<'_> {
        Box::pin(Backend::closed(self))
    }
}

impl fmt::Debug for dyn DynBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
