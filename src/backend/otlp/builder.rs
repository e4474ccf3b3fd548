//! The builder of an [`Otlp`].

use std::{fmt, time::Duration};

use reqwest::{
    Certificate, Proxy,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};

use super::Otlp;
use crate::{
    backend::{
        BoxError,
        http::{EndpointError, HttpClient, HttpSettings, endpoint_url},
    },
    event::{InvalidEvent, Properties},
};

/// The paths of the signals, of which this backend appends one.
const SIGNALS: [&str; 4] = ["/v1/logs", "/v1/metrics", "/v1/traces", "/v1development/profiles"];

/// Headers that this backend or the HTTP library sets.
const OWN_HEADERS: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::HOST,
    header::TRANSFER_ENCODING,
];

/// A builder of an [`Otlp`]; created by [`Otlp::builder`].
#[must_use = "a builder does nothing until it is built"]
pub struct OtlpBuilder {
    endpoint: String,
    service_name: &'static str,
    encoding: OtlpEncoding,
    resource: Properties,
    headers: Vec<(String, String)>,
    http: HttpSettings,
}

/// The encoding of the requests of an [`Otlp`]. A collector takes both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OtlpEncoding {
    /// JSON, which a person can read.
    Json,
    /// Protobuf, which is smaller.
    #[default]
    Protobuf,
}

/// Prints the encoding and the timeout only, because the endpoint, a header and a proxy may hold
/// credentials.
impl fmt::Debug for OtlpBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpBuilder")
            .field("encoding", &self.encoding)
            .field("timeout", &self.http.timeout)
            .finish_non_exhaustive()
    }
}

impl OtlpBuilder {
    pub(super) fn new(endpoint: &str, service_name: &'static str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            service_name,
            encoding: OtlpEncoding::default(),
            resource: Properties::new().with("service.name", service_name),
            headers: Vec::new(),
            http: HttpSettings::default(),
        }
    }

    /// Sets the version of the program, the resource attribute `service.version`.
    pub fn service_version(self, version: &'static str) -> Self {
        self.resource_attribute("service.version", version)
    }

    /// Adds an attribute of the program, such as `os.type`, to every request.
    ///
    /// It describes the program, and must not describe a person or a device: the guard, which
    /// inspects events, does not see it.
    pub fn resource_attribute(mut self, key: &'static str, value: &'static str) -> Self {
        self.resource.insert(key, value);
        self
    }

    /// Sets the encoding of the requests; protobuf if not set.
    pub fn encoding(mut self, encoding: OtlpEncoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// Adds a header to every request, such as `authorization` for a collector that asks for a
    /// token.
    ///
    /// Everyone who has the app can read the token, so it must allow writing only.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets whether the requests are compressed. They are, unless this is called with `false`.
    #[cfg(feature = "gzip")]
    pub fn gzip(mut self, gzip: bool) -> Self {
        self.http.gzip = gzip;
        self
    }

    /// Sends the requests through `proxy`. A request uses the first proxy that applies to the
    /// endpoint, and is never sent without one if there is any.
    ///
    /// An app whose Matrix client uses a proxy or Tor must send its telemetry the same way.
    /// Otherwise the collector sees the device's own address. No proxy of the system or of the
    /// environment is ever used.
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.http.add_proxy(proxy);
        self
    }

    /// Trusts `certificate` as an issuer of the collector's certificate, in addition to the
    /// issuers that count anyway. Can be called several times.
    pub fn root_certificate(mut self, certificate: Certificate) -> Self {
        self.http.add_root_certificate(certificate);
        self
    }

    /// Sets how long a request may take, from the connection to the answer; 10 s if not set.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.http.timeout = timeout;
        self
    }

    /// Creates the backend. Connects to nothing and sends nothing.
    ///
    /// # Errors
    ///
    /// [`OtlpBuildError`] if the endpoint, a header, an attribute or a root certificate cannot be
    /// right.
    pub fn build(self) -> Result<Otlp, OtlpBuildError> {
        let url = endpoint_url(&self.endpoint, &["v1", "logs"], &SIGNALS)?;
        self.resource.check().map_err(OtlpBuildError::Resource)?;
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let (name, value) = own_header(name, value).ok_or(OtlpBuildError::Header)?;
            headers.append(name, value);
        }
        let content_type = match self.encoding {
            OtlpEncoding::Json => "application/json",
            OtlpEncoding::Protobuf => "application/x-protobuf",
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        let http = HttpClient::new(self.http).map_err(OtlpBuildError::RootCertificate)?;
        Ok(Otlp {
            url,
            service_name: self.service_name,
            encoding: self.encoding,
            resource: self.resource.without_repeats(),
            headers,
            http,
        })
    }
}

/// The reason why an [`Otlp`] could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OtlpBuildError {
    /// The endpoint cannot be the base URL of a collector.
    #[error("the endpoint cannot be the base URL of a collector")]
    Endpoint(#[from] EndpointError),
    /// A header has a name or a value that no header can have, or that this backend sets.
    #[error("a header has a name or a value that it cannot have")]
    Header,
    /// An attribute of the program has a name or a value that it cannot have.
    #[error("an attribute of the program cannot be sent")]
    Resource(#[source] InvalidEvent),
    /// The HTTP library does not accept the root certificates.
    #[error("the HTTP library does not accept the root certificates")]
    RootCertificate(#[source] BoxError),
}

/// Returns a header of the app's own, if it can be one. Its value is not printed.
fn own_header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::try_from(name).ok()?;
    let mut value = HeaderValue::try_from(value).ok()?;
    value.set_sensitive(true);
    (!OWN_HEADERS.contains(&name)).then_some((name, value))
}
