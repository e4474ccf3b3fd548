//! The builder of a [`PostHog`].

use std::{fmt, time::Duration};

use reqwest::{Certificate, Proxy};

use super::{
    ApiKey, PostHog,
    v1::{self, V1},
};
use crate::backend::{
    BoxError,
    http::{EndpointError, HttpClient, HttpSettings, endpoint_url},
};

/// The ends of the paths of PostHog's capture interfaces, one of which this backend appends.
const INTERFACES: [&str; 4] = ["/batch", "/capture", "/i/v0/e", "/i/v1/analytics/events"];

/// A builder of a [`PostHog`]; created by [`PostHog::builder`].
#[must_use = "a builder does nothing until it is built"]
pub struct PostHogBuilder {
    endpoint: String,
    key: ApiKey,
    http: HttpSettings,
    /// `None` if the endpoint decides.
    v1: Option<bool>,
}

/// Prints the timeout only, because the endpoint and a proxy may have credentials and the key
/// is secret.
impl fmt::Debug for PostHogBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timeout = &self.http.timeout;
        f.debug_struct("PostHogBuilder").field("timeout", timeout).finish_non_exhaustive()
    }
}

impl PostHogBuilder {
    pub(super) fn new(endpoint: &str, api_key: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            key: ApiKey(api_key.into()),
            http: HttpSettings::default(),
            v1: None,
        }
    }

    /// Sets whether events go to the endpoint that answers for each event, `/i/v1/analytics/events`
    /// (`true`), or to `/batch/` (`false`).
    ///
    /// If this is not called, the former is used for PostHog's own hosts (`eu.i.posthog.com`,
    /// `us.i.posthog.com`), and the latter for all others. Call this with `true` for a reverse
    /// proxy in front of PostHog's cloud, and for a self-hosted PostHog that serves the path. By
    /// default, a self-hosted one does not: see
    /// [*Two endpoints*](PostHog#two-endpoints).
    ///
    /// ```
    /// use matrix_analytics::PostHog;
    ///
    /// let posthog =
    ///     PostHog::builder("https://telemetry.example.org", "phc_project_key").v1(true).build()?;
    /// # Ok::<_, matrix_analytics::PostHogBuildError>(())
    /// ```
    pub fn v1(mut self, v1: bool) -> Self {
        self.v1 = Some(v1);
        self
    }

    /// Sets whether the requests are compressed. They are, unless this is called with `false`.
    #[cfg(feature = "gzip")]
    pub fn gzip(mut self, gzip: bool) -> Self {
        self.http.gzip = gzip;
        self
    }

    /// Sends the requests through `proxy`.
    ///
    /// An app whose Matrix client uses a proxy or Tor must send its telemetry the same way.
    /// Otherwise PostHog sees the device's own address. No proxy of the system or of the
    /// environment is ever used.
    ///
    /// ```
    /// use matrix_analytics::PostHog;
    /// use matrix_sdk::reqwest::Proxy;
    ///
    /// let posthog = PostHog::builder("https://eu.i.posthog.com", "phc_project_key")
    ///     .proxy(Proxy::all("http://proxy.example.org:3128")?)
    ///     .build()?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Tor needs the feature `socks` of matrix-sdk, or of reqwest. With `socks5h`, Tor also
    /// resolves the name of the endpoint; `socks5` would ask the device's own name server.
    ///
    /// ```
    /// # use matrix_analytics::PostHog;
    /// # use matrix_sdk::reqwest::Proxy;
    /// let posthog = PostHog::builder("https://eu.i.posthog.com", "phc_project_key")
    ///     .proxy(Proxy::all("socks5h://127.0.0.1:9050")?)
    ///     .build()?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Without that feature, while the proxy cannot be reached, and if reqwest does not know the
    /// scheme of the proxy's URL, the events wait: a request never goes to the endpoint directly.
    /// If this is called several times, a request uses the first proxy that applies to the
    /// endpoint. If none applies, such as [`Proxy::http`] for an `https` endpoint, the events wait
    /// as well.
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.http.add_proxy(proxy);
        self
    }

    /// Trusts `certificate` as an issuer of the endpoint's certificate, in addition to the
    /// issuers that count anyway. Can be called several times.
    ///
    /// For a self-hosted PostHog whose certificate comes from an issuer of its own.
    ///
    /// ```no_run
    /// use matrix_analytics::PostHog;
    /// use matrix_sdk::reqwest::Certificate;
    ///
    /// let posthog = PostHog::builder("https://posthog.example.org", "phc_project_key")
    ///     .root_certificate(Certificate::from_pem(&std::fs::read("issuer.pem")?)?)
    ///     .build()?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
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
    /// [`PostHogBuildError`] if the endpoint or the key cannot be right, or if a root
    /// certificate is not one.
    pub fn build(self) -> Result<PostHog, PostHogBuildError> {
        let mut url = endpoint_url(&self.endpoint, &["batch", ""], &INTERFACES)?;
        check_key(&self.key.0)?;
        let v1 = if self.v1.unwrap_or_else(|| v1::is_known_at(&url)) {
            url = endpoint_url(&self.endpoint, &v1::PATH, &INTERFACES)?;
            Some(V1::new(&self.key).map_err(|_invalid| PostHogBuildError::ApiKey)?)
        } else {
            None
        };
        let http = HttpClient::new(self.http).map_err(PostHogBuildError::RootCertificate)?;
        Ok(PostHog { url, key: self.key, v1, http })
    }
}

/// The reason why a [`PostHog`] could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostHogBuildError {
    /// The key is empty, only white space, or has a control character.
    #[error("the API key is empty, only white space, or has a control character")]
    ApiKey,
    /// The key has a character that is not ASCII, which no key of a project has.
    #[error("the API key is not ASCII")]
    ApiKeyNotAscii,
    /// The key is a secret of a person or a project (`phx_…`, `phs_…`, `pha_…`, `phr_…`),
    /// which must not be shipped in an app. The key to use is the project's own
    /// (`phc_…`), which can only write.
    #[error("the API key is a secret, not the key of a project")]
    ApiKeySecret,
    /// The key is longer than 64 bytes, which PostHog refuses.
    #[error("the API key is longer than 64 bytes")]
    ApiKeyTooLong,
    /// The endpoint cannot be the base URL of a PostHog.
    #[error("the endpoint cannot be the base URL of a PostHog")]
    Endpoint(#[from] EndpointError),
    /// The HTTP library does not accept the root certificates.
    #[error("the HTTP library does not accept the root certificates")]
    RootCertificate(#[source] BoxError),
}

/// Refuses the keys that PostHog's `rust/capture/src/token.rs` refuses, and every key that
/// `posthog/models/utils.py` makes as a secret: personal (`phx_`), of a project (`phs_`),
/// and OAuth tokens (`pha_`, `phr_`).
fn check_key(key: &str) -> Result<(), PostHogBuildError> {
    const LONGEST: usize = 64;
    const SECRET: [&str; 4] = ["pha_", "phr_", "phs_", "phx_"];

    if key.trim().is_empty() || key.chars().any(char::is_control) {
        return Err(PostHogBuildError::ApiKey);
    }
    // PostHog trims the key before it looks at it.
    if SECRET.iter().any(|prefix| key.trim().starts_with(prefix)) {
        return Err(PostHogBuildError::ApiKeySecret);
    }
    if !key.is_ascii() {
        return Err(PostHogBuildError::ApiKeyNotAscii);
    }
    if key.len() > LONGEST {
        return Err(PostHogBuildError::ApiKeyTooLong);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;

    #[test]
    fn batch_is_appended_to_the_endpoint() {
        for (endpoint, url) in [
            ("https://eu.i.posthog.com", "https://eu.i.posthog.com/batch/"),
            ("https://eu.i.posthog.com/", "https://eu.i.posthog.com/batch/"),
            ("http://localhost:8000", "http://localhost:8000/batch/"),
            ("https://example.org/posthog", "https://example.org/posthog/batch/"),
            ("https://example.org/a/b/", "https://example.org/a/b/batch/"),
            ("HTTPS://EXAMPLE.ORG", "https://example.org/batch/"),
            ("https://[::1]:8443/ph", "https://[::1]:8443/ph/batch/"),
        ] {
            let posthog = PostHog::builder(endpoint, "phc_key").v1(false).build().unwrap();
            assert_eq!(posthog.url.as_str(), url, "{endpoint}");
        }
    }

    #[test]
    fn each_project_at_a_host_has_a_label_of_its_own() {
        let label = |endpoint: &str, key: &str| {
            Backend::default_label(&PostHogBuilder::new(endpoint, key).build().unwrap()).unwrap()
        };
        let cloud = "https://eu.i.posthog.com";
        let label_of_one = label(cloud, "phc_one");
        assert_ne!(label_of_one, label(cloud, "phc_two"));
        assert_ne!(label_of_one, label("https://us.i.posthog.com", "phc_one"));
        assert_eq!(label_of_one, label(cloud, " phc_one "));
    }

    #[test]
    fn the_endpoint_decides_about_the_path_unless_the_app_does() {
        let path = |endpoint: &str, v1: Option<bool>| {
            let builder = PostHogBuilder { v1, ..PostHogBuilder::new(endpoint, "phc_key") };
            let posthog = builder.build().unwrap();
            assert_eq!(posthog.v1.is_some(), posthog.url.path().ends_with("/events"));
            posthog.url.to_string()
        };
        for (endpoint, default) in [
            ("https://eu.i.posthog.com", "i/v1/analytics/events"),
            ("https://us.i.posthog.com", "i/v1/analytics/events"),
            ("https://posthog.example.org", "batch/"),
            ("https://example.org/prefix", "batch/"),
        ] {
            assert_eq!(path(endpoint, None), format!("{endpoint}/{default}"));
            assert_eq!(path(endpoint, Some(true)), format!("{endpoint}/i/v1/analytics/events"));
            assert_eq!(path(endpoint, Some(false)), format!("{endpoint}/batch/"));
        }
    }
}
