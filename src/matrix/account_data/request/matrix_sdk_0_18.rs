//! Request and response traits of ruma 0.16, which matrix-sdk 0.18 uses.

use matrix_sdk::{
    bytes::BufMut,
    ruma::api::{
        EndpointError as _, IncomingResponse, Metadata, OutgoingRequest,
        auth_scheme::AuthScheme,
        error::{Error, FromHttpResponseError, IntoHttpError},
        path_builder::PathBuilder,
    },
};

use super::{Answer, Request};

type Authentication = <Request as Metadata>::Authentication;

impl OutgoingRequest for Request {
    type EndpointError = Error;
    type IncomingResponse = Answer;

    fn try_into_http_request<T: Default + BufMut + AsRef<[u8]>>(
        self,
        base_url: &str,
        authentication: <Authentication as AuthScheme>::Input<'_>,
        path: <<Self as Metadata>::PathBuilder as PathBuilder>::Input<'_>,
    ) -> Result<http::Request<T>, IntoHttpError> {
        let mut body = T::default();
        body.put_slice(self.body());
        let mut request = self.head(base_url, path)?.map(|()| body);
        Authentication::add_authentication(&mut request, authentication)
            .map_err(|error| IntoHttpError::Authentication(error.into()))?;
        Ok(request)
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
        Ok(Self(response.body().as_ref().to_vec()))
    }
}
