//! The builder of a [`Matomo`].

use std::{fmt, time::Duration};

use reqwest::{Certificate, Proxy};

use super::{
    Matomo,
    limits::{LONGEST_TEXT, stored_length},
    mapping::{DimensionSource, Mapping},
};
use crate::backend::{
    BoxError,
    http::{EndpointError, HttpClient, HttpSettings, endpoint_url},
};

/// The names of the tracking API, one of which this backend appends, and of the user interface.
const SCRIPTS: [&str; 4] = ["/matomo.php", "/piwik.php", "/index.php", "/js/tracker.php"];

/// The largest number of a custom dimension.
const MOST_DIMENSIONS: u16 = 999;

/// A builder of a [`Matomo`]; created by [`Matomo::builder`].
#[must_use = "a builder does nothing until it is built"]
pub struct MatomoBuilder {
    endpoint: String,
    mapping: Mapping,
    http: HttpSettings,
}

/// Prints the site and the timeout only, because the endpoint and a proxy may hold credentials.
impl fmt::Debug for MatomoBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MatomoBuilder")
            .field("site_id", &self.mapping.site_id)
            .field("timeout", &self.http.timeout)
            .finish_non_exhaustive()
    }
}

impl MatomoBuilder {
    pub(super) fn new(endpoint: &str, site_id: u32) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            mapping: Mapping {
                site_id,
                url: None,
                category: "event".to_owned(),
                category_properties: Vec::new(),
                name_properties: Vec::new(),
                value_properties: Vec::new(),
                dimensions: Vec::new(),
            },
            http: HttpSettings::uncompressed(),
        }
    }

    /// Sets the category of the events, `event` if not set. An event that has one of the
    /// [`category_property`](Self::category_property) is of that category instead.
    pub fn category(mut self, category: impl Into<String>) -> Self {
        self.mapping.category = category.into();
        self
    }

    /// Makes the property `key` the category of the events that have it. Can be called several
    /// times: the first that an event has counts.
    pub fn category_property(mut self, key: &'static str) -> Self {
        self.mapping.category_properties.push(key);
        self
    }

    /// Makes the property `key` what Matomo calls the name of an event, a text that says more of
    /// the action. Can be called several times: the first that an event has counts.
    pub fn name_property(mut self, key: &'static str) -> Self {
        self.mapping.name_properties.push(key);
        self
    }

    /// Makes the number in the property `key` the value of the events that have it, rounded to 14
    /// digits. Can be called several times: the first that an event has counts.
    pub fn value_property(mut self, key: &'static str) -> Self {
        self.mapping.value_properties.push(key);
        self
    }

    /// Shows the property `key` in the custom dimension with this number, whose scope must be
    /// *action*. Matomo drops the values of a dimension that its site does not have.
    pub fn dimension(self, number: u16, key: &'static str) -> Self {
        self.add_dimension(number, DimensionSource::Property(key))
    }

    /// Shows the user property `key` in the custom dimension with this number, whose scope must
    /// be *visit*. Matomo drops the values of a dimension that its site does not have.
    pub fn user_dimension(self, number: u16, key: &'static str) -> Self {
        self.add_dimension(number, DimensionSource::UserProperty(key))
    }

    /// Shows the unique ID of each event in the custom dimension with this number, whose scope
    /// must be *action*, so that events that were stored twice can be found.
    pub fn unique_id_dimension(self, number: u16) -> Self {
        self.add_dimension(number, DimensionSource::UniqueId)
    }

    /// Sets the URL of the site that the events are of, for a site of which Matomo counts only
    /// events from its own URLs. It must be the same for all users. None is sent if this is not
    /// called.
    pub fn site_url(mut self, url: impl Into<String>) -> Self {
        self.mapping.url = Some(url.into());
        self
    }

    /// Sends the requests through `proxy`. A request uses the first proxy that applies to the
    /// endpoint, and is never sent without one if there is any.
    ///
    /// An app whose Matrix client uses a proxy or Tor must send its telemetry the same way.
    /// Otherwise Matomo sees the device's own address. No proxy of the system or of the
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

    /// Creates the backend. Connects to nothing and sends nothing.
    ///
    /// # Errors
    ///
    /// [`MatomoBuildError`] if the endpoint, the site, the mapping or a root certificate cannot be
    /// right.
    pub fn build(self) -> Result<Matomo, MatomoBuildError> {
        let url = endpoint_url(&self.endpoint, &["matomo.php"], &SCRIPTS)?;
        check(&self.mapping)?;
        let http = HttpClient::new(self.http).map_err(MatomoBuildError::RootCertificate)?;
        Ok(Matomo { url, mapping: self.mapping, http })
    }

    fn add_dimension(mut self, number: u16, source: DimensionSource) -> Self {
        self.mapping.dimensions.push((number, source));
        self
    }
}

fn check(mapping: &Mapping) -> Result<(), MatomoBuildError> {
    let is_text = |text: &str| !text.trim().is_empty() && stored_length(text) <= LONGEST_TEXT;
    if mapping.site_id == 0 {
        return Err(MatomoBuildError::SiteId);
    }
    if !is_text(&mapping.category) {
        return Err(MatomoBuildError::Category);
    }
    if mapping.url.as_deref().is_some_and(|url| !is_text(url) || reqwest::Url::parse(url).is_err())
    {
        return Err(MatomoBuildError::SiteUrl);
    }
    for (place, (number, _source)) in mapping.dimensions.iter().enumerate() {
        if !(1..=MOST_DIMENSIONS).contains(number) {
            return Err(MatomoBuildError::Dimension { number: *number });
        }
        if mapping.dimensions[..place].iter().any(|(earlier, _)| earlier == number) {
            return Err(MatomoBuildError::DimensionTwice { number: *number });
        }
    }
    Ok(())
}

/// The reason why a [`Matomo`] could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MatomoBuildError {
    /// The category is empty, only white space, or too long.
    #[error("the category is empty, only white space, or too long")]
    Category,
    /// A custom dimension has a number that none can have, which is 1 to 999.
    #[error("no custom dimension has the number {number}")]
    Dimension {
        /// The number.
        number: u16,
    },
    /// Two custom dimensions have the same number.
    #[error("two custom dimensions have the number {number}")]
    DimensionTwice {
        /// The number.
        number: u16,
    },
    /// The endpoint cannot be the base URL of a Matomo.
    #[error("the endpoint cannot be the base URL of a Matomo")]
    Endpoint(#[from] EndpointError),
    /// The HTTP library does not accept the root certificates.
    #[error("the HTTP library does not accept the root certificates")]
    RootCertificate(#[source] BoxError),
    /// The ID of the site is 0.
    #[error("the ID of the site is 0")]
    SiteId,
    /// The URL of the site is not one, or too long.
    #[error("the URL of the site is not one, or too long")]
    SiteUrl,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> MatomoBuilder {
        Matomo::builder("https://matomo.example.org", 1)
    }

    fn error(builder: MatomoBuilder) -> String {
        format!("{:?}", builder.build().unwrap_err())
    }

    #[test]
    fn a_mapping_that_cannot_be_right_is_a_build_error() {
        assert!(builder().build().is_ok());
        let category = |text: &str| builder().category(text);
        for (builder, expected) in [
            (Matomo::builder("https://matomo.example.org", 0), "SiteId"),
            (Matomo::builder("https://matomo.example.org/matomo.php", 1), "Endpoint(Path)"),
            (Matomo::builder("https://matomo.example.org/piwik.php", 1), "Endpoint(Path)"),
            (Matomo::builder("https://matomo.example.org/index.php", 1), "Endpoint(Path)"),
            (Matomo::builder("https://matomo.example.org?idsite=1", 1), "Endpoint(Query)"),
            (Matomo::builder("https://u:p@matomo.example.org", 1), "Endpoint(Credentials)"),
            (Matomo::builder("ftp://matomo.example.org", 1), "Endpoint(Scheme)"),
            (category(""), "Category"),
            (category(" \t"), "Category"),
            (category(&"c".repeat(LONGEST_TEXT + 1)), "Category"),
            (category(&"&".repeat(LONGEST_TEXT / 5 + 1)), "Category"),
            (builder().site_url(""), "SiteUrl"),
            (builder().site_url("no URL"), "SiteUrl"),
            (builder().dimension(0, "a"), "Dimension { number: 0 }"),
            (builder().unique_id_dimension(1000), "Dimension { number: 1000 }"),
            (builder().dimension(3, "a").user_dimension(3, "b"), "DimensionTwice { number: 3 }"),
        ] {
            assert_eq!(error(builder), expected);
        }
        let largest = builder().category("c".repeat(LONGEST_TEXT)).dimension(999, "a");
        let most = largest.dimension(1, "a").site_url("https://app.example.org/");
        assert!(most.build().is_ok());
    }

    #[test]
    fn requests_go_to_the_tracking_api_below_the_endpoint() {
        for (endpoint, url) in [
            ("https://matomo.example.org", "https://matomo.example.org/matomo.php"),
            ("https://example.org/stats/", "https://example.org/stats/matomo.php"),
        ] {
            let matomo = Matomo::new(endpoint, 7).unwrap();
            assert_eq!(matomo.url.as_str(), url);
        }
    }
}
