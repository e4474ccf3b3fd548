//! The HTTP settings of an app, and the client that follows them.

use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, Proxy, redirect, retry};

/// How long a request may take by default.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long sent data may stay unacknowledged by default.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// The choices of an app about the requests to one service.
///
/// Everything else is the same for all of them: see [`HttpSettings::client`].
#[derive(Clone)]
pub(crate) struct HttpSettings {
    /// The proxies. A request uses the first one that applies to its URL.
    proxies: Vec<Proxy>,
    /// The certificates that are trusted in addition to those of the system.
    root_certificates: Vec<Certificate>,
    /// How long a request may take, from the connection to the end of the response.
    pub(in crate::backend) timeout: Duration,
    /// How long sent data may stay unacknowledged before the connection is given up. This
    /// also bounds how long a closing connection waits for a service that does not read.
    #[cfg_attr(
        not(any(target_os = "android", target_os = "fuchsia", target_os = "linux")),
        expect(dead_code, reason = "other systems have no such setting")
    )]
    pub(crate) unacknowledged: Duration,
    /// Whether the body of a request is compressed.
    #[cfg(feature = "gzip")]
    pub(in crate::backend) gzip: bool,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            proxies: Vec::new(),
            root_certificates: Vec::new(),
            timeout: REQUEST_TIMEOUT,
            unacknowledged: UNACKNOWLEDGED,
            #[cfg(feature = "gzip")]
            gzip: true,
        }
    }
}

impl HttpSettings {
    /// Returns the default settings, for a service that does not understand compression.
    #[cfg(feature = "matomo")]
    pub(in crate::backend) fn uncompressed() -> Self {
        Self {
            #[cfg(feature = "gzip")]
            gzip: false,
            ..Self::default()
        }
    }

    pub(crate) fn add_proxy(&mut self, proxy: Proxy) {
        self.proxies.push(proxy);
    }

    pub(crate) fn add_root_certificate(&mut self, certificate: Certificate) {
        self.root_certificates.push(certificate);
    }

    /// Checks the certificates, which the HTTP library parses only when it makes a client.
    ///
    /// # Errors
    ///
    /// Fails if one of them is not a certificate.
    pub(super) fn check(&self) -> Result<(), reqwest::Error> {
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
    pub(crate) fn client(&self) -> Result<Client, reqwest::Error> {
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
            .tcp_keepalive_retries(None);
        let added = self.root_certificates.iter().cloned();
        #[cfg(not(target_os = "android"))]
        let builder = builder.tls_certs_merge(added);
        #[cfg(target_os = "android")]
        let builder = builder.tls_certs_only(mozilla_certificates()?.into_iter().chain(added));
        #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
        let builder = builder.tcp_user_timeout(self.unacknowledged);
        let mut proxies = self.proxies.clone();
        if !proxies.is_empty() {
            // reqwest connects directly if no proxy applies, and a proxy whose scheme it does not
            // know applies to nothing. No one can listen on this port, so the request fails.
            proxies.push(Proxy::all("http://127.0.0.1:0")?);
        }
        proxies.into_iter().fold(builder, ClientBuilder::proxy).build()
    }
}

/// Returns the issuers that Mozilla trusts, for Android.
///
/// The verifier that uses Android's own (`rustls-platform-verifier`) panics unless the app has
/// initialised it, which an app with matrix-sdk 0.18 need not do. It takes no further issuers,
/// and it reports certificates as revoked that are not (its issue 221).
#[cfg(any(target_os = "android", test))]
fn mozilla_certificates() -> Result<Vec<Certificate>, reqwest::Error> {
    let certificates = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
    certificates.iter().map(|certificate| Certificate::from_der(certificate)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tls_library_takes_every_certificate_for_android() {
        let certificates = mozilla_certificates().unwrap();
        assert!(certificates.len() > 100);
        Client::builder().tls_certs_only(certificates).build().unwrap();
    }
}
