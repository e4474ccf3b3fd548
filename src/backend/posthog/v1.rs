//! The capture endpoint that answers for each event.

mod answer;
mod attempts;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::{
    Url,
    header::{self, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue},
};

pub(super) use self::answer::{longest_answer, verdict};
use self::attempts::{Attempt, Attempts};
use super::ApiKey;
use crate::{backend::Batch, event::unix_time};

/// The path of the endpoint, in segments.
pub(super) const PATH: [&str; 4] = ["i", "v1", "analytics", "events"];

/// The name and version that the endpoint requires of a sender, and from which PostHog sets `$lib`
/// and `$lib_version` of each event.
const SDK_INFO: HeaderValue =
    HeaderValue::from_static(concat!("matrix-analytics/", env!("CARGO_PKG_VERSION")));

const ATTEMPT: HeaderName = HeaderName::from_static("posthog-attempt");
const REQUEST_ID: HeaderName = HeaderName::from_static("posthog-request-id");
const REQUEST_TIMESTAMP: HeaderName = HeaderName::from_static("posthog-request-timestamp");
const SDK: HeaderName = HeaderName::from_static("posthog-sdk-info");

/// The parts of a request that only this endpoint has.
pub(super) struct V1 {
    authorization: HeaderValue,
    attempts: Attempts,
}

impl V1 {
    pub(super) fn new(key: &ApiKey) -> Result<Self, InvalidHeaderValue> {
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", key.0.trim()))?;
        authorization.set_sensitive(true);
        Ok(Self { authorization, attempts: Attempts::default() })
    }

    /// Adds the headers for the next attempt to send `batch` to `headers`. PostHog answers a
    /// request without one of them with 400.
    pub(super) fn add_headers(&self, headers: &mut HeaderMap, batch: &Batch) {
        let Attempt { request, number } = self.attempts.next(batch);
        headers.insert(header::AUTHORIZATION, self.authorization.clone());
        headers.insert(header::USER_AGENT, SDK_INFO);
        headers.insert(SDK, SDK_INFO);
        headers.insert(ATTEMPT, number.into());
        for (name, value) in
            [(REQUEST_ID, request.to_string()), (REQUEST_TIMESTAMP, unix_time::rfc3339(now()))]
        {
            // Neither has a character that no header can have.
            if let Ok(value) = value.try_into() {
                headers.insert(name, value);
            }
        }
    }

    /// Forgets the last request.
    pub(super) fn forget(&self) {
        self.attempts.forget();
    }
}

/// Returns the time to the second. A finer one would show by how much this device's clock is
/// wrong, by which two recipients could recognise the device.
pub(super) fn now() -> SystemTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

/// Returns whether the endpoint at `url` is one of PostHog's own, which answer for each event.
pub(super) fn is_known_at(url: &Url) -> bool {
    url.host_str().is_some_and(|host| host.ends_with(".i.posthog.com"))
}
