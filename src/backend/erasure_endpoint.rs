//! An erasure through an HTTP endpoint of the app's own.

mod builder;

use std::fmt;

use reqwest::{
    StatusCode, Url,
    header::{self, HeaderMap, HeaderValue},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::builder::{ErasureEndpointBuildError, ErasureEndpointBuilder};
use super::{
    BoxError, DeliveryError,
    erasure::{Erasure, ErasureError, ErasureRequest},
    http::{Answer, AnswerBody, HttpClient, HttpError, host_of},
};

/// An erasure through an HTTP endpoint of the app's own, which asks the service to delete.
///
/// Services such as PostHog and Matomo delete only for a caller with a secret that may read and
/// change all data. No client may hold that, so the app needs a server of its own.
/// `docs/erasure.md` says what the server does for both.
///
/// ```
/// use matrix_analytics::ErasureEndpoint;
///
/// let erasure = ErasureEndpoint::new("https://telemetry.example.org/erase")?;
/// # Ok::<_, matrix_analytics::ErasureEndpointBuildError>(())
/// ```
///
/// # The request
///
/// ```text
/// POST /erase HTTP/1.1
/// content-type: application/json
/// idempotency-key: 2b1d7d2e-6f0c-4a38-9a1d-3c1f1b9f6d0e
///
/// {"identifier":"9f1c2d7e-…","recipient":"eu.i.posthog.com"}
/// ```
///
/// `identifier` is the one under which the recipient stores the person, and `recipient` its
/// [label](crate::Recipient::label), or else its host, or its name.
/// There are no other headers but `content-length`, `accept` and `host`, and no user agent. Each
/// request has a connection of its own, which is closed after it.
///
/// # The answer
///
/// A 2xx whose body is a JSON object in which `accepted` is the key of the request:
///
/// ```json
/// {"accepted": "2b1d7d2e-6f0c-4a38-9a1d-3c1f1b9f6d0e"}
/// ```
///
/// The endpoint answers so once it has stored the request for good, at the latest. Anything else
/// counts as a failure, because a captive portal or a proxy answers with 200 as well:
///
/// | answer | [`ErasureError`] |
/// |---|---|
/// | 2xx with anything else in its body | `Misconfigured` |
/// | 400, 413, 422 | `Rejected` |
/// | 401, 403 | `Unauthorized` |
/// | 429, and 503 with `Retry-After` | `Throttled` |
/// | 408, 425, other 5xx but 501 and 505, a 2xx that ends early, no answer | `Unreachable` |
/// | everything else, such as 404 or a redirect | `Misconfigured` |
///
/// # Environment
///
/// The HTTP client reads nothing from the environment, in particular no proxy. The TLS library
/// loads the system's certificates; on Linux and other Unix systems it reads `SSL_CERT_FILE` and
/// `SSL_CERT_DIR` for that. On Android, the issuers that Mozilla trusts count.
pub struct ErasureEndpoint {
    url: Url,
    http: HttpClient,
}

/// Prints only the origin, because a path may be secret.
impl fmt::Debug for ErasureEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErasureEndpoint")
            .field("url", &self.url.origin().ascii_serialization())
            .finish_non_exhaustive()
    }
}

impl ErasureEndpoint {
    /// Creates an erasure through the endpoint at `url`, to which nothing is appended. Connects to
    /// nothing yet.
    ///
    /// # Errors
    ///
    /// [`ErasureEndpointBuildError`] if the URL cannot be right.
    pub fn new(url: &str) -> Result<Self, ErasureEndpointBuildError> {
        Self::builder(url).build()
    }

    /// Creates a builder, for an erasure with other settings than those of
    /// [`ErasureEndpoint::new`].
    pub fn builder(url: &str) -> ErasureEndpointBuilder {
        ErasureEndpointBuilder::new(url)
    }
}

#[derive(Serialize)]
struct Body<'a> {
    identifier: &'a str,
    recipient: &'a str,
}

impl Erasure for ErasureEndpoint {
    async fn erase(&self, request: &ErasureRequest) -> Result<(), ErasureError> {
        let (identifier, recipient) = (request.identifier(), request.recipient());
        let body = serde_json::to_vec(&Body { identifier, recipient })
            .map_err(|error| ErasureError::Rejected(error.into()))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let key = HeaderValue::from_str(&request.key().hyphenated().to_string());
        let key = key.map_err(|error| ErasureError::Rejected(error.into()))?;
        headers.insert("idempotency-key", key);
        let _close = CloseWhenDropped(&self.http);
        let answer = self.http.post(&self.url, headers, body).await.map_err(no_answer)?;
        verdict(&answer, request.key())
    }

    fn host(&self) -> Option<String> {
        host_of(&self.url)
    }
}

/// Closes the connection of a request: the next one may be for another identifier.
struct CloseWhenDropped<'a>(&'a HttpClient);

impl Drop for CloseWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn no_answer(error: DeliveryError) -> ErasureError {
    match error {
        DeliveryError::Misconfigured(source) => ErasureError::Misconfigured(source),
        error => ErasureError::Unreachable(error.into()),
    }
}

/// Returns the meaning of the answer to the request with `key`.
fn verdict(answer: &Answer, key: Uuid) -> Result<(), ErasureError> {
    let Answer { status, retry_after, .. } = *answer;
    if status.is_success() {
        return confirmation(status, &answer.body, key);
    }
    let source: BoxError = HttpError::Status(status).boxed();
    Err(match status.as_u16() {
        400 | 413 | 422 => ErasureError::Rejected(source),
        401 | 403 => ErasureError::Unauthorized(source),
        429 => ErasureError::Throttled { retry_after, source },
        503 if retry_after.is_some() => ErasureError::Throttled { retry_after, source },
        501 | 505 => ErasureError::Misconfigured(source),
        408 | 425 | 500..=599 => ErasureError::Unreachable(source),
        _ => ErasureError::Misconfigured(source),
    })
}

fn confirmation(status: StatusCode, body: &AnswerBody, key: Uuid) -> Result<(), ErasureError> {
    #[derive(Deserialize)]
    struct Accepted {
        accepted: String,
    }

    let unreadable = || ErasureError::Misconfigured(HttpError::Unreadable(status).boxed());
    match body {
        AnswerBody::Incomplete => {
            Err(ErasureError::Unreachable(HttpError::Incomplete(status).boxed()))
        }
        AnswerBody::TooLong => Err(unreadable()),
        AnswerBody::Whole(body) => {
            let accepted = serde_json::from_slice::<Accepted>(body).map_err(|_| unreadable())?;
            let is_ours = Uuid::parse_str(&accepted.accepted).is_ok_and(|accepted| accepted == key);
            if is_ours { Ok(()) } else { Err(unreadable()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const KEY: &str = "2b1d7d2e-6f0c-4a38-9a1d-3c1f1b9f6d0e";

    fn outcome(status: u16, retry_after: Option<Duration>, body: AnswerBody) -> &'static str {
        let status = StatusCode::from_u16(status).unwrap();
        match verdict(&Answer { status, retry_after, body }, KEY.parse().unwrap()) {
            Ok(()) => "ok",
            Err(ErasureError::Misconfigured(_)) => "misconfigured",
            Err(ErasureError::Rejected(_)) => "rejected",
            Err(ErasureError::Throttled { retry_after: Some(_), .. }) => "throttled for a time",
            Err(ErasureError::Throttled { .. }) => "throttled",
            Err(ErasureError::Unauthorized(_)) => "unauthorized",
            Err(ErasureError::Unreachable(_)) => "unreachable",
        }
    }

    fn whole(body: &str) -> AnswerBody {
        AnswerBody::Whole(body.as_bytes().to_vec())
    }

    #[test]
    fn only_an_answer_that_names_the_key_is_a_success() {
        let other = "7f1d7d2e-6f0c-4a38-9a1d-3c1f1b9f6d0e";
        for (body, expected) in [
            (whole(&format!(r#"{{"accepted":"{KEY}"}}"#)), "ok"),
            (whole(&format!(r#"{{"accepted":"{KEY}","job":7}}"#)), "ok"),
            (whole(&format!(r#"{{"accepted":"{other}"}}"#)), "misconfigured"),
            (whole(r#"{"accepted":true}"#), "misconfigured"),
            (whole("<html>Log in to the network</html>"), "misconfigured"),
            (whole(KEY), "misconfigured"),
            (whole(""), "misconfigured"),
            (AnswerBody::TooLong, "misconfigured"),
            (AnswerBody::Incomplete, "unreachable"),
        ] {
            assert_eq!(outcome(200, None, body), expected);
        }
        for status in [201, 202, 299] {
            let body = whole(&format!(r#"{{"accepted":"{KEY}"}}"#));
            assert_eq!(outcome(status, None, body), "ok");
        }
        for status in (100..200).chain(300..=999) {
            let body = whole(&format!(r#"{{"accepted":"{KEY}"}}"#));
            assert_ne!(outcome(status, None, body), "ok", "{status}");
        }
    }

    #[test]
    fn every_other_status_has_a_cause() {
        let asked = Some(Duration::from_secs(7));
        for (status, without_retry_after, with_retry_after) in [
            (302, "misconfigured", "misconfigured"),
            (400, "rejected", "rejected"),
            (401, "unauthorized", "unauthorized"),
            (403, "unauthorized", "unauthorized"),
            (404, "misconfigured", "misconfigured"),
            (408, "unreachable", "unreachable"),
            (413, "rejected", "rejected"),
            (422, "rejected", "rejected"),
            (425, "unreachable", "unreachable"),
            (429, "throttled", "throttled for a time"),
            (500, "unreachable", "unreachable"),
            (501, "misconfigured", "misconfigured"),
            (502, "unreachable", "unreachable"),
            (503, "unreachable", "throttled for a time"),
            (505, "misconfigured", "misconfigured"),
            (999, "misconfigured", "misconfigured"),
        ] {
            assert_eq!(outcome(status, None, whole("")), without_retry_after, "{status}");
            assert_eq!(outcome(status, asked, whole("")), with_retry_after, "{status}");
        }
    }
}
