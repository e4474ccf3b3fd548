//! The builder of an [`ErasureEndpoint`].

use std::{fmt, time::Duration};

use reqwest::{Certificate, Proxy};

use super::ErasureEndpoint;
use crate::backend::{
    BoxError,
    http::{EndpointError, HttpClient, HttpSettings, endpoint_url},
};

/// A builder of an [`ErasureEndpoint`]; created by [`ErasureEndpoint::builder`].
#[must_use = "a builder does nothing until it is built"]
pub struct ErasureEndpointBuilder {
    url: String,
    http: HttpSettings,
}

/// Prints the timeout only, because the URL and a proxy may hold credentials.
impl fmt::Debug for ErasureEndpointBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErasureEndpointBuilder")
            .field("timeout", &self.http.timeout)
            .finish_non_exhaustive()
    }
}

impl ErasureEndpointBuilder {
    pub(super) fn new(url: &str) -> Self {
        Self { url: url.to_owned(), http: HttpSettings::uncompressed() }
    }

    /// Sends the requests through `proxy`. A request uses the first proxy that applies to the
    /// URL, and is never sent without one if there is any.
    ///
    /// An app whose Matrix client uses a proxy or Tor must send its erasures the same way.
    /// Otherwise the endpoint sees the device's own address. No proxy of the system or of the
    /// environment is ever used.
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.http.add_proxy(proxy);
        self
    }

    /// Trusts `certificate` as an issuer of the endpoint's certificate, in addition to the
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

    /// Creates the erasure. Connects to nothing and sends nothing.
    ///
    /// # Errors
    ///
    /// [`ErasureEndpointBuildError`] if the URL or a root certificate cannot be right.
    pub fn build(self) -> Result<ErasureEndpoint, ErasureEndpointBuildError> {
        let url = endpoint_url(&self.url, &[], &[])?;
        let http =
            HttpClient::new(self.http).map_err(ErasureEndpointBuildError::RootCertificate)?;
        Ok(ErasureEndpoint { url, http })
    }
}

/// The reason why an [`ErasureEndpoint`] could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErasureEndpointBuildError {
    /// The URL cannot be that of an endpoint.
    #[error("the URL cannot be that of an endpoint")]
    Endpoint(#[from] EndpointError),
    /// The HTTP library does not accept the root certificates.
    #[error("the HTTP library does not accept the root certificates")]
    RootCertificate(#[source] BoxError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_cannot_be_right_is_a_build_error_and_nothing_is_appended() {
        for url in ["ftp://example.org", "https://u:p@example.org", "https://example.org?a", "x"] {
            assert!(ErasureEndpoint::new(url).is_err(), "{url}");
        }
        for url in ["https://example.org/erase", "http://127.0.0.1:1/a/b"] {
            assert_eq!(ErasureEndpoint::new(url).unwrap().url.as_str(), url);
        }
    }
}
