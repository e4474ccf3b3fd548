//! The OpenTelemetry backend.

mod answer;
mod builder;
mod encode;
mod messages;
mod protobuf;
mod response;

use std::fmt;

use reqwest::{Url, header::HeaderMap};

pub use self::builder::{OtlpBuildError, OtlpBuilder, OtlpEncoding};
use super::{
    Backend, Batch, DeliveryError, Identity,
    http::{HttpClient, host_of},
};
use crate::event::Properties;

/// A backend that sends events to an [OpenTelemetry](https://opentelemetry.io) collector, as log
/// records over OTLP/HTTP.
///
/// A collector can pass them on to a database or to a broker, such as ClickHouse or Kafka.
///
/// There is no default endpoint. The only request that this type makes is a `POST` to
/// `/v1/logs` below the endpoint that the app gives. It opens no connection before the first
/// [`send`](Backend::send), and [`close`](Backend::close) closes its connections.
///
/// ```
/// use matrix_analytics::Otlp;
///
/// let otlp = Otlp::builder("https://collector.example.org", "example-client")
///     .service_version("1.4.0")
///     .build()?;
/// # Ok::<_, matrix_analytics::OtlpBuildError>(())
/// ```
///
/// # The request
///
/// Each request is one `ExportLogsServiceRequest`, in protobuf or with
/// [`OtlpEncoding::Json`] in JSON:
///
/// ```json
/// {
///   "resourceLogs": [{
///     "resource": { "attributes": [
///       { "key": "service.name", "value": { "stringValue": "example-client" } },
///       { "key": "service.version", "value": { "stringValue": "1.4.0" } }
///     ] },
///     "scopeLogs": [{
///       "scope": { "name": "matrix-analytics", "version": "0.18.0" },
///       "logRecords": [{
///         "timeUnixNano": "1769860800250000000",
///         "observedTimeUnixNano": "1769860800250000000",
///         "severityNumber": 9,
///         "attributes": [
///           { "key": "trigger", "value": { "stringValue": "Invite" } },
///           { "key": "members", "value": { "intValue": "3" } },
///           { "key": "user_property.app", "value": { "stringValue": "desktop" } },
///           { "key": "initial_user_property.first_app", "value": { "stringValue": "desktop" } },
///           { "key": "log.record.uid", "value": { "stringValue": "0b42f1a5-6f0c-4a38-9a1d-3c1f1b9f6d0e" } },
///           { "key": "enduser.pseudo.id", "value": { "stringValue": "b5580014037f1b4091fd769b7ef2ced3" } }
///         ],
///         "eventName": "RoomJoined"
///       }]
///     }]
///   }]
/// }
/// ```
///
/// - The name of the event is the `event_name` of its record. There is no body, and the severity
///   is `INFO`, as the semantic conventions for events recommend it.
/// - `log.record.uid` is the unique ID of the event. It is the same on every attempt, so a
///   database can find the copies that a lost answer causes.
/// - Both times are the time of the event, with the value 0 for 1 January 1970.
/// - An integer above `i64::MAX` is sent as a text, and an array as an `arrayValue`.
/// - OTLP has no user properties. Those that an event carries are sent as attributes, with a
///   prefix.
/// - A property that has the name of an attribute of ours is sent with the prefix `property.`. So
///   is one that has this prefix already, and without it the name of an attribute of ours.
///
/// The headers are `content-type`, `content-length`, `accept`, `host` and those that the app
/// adds, and with compression also `content-encoding`. There is no user agent. With the feature
/// `gzip` the body is compressed, unless the app turns that off with `OtlpBuilder::gzip`.
///
/// The sources are version 1.11 of OTLP (`docs/specification.md` and the `.proto` files in the
/// repository `opentelemetry-proto`), and the semantic conventions for events, for log records
/// (`log.record.uid`) and for end users (`enduser.pseudo.id`).
///
/// # Responses
///
/// The specification says which requests are sent again: those with the status 429, 502, 503 or
/// 504, and those without an answer.
///
/// | status | [`DeliveryError`] |
/// |---|---|
/// | 2xx | none, or `Partial` if the collector rejected some of the records |
/// | 2xx with a body that is not one of OTLP, or has more than 64 KiB | `Refused` |
/// | 413 | `TooLarge` |
/// | 429, and 502, 503 or 504 with `Retry-After` | `Throttled` |
/// | 502, 503, 504, no response, an incomplete response with 2xx | `Transient` |
/// | anything else, such as 400, 401, 404, 500 or a redirect | `Refused` |
///
/// **A wrong endpoint loses events**, because the specification forbids to send them again. The
/// log has one warning, which names the status, and the events count as
/// [`Rejected`](crate::DropReason::Rejected).
///
/// After a 413 the events are sent again in smaller requests, until an event is too large by
/// itself.
///
/// A collector may answer 200 before its own destination has the records. Those that it loses
/// later count as delivered.
///
/// # Environment
///
/// The HTTP client reads nothing from the environment: no proxy and none of the variables of
/// OpenTelemetry, such as `OTEL_EXPORTER_OTLP_ENDPOINT`. The TLS library loads the system's
/// certificates; on Linux and other Unix systems it reads `SSL_CERT_FILE` and `SSL_CERT_DIR` for
/// that. On Android, the issuers that Mozilla trusts count.
///
/// # Cancel safety
///
/// Dropping the future of [`send`](Backend::send) cuts the request: no more of it is produced,
/// and its connection is closed. Bytes that the operating system or the TLS library has already
/// accepted may still be sent. [`closed`](Backend::closed) waits until the HTTP library holds no
/// part of a request.
pub struct Otlp {
    /// The endpoint, including `/v1/logs`.
    url: Url,
    service_name: &'static str,
    encoding: OtlpEncoding,
    /// The attributes of the program.
    resource: Properties,
    headers: HeaderMap,
    http: HttpClient,
}

/// Prints only the origin of the endpoint and the encoding, because a path and a header may be
/// secret.
impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Otlp")
            .field("endpoint", &self.url.origin().ascii_serialization())
            .field("encoding", &self.encoding)
            .finish_non_exhaustive()
    }
}

impl Otlp {
    /// Creates a backend that sends protobuf to the collector at `endpoint`, for a program with
    /// the name `service_name`. Connects to nothing yet.
    ///
    /// The endpoint is the base URL that `/v1/logs` is appended to, such as
    /// `https://collector.example.org`, or `http://127.0.0.1:4318` for a collector on this
    /// machine. A slash at its end makes no difference.
    ///
    /// # Errors
    ///
    /// [`OtlpBuildError`] if the endpoint or the name cannot be right.
    pub fn new(endpoint: &str, service_name: &'static str) -> Result<Self, OtlpBuildError> {
        Self::builder(endpoint, service_name).build()
    }

    /// Creates a builder, for a backend with other settings than those of [`Otlp::new`].
    pub fn builder(endpoint: &str, service_name: &'static str) -> OtlpBuilder {
        OtlpBuilder::new(endpoint, service_name)
    }

    fn body(&self, batch: &Batch) -> Result<Vec<u8>, OtlpError> {
        let request = encode::request(&self.resource, batch).map_err(OtlpError::Serialize)?;
        match self.encoding {
            OtlpEncoding::Json => serde_json::to_vec(&request).map_err(OtlpError::Serialize),
            OtlpEncoding::Protobuf => Ok(protobuf::request(&request)),
        }
    }
}

impl Backend for Otlp {
    fn name(&self) -> &'static str {
        "otlp"
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let body = self.body(batch).map_err(|error| DeliveryError::Rejected(Box::new(error)))?;
        let answer = self.http.post(&self.url, self.headers.clone(), body).await?;
        answer::verdict(&answer)
    }

    fn host(&self) -> Option<String> {
        host_of(&self.url)
    }

    fn default_label(&self) -> Option<String> {
        Some(format!("{}/{}", host_of(&self.url)?, self.service_name))
    }

    fn default_identity(&self) -> Identity {
        Identity::Pseudonym
    }

    fn render(&self, batch: &Batch) -> Option<String> {
        serde_json::to_string(&encode::request(&self.resource, batch).ok()?).ok()
    }

    fn close(&self) {
        self.http.close();
    }

    async fn closed(&self) {
        self.http.closed().await;
    }
}

/// The reason why a request body could not be made.
#[derive(Debug, thiserror::Error)]
enum OtlpError {
    #[error("the batch cannot be serialised")]
    Serialize(#[source] serde_json::Error),
}
