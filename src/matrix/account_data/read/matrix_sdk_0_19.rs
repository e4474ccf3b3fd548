//! Request and response traits of ruma 0.17, which matrix-sdk 0.19 uses.

use matrix_sdk::ruma::api::{
    IncomingResponse, Metadata, OutgoingRequest,
    error::{DeserializationError, IntoHttpError},
    path_builder::PathBuilder,
};

use super::{Answer, Read, Request};

type Error = <Request as OutgoingRequest>::EndpointError;

impl OutgoingRequest for Read {
    type Body = <Request as OutgoingRequest>::Body;
    type EndpointError = Error;
    type IncomingResponse = Answer;

    fn try_into_http_request_inner(
        self,
        base_url: &str,
        path: <<Self as Metadata>::PathBuilder as PathBuilder>::Input<'_>,
    ) -> Result<http::Request<Self::Body>, IntoHttpError> {
        self.0.try_into_http_request_inner(base_url, path)
    }
}

impl IncomingResponse for Answer {
    type EndpointError = Error;

    fn try_from_http_response_inner(
        response: http::Response<&[u8]>,
    ) -> Result<Self, DeserializationError> {
        Ok(Self::from_body(response.body())?)
    }
}
