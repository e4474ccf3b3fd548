//! The HTTP settings of a backend, and the client that follows them.

use std::time::Duration;

use reqwest::{Certificate, Client, Proxy, redirect, retry};

/// How long a request may take by default.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long sent data may stay unacknowledged before the connection is given up. This
/// also bounds how long a closing connection waits for a service that does not read.
#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// What an app can choose about the requests of an HTTP backend.
///
/// Everything else is the same for all of them: see [`HttpSettings::client`].
pub(in crate::backend) struct HttpSettings {
    /// The proxies. A request uses the first one that applies to its URL.
    proxies: Vec<Proxy>,
    /// The certificates that are trusted in addition to those of the system.
    root_certificates: Vec<Certificate>,
    /// How long a request may take, from the connection to the end of the response.
    pub(in crate::backend) timeout: Duration,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self { proxies: Vec::new(), root_certificates: Vec::new(), timeout: REQUEST_TIMEOUT }
    }
}

impl HttpSettings {
    pub(in crate::backend) fn add_proxy(&mut self, proxy: Proxy) {
        self.proxies.push(proxy);
    }

    pub(in crate::backend) fn add_root_certificate(&mut self, certificate: Certificate) {
        self.root_certificates.push(certificate);
    }

    /// Checks the certificates, which the HTTP library parses only when it makes a client.
    ///
    /// # Errors
    ///
    /// Fails if one of them is not a certificate, or if the platform takes none.
    pub(in crate::backend) fn check(&self) -> Result<(), reqwest::Error> {
        if !self.root_certificates.is_empty() {
            self.client()?;
        }
        Ok(())
    }

    /// Makes a client that takes nothing from the environment or the system except the
    /// system's certificates, and adds nothing of its own: no proxy, redirects, retries,
    /// cookies, referer, user agent or `accept-encoding`.
    ///
    /// # Errors
    ///
    /// Fails if the TLS library does not accept the certificates, or finds none.
    pub(super) fn client(&self) -> Result<Client, reqwest::Error> {
        let builder = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .retry(retry::never())
            // Responses are not used, and most of them are a few bytes.
            .no_gzip()
            .no_brotli()
            .no_deflate()
            .no_zstd()
            // Cutting a request closes its connection. HTTP/2 would write the rest first.
            .http1_only()
            // An idle connection must not wake the radio of a phone every 15 seconds. Any
            // one of these turns keep-alive on.
            .tcp_keepalive(None)
            .tcp_keepalive_interval(None)
            .tcp_keepalive_retries(None)
            .tls_certs_merge(self.root_certificates.iter().cloned());
        #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
        let builder = builder.tcp_user_timeout(UNACKNOWLEDGED);
        self.proxies.iter().cloned().fold(builder, |builder, proxy| builder.proxy(proxy)).build()
    }
}
