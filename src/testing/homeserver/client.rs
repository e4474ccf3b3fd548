//! Clients of matrix-sdk that are logged in.

use matrix_sdk::{
    Client, ClientBuildError, ClientBuilder, SessionMeta, SessionTokens,
    authentication::matrix::MatrixSession, config::RequestConfig, ruma::IdParseError,
    store::RoomLoadSettings,
};

use super::{AccountDataServer, DeviceLogin};

/// Why [`AccountDataServer::client`] has no client to give.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The client could not be built, for example because its store could not be opened.
    #[error("the client could not be built")]
    Build(#[source] ClientBuildError),
    /// The client could not take the session.
    #[error("the session could not be restored")]
    Restore(#[source] matrix_sdk::Error),
    /// The user ID of the login is not a Matrix ID.
    #[error("the user ID is not a Matrix ID")]
    UserId(#[source] IdParseError),
}

impl AccountDataServer {
    /// A client that is logged in as this device, with a store in memory and without retries.
    ///
    /// Each call makes another client: call it again to play a restart of the app. The session has
    /// the tokens that the device has now, also after a refresh. A device with a refresh token
    /// gets a client that refreshes by itself
    /// ([`ClientBuilder::handle_refresh_tokens`]).
    ///
    /// # Errors
    ///
    /// Fails if the user ID is not a Matrix ID, or if the client cannot be built or cannot take
    /// the session.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, there is no client.
    pub async fn client(&self, device: &DeviceLogin) -> Result<Client, ClientError> {
        self.client_with(device, |builder| builder).await
    }

    /// As [`client`](Self::client), with changes to the builder: a store on disk, say, or retries.
    ///
    /// # Errors
    ///
    /// As [`client`](Self::client).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, there is no client.
    pub async fn client_with(
        &self,
        device: &DeviceLogin,
        configure: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> Result<Client, ClientError> {
        let user_id = device.user_id.as_str().try_into().map_err(ClientError::UserId)?;
        let device = self.current(device);
        let mut builder = Client::builder()
            .homeserver_url(self.uri())
            .request_config(RequestConfig::new().disable_retry());
        if device.refresh_token.is_some() {
            builder = builder.handle_refresh_tokens();
        }
        let client = configure(builder).build().await.map_err(ClientError::Build)?;
        let session = MatrixSession {
            meta: SessionMeta { user_id, device_id: device.device_id.into() },
            tokens: SessionTokens {
                access_token: device.access_token,
                refresh_token: device.refresh_token,
            },
        };
        client
            .matrix_auth()
            .restore_session(session, RoomLoadSettings::default())
            .await
            .map_err(ClientError::Restore)?;
        Ok(client)
    }
}
