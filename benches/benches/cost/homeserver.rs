//! A homeserver on which every user has opted in.

/// Answers a request.
pub(crate) fn homeserver(method: &str, path: &str, _body: &[u8]) -> Option<(u16, String)> {
    let body = match method {
        "GET" if path.ends_with("/versions") => r#"{"versions":["v1.11"]}"#,
        "GET" if path.contains("/account_data/") => {
            r#"{"id":"9f1c2d7e-0a4b-4c1d-9e2f-3a4b5c6d7e8f","pseudonymousAnalyticsOptIn":true}"#
        }
        _ => return Some((404, r#"{"errcode":"M_UNRECOGNIZED","error":""}"#.to_owned())),
    };
    Some((200, body.to_owned()))
}
