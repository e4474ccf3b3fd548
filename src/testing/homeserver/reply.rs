//! Answers, and how they are sent.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use wiremock::ResponseTemplate;

/// Longer than any test runs, and short enough for every timer.
const FOREVER: Duration = Duration::from_secs(60 * 60 * 24);

/// How a request is answered, if at all.
#[derive(Debug)]
pub(in crate::testing) enum Decision {
    Answer(Reply),
    Reset,
}

/// An HTTP answer.
#[derive(Clone, Debug)]
pub(in crate::testing) struct Reply {
    status: u16,
    mime: &'static str,
    body: String,
    retry_after: Option<String>,
    delay: Option<Duration>,
}

impl Reply {
    pub(super) fn raw_json(status: u16, body: String) -> Self {
        // A status outside this range would panic on the server's thread, far from the
        // test.
        let status = if (200..=599).contains(&status) { status } else { 500 };
        Self { status, mime: "application/json", body, retry_after: None, delay: None }
    }

    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::raw_json(status, body.to_string())
    }

    pub(super) fn empty_object() -> Self {
        Self::raw_json(200, "{}".to_owned())
    }

    pub(in crate::testing) fn error(status: u16, errcode: &str, error: &str) -> Self {
        Self::json(status, &json!({ "errcode": errcode, "error": error }))
    }

    pub(in crate::testing) fn unrecognized(status: u16) -> Self {
        Self::error(status, "M_UNRECOGNIZED", "Unrecognized request")
    }

    pub(in crate::testing) fn guest_forbidden() -> Self {
        Self::error(403, "M_GUEST_ACCESS_FORBIDDEN", "Guest access not allowed")
    }

    pub(in crate::testing) fn logged_out(errcode: &str, error: &str, soft_logout: bool) -> Self {
        Self::json(401, &json!({ "errcode": errcode, "error": error, "soft_logout": soft_logout }))
    }

    pub(in crate::testing) fn rate_limited(retry_after: Option<Duration>) -> Self {
        let mut body = json!({ "errcode": "M_LIMIT_EXCEEDED", "error": "Too Many Requests" });
        if let Some(wait) = retry_after {
            body["retry_after_ms"] = json!(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        }
        let retry_after = retry_after.map(|wait| wait.as_millis().div_ceil(1000).to_string());
        Self { retry_after, ..Self::json(429, &body) }
    }

    pub(in crate::testing) fn rate_limited_until(date: SystemTime) -> Self {
        Self { retry_after: Some(httpdate::fmt_http_date(date)), ..Self::rate_limited(None) }
    }

    pub(in crate::testing) fn empty() -> Self {
        Self::raw_json(200, String::new())
    }

    pub(in crate::testing) fn html(status: u16) -> Self {
        let page = "<!DOCTYPE html><html><body><h1>Not the homeserver</h1></body></html>";
        Self { mime: "text/html", ..Self::raw_json(status, page.to_owned()) }
    }

    pub(super) fn after(self, delay: Duration) -> Self {
        Self { delay: Some(delay), ..self }
    }

    pub(super) fn never(self) -> Self {
        self.after(FOREVER)
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(super) fn into_template(self) -> ResponseTemplate {
        let mut template =
            ResponseTemplate::new(self.status).set_body_raw(self.body.into_bytes(), self.mime);
        if let Some(retry_after) = self.retry_after {
            template = template.insert_header("Retry-After", retry_after);
        }
        if let Some(delay) = self.delay {
            template = template.set_delay(delay);
        }
        template
    }
}
