//! The answer of a rageshake server.

use reqwest::{Response, Url};
use serde::Deserialize;

use super::outcome::{Refusal, SubmitError, Submitted, no_answer};

/// The longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 64 * 1024;

/// What the server sends (`submitResponse` and `submitErrorResponse` in its `submit.go`).
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    report_url: Option<String>,
    errcode: Option<String>,
    error: Option<String>,
    policy_url: Option<String>,
}

pub(super) async fn read(mut response: Response) -> Result<Submitted, SubmitError> {
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(no_answer)? {
        if body.len() + chunk.len() > LONGEST_ANSWER {
            return Err(SubmitError::Status { status });
        }
        body.extend_from_slice(&chunk);
    }
    classify(status, &body)
}

fn classify(status: u16, body: &[u8]) -> Result<Submitted, SubmitError> {
    // An array would be read as well.
    let is_object = body.trim_ascii_start().starts_with(b"{");
    let answer = serde_json::from_slice(body).ok().filter(|_| is_object);
    let is_success = (200..300).contains(&status);
    match (is_success, answer) {
        (true, Some(Answer { report_url, .. })) => {
            Ok(Submitted { report_url: report_url.filter(|url| is_web_url(url)) })
        }
        (false, Some(Answer { errcode: Some(code), error: message, policy_url, .. })) => {
            let policy_url = policy_url.filter(|url| is_web_url(url));
            let refusal = |code| Refusal { code, message, policy_url };
            Err(match &*code {
                "BAD_CONTENT" | "BAD_HEADER" => SubmitError::BadContent,
                "CONTENT_TOO_LARGE" => SubmitError::TooLarge,
                "DISALLOWED_APP" => SubmitError::DisallowedApp(refusal(code)),
                "REJECTED" => SubmitError::Rejected(refusal(code)),
                _ if code.starts_with("REJECTED_") && is_code(&code) => {
                    SubmitError::Rejected(refusal(code))
                }
                _ => SubmitError::Status { status },
            })
        }
        _ if status == 413 => Err(SubmitError::TooLarge),
        _ => Err(SubmitError::Status { status }),
    }
}

fn is_code(code: &str) -> bool {
    code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Returns whether an app can open `url` in a browser.
fn is_web_url(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(status: u16, body: &str) -> String {
        match classify(status, body.as_bytes()) {
            Ok(Submitted { report_url }) => format!("submitted {report_url:?}"),
            Err(SubmitError::DisallowedApp(refusal)) => {
                format!("disallowed {:?}", refusal.policy_url())
            }
            Err(SubmitError::Rejected(refusal)) => format!("rejected {}", refusal.code()),
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
            (200, r#"{"report_url":7}"#, "the server answered with HTTP status 200"),
            (200, "", "the server answered with HTTP status 200"),
            (200, "[]", "the server answered with HTTP status 200"),
            (
                200,
                "<html>Log in to this network</html>",
                "the server answered with HTTP status 200",
            ),
            (302, "", "the server answered with HTTP status 302"),
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
            (
                400,
                r#"{"errcode":"REJECTED_@alice:example.org"}"#,
                "the server answered with HTTP status 400",
            ),
            (400, r#"{"errcode":"BAD_CONTENT"}"#, "the server cannot read the report"),
            (400, r#"{"errcode":"BAD_HEADER"}"#, "the server cannot read the report"),
            (400, "<html>", "the server answered with HTTP status 400"),
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
            assert_eq!(outcome(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_refusal_prints_no_message() {
        let Err(error) = classify(400, br#"{"errcode":"REJECTED","error":"@alice:example.org"}"#)
        else {
            panic!("accepted");
        };
        assert!(!format!("{error:?} {error}").contains("alice"));
        let SubmitError::Rejected(refusal) = error else { panic!("{error:?}") };
        assert_eq!(refusal.message(), Some("@alice:example.org"));
    }
}
