//! Logged-in clients of matrix-sdk.

use matrix_sdk::{
    Client, ClientBuildError, ClientBuilder, SessionMeta, SessionTokens,
    authentication::matrix::MatrixSession, config::RequestConfig, ruma::IdParseError,
    store::RoomLoadSettings,
};

use super::{AccountDataServer, DeviceLogin};

/// Why [`AccountDataServer::client`] could not create a client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The client could not be built, for example because its store could not be opened.
    #[error("the client could not be built")]
    Build(#[source] ClientBuildError),
    /// The session could not be restored.
    #[error("the session could not be restored")]
    Restore(#[source] matrix_sdk::Error),
    /// The user ID of the login is not a Matrix ID.
    #[error("the user ID is not a Matrix ID")]
    UserId(#[source] IdParseError),
}

impl AccountDataServer {
    /// Creates a client that is logged in as this device, with an in-memory store and
    /// without retries.
    ///
    /// Each call creates a new client: call this again to simulate a restart of the app.
    /// The session has the device's current tokens, even after a refresh. The client of a
    /// device with a refresh token refreshes automatically
    /// ([`ClientBuilder::handle_refresh_tokens`]).
    ///
    /// # Errors
    ///
    /// Fails if the user ID is not a Matrix ID, if the client cannot be built, or if it
    /// cannot restore the session.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the client is not created.
    pub async fn client(&self, device: &DeviceLogin) -> Result<Client, ClientError> {
        self.client_with(device, |builder| builder).await
    }

    /// Creates a client like [`client`](Self::client), with changes to the builder, such
    /// as a store on disk or retries.
    ///
    /// # Errors
    ///
    /// As [`client`](Self::client).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the client is not created.
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
        // Their requests must not mix with those of the test.
        #[cfg(feature = "health")]
        client.encryption().wait_for_e2ee_initialization_tasks().await;
        Ok(client)
    }
}
