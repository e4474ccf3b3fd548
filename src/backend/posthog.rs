//! The PostHog backend.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use reqwest::{Body, Client, StatusCode, Url, header, redirect, retry};

use super::{Backend, Batch, BoxError, DeliveryError};
use crate::event::{OutgoingEvent, Properties};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The constants that every event carries, as JSON members.
const CONSTANTS: &str = concat!(
    r#""$lib":"matrix-analytics","$lib_version":""#,
    env!("CARGO_PKG_VERSION"),
    r#"","$geoip_disable":true,"$ip":"0.0.0.0""#,
);

/// The property keys that say who an event is about, or that PostHog takes as
/// an instruction, in alphabetical order.
const RESERVED_KEYS: [&str; 20] = [
    "$anon_distinct_id",
    "$cookieless_mode",
    "$device_id",
    "$distinct_id",
    "$geoip_disable",
    "$ignore_sent_at",
    "$ip",
    "$is_identified",
    "$lib",
    "$lib_version",
    "$set",
    "$set_once",
    "$token",
    "$unset",
    "$user_id",
    "alias",
    "api_key",
    "capture_internal",
    "distinct_id",
    "token",
];

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
/// person, which no `$exception`, `$$heatmap` or `$groupidentify` does, and no event with
/// `$process_person_profile` `false`: PostHog would drop them. The headers are `content-type`, `content-length`, `accept`, `host`,
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
/// | 3xx, 404, 407, anything else | `Misconfigured` |
///
/// The body of an answer is not read. PostHog answers 200 also when a project
/// is over its quota, and drops the events.
///
/// # Cancel safety
///
/// Dropping the future of [`send`](Backend::send) closes the connection of its
/// request. No more of the request is produced; what the operating system had
/// taken, and what the HTTP and TLS libraries hold (tens of KiB, at most a few
/// hundred), may still leave.
pub struct PostHog {
    /// The endpoint with `/batch/`.
    url: Url,
    key: ApiKey,
    make_client: ClientFactory,
    client: Mutex<Option<Client>>,
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
    /// Starts to set up a backend that sends to `endpoint`, to the project of
    /// `api_key`.
    ///
    /// The endpoint is the base that `/batch/` is appended to, such as
    /// `https://eu.i.posthog.com`, or `https://example.org/posthog` for a reverse
    /// proxy. The key is the project's own (`phc_…`), which can only write.
    pub fn builder(endpoint: &str, api_key: &str) -> PostHogBuilder {
        PostHogBuilder {
            endpoint: endpoint.to_owned(),
            key: ApiKey(api_key.into()),
            make_client: None,
            timeout: REQUEST_TIMEOUT,
            #[cfg(feature = "posthog-gzip")]
            gzip: false,
        }
    }

    fn client(&self) -> Result<Client, DeliveryError> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let made = (self.make_client)()
            .map_err(|error| DeliveryError::Transient(PostHogError::client(error)))?;
        Ok(client.insert(made).clone())
    }

    fn body(&self, batch: &Batch) -> Result<Vec<u8>, DeliveryError> {
        let body = request_body(&self.key, batch)
            .map_err(|error| DeliveryError::Rejected(Box::new(PostHogError::Serialize(error))))?;
        #[cfg(feature = "posthog-gzip")]
        if self.gzip {
            return gzip(&body)
                .map_err(|error| DeliveryError::Rejected(Box::new(PostHogError::Gzip(error))));
        }
        Ok(body)
    }
}

impl Backend for PostHog {
    fn name(&self) -> &'static str {
        "posthog"
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let body = self.body(batch)?;
        let request = self
            .client()?
            .post(self.url.clone())
            .timeout(self.timeout)
            .header(header::CONTENT_TYPE, "application/json");
        #[cfg(feature = "posthog-gzip")]
        let request =
            if self.gzip { request.header(header::CONTENT_ENCODING, "gzip") } else { request };
        // Dropped with this future, wherever it is dropped.
        let wanted = Arc::new(());
        let body = CuttableBody { rest: body.into(), wanted: Arc::downgrade(&wanted) };
        let response = request.body(Body::wrap(body)).send().await.map_err(unanswered)?;
        if *response.url() != self.url {
            // The app's client followed a redirect: whoever answered is not the
            // endpoint, and after a 301, 302 or 303 was not given the events.
            return Err(DeliveryError::Misconfigured(Box::new(PostHogError::Redirected)));
        }
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| parse_retry_after(value, SystemTime::now()));
        verdict(response.status(), retry_after)
    }

    fn carries_user_properties(&self, event: &OutgoingEvent) -> bool {
        !WITHOUT_USER_PROPERTIES.contains(&event.name())
            // Within a text each quote has a backslash before it, so this is the property.
            && !event.properties().members().contains(r#""$process_person_profile":false"#)
    }

    fn close(&self) {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

type ClientFactory = Box<dyn Fn() -> Result<Client, reqwest::Error> + Send + Sync>;

/// Sets up a [`PostHog`]; made by [`PostHog::builder`].
#[must_use = "a builder does nothing until it is built"]
pub struct PostHogBuilder {
    endpoint: String,
    key: ApiKey,
    make_client: Option<ClientFactory>,
    timeout: Duration,
    #[cfg(feature = "posthog-gzip")]
    gzip: bool,
}

/// Prints the timeout only: the endpoint may have credentials, and the key is
/// secret.
impl fmt::Debug for PostHogBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostHogBuilder").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl PostHogBuilder {
    /// Compresses what is sent.
    #[cfg(feature = "posthog-gzip")]
    pub fn gzip(mut self) -> Self {
        self.gzip = true;
        self
    }

    /// Gets the HTTP client from `factory`, which is called when the first
    /// batch leaves, and again after each [`close`](Backend::close).
    ///
    /// An app whose Matrix client goes through a proxy or Tor must send its
    /// telemetry the same way: without this, it goes to PostHog from the
    /// device's own address (through the system's proxy, if the app turned on
    /// reqwest's feature for that).
    ///
    /// The client must be a new one at each call, or [`close`](Backend::close)
    /// cannot close its connections. It must not follow redirects: that could
    /// hand events to somebody else. A redirect that leads to another URL is
    /// counted as a failure here, but only after the fact. It should have no
    /// default headers, no cookies and no connections that are used for
    /// anything else; with HTTP/1 only, a request that is cut also ends its
    /// connection. The timeout of this builder applies to it too.
    ///
    /// ```no_run
    /// use matrix_analytics::PostHog;
    /// use reqwest::{Client, Proxy, redirect::Policy};
    ///
    /// let posthog = PostHog::builder("https://eu.i.posthog.com", "phc_project_key")
    ///     .http_client(|| {
    ///         Client::builder()
    ///             .proxy(Proxy::all("socks5h://127.0.0.1:9050")?)
    ///             .redirect(Policy::none())
    ///             .http1_only()
    ///             .build()
    ///     })
    ///     .build()?;
    /// # Ok::<_, matrix_analytics::PostHogBuildError>(())
    /// ```
    pub fn http_client(
        mut self,
        factory: impl Fn() -> Result<Client, reqwest::Error> + Send + Sync + 'static,
    ) -> Self {
        self.make_client = Some(Box::new(factory));
        self
    }

    /// How long a request may take, from the connection to the answer; 10
    /// seconds if not set.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Makes the backend. Nothing is connected or sent.
    ///
    /// # Errors
    ///
    /// [`PostHogBuildError`] if the endpoint or the key cannot be right.
    pub fn build(self) -> Result<PostHog, PostHogBuildError> {
        let url = batch_url(&self.endpoint)?;
        if self.key.0.trim().is_empty() || self.key.0.chars().any(char::is_control) {
            return Err(PostHogBuildError::ApiKey);
        }
        Ok(PostHog {
            url,
            key: self.key,
            make_client: self.make_client.unwrap_or_else(|| Box::new(default_client)),
            client: Mutex::default(),
            timeout: self.timeout,
            #[cfg(feature = "posthog-gzip")]
            gzip: self.gzip,
        })
    }
}

/// What is wrong with the settings of a [`PostHog`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostHogBuildError {
    /// The key is empty, only white space, or has a control character.
    #[error("the API key is empty, only white space, or has a control character")]
    ApiKey,
    /// The endpoint has a user name or a password.
    #[error("the endpoint has a user name or a password")]
    EndpointCredentials,
    /// The endpoint has a query or a fragment.
    #[error("the endpoint has a query or a fragment")]
    EndpointQuery,
    /// The endpoint's scheme is neither `http` nor `https`.
    #[error("the endpoint's scheme is neither http nor https")]
    EndpointScheme,
    /// The endpoint is not a URL with a host.
    #[error("the endpoint is not a URL with a host")]
    EndpointUrl(#[source] BoxError),
}

/// A project's key. Neither `Debug` nor `Display` shows it.
struct ApiKey(Box<str>);

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
enum PostHogError {
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
    #[cfg(feature = "posthog-gzip")]
    #[error("the batch cannot be compressed")]
    Gzip(#[source] std::io::Error),
    #[error("the endpoint redirects to another URL")]
    Redirected,
    #[error("the request got no answer")]
    Request(#[source] reqwest::Error),
    #[error("the batch cannot be serialised")]
    Serialize(#[source] serde_json::Error),
    #[error("the endpoint answered with HTTP status {0}")]
    Status(StatusCode),
}

impl PostHogError {
    fn client(error: reqwest::Error) -> BoxError {
        Box::new(Self::Client(error.without_url()))
    }
}

/// A client without redirects, cookies, default headers, referer, user agent
/// or repeated requests. With HTTP/1, the connection of a dropped request is
/// closed.
fn default_client() -> Result<Client, reqwest::Error> {
    Client::builder()
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(retry::never())
        .http1_only()
        .build()
}

fn batch_url(endpoint: &str) -> Result<Url, PostHogBuildError> {
    let mut url =
        Url::parse(endpoint).map_err(|error| PostHogBuildError::EndpointUrl(error.into()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(PostHogBuildError::EndpointScheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(PostHogBuildError::EndpointCredentials);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(PostHogBuildError::EndpointQuery);
    }
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(["batch", ""]);
    }
    Ok(url)
}

/// What the answer `status` says about the batch.
fn verdict(status: StatusCode, retry_after: Option<Duration>) -> Result<(), DeliveryError> {
    let source = Box::new(PostHogError::Status(status));
    Err(match status.as_u16() {
        200..=299 => return Ok(()),
        400 | 422 => DeliveryError::Rejected(source),
        401 | 403 => DeliveryError::Unauthorized(source),
        413 => DeliveryError::TooLarge(source),
        429 => DeliveryError::Throttled { retry_after, source },
        503 if retry_after.is_some() => DeliveryError::Throttled { retry_after, source },
        408 | 425 | 500..=599 => DeliveryError::Transient(source),
        _ => DeliveryError::Misconfigured(source),
    })
}

/// What it says about the batch that there was no answer.
fn unanswered(error: reqwest::Error) -> DeliveryError {
    let never = error.is_builder() || error.is_redirect();
    let source = Box::new(PostHogError::Request(error.without_url()));
    if never { DeliveryError::Misconfigured(source) } else { DeliveryError::Transient(source) }
}

/// The time to wait that a `Retry-After` header asks for: seconds, or a date.
fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

fn request_body(key: &ApiKey, batch: &Batch) -> serde_json::Result<Vec<u8>> {
    let id = serde_json::to_string(batch.analytics_id().reveal())?;
    let size: usize = batch.events().map(|event| event.bytes() + 2 * id.len() + 160).sum();
    let mut out = Vec::with_capacity(size + 64);
    out.extend_from_slice(br#"{"api_key":"#);
    serde_json::to_writer(&mut out, &key.0)?;
    out.extend_from_slice(br#","batch":["#);
    for (index, event) in batch.events().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_event(&mut out, &id, event)?;
    }
    out.extend_from_slice(b"]}");
    Ok(out)
}

fn push_event(out: &mut Vec<u8>, id: &str, event: &OutgoingEvent) -> serde_json::Result<()> {
    out.extend_from_slice(br#"{"event":"#);
    serde_json::to_writer(&mut *out, event.name())?;
    out.extend_from_slice(br#","uuid":""#);
    let mut uuid = uuid::Uuid::encode_buffer();
    out.extend_from_slice(event.uuid().hyphenated().encode_lower(&mut uuid).as_bytes());
    out.extend_from_slice(br#"","timestamp":""#);
    out.extend_from_slice(event.rfc3339_time().as_bytes());
    out.extend_from_slice(br#"","distinct_id":"#);
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(br#","properties":{"#);
    if may_have_reserved_key(event.properties().members()) {
        push_members(out, &event.properties().without(|key| RESERVED_KEYS.contains(&key)));
    } else {
        push_members(out, event.properties());
    }
    out.extend_from_slice(br#""distinct_id":"#);
    out.extend_from_slice(id.as_bytes());
    out.push(b',');
    out.extend_from_slice(CONSTANTS.as_bytes());
    for (key, properties) in [
        (&br#","$set":{"#[..], event.user_properties().set()),
        (br#","$set_once":{"#, event.user_properties().set_once()),
    ] {
        if !properties.is_empty() {
            out.extend_from_slice(key);
            out.extend_from_slice(properties.members().as_bytes());
            out.push(b'}');
        }
    }
    out.extend_from_slice(b"}}");
    Ok(())
}

/// Adds the members and the comma that parts them from what follows.
fn push_members(out: &mut Vec<u8>, properties: &Properties) {
    if !properties.is_empty() {
        out.extend_from_slice(properties.members().as_bytes());
        out.push(b',');
    }
}

/// Whether a reserved key may be among `members`: exact but for values that are
/// themselves such a key. It spares nearly every event from being parsed.
fn may_have_reserved_key(members: &str) -> bool {
    // A key may be spelled with escapes, which only a parser can see through.
    members.contains(r"\u")
        || members.match_indices('"').any(|(quote, _)| {
            let rest = &members[quote + 1..];
            matches!(rest.as_bytes().first(), Some(b'$' | b'a' | b'c' | b'd' | b't'))
                && RESERVED_KEYS
                    .iter()
                    .any(|key| rest.strip_prefix(key).is_some_and(|after| after.starts_with('"')))
        })
}

#[cfg(feature = "posthog-gzip")]
fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::Write as _;

    let mut encoder = flate2::write::GzEncoder::new(
        Vec::with_capacity(body.len() / 4),
        flate2::Compression::default(),
    );
    encoder.write_all(body)?;
    encoder.finish()
}

/// A request body that ends in an error once the future that sends it is gone.
///
/// The connection is driven by a task of its own, which goes on to write what
/// it holds, and given a whole body it holds all of it. Small pieces keep that
/// small: hyper takes in 16 at a time, or 400 KiB where the connection cannot
/// write several at once.
struct CuttableBody {
    rest: Bytes,
    wanted: Weak<()>,
}

const PIECE: usize = 4096;

#[derive(Debug, thiserror::Error)]
#[error("the request was given up")]
struct GivenUp;

impl http_body::Body for CuttableBody {
    type Data = Bytes;
    type Error = GivenUp;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        if self.wanted.strong_count() == 0 {
            return Poll::Ready(Some(Err(GivenUp)));
        }
        let piece = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests;
