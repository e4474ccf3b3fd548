//! The PostHog backend.

mod body;
mod builder;
mod lifted;
mod v1;

use std::fmt;

use reqwest::Url;

pub use self::builder::{PostHogBuildError, PostHogBuilder};
use self::v1::V1;
use super::{
    Backend, Batch, DeliveryError,
    http::{HttpClient, host_of, json_headers},
};
use crate::event::OutgoingEvent;

/// Events whose `$set` and `$set_once` PostHog's ingestion drops: see
/// `normalizeProcessPerson` and `NO_PERSON_UPDATE_EVENTS` in its sources.
const WITHOUT_USER_PROPERTIES: [&str; 3] = ["$$heatmap", "$exception", "$groupidentify"];

/// A backend that sends events to [PostHog](https://posthog.com), either its cloud or a
/// self-hosted instance.
///
/// There is no default endpoint. The only request that this type makes is a `POST` to one
/// path below the endpoint that the app gives: it fetches no feature flags and no
/// remote configuration. It opens no connection before the first
/// [`send`](Backend::send), and [`close`](Backend::close) closes its connections.
///
/// ```
/// use matrix_analytics::PostHog;
///
/// let posthog = PostHog::new("https://eu.i.posthog.com", "phc_project_key")?;
/// # Ok::<_, matrix_analytics::PostHogBuildError>(())
/// ```
///
/// # Two endpoints
///
/// PostHog has two paths for events:
///
/// | | `/batch/` (v0) | `/i/v1/analytics/events` (v1) |
/// |---|---|---|
/// | answers | for the request | for each event |
/// | "delivered" means | accepted by the endpoint | PostHog says that it has the event |
/// | over the project's quota | 200; the events are lost, and count as delivered | counted as [`OverQuota`](crate::DropReason::OverQuota) |
/// | dropped by a restriction of the project | 200; counts as delivered | counted as [`Rejected`](crate::DropReason::Rejected) |
/// | could not be stored now | 503 for the whole request | only these events are sent again |
/// | user properties on an event whose person PostHog does not process | lost | sent again with a later event |
/// | served by | every PostHog | PostHog's cloud; a self-hosted one only if `CAPTURE_V1_SINKS` is set and its proxy routes the path |
///
/// **v1 is the default for PostHog's own hosts** (those below `i.posthog.com`), because it keeps
/// the promise that an event counts as delivered only if the service said so. **For every other
/// host, v0 is the default.** A self-hosted PostHog answers 404 to v1 unless it was set up for
/// it, and has no quota that v0 would hide. [`PostHogBuilder::v1`] chooses.
///
/// # The request
///
/// To `/batch/`:
///
/// ```json
/// {
///   "api_key": "phc_project_key",
///   "batch": [
///     {
///       "event": "RoomJoined",
///       "uuid": "0b42f1a5-6f0c-4a38-9a1d-3c1f1b9f6d0e",
///       "timestamp": "2026-01-31T12:00:00.25Z",
///       "distinct_id": "9f1c2d7e-0d5e-4c9b-8a53-b6f1d1f1a0aa",
///       "properties": {
///         "trigger": "Invite",
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
/// To `/i/v1/analytics/events`, an event has the same members and `options`, but the key and the
/// sender are in the headers:
///
/// ```json
/// {
///   "created_at": "2026-01-31T12:00:03Z",
///   "batch": [
///     {
///       "event": "RoomJoined",
///       "uuid": "0b42f1a5-6f0c-4a38-9a1d-3c1f1b9f6d0e",
///       "timestamp": "2026-01-31T12:00:00.25Z",
///       "distinct_id": "9f1c2d7e-0d5e-4c9b-8a53-b6f1d1f1a0aa",
///       "options": { "disable_skew_correction": true },
///       "properties": { "trigger": "Invite", "$geoip_disable": true, "$ip": "0.0.0.0" }
///     }
///   ]
/// }
/// ```
///
/// The headers are then also `authorization` with the key, `user-agent` and `posthog-sdk-info`
/// (both `matrix-analytics/` and the version, from which PostHog sets `$lib` and `$lib_version`),
/// `posthog-attempt`, `posthog-request-id` (the same for all attempts of a batch) and
/// `posthog-request-timestamp`. PostHog refuses a request without one of them. A boolean
/// `$process_person_profile` and a text `$product_tour_id`, `$session_id` or `$window_id` go to
/// the places that this endpoint has for them.
///
/// `$set` and `$set_once` are present only if the event carries user properties. An
/// `$exception`, a `$$heatmap`, a `$groupidentify` and an event with
/// `$process_person_profile: false` never carry any, because PostHog would drop them.
///
/// The headers are `content-type`, `content-length`, `accept` and `host`, and with compression
/// also `content-encoding`. For `/batch/` there is no user agent. With the feature `gzip` the body is
/// compressed, unless the app turns that off with [`PostHogBuilder::gzip`].
///
/// - `distinct_id` is next to the event's name only. PostHog reads it from the properties if it
///   is not there (`RawEvent::extract_distinct_id`).
/// - `$ip` is a constant, because PostHog adds the sender's address to an event that has
///   no `$ip`.
/// - `$geoip_disable` keeps PostHog from looking up the location of an address.
/// - There is no `sent_at`, because PostHog would shift the time of an event by the
///   difference between the device's clock and its own. PostHog receives the time of the
///   capture, on every attempt. For the same reason `disable_skew_correction` is `true`.
/// - There is no `$process_person_profile`, so PostHog keeps a person profile for the
///   analytics ID, which is what an erasure request deletes. With
///   [`Identity::Anonymous`](crate::Identity::Anonymous), each
///   event has it with the value `false`, and PostHog keeps no profile. An app can also give a
///   property of that name to some of its events.
///
/// Keys that could attribute an event to another person, or control how PostHog processes
/// it, are removed from the app's properties: `$anon_distinct_id`, `$cookieless_mode`,
/// `$device_id`, `$distinct_id`, `$geoip_disable`, `$ignore_sent_at`, `$ip`,
/// `$is_identified`, `$lib`, `$lib_version`, `$set`, `$set_once`, `$token`, `$unset`,
/// `$user_id`, `alias`, `api_key`, `capture_internal`, `distinct_id` and `token`.
///
/// The sources are PostHog's documentation (*Capture and batch API endpoints*,
/// *Anonymous vs identified events*) and the source of its server:
/// `rust/capture/src/v0_request.rs` for the body, `rust/capture/src/api.rs` for the
/// responses, `rust/common/types/src/{event,timestamp}.rs` for the fields, and the
/// `rust/capture/src/v1` for the second endpoint, and the ingestion's `sanitizeEvent` for `$ip`, `normalizeProcessPerson` and
/// `NO_PERSON_UPDATE_EVENTS` (in `person-update.ts`) for the events whose `$set` it drops.
///
/// PostHog itself copies some properties of an event to the person, unless the event has
/// `$process_person_profile: false`. Among them are `$os`, `$os_version`, `$app_version`,
/// `$current_url`, `$referrer`, `utm_source` and the other `utm_*`, and the click IDs of
/// advertisers, such as `gclid`. The first value of each is kept as `$initial_…`. Choose
/// another key for a property that must not become a trait of the person. The list is
/// `eventToPersonProperties`, in PostHog's `person-property-utils.ts`.
///
/// # Responses
///
/// | status | [`DeliveryError`] |
/// |---|---|
/// | 2xx | none |
/// | 400, 422 | `Rejected` |
/// | 401, 403 | `Unauthorized` |
/// | 413 | `TooLarge` |
/// | 429, and 503 with `Retry-After` | `Throttled` |
/// | 408, 425, other 5xx, no response | `Transient` |
/// | 3xx, 501, 505, anything else | `Misconfigured` |
///
/// With v1, a 2xx counts by its results, one for each event:
///
/// | result | [`EventOutcome`](crate::EventOutcome) |
/// |---|---|
/// | `ok`, `warning` | `Delivered` |
/// | these with `person_processing_disabled` | `WithoutUserProperties` |
/// | `retry`, none | `SendAgain` |
/// | `drop` because of a quota | `OverQuota` |
/// | `drop` because of the event's size | `TooLarge` |
/// | any other `drop`, anything else | `Rejected` |
///
/// A 2xx without results is `Misconfigured`, because it does not come from this endpoint, and a
/// 2xx that ends early is `Transient`. A 402, or a 429, that says `billing_limit_exceeded` is
/// `OverQuota` for every event: PostHog does not want them again. A 400 that blames a header or
/// the encoding is `Misconfigured`.
///
/// For `/batch/`, PostHog's capture server answers 200, 400, 401, 413, 429 or 503
/// (`rust/capture/src/api.rs`; 413 comes from the limit on the body in `router.rs`).
/// A redirect, a 404, 405, 407, 410, 415 or 501 therefore comes from something else: the
/// endpoint has a wrong path, or there is a proxy in between. The events wait until the
/// configuration is corrected.
///
/// **A 200 of `/batch/` does not mean that an event was stored.** It answers 200 even when the
/// project is over its quota (`rust/capture/src/v0_endpoint.rs`, which returns `Ok` for
/// `BillingLimit`). PostHog then drops the events, and
/// [`BackendStats::delivered`](crate::BackendStats::delivered) counts them as delivered: with
/// `/batch/`, that counter means "accepted by the endpoint".
///
/// Neither endpoint knows whether a well-formed key belongs to a project, because the key is
/// looked up only later (`rust/capture/src/token.rs`): PostHog says `ok` for such an event, and
/// drops it.
///
/// The body of a response is read to its end, so that the next batch can reuse the connection.
/// After 64 KiB (with v1, plus 256 bytes for each event) the connection is closed instead.
///
/// # Environment
///
/// The HTTP client reads nothing from the environment: no proxy (`HTTP_PROXY`,
/// `HTTPS_PROXY`, `ALL_PROXY`), whatever features reqwest has, and no `SSLKEYLOGFILE`. An app
/// whose traffic goes through a proxy names it with [`PostHogBuilder::proxy`]. The TLS library
/// loads the system's certificates; on Linux and other Unix systems it reads `SSL_CERT_FILE`
/// and `SSL_CERT_DIR` for that (the crate `rustls-native-certs`).
///
/// On Android, the issuers that Mozilla trusts count (the crate `webpki-root-certs`), in place
/// of the device's: the verifier for those has to be initialised by the app.
///
/// # Cancel safety
///
/// Dropping the future of [`send`](Backend::send) cuts the request: no more of it is
/// produced, and its connection is closed. Bytes that the operating system has already
/// accepted may still be sent.
///
/// A connection that waits for the service to read is dropped at once, together with the
/// bytes that it holds, on every platform. The HTTP library first writes the bytes that it
/// holds, at most 16 KiB, if it was about to write when the request was cut, or if it had
/// taken the last piece of the request.
///
/// [`closed`](Backend::closed) waits for this write, and so does
/// [`OptOutReceipt::requests`](crate::OptOutReceipt::requests). On Linux and Android the
/// operating system gives up a connection when nothing has been
/// acknowledged for five seconds (`TCP_USER_TIMEOUT`). On other platforms the wait can
/// last for as long as the service keeps the connection open.
///
/// Neither waits for the last bytes of a request that the TLS library has accepted: at
/// most 64 KiB with rustls, and up to 400 KiB more with `native-tls`.
pub struct PostHog {
    /// The endpoint, including the path.
    url: Url,
    key: ApiKey,
    /// `None` if requests go to `/batch/`.
    v1: Option<V1>,
    http: HttpClient,
}

/// Prints only the origin of the endpoint, because its path and the key may be secret.
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
    /// The endpoint is the base URL that a path is appended to, such as
    /// `https://eu.i.posthog.com`, or `https://example.org/posthog` for a reverse proxy. A slash at
    /// its end makes no difference. The key is the project's own key (`phc_…`), which can only write.
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

    /// Returns the body of a request before compression, with `key` in it if the key is a part
    /// of it.
    fn plain_body(&self, key: &ApiKey, batch: &Batch) -> serde_json::Result<Vec<u8>> {
        match self.v1 {
            Some(_) => body::v1_body(v1::now(), batch),
            None => body::batch_body(key, batch),
        }
    }
}

impl Backend for PostHog {
    fn name(&self) -> &'static str {
        "posthog"
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let body = self
            .plain_body(&self.key, batch)
            .map_err(|error| DeliveryError::Rejected(Box::new(PostHogError::Serialize(error))))?;
        let mut headers = json_headers();
        let Some(v1) = &self.v1 else {
            return self.http.post(&self.url, headers, body).await?.verdict();
        };
        v1.add_headers(&mut headers, batch);
        let longest = v1::longest_answer(batch.len());
        let answer = self.http.post_and_read(&self.url, headers, body, longest).await?;
        v1::verdict(&answer, batch)
    }

    fn carries_user_properties(&self, event: &OutgoingEvent) -> bool {
        !WITHOUT_USER_PROPERTIES.contains(&event.name())
            // Quotes inside a JSON string are escaped, so this can only be the property.
            && !event.properties().members().contains(r#""$process_person_profile":false"#)
    }

    fn host(&self) -> Option<String> {
        host_of(&self.url)
    }

    fn default_label(&self) -> Option<String> {
        Some(format!("{}/{}", host_of(&self.url)?, self.key.0.trim()))
    }

    fn render(&self, batch: &Batch) -> Option<String> {
        let masked = ApiKey("[API key]".into());
        let body = self.plain_body(&masked, batch).ok()?;
        String::from_utf8(body).ok()
    }

    fn close(&self) {
        if let Some(v1) = &self.v1 {
            v1.forget();
        }
        self.http.close();
    }

    async fn closed(&self) {
        self.http.closed().await;
    }
}

/// A project's key, which implements neither `Debug` nor `Display`.
struct ApiKey(Box<str>);

/// The reason why a request body could not be made.
#[derive(Debug, thiserror::Error)]
enum PostHogError {
    #[error("the batch cannot be serialised")]
    Serialize(#[source] serde_json::Error),
}
