//! Classifies an HTTP response.

use std::time::{Duration, SystemTime};

use reqwest::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};

use super::HttpError;
use crate::backend::DeliveryError;

/// A response.
pub(in crate::backend) struct Answer {
    pub(in crate::backend) status: StatusCode,
    /// The time that the service asked to wait.
    pub(in crate::backend) retry_after: Option<Duration>,
    pub(in crate::backend) body: AnswerBody,
}

/// The body of a response.
pub(crate) enum AnswerBody {
    /// It ended before it was complete.
    Incomplete,
    /// It has more bytes than are read.
    TooLong,
    Whole(Vec<u8>),
}

impl Answer {
    pub(super) fn new(status: StatusCode, headers: &HeaderMap, body: AnswerBody) -> Self {
        let retry_after = headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| parse_retry_after(value, SystemTime::now()));
        Self { status, retry_after, body }
    }

    /// Returns the body, for a service whose body says what became of the batch; `None` if it
    /// has more bytes than are read.
    ///
    /// # Errors
    ///
    /// Fails if the body is incomplete.
    pub(in crate::backend) fn body(&self) -> Result<Option<&[u8]>, DeliveryError> {
        match &self.body {
            AnswerBody::Incomplete => {
                Err(DeliveryError::Transient(HttpError::Incomplete(self.status).boxed()))
            }
            AnswerBody::TooLong => Ok(None),
            AnswerBody::Whole(bytes) => Ok(Some(bytes)),
        }
    }

    /// Returns the meaning of the status, for a service that accepts either the whole
    /// batch or nothing.
    ///
    /// Only a status that blames the batch itself can cost events. A status that the
    /// service never sends comes from a wrong URL or a proxy, which can be corrected while
    /// the events wait.
    #[cfg_attr(
        not(any(feature = "matomo", feature = "posthog", test)),
        expect(dead_code, reason = "OTLP has its own meaning of a status")
    )]
    pub(in crate::backend) fn verdict(&self) -> Result<(), DeliveryError> {
        let Self { status, retry_after, .. } = *self;
        let source = HttpError::Status(status).boxed();
        Err(match status.as_u16() {
            200..=299 => return Ok(()),
            400 | 422 => DeliveryError::Rejected(source),
            401 | 403 => DeliveryError::Unauthorized(source),
            413 => DeliveryError::TooLarge(source),
            429 => DeliveryError::Throttled { retry_after, source },
            503 if retry_after.is_some() => DeliveryError::Throttled { retry_after, source },
            // The server does not support the method or the HTTP version.
            501 | 505 => DeliveryError::Misconfigured(source),
            408 | 425 | 500..=599 => DeliveryError::Transient(source),
            _ => DeliveryError::Misconfigured(source),
        })
    }
}

/// Parses a `Retry-After` header, which is a number of seconds or a date.
fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn outcome(status: u16, retry_after: Option<Duration>) -> String {
        let status = StatusCode::from_u16(status).unwrap();
        let body = AnswerBody::Whole(Vec::new());
        let result = Answer { status, retry_after, body }.verdict();
        let mut name = match result {
            Ok(()) => "ok".to_owned(),
            Err(DeliveryError::Misconfigured(_)) => "misconfigured".to_owned(),
            Err(DeliveryError::Partial(_)) => "partial".to_owned(),
            Err(DeliveryError::PerEvent { .. }) => "per event".to_owned(),
            Err(DeliveryError::Refused { .. }) => "refused".to_owned(),
            Err(DeliveryError::Rejected(_)) => "rejected".to_owned(),
            Err(DeliveryError::Throttled { .. }) => "throttled".to_owned(),
            Err(DeliveryError::TooLarge(_)) => "too large".to_owned(),
            Err(DeliveryError::Transient(_)) => "transient".to_owned(),
            Err(DeliveryError::Unauthorized(_)) => "unauthorized".to_owned(),
        };
        if let Err(DeliveryError::Throttled { retry_after: Some(wait), .. }) = result {
            write!(name, " {}", wait.as_secs()).unwrap();
        }
        name
    }

    #[test]
    fn every_status_has_a_verdict() {
        let asked = Some(Duration::from_secs(7));
        for (status, without_retry_after, with_retry_after) in [
            (200, "ok", "ok"),
            (204, "ok", "ok"),
            (299, "ok", "ok"),
            (300, "misconfigured", "misconfigured"),
            (302, "misconfigured", "misconfigured"),
            (304, "misconfigured", "misconfigured"),
            (307, "misconfigured", "misconfigured"),
            (400, "rejected", "rejected"),
            (401, "unauthorized", "unauthorized"),
            (402, "misconfigured", "misconfigured"),
            (403, "unauthorized", "unauthorized"),
            (404, "misconfigured", "misconfigured"),
            (405, "misconfigured", "misconfigured"),
            (407, "misconfigured", "misconfigured"),
            (408, "transient", "transient"),
            (410, "misconfigured", "misconfigured"),
            (413, "too large", "too large"),
            (415, "misconfigured", "misconfigured"),
            (418, "misconfigured", "misconfigured"),
            (422, "rejected", "rejected"),
            (425, "transient", "transient"),
            (429, "throttled", "throttled 7"),
            (500, "transient", "transient"),
            (501, "misconfigured", "misconfigured"),
            (502, "transient", "transient"),
            (503, "transient", "throttled 7"),
            (504, "transient", "transient"),
            (505, "misconfigured", "misconfigured"),
            (511, "transient", "transient"),
            (599, "transient", "transient"),
            (600, "misconfigured", "misconfigured"),
            (999, "misconfigured", "misconfigured"),
        ] {
            assert_eq!(outcome(status, None), without_retry_after, "{status}");
            assert_eq!(outcome(status, asked), with_retry_after, "{status} and Retry-After");
        }
    }

    #[test]
    fn only_a_status_that_blames_the_batch_can_drop_an_event() {
        for status in 100..=999 {
            let can_drop = matches!(&*outcome(status, None), "rejected" | "too large");
            assert_eq!(can_drop, [400, 413, 422].contains(&status), "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let seconds = |value| parse_retry_after(value, now).map(|wait| wait.as_secs());
        for (value, wait) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 5 ", Some(5)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60)),
            ("Sun Nov  6 08:50:37 1994", Some(60)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:48:37 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("99999999999999999999999", None),
            ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ] {
            assert_eq!(seconds(value), wait, "{value:?}");
        }
    }
}
