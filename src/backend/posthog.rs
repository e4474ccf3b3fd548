//! The PostHog backend.

mod body;
mod builder;

use std::{fmt, time::Duration};

use reqwest::{
    Url,
    header::{self, HeaderMap, HeaderValue},
};

pub use self::builder::{PostHogBuildError, PostHogBuilder};
use super::{Backend, Batch, DeliveryError, http::HttpClient};
use crate::event::OutgoingEvent;

/// The events whose `$set` and `$set_once` PostHog's ingestion drops: see
/// `normalizeProcessPerson` and `NO_PERSON_UPDATE_EVENTS` in its sources.
const WITHOUT_USER_PROPERTIES: [&str; 3] = ["$$heatmap", "$exception", "$groupidentify"];

/// Sends events to [PostHog](https://posthog.com), its cloud or an instance of
/// one's own.
///
/// There is no default endpoint. The one request that this type ever makes is
/// a `POST` to `/batch/` below the endpoint that the app gives: no feature
/// flags, no remote configuration. Nothing is connected before the first
/// [`send`](Backend::send), and [`close`](Backend::close) closes what is
/// connected.
///
/// ```
/// use matrix_analytics::PostHog;
///
/// let posthog = PostHog::builder("https://eu.i.posthog.com", "phc_project_key").build()?;
/// # Ok::<_, matrix_analytics::PostHogBuildError>(())
/// ```
///
/// # What leaves
///
/// ```json
/// {
///   "api_key": "phc_project_key",
///   "batch": [
///     {
///       "event": "JoinedRoom",
///       "uuid": "0b42f1a5-6f0c-4a38-9a1d-3c1f1b9f6d0e",
///       "timestamp": "2026-01-31T12:00:00.25Z",
///       "distinct_id": "9f1c2d7e-0d5e-4c9b-8a53-b6f1d1f1a0aa",
///       "properties": {
///         "trigger": "Invite",
///         "distinct_id": "9f1c2d7e-0d5e-4c9b-8a53-b6f1d1f1a0aa",
///         "$lib": "matrix-analytics",
///         "$lib_version": "0.18.0",
///         "$geoip_disable": true,
///         "$ip": "0.0.0.0",
///         "$set": { "app": "desktop" },
///         "$set_once": { "first_app": "desktop" }
///       }
///     }
///   ]
/// }
/// ```
///
/// `$set` and `$set_once` are there only if the event says something about the
/// person. An `$exception`, a `$$heatmap`, a `$groupidentify` and an event with
/// `$process_person_profile: false` never do, because PostHog would drop it. The headers are `content-type`, `content-length`, `accept`, `host`,
/// with compression `content-encoding`, and `accept-encoding` whenever reqwest
/// has its feature `gzip`, which matrix-sdk turns on; there is no user agent.
///
/// - `$ip` is a constant, because PostHog writes the address of the sender into
///   an event that has none.
/// - `$geoip_disable` keeps PostHog from looking up the place of an address.
/// - There is no `sent_at`: PostHog would shift an event's time by how far the
///   device's clock is from its own. The time that arrives is the time that was
///   captured, on every try and at every backend.
/// - There is no `$process_person_profile`, so PostHog keeps a person for the
///   analytics ID, which is what an erasure request deletes. An app that wants
///   no such profile gives its events a property of that name, `false`.
///
/// Keys by which an event could speak for another person, or tell PostHog what
/// to do with it, are left out of the app's properties: `$anon_distinct_id`,
/// `$cookieless_mode`, `$device_id`, `$distinct_id`, `$geoip_disable`,
/// `$ignore_sent_at`, `$ip`, `$is_identified`, `$lib`, `$lib_version`, `$set`,
/// `$set_once`, `$token`, `$unset`, `$user_id`, `alias`, `api_key`,
/// `capture_internal`, `distinct_id` and `token`.
///
/// The sources are PostHog's documentation (*Capture and batch API endpoints*,
/// *Anonymous vs identified events*) and the source of its server:
/// `rust/capture/src/v0_request.rs` for the body, `rust/capture/src/api.rs` for
/// the answers, `rust/common/types/src/{event,timestamp}.rs` for the fields, and
/// the ingestion's `sanitizeEvent` for `$ip`, `normalizeProcessPerson` and
/// `NO_PERSON_UPDATE_EVENTS` (in `person-update.ts`) for the events whose `$set` it drops.
///
/// PostHog copies some properties of an event onto the person by itself, unless the
/// event has `$process_person_profile: false`. Among them are `$os`, `$os_version`,
/// `$app_version`, `$current_url`, `$referrer`, `utm_source` and the other `utm_*`, and
/// the click IDs of advertisers, such as `gclid`. The first value of each stays there as
/// `$initial_…`. Name a property otherwise if it must not become a trait of the person.
/// The list is `eventToPersonProperties`, in PostHog's `person-property-utils.ts`.
///
/// # What the answers mean
///
/// | status | [`DeliveryError`] |
/// |---|---|
/// | 2xx | none |
/// | 400, 422 | `Rejected` |
/// | 401, 403 | `Unauthorized` |
/// | 413 | `TooLarge` |
/// | 429, and 503 with `Retry-After` | `Throttled` |
/// | 408, 425, other 5xx, no answer | `Transient` |
/// | 3xx, 501, 505, anything else | `Misconfigured` |
///
/// PostHog's capture server answers 200, 400, 401, 413, 429 or 503
/// (`rust/capture/src/api.rs`; 413 comes from the limit on the body in `router.rs`).
/// A redirect, a 404, 405, 407, 410, 415 or 501 therefore comes from something else: the
/// endpoint has a wrong path, or a proxy stands in between. The events wait until
/// that is put right.
///
/// **A 200 does not say that an event was stored.** `/batch/` answers 200 also when the
/// project is over its quota (`rust/capture/src/v0_endpoint.rs`, which returns `Ok` for
/// `BillingLimit`), and with a well-formed key that belongs to no project, because the
/// key is looked up only later (`rust/capture/src/token.rs`). PostHog then drops the
/// events, and [`BackendStats::delivered`](crate::BackendStats::delivered) counts them
/// as delivered: that number means "accepted by the endpoint" here.
///
/// The body of an answer is read, so that the next batch can use the connection, and
/// thrown away. After 64 KiB the connection is closed instead.
///
/// # What is taken from the environment
///
/// Nothing by our client: no proxy (`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`), whatever
/// features reqwest has, and no `SSLKEYLOGFILE`. The TLS library finds the system's
/// certificates; on Linux and other Unix systems it reads `SSL_CERT_FILE` and
/// `SSL_CERT_DIR` for that (the crate `rustls-native-certs`).
///
/// # Cancel safety
///
/// Dropping the future of [`send`](Backend::send) cuts its request: no more of it is
/// produced, and its connection is closed. What the operating system had taken may still
/// leave.
///
/// A connection that waits for a service to read is dropped at once, with what it holds,
/// on every platform. There are three exceptions, in which the HTTP library first writes
/// what it holds, 16 KiB at most:
///
/// - It was about to write when the request was cut.
/// - It had taken the last piece of the request.
/// - The app's own client speaks HTTP/2.
///
/// [`closed`](Backend::closed) waits for this, and so does
/// [`OptOutReceipt::requests`](crate::OptOutReceipt::requests). On Linux and Android the
/// system gives up a connection of our client when nothing was acknowledged for five
/// seconds (`TCP_USER_TIMEOUT`). Elsewhere it may take as long as the service
/// keeps it open.
///
/// The end of a request that the TLS library has taken is not seen: 64 KiB at most with
/// rustls. A client with `native-tls` copies up to 400 KiB more, which is not seen
/// either.
pub struct PostHog {
    /// The endpoint with `/batch/`.
    url: Url,
    key: ApiKey,
    http: HttpClient,
    timeout: Duration,
    #[cfg(feature = "posthog-gzip")]
    gzip: bool,
}

/// Prints the origin of the endpoint only: its path and the key may be secret.
impl fmt::Debug for PostHog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostHog")
            .field("endpoint", &self.url.origin().ascii_serialization())
            .finish_non_exhaustive()
    }
}

impl PostHog {
    /// Creates a backend that sends to `endpoint`, to the project of `api_key`. Connects to
    /// nothing yet.
    ///
    /// The endpoint is the base that `/batch/` is appended to, such as
    /// `https://eu.i.posthog.com`, or `https://example.org/posthog` for a reverse
    /// proxy. The key is the project's own (`phc_…`), which can only write.
    ///
    /// # Errors
    ///
    /// [`PostHogBuildError`] if the endpoint or the key cannot be right.
    pub fn new(endpoint: &str, api_key: &str) -> Result<Self, PostHogBuildError> {
        Self::builder(endpoint, api_key).build()
    }

    /// Creates a builder, for a backend with other settings than those of [`PostHog::new`].
    pub fn builder(endpoint: &str, api_key: &str) -> PostHogBuilder {
        PostHogBuilder::new(endpoint, api_key)
    }

    fn body(&self, batch: &Batch) -> Result<Vec<u8>, PostHogError> {
        let body = body::request_body(&self.key, batch).map_err(PostHogError::Serialize)?;
        #[cfg(feature = "posthog-gzip")]
        if self.gzip {
            return body::gzip(&body).map_err(PostHogError::Gzip);
        }
        Ok(body)
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        #[cfg(feature = "posthog-gzip")]
        if self.gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        headers
    }
}

impl Backend for PostHog {
    fn name(&self) -> &'static str {
        "posthog"
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let body = self.body(batch).map_err(|error| DeliveryError::Rejected(Box::new(error)))?;
        self.http.post(&self.url, self.headers(), body, self.timeout).await?.verdict()
    }

    fn carries_user_properties(&self, event: &OutgoingEvent) -> bool {
        !WITHOUT_USER_PROPERTIES.contains(&event.name())
            // Within a text each quote has a backslash before it, so this is the property.
            && !event.properties().members().contains(r#""$process_person_profile":false"#)
    }

    fn close(&self) {
        self.http.close();
    }

    async fn closed(&self) {
        self.http.closed().await;
    }
}

/// A project's key. Neither `Debug` nor `Display` shows it.
struct ApiKey(Box<str>);

/// Why a batch has no body.
#[derive(Debug, thiserror::Error)]
enum PostHogError {
    #[cfg(feature = "posthog-gzip")]
    #[error("the batch cannot be compressed")]
    Gzip(#[source] std::io::Error),
    #[error("the batch cannot be serialised")]
    Serialize(#[source] serde_json::Error),
}
