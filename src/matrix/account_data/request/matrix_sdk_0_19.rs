//! Request and response traits of ruma 0.17, which matrix-sdk 0.19 uses.

use std::convert::Infallible;

use http::HeaderValue;
use matrix_sdk::{
    bytes::BufMut,
    ruma::api::{
        IncomingResponse, Metadata, OutgoingBody, OutgoingRequest,
        error::{DeserializationError, Error, IntoHttpError},
        path_builder::PathBuilder,
    },
};

use super::{Answer, Request};

/// A request as its own body, whose type is in the headers already.
impl OutgoingBody for Request {
    type Error = Infallible;

    fn content_type(&self) -> Option<HeaderValue> {
        None
    }

    fn try_into_buf<T: Default + BufMut + AsRef<[u8]>>(self) -> Result<T, Infallible> {
        let mut body = T::default();
        body.put_slice(self.body());
        Ok(body)
    }
}

impl OutgoingRequest for Request {
    type Body = Self;
    type EndpointError = Error;
    type IncomingResponse = Answer;

    fn try_into_http_request_inner(
        self,
        base_url: &str,
        path: <<Self as Metadata>::PathBuilder as PathBuilder>::Input<'_>,
    ) -> Result<http::Request<Self>, IntoHttpError> {
        Ok(self.head(base_url, path)?.map(|()| self))
    }
}

impl IncomingResponse for Answer {
    type EndpointError = Error;

    fn try_from_http_response_inner(
        response: http::Response<&[u8]>,
    ) -> Result<Self, DeserializationError> {
        Ok(Self(response.body().to_vec()))
    }
}
