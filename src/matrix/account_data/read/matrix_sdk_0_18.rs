//! Request and response traits of ruma 0.16, which matrix-sdk 0.18 uses.

use matrix_sdk::ruma::api::{
    EndpointError as _, IncomingResponse, Metadata, OutgoingRequest,
    auth_scheme::AuthScheme,
    error::{FromHttpResponseError, IntoHttpError},
    path_builder::PathBuilder,
};

use super::{Answer, Read, Request};

type Error = <Request as OutgoingRequest>::EndpointError;

impl OutgoingRequest for Read {
    type EndpointError = Error;
    type IncomingResponse = Answer;

    fn try_into_http_request<T: Default + AsRef<[u8]>>(
        self,
        base_url: &str,
        authentication: <<Self as Metadata>::Authentication as AuthScheme>::Input<'_>,
        path: <<Self as Metadata>::PathBuilder as PathBuilder>::Input<'_>,
    ) -> Result<http::Request<T>, IntoHttpError> {
        let request = self.0.try_into_http_request::<Vec<u8>>(base_url, authentication, path)?;
        // A GET has no body.
        Ok(request.map(|_| T::default()))
    }
}

impl IncomingResponse for Answer {
    type EndpointError = Error;

    fn try_from_http_response<T: AsRef<[u8]>>(
        response: http::Response<T>,
    ) -> Result<Self, FromHttpResponseError<Error>> {
        if response.status().as_u16() >= 400 {
            return Err(FromHttpResponseError::Server(Error::from_http_response(response)));
        }
        Ok(Self::from_body(response.body().as_ref())?)
    }
}
