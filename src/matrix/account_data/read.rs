//! A request that reads the event, with an answer that keeps the raw body.
//!
//! The answer of the SDK itself reads a missing body as `{}` (ruma 0.16,
//! `get_global_account_data`), as if the account had no event.

// One file for each version of matrix-sdk. `sdk/` lists the path for the others.
#[path = "read/matrix_sdk_0_18.rs"]
mod matrix_sdk_traits;

use matrix_sdk::ruma::{
    OwnedUserId,
    api::{Metadata, client::config::get_global_account_data::v3::Request},
    events::GlobalAccountDataEventType,
};
use serde_json::value::RawValue;

/// A request for the account-data event of one type.
#[derive(Clone, Debug)]
pub(super) struct Read(Request);

/// The answer of the homeserver.
#[derive(Debug)]
pub(super) struct Answer {
    /// The content of the event; `None` if there was no body.
    pub(super) content: Option<Box<RawValue>>,
}

impl Read {
    pub(super) fn new(user: OwnedUserId, event_type: GlobalAccountDataEventType) -> Self {
        Self(Request::new(user, event_type))
    }
}

impl Metadata for Read {
    const METHOD: http::Method = Request::METHOD;
    const RATE_LIMITED: bool = Request::RATE_LIMITED;
    type Authentication = <Request as Metadata>::Authentication;
    type PathBuilder = <Request as Metadata>::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = Request::PATH_BUILDER;
}

impl Answer {
    fn from_body(body: &[u8]) -> serde_json::Result<Self> {
        let content = match body.trim_ascii() {
            [] => None,
            body => Some(serde_json::from_slice(body)?),
        };
        Ok(Self { content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_a_body_has_no_content() {
        for missing in ["", " ", "\r\n"] {
            assert!(Answer::from_body(missing.as_bytes()).unwrap().content.is_none());
        }
        for body in ["{}", "[]", r#"{"a": 1}"#, "null"] {
            let answer = Answer::from_body(body.as_bytes()).unwrap();
            assert_eq!(answer.content.unwrap().get(), body);
        }
        for bad in ["<html>", "{", "{} {}", "\u{feff}{}"] {
            assert!(Answer::from_body(bad.as_bytes()).is_err());
        }
    }
}
