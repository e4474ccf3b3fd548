//! The server that takes bug reports.

use std::{error::Error, fmt, time::Duration};

use reqwest::{Certificate, Proxy, Url};

use crate::transport::settings::HttpSettings;

/// How long a server may do nothing by default. It opens an issue before it answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// A [rageshake](https://github.com/matrix-org/rageshake) server, which takes bug reports.
///
/// Creating one connects to nothing. The HTTP client takes nothing from the environment, follows
/// no redirects and has no user agent; see [`BugReport`](crate::BugReport) for what is sent.
#[derive(Clone)]
pub struct Rageshake {
    pub(super) url: Url,
    pub(super) http: HttpSettings,
}

/// Prints only the origin of the endpoint, because its path may be secret.
impl fmt::Debug for Rageshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rageshake")
            .field("endpoint", &self.url.origin().ascii_serialization())
            .finish_non_exhaustive()
    }
}

/// The reason why a [`Rageshake`] could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RageshakeBuildError {
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
    EndpointUrl(#[source] Box<dyn Error + Send + Sync>),
    /// The HTTP library does not accept the root certificate.
    #[error("the HTTP library does not accept the root certificate")]
    RootCertificate(#[source] Box<dyn Error + Send + Sync>),
}

impl Rageshake {
    /// Creates the server at `endpoint`, the whole URL that reports are posted to, such as
    /// `https://rageshake.example.org/api/submit`.
    ///
    /// # Errors
    ///
    /// [`RageshakeBuildError`] if the endpoint cannot be right.
    pub fn new(endpoint: &str) -> Result<Self, RageshakeBuildError> {
        let url = Url::parse(endpoint);
        let url = url.map_err(|error| RageshakeBuildError::EndpointUrl(error.into()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(RageshakeBuildError::EndpointScheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(RageshakeBuildError::EndpointCredentials);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(RageshakeBuildError::EndpointQuery);
        }
        Ok(Self { url, http: HttpSettings::default() }.patience(PATIENCE))
    }

    /// Sends reports through `proxy`. If this is called several times, the first proxy that
    /// applies to the endpoint is used.
    ///
    /// An app whose Matrix client uses a proxy or Tor must send its reports the same way. No proxy
    /// of the system or of the environment is ever used, and no report goes past the named
    /// proxies. Tor needs the feature `socks` of matrix-sdk, and a URL with `socks5h`.
    #[must_use]
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.http.add_proxy(proxy);
        self
    }

    /// Trusts `certificate` as an issuer of the server's certificate, in addition to the issuers
    /// that count anyway; can be called several times.
    ///
    /// # Errors
    ///
    /// [`RageshakeBuildError::RootCertificate`] if it is not a certificate.
    pub fn root_certificate(
        mut self,
        certificate: Certificate,
    ) -> Result<Self, RageshakeBuildError> {
        self.http.add_root_certificate(certificate);
        let checked = self.http.check();
        checked.map_err(|error| RageshakeBuildError::RootCertificate(error.into()))?;
        Ok(self)
    }

    /// Sets how long the server may take no byte and give no answer before the submission fails;
    /// 60 s if not set. A submission as a whole has no limit of time.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.http.timeout = patience;
        self.http.unacknowledged = patience;
        self
    }
}
