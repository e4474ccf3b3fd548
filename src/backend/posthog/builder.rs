//! The builder of a [`PostHog`].

use std::{fmt, time::Duration};

use reqwest::{Client, Url};

use super::{ApiKey, PostHog};
use crate::backend::{
    BoxError,
    http::{ClientFactory, HttpClient},
};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A builder of a [`PostHog`]; created by [`PostHog::builder`].
#[must_use = "a builder does nothing until it is built"]
pub struct PostHogBuilder {
    endpoint: String,
    key: ApiKey,
    make_client: Option<ClientFactory>,
    timeout: Duration,
    #[cfg(feature = "posthog-gzip")]
    gzip: bool,
}

/// Prints the timeout only, because the endpoint may have credentials and the key is secret.
impl fmt::Debug for PostHogBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostHogBuilder").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl PostHogBuilder {
    pub(super) fn new(endpoint: &str, api_key: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            key: ApiKey(api_key.into()),
            make_client: None,
            timeout: REQUEST_TIMEOUT,
            #[cfg(feature = "posthog-gzip")]
            gzip: false,
        }
    }

    /// Compresses the requests.
    #[cfg(feature = "posthog-gzip")]
    pub fn gzip(mut self) -> Self {
        self.gzip = true;
        self
    }

    /// Gets the HTTP client from `factory`, which is called when the first
    /// batch leaves, and again after each [`close`](crate::Backend::close).
    ///
    /// An app whose Matrix client goes through a proxy or Tor must send its telemetry the same
    /// way. Otherwise it goes to PostHog from the device's own address. A proxy of the system or
    /// of the environment is used only by a client that `factory` makes without `no_proxy()`.
    ///
    /// The client must be a new one at each call, or [`close`](crate::Backend::close)
    /// cannot close its connections. It must not follow redirects: a
    /// redirect could lead to another service, which is counted as a failure only after the
    /// events have arrived there. It should have no default headers, no cookies and no connections that are used for
    /// anything else; with HTTP/1 only, a request that is cut also ends its
    /// connection. On Linux and Android, set a short `tcp_user_timeout` (ours is 5
    /// seconds, reqwest's is 30): it bounds how long a connection that closes waits for
    /// a service that does not read. The timeout of this builder applies to it too.
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

    /// Sets how long a request may take, from the connection to the answer; 10 s if not set.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Creates the backend. Connects to nothing and sends nothing.
    ///
    /// # Errors
    ///
    /// [`PostHogBuildError`] if the endpoint or the key cannot be right.
    pub fn build(self) -> Result<PostHog, PostHogBuildError> {
        let url = batch_url(&self.endpoint)?;
        check_key(&self.key.0)?;
        Ok(PostHog {
            url,
            key: self.key,
            http: HttpClient::new(self.make_client),
            timeout: self.timeout,
            #[cfg(feature = "posthog-gzip")]
            gzip: self.gzip,
        })
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

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(batch_url(endpoint).unwrap().as_str(), url, "{endpoint}");
        }
    }
}
