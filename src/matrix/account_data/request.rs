//! The requests that read and write the event, as one type.
//!
//! matrix-sdk's code for a request is compiled again for each type of request, 0.1 MB of it. And
//! the answer of the SDK itself reads a missing body as `{}` (ruma 0.16,
//! `get_global_account_data`), as if the account had no event.

// One file for each version of matrix-sdk. `sdk/` lists the path for the others.
#[path = "request/matrix_sdk_0_18.rs"]
mod matrix_sdk_traits;

use std::fmt;

use http::{Method, header};
use matrix_sdk::{
    HttpError,
    ruma::{
        OwnedUserId,
        api::{
            Metadata,
            client::config::{get_global_account_data, set_global_account_data},
            error::{DeserializationError, Error, FromHttpResponseError, IntoHttpError},
            path_builder::{PathBuilder, VersionHistory},
        },
    },
};
use serde_json::value::RawValue;

type Get = get_global_account_data::v3::Request;
type Put = set_global_account_data::v3::Request;

/// A request for the account-data event of one type.
#[derive(Clone)]
pub(super) struct Request {
    user: OwnedUserId,
    event_type: String,
    /// The new content; `None` reads the event.
    content: Option<Box<RawValue>>,
}

/// The body of the homeserver's answer, which says nothing after a write.
pub(super) struct Answer(Vec<u8>);

/// Prints nothing, because the content has the analytics ID.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").finish_non_exhaustive()
    }
}

impl Request {
    pub(super) fn get(user: OwnedUserId, event_type: String) -> Self {
        Self { user, event_type, content: None }
    }

    pub(super) fn put(user: OwnedUserId, event_type: String, content: Box<RawValue>) -> Self {
        Self { user, event_type, content: Some(content) }
    }

    /// Returns the request without its body and its authentication.
    fn head(
        &self,
        base_url: &str,
        path: <VersionHistory as PathBuilder>::Input<'_>,
    ) -> Result<http::Request<()>, IntoHttpError> {
        let arguments: [&dyn fmt::Display; 2] = [&self.user, &self.event_type];
        let url = Self::make_endpoint_url(path, base_url, &arguments, "")?;
        let request = http::Request::builder().uri(url);
        let request = match &self.content {
            None => request.method(Get::METHOD),
            Some(_) => request.method(Put::METHOD).header(header::CONTENT_TYPE, "application/json"),
        };
        Ok(request.body(())?)
    }

    fn body(&self) -> &[u8] {
        self.content.as_ref().map_or(&[], |content| content.get().as_bytes())
    }
}

/// What reading and writing have in common. Neither ruma nor matrix-sdk asks for the method.
impl Metadata for Request {
    const METHOD: Method = Get::METHOD;
    const RATE_LIMITED: bool = Get::RATE_LIMITED;
    type Authentication = <Get as Metadata>::Authentication;
    type PathBuilder = VersionHistory;
    const PATH_BUILDER: Self::PathBuilder = Get::PATH_BUILDER;
}

impl Answer {
    /// Returns the content of the event after a read; `None` if there was no body.
    pub(super) fn content(&self) -> Result<Option<Box<RawValue>>, HttpError> {
        match self.0.trim_ascii() {
            [] => Ok(None),
            body => serde_json::from_slice(body).map(Some).map_err(|error| {
                let error = DeserializationError::from(error);
                FromHttpResponseError::<Error>::Deserialization(error).into()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use matrix_sdk::ruma::{
        api::{MatrixVersion, SupportedVersions},
        owned_user_id,
    };

    use super::*;

    #[test]
    fn the_event_is_read_by_get_and_written_as_json_by_put() {
        let (user, event_type) = (owned_user_id!("@a/b:example.org"), "org.example ü");
        let read = Request::get(user.clone(), event_type.to_owned());
        let content = RawValue::from_string(r#"{"id":"secret"}"#.to_owned()).unwrap();
        let write = Request::put(user, event_type.to_owned(), content);
        for (request, method, content_type, body) in [
            (read, Method::GET, None, ""),
            (write, Method::PUT, Some("application/json"), r#"{"id":"secret"}"#),
        ] {
            let versions =
                SupportedVersions { versions: [MatrixVersion::V1_1].into(), features: [].into() };
            let head = request.head("https://example.org/", Cow::Owned(versions)).unwrap();
            let path =
                "/_matrix/client/v3/user/@a%2Fb:example.org/account_data/org.example%20%C3%BC";
            assert_eq!((head.method(), head.uri().path()), (&method, path));
            let header = head.headers().get(header::CONTENT_TYPE);
            assert_eq!(header.map(|value| value.to_str().unwrap()), content_type);
            assert_eq!(request.body(), body.as_bytes());
            assert_eq!(format!("{request:?}"), "Request { .. }");
        }
    }

    #[test]
    fn an_answer_without_a_body_has_no_content() {
        for missing in ["", " ", "\r\n"] {
            assert!(Answer(missing.into()).content().unwrap().is_none());
        }
        for body in ["{}", "[]", r#"{"a": 1}"#, "null"] {
            assert_eq!(Answer(body.into()).content().unwrap().unwrap().get(), body);
        }
        for bad in ["<html>", "{", "{} {}", "\u{feff}{}"] {
            assert!(Answer(bad.into()).content().is_err());
        }
    }
}
