//! The URL that an HTTP backend posts to.

use reqwest::Url;

use crate::backend::BoxError;

/// The reason why an endpoint cannot be the base URL of a service.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The endpoint has a user name or a password.
    #[error("the endpoint has a user name or a password")]
    Credentials,
    /// The endpoint ends with a path that the backend appends by itself, or with the path of
    /// another interface of the service.
    #[error("the endpoint has a path that is not a part of the base URL")]
    Path,
    /// The endpoint has a query or a fragment.
    #[error("the endpoint has a query or a fragment")]
    Query,
    /// The endpoint's scheme is neither `http` nor `https`.
    #[error("the endpoint's scheme is neither http nor https")]
    Scheme,
    /// The endpoint is not a URL with a host.
    #[error("the endpoint is not a URL with a host")]
    Url(#[source] BoxError),
}

/// Returns the URL of `path` below the base URL `endpoint`.
///
/// # Errors
///
/// Fails if `endpoint` cannot be a base URL, or if its path ends with one of `wrong_ends`.
pub(in crate::backend) fn endpoint_url(
    endpoint: &str,
    path: &[&str],
    wrong_ends: &[&str],
) -> Result<Url, EndpointError> {
    let mut url = whole_url(endpoint)?;
    let base = url.path().trim_end_matches('/');
    if wrong_ends.iter().any(|end| base.ends_with(end)) {
        return Err(EndpointError::Path);
    }
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    Ok(url)
}

/// Returns the URL `endpoint`, to which nothing is appended.
///
/// # Errors
///
/// Fails if `endpoint` cannot be a URL to post to.
pub(crate) fn whole_url(endpoint: &str) -> Result<Url, EndpointError> {
    let url = Url::parse(endpoint).map_err(|error| EndpointError::Url(error.into()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(EndpointError::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(EndpointError::Credentials);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(EndpointError::Query);
    }
    Ok(url)
}

/// Returns the host of `url`, with its port if that is not the one of the scheme.
pub(in crate::backend) fn host_of(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(url.port().map_or(host.to_owned(), |port| format!("{host}:{port}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(endpoint: &str) -> String {
        match endpoint_url(endpoint, &["v1", "logs"], &["/v1/logs", "/v1/traces"]) {
            Ok(url) => url.to_string(),
            Err(EndpointError::Credentials) => "credentials".to_owned(),
            Err(EndpointError::Path) => "path".to_owned(),
            Err(EndpointError::Query) => "query".to_owned(),
            Err(EndpointError::Scheme) => "scheme".to_owned(),
            Err(EndpointError::Url(_)) => "url".to_owned(),
        }
    }

    #[test]
    fn the_path_is_appended_to_a_base_url_and_nothing_else_is_taken() {
        for (endpoint, expected) in [
            ("https://example.org", "https://example.org/v1/logs"),
            ("https://example.org/", "https://example.org/v1/logs"),
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/logs"),
            ("https://example.org/otlp", "https://example.org/otlp/v1/logs"),
            ("https://example.org/a/b/", "https://example.org/a/b/v1/logs"),
            ("HTTPS://EXAMPLE.ORG", "https://example.org/v1/logs"),
            ("https://[::1]:8443/v1", "https://[::1]:8443/v1/v1/logs"),
            ("https://example.org/v1/logs", "path"),
            ("https://example.org/v1/logs/", "path"),
            ("https://example.org/a/v1/traces", "path"),
            ("https://user@example.org", "credentials"),
            ("https://user:password@example.org", "credentials"),
            ("https://:password@example.org", "credentials"),
            ("https://example.org?key=value", "query"),
            ("https://example.org/?", "query"),
            ("https://example.org/#part", "query"),
            ("ftp://example.org", "scheme"),
            ("file:///tmp/logs", "scheme"),
            ("localhost:4318", "scheme"),
            ("example.org", "url"),
            ("", "url"),
            ("https://", "url"),
        ] {
            assert_eq!(outcome(endpoint), expected, "{endpoint:?}");
        }
    }

    #[test]
    fn the_host_has_its_port_unless_the_scheme_implies_it() {
        for (url, host) in [
            ("https://example.org/a", "example.org"),
            ("https://example.org:443", "example.org"),
            ("http://example.org:443", "example.org:443"),
            ("http://[::1]:4318", "[::1]:4318"),
        ] {
            assert_eq!(host_of(&Url::parse(url).unwrap()).as_deref(), Some(host));
        }
    }
}
