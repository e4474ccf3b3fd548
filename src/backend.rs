//! The [`Backend`] trait, and the backends that come with this crate.

#[cfg(any(feature = "matomo", feature = "otlp", feature = "posthog", feature = "rageshake"))]
#[cfg_attr(
    not(any(feature = "matomo", feature = "otlp", feature = "posthog")),
    expect(dead_code, unused_imports, reason = "a bug report has no epochs and no retries")
)]
pub(crate) mod http;
pub(crate) mod identity;
pub(crate) mod jsonl;
#[cfg(feature = "matomo")]
mod matomo;
#[cfg(feature = "otlp")]
mod otlp;
mod outcome;
mod partial;
#[cfg(feature = "posthog")]
mod posthog;
mod recipient;
#[cfg(any(feature = "matomo", feature = "otlp", feature = "posthog"))]
#[cfg(test)]
mod samples;
pub(crate) mod unique_names;

use std::{error::Error, fmt, pin::Pin, sync::Arc, time::Duration};

#[cfg(any(feature = "matomo", feature = "otlp", feature = "posthog", feature = "rageshake"))]
pub use self::http::EndpointError;
#[cfg(feature = "matomo")]
pub use self::matomo::{Matomo, MatomoBuildError, MatomoBuilder};
#[cfg(feature = "otlp")]
pub use self::otlp::{Otlp, OtlpBuildError, OtlpBuilder, OtlpEncoding};
#[cfg(feature = "posthog")]
pub use self::posthog::{PostHog, PostHogBuildError, PostHogBuilder};
pub(crate) use self::recipient::Destination;
pub use self::{
    identity::Identity,
    jsonl::JsonLines,
    outcome::EventOutcome,
    partial::PartialDelivery,
    recipient::{LabelError, Party, Recipient},
};
use crate::event::OutgoingEvent;

/// Sends batches of events to a service.
///
/// Implement this trait for a service of your own. See
/// `examples/custom_backend.rs` for a complete implementation, and `testing::contract`
/// (feature `testing`) for a suite that checks one.
///
/// The sink calls [`send`](Backend::send) only while consent is proven, one batch at a
/// time, and *drops the future* when consent ends. A backend must therefore do all its
/// work for a batch inside that future, and leave nothing running when it is dropped. It
/// must have no default endpoint, and open no connection before the first `send`.
///
/// The trait is not dyn-compatible. To choose a backend at run time, branch on the
/// builder: [`AnalyticsBuilder::backend`](crate::AnalyticsBuilder::backend) returns the
/// same builder type for every backend.
pub trait Backend: Send + Sync + 'static {
    /// Returns a short name for counters and log lines, such as `"posthog"`.
    ///
    /// A durable queue identifies the backend by this name across restarts.
    fn name(&self) -> &'static str;

    /// Sends one batch.
    ///
    /// The future must not block its thread, for example with a synchronous client or
    /// file. One task serves all backends, fills their queues, and notices when consent
    /// ends. None of this happens while a `send` blocks, and neither `send_timeout` nor a
    /// withdrawal can interrupt it. Move blocking work to a thread that stops when this
    /// future is dropped.
    ///
    /// # Errors
    ///
    /// Returns a [`DeliveryError`] if the batch was not delivered. Its variant decides
    /// whether and when the sink tries again.
    fn send(&self, batch: &Batch) -> impl Future<Output = Result<(), DeliveryError>> + Send;

    /// Returns whether the service accepts user properties on `event`; `true` by default.
    ///
    /// User properties are sent as part of an event. If this returns `false`, the sink
    /// attaches none to `event`, and they wait for an event that can carry them.
    fn carries_user_properties(&self, event: &OutgoingEvent) -> bool {
        let _ = event;
        true
    }

    /// Returns the host that events are sent to, for
    /// [`Analytics::disclosure`](crate::Analytics::disclosure); `None` by default.
    fn host(&self) -> Option<String> {
        None
    }

    /// Returns the [label](Recipient::label) of the recipient unless the app sets one; the
    /// [`host`](Self::host) by default.
    ///
    /// It names the service and the app's account there, because two customers of one service
    /// must not know a person by the same pseudonym. It is never shown or sent.
    fn default_label(&self) -> Option<String> {
        self.host()
    }

    /// Returns the identifier of the person that the service gets unless the app chooses another
    /// with [`Recipient::identity`]; [`Identity::Account`] by default.
    fn default_identity(&self) -> Identity {
        Identity::Account
    }

    /// Returns the identifier under which the service stores the person that
    /// [`Batch::distinct_id`] names, for an erasure request; the same by default.
    fn stored_identifier(&self, distinct_id: &str) -> String {
        distinct_id.to_owned()
    }

    /// Returns the text that [`send`](Self::send) would send, before compression, for
    /// [`Analytics::preview`](crate::Analytics::preview). A secret, such as an API key, must be
    /// replaced by a placeholder. By default, there is none, and the event is shown as
    /// [`JsonLines`] writes it.
    fn render(&self, batch: &Batch) -> Option<String> {
        let _ = batch;
        None
    }

    /// Releases everything held for the account, such as connections and buffers.
    ///
    /// The sink calls this when the user withdraws, when the session ends, at shutdown, and
    /// between two identifiers of an [anonymous](Identity::Anonymous) recipient. A later `send` starts from a clean state. Work that takes time may
    /// continue after this returns; [`closed`](Self::closed) waits for it.
    fn close(&self) {}

    /// Waits until everything held at the last [`close`](Self::close) has been released,
    /// so that no earlier connection holds a part of a batch.
    ///
    /// [`OptOutReceipt::requests`](crate::OptOutReceipt::requests) is done only then. The
    /// sink calls this after `close`, possibly several times, and possibly while a later
    /// `send` is in progress, which it must not wait for. The default implementation
    /// returns at once, which is right for a backend whose `close` releases everything.
    ///
    /// # Cancel safety
    ///
    /// The sink waits for a bounded time and then drops the future, so the release must
    /// not depend on the future being polled.
    fn closed(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// Lets an app keep a handle to a backend that the sink also uses.
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

    fn host(&self) -> Option<String> {
        (**self).host()
    }

    fn default_label(&self) -> Option<String> {
        (**self).default_label()
    }

    fn default_identity(&self) -> Identity {
        (**self).default_identity()
    }

    fn stored_identifier(&self, distinct_id: &str) -> String {
        (**self).stored_identifier(distinct_id)
    }

    fn render(&self, batch: &Batch) -> Option<String> {
        (**self).render(batch)
    }

    fn close(&self) {
        (**self).close();
    }

    fn closed(&self) -> impl Future<Output = ()> + Send {
        (**self).closed()
    }
}

/// Events that are sent together, and the identifier of the person.
#[derive(Clone)]
pub struct Batch {
    identity: Identity,
    distinct_id: String,
    events: Vec<Arc<OutgoingEvent>>,
}

/// Prints no identifier.
impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("identity", &self.identity)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

impl Batch {
    pub(crate) fn new(
        identity: Identity,
        distinct_id: String,
        events: Vec<Arc<OutgoingEvent>>,
    ) -> Self {
        Self { identity, distinct_id, events }
    }

    /// Creates a batch with a placeholder for the identifier.
    pub(crate) fn preview(identity: Identity, event: Arc<OutgoingEvent>) -> Self {
        Self::new(identity, identity.placeholder().to_owned(), vec![event])
    }

    /// Returns the identifier that this recipient gets of the person, the same for all events of
    /// the batch: a text of 1 to 200 bytes.
    #[must_use]
    pub fn distinct_id(&self) -> &str {
        &self.distinct_id
    }

    /// Returns whether the identifier is a placeholder.
    #[cfg(feature = "matomo")]
    pub(crate) fn is_preview(&self) -> bool {
        self.distinct_id == self.identity.placeholder()
    }

    /// Returns the kind of the identifier.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Returns the events, oldest first.
    pub fn events(&self) -> impl ExactSizeIterator<Item = &OutgoingEvent> {
        self.events.iter().map(AsRef::as_ref)
    }

    pub(crate) fn shared_events(&self) -> &[Arc<OutgoingEvent>] {
        &self.events
    }

    /// Returns the number of events, which is at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.events.len()
    }
}

/// The reason why a batch was not delivered, classified by how the sink reacts.
///
/// | | the batch | the next attempt |
/// |---|---|---|
/// | `Partial` | is done | at once |
/// | `PerEvent` | is done, except for the events to be sent again, which wait | as after `Throttled` if there are any; as after `Rejected` if no event was delivered; else at once |
/// | `Refused` | is dropped | as after `Rejected` |
/// | `Rejected`, `TooLarge` | is halved; a single event is dropped | at once; from the tenth refusal on, every 6 seconds, and less often if every batch is refused (up to 5 minutes apart) |
/// | `Transient`, `Throttled` | waits | after a second, then twice as long each time, up to 5 minutes; half of each wait is random; never before the time that the backend asked for (up to an hour) |
/// | `Unauthorized`, `Misconfigured` | waits | after an hour |
///
/// A waiting event is dropped once it is older than
/// [`queue_max_age`](crate::Limits::queue_max_age); the number of attempts is
/// not limited. [`flush`](crate::Analytics::flush) and
/// [`shutdown`](crate::Analytics::shutdown) bring the next attempt forward.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// The backend has accepted the batch without some of its events, which must not be sent
    /// again.
    #[error("the backend did not accept all events of the batch")]
    Partial(PartialDelivery),
    /// The backend has answered for each event of the batch.
    ///
    /// The events to be sent again keep their unique IDs and their order, and are the first of
    /// the next batch. Only other events of this batch can arrive before them.
    #[error("the backend did not accept all events of the batch")]
    PerEvent {
        /// The outcome of each event, in the order of [`Batch::events`]. An event without one
        /// is sent again.
        outcomes: Vec<EventOutcome>,
        /// The time that the backend asked to wait before events are sent again.
        retry_after: Option<Duration>,
    },
    /// The backend refuses the batch, and its protocol forbids sending it again.
    ///
    /// The sink drops all events of the batch, and counts them as rejected.
    #[error("the backend refuses the batch for good, with status {status}")]
    Refused {
        /// The status of the answer, for the log.
        status: u16,
        /// The backend's response.
        #[source]
        source: BoxError,
    },
    /// The backend rejects an event (for example with HTTP 400), or cannot serialise it.
    ///
    /// The sink halves the batch until the faulty event is alone, and drops that event. A
    /// panic of the backend is treated the same way.
    #[error("the backend refuses an event of this batch")]
    Rejected(#[source] BoxError),
    /// The backend asks the app to wait (for example with HTTP 429).
    #[error("the backend asks to wait")]
    Throttled {
        /// The time that the backend asked to wait, if it named one.
        retry_after: Option<Duration>,
        /// The backend's response.
        #[source]
        source: BoxError,
    },
    /// The batch is larger than the backend accepts (for example HTTP 413).
    ///
    /// The sink halves the batch, and drops an event that is too large by itself.
    #[error("the batch is larger than the backend accepts")]
    TooLarge(#[source] BoxError),
    /// A temporary failure, such as a missing network or HTTP 5xx.
    ///
    /// The sink tries again, at growing intervals, until the events are too old.
    #[error("the backend cannot be reached")]
    Transient(#[source] BoxError),
    /// The backend refuses this app's credentials (HTTP 401, 403).
    ///
    /// The events wait, and the sink tries again after an hour.
    #[error("the backend refuses this app's credentials")]
    Unauthorized(#[source] BoxError),
    /// The backend cannot accept any event in its current configuration.
    ///
    /// Examples are an endpoint that answers with a redirect, with HTTP 404 or through a
    /// proxy (HTTP 407), and a writer that is closed. The events wait, and the sink tries
    /// again after an hour.
    #[error("the backend is not configured to accept events")]
    Misconfigured(#[source] BoxError),
}

/// The cause of a [`DeliveryError`].
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The dyn-compatible form of [`Backend`].
pub(crate) trait DynBackend: Send + Sync {
    fn name(&self) -> &'static str;
    fn send<'a>(&'a self, batch: &'a Batch) -> SendFuture<'a>;
    fn carries_user_properties(&self, event: &OutgoingEvent) -> bool;
    fn host(&self) -> Option<String>;
    fn default_label(&self) -> Option<String>;
    fn default_identity(&self) -> Identity;
    fn stored_identifier(&self, distinct_id: &str) -> String;
    fn render(&self, batch: &Batch) -> Option<String>;
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

    fn host(&self) -> Option<String> {
        Backend::host(self)
    }

    fn default_label(&self) -> Option<String> {
        Backend::default_label(self)
    }

    fn default_identity(&self) -> Identity {
        Backend::default_identity(self)
    }

    fn stored_identifier(&self, distinct_id: &str) -> String {
        Backend::stored_identifier(self, distinct_id)
    }

    fn render(&self, batch: &Batch) -> Option<String> {
        Backend::render(self, batch)
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
