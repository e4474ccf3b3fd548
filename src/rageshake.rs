//! The server that takes bug reports.

pub(crate) mod answer;
mod submission;

use std::{fmt, time::Duration};

use reqwest::{Certificate, Proxy, Url};

use crate::backend::http::{EndpointError, HttpSettings, whole_url};

/// How long a server may do nothing. It opens an issue before it answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// A [rageshake](https://github.com/matrix-org/rageshake) server, which takes bug reports.
///
/// Creating one connects to nothing. The HTTP client takes nothing from the environment, follows
/// no redirects and has no user agent; see [`BugReport`](crate::BugReport) for what is sent.
#[derive(Clone)]
pub struct Rageshake {
    url: Url,
    http: HttpSettings,
}

/// Prints only the origin of the endpoint, because its path may be secret.
impl fmt::Debug for Rageshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rageshake({})", self.url.origin().ascii_serialization())
    }
}

impl Rageshake {
    /// Creates the server at `endpoint`, the whole URL that reports are posted to, such as
    /// `https://rageshake.example.org/api/submit`.
    ///
    /// # Errors
    ///
    /// [`EndpointError`] if the endpoint cannot be right.
    pub fn new(endpoint: &str) -> Result<Self, EndpointError> {
        let mut http = HttpSettings::default();
        http.unacknowledged = PATIENCE;
        Ok(Self { url: whole_url(endpoint)?, http })
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
    /// that count anyway. Can be called several times. If the HTTP library does not accept it, the
    /// submission fails with [`SubmitError::Connection`](crate::SubmitError::Connection).
    #[must_use]
    pub fn root_certificate(mut self, certificate: Certificate) -> Self {
        self.http.add_root_certificate(certificate);
        self
    }
}
