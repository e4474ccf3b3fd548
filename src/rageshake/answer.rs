//! The outcome of a submission, by the answer of the server.

use std::{fmt, io};

use reqwest::Url;
use serde_json::{Map, Value};

use crate::backend::BoxError;

/// The answer of a server that has taken a report.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Submitted {
    /// The `http` or `https` URL at which the user can follow the report, if the server has an
    /// issue tracker.
    pub report_url: Option<String>,
}

/// The reason why a report was not submitted. The report is unchanged, and can be submitted
/// again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The server could not read the report, or the logs have more lines than it takes
    /// (`max_log_lines` in its configuration).
    #[error("the server cannot read the report")]
    BadContent,
    /// A file has changed since the preview, or while it was sent. A new preview shows its
    /// present content. Holds the name of the part.
    #[error("{0} has changed since it was read")]
    Changed(String),
    /// There was no answer: the server cannot be reached, or the connection was lost. The server
    /// may have the report if all of it had been sent.
    #[error("the server did not answer")]
    Connection(#[source] BoxError),
    /// The server takes no reports from this app.
    #[error("the server takes no reports from this app")]
    DisallowedApp(Refusal),
    /// The server refuses this report, for example because the description contains a recovery
    /// key, or the version of the app is too old.
    #[error("the server refuses this report")]
    Rejected(Refusal),
    /// The connection took no byte and gave no answer for 60 seconds.
    #[error("the server has stopped responding")]
    Stalled,
    /// The answer is not that of a rageshake server that takes a report: the endpoint is wrong,
    /// there is a proxy in between, or the server has failed. Holds the HTTP status.
    #[error("the server answered with HTTP status {0}")]
    Status(u16),
    /// The report is larger than [`BugReport::MAX_BYTES`](crate::BugReport::MAX_BYTES), and was
    /// not sent, or it is larger than the server accepts.
    #[error("the report is too large")]
    TooLarge,
    /// A file cannot be read. Nothing was sent, unless the disk failed after it was read once.
    /// Holds the name of the part.
    #[error("{0} cannot be read")]
    Unreadable(String, #[source] io::Error),
}

/// The reason of a server for refusing a report, in its own words.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The error code, such as `REJECTED_UNEXPECTED_RECOVERY_KEY`. Codes that begin with
    /// `REJECTED_` are defined by the administrator of the server.
    pub code: String,
    /// An explanation in English.
    pub message: Option<String>,
    /// The `http` or `https` URL of a page that explains the policy of the server.
    pub policy_url: Option<String>,
}

/// Prints nothing of it, because a server can repeat the report in its message.
impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refusal")
    }
}

/// Returns the outcome, by `submitResponse` and `submitErrorResponse` in the server's `submit.go`.
pub(super) fn outcome(status: u16, body: &[u8]) -> Result<Submitted, SubmitError> {
    let answer = serde_json::from_slice::<Map<String, Value>>(body);
    let member = |name: &str| Some(answer.as_ref().ok()?.get(name)?.as_str()?.to_owned());
    let url = |name: &str| member(name).filter(|url| is_web_url(url));
    if (200..300).contains(&status) && answer.is_ok() {
        return Ok(Submitted { report_url: url("report_url") });
    }
    let code = member("errcode").filter(|_| status >= 400).unwrap_or_default();
    let (message, policy_url) = (member("error"), url("policy_url"));
    Err(match &*code {
        "BAD_CONTENT" | "BAD_HEADER" => SubmitError::BadContent,
        "DISALLOWED_APP" => SubmitError::DisallowedApp(Refusal { code, message, policy_url }),
        _ if code.starts_with("REJECTED") => {
            SubmitError::Rejected(Refusal { code, message, policy_url })
        }
        _ if status == 413 => SubmitError::TooLarge,
        _ => SubmitError::Status(status),
    })
}

/// Returns whether an app can open `url` in a browser.
fn is_web_url(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(status: u16, body: &str) -> String {
        match outcome(status, body.as_bytes()) {
            Ok(Submitted { report_url }) => format!("submitted {report_url:?}"),
            Err(SubmitError::DisallowedApp(refusal)) => {
                format!("disallowed {:?}", refusal.policy_url)
            }
            Err(SubmitError::Rejected(refusal)) => format!("rejected {}", refusal.code),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn every_answer_has_a_meaning() {
        for (status, body, expected) in [
            (200, "{}", "submitted None"),
            (200, "{}\n", "submitted None"),
            (
                200,
                r#"{"report_url":"https://issues.example/1"}"#,
                "submitted Some(\"https://issues.example/1\")",
            ),
            (200, r#"{"report_url":"javascript:alert(1)"}"#, "submitted None"),
            (200, r#"{"report_url":7}"#, "submitted None"),
            (200, "", "the server answered with HTTP status 200"),
            (200, "[]", "the server answered with HTTP status 200"),
            (200, "null", "the server answered with HTTP status 200"),
            (
                200,
                "<html>Log in to this network</html>",
                "the server answered with HTTP status 200",
            ),
            (302, "", "the server answered with HTTP status 302"),
            (302, r#"{"errcode":"REJECTED"}"#, "the server answered with HTTP status 302"),
            (
                400,
                r#"{"error":"…","errcode":"DISALLOWED_APP","policy_url":"https://p.example"}"#,
                "disallowed Some(\"https://p.example\")",
            ),
            (
                400,
                r#"{"error":"…","errcode":"DISALLOWED_APP","policy_url":"file:///etc"}"#,
                "disallowed None",
            ),
            (400, r#"{"error":"…","errcode":"REJECTED"}"#, "rejected REJECTED"),
            (400, r#"{"errcode":"REJECTED_BAD_VERSION"}"#, "rejected REJECTED_BAD_VERSION"),
            (400, r#"{"errcode":"BAD_CONTENT"}"#, "the server cannot read the report"),
            (400, r#"{"errcode":"BAD_HEADER"}"#, "the server cannot read the report"),
            (400, "<html>", "the server answered with HTTP status 400"),
            (400, "{}", "the server answered with HTTP status 400"),
            (
                405,
                r#"{"errcode":"METHOD_NOT_ALLOWED"}"#,
                "the server answered with HTTP status 405",
            ),
            (413, r#"{"errcode":"CONTENT_TOO_LARGE"}"#, "the report is too large"),
            (413, "<html>", "the report is too large"),
            (
                500,
                r#"{"error":"Could not save report","errcode":"UNKNOWN"}"#,
                "the server answered with HTTP status 500",
            ),
            (502, "<html>", "the server answered with HTTP status 502"),
        ] {
            assert_eq!(printed(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_refusal_prints_nothing_of_the_server() {
        let body = br#"{"errcode":"REJECTED_@alice:example.org","error":"@alice:example.org"}"#;
        let error = outcome(400, body).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("alice"));
        let SubmitError::Rejected(refusal) = error else { panic!("{error:?}") };
        assert_eq!(refusal.message.as_deref(), Some("@alice:example.org"));
    }
}
