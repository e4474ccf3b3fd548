//! Login and logout at any homeserver, with error messages for users.

use std::{io, time::Duration};

use matrix_sdk::{
    Client, ClientBuildError, HttpError, SessionMeta, SessionTokens,
    authentication::matrix::MatrixSession,
    config::RequestConfig,
    ruma::{OwnedDeviceId, OwnedUserId, api::error::ErrorKind, owned_device_id, user_id},
    store::RoomLoadSettings,
};

use crate::describe::describe_http;

/// Returns `argument`, or a line read from standard input if it is `-`.
///
/// # Errors
///
/// Returns an error if standard input cannot be read.
pub fn secret(argument: &str) -> io::Result<String> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A logged-in client.
#[derive(Clone, Debug)]
pub struct Session {
    /// The logged-in client.
    pub client: Client,
    /// Whether the example logged in, and must log out.
    logged_in_here: bool,
}

/// An error of a login.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoginError {
    /// The argument is not a URL.
    NotAUrl(String),
    /// The server did not answer.
    Unreachable(String),
    /// The server that answered is not a Matrix homeserver.
    NotAHomeserver(String),
    /// The homeserver rejected the user name, the password or the token.
    Refused(String),
    /// Any other error.
    Other(String),
}

impl std::fmt::Display for LoginError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotAUrl(text) => {
                write!(f, "`{text}` is not the URL of a homeserver: use https:// or http://")
            }
            Self::Unreachable(cause) => write!(f, "the homeserver cannot be reached: {cause}"),
            Self::NotAHomeserver(cause) => {
                write!(f, "the server is not a Matrix homeserver: {cause}")
            }
            Self::Refused(cause) => write!(f, "the homeserver refused the login: {cause}"),
            Self::Other(cause) => write!(f, "the login failed: {cause}"),
        }
    }
}

impl std::error::Error for LoginError {}

impl Session {
    /// Logs in as a new device.
    ///
    /// # Errors
    ///
    /// Returns a [`LoginError`] if the homeserver cannot be reached or refuses the login.
    pub async fn with_password(
        homeserver: &str,
        user: &str,
        password: &str,
        device_name: &str,
    ) -> Result<Self, LoginError> {
        let client = client(homeserver).await?;
        let login = client.matrix_auth().login_username(user, password);
        let login = login.initial_device_display_name(device_name);
        login.await.map_err(LoginError::from_sdk)?;
        Ok(Self { client, logged_in_here: true })
    }

    /// Restores the session of an access token.
    ///
    /// # Errors
    ///
    /// Returns a [`LoginError`] if the homeserver cannot be reached or refuses the login.
    pub async fn with_token(homeserver: &str, token: &str) -> Result<Self, LoginError> {
        // The SDK needs the user ID and device ID of a token before it can use the token. Ask
        // for them with a client of a placeholder user, which is then dropped.
        let placeholder = user_id!("@whoami:invalid").to_owned();
        let temporary = restore(homeserver, token, placeholder, owned_device_id!("WHOAMI")).await?;
        let owner = temporary.whoami().await.map_err(|error| LoginError::from_http(&error))?;
        let device = owner.device_id.unwrap_or(owned_device_id!("NONE"));
        Ok(Self {
            client: restore(homeserver, token, owner.user_id, device).await?,
            logged_in_here: false,
        })
    }

    /// Logs the device out, if this session began with a login.
    ///
    /// Call [`Analytics::end_session`](matrix_analytics::Analytics::end_session) first, because
    /// the SDK does not announce a logout.
    ///
    /// # Errors
    ///
    /// Returns the SDK's error. The device then stays in the user's list of devices.
    pub async fn log_out(self) -> matrix_sdk::Result<()> {
        if self.logged_in_here {
            self.client.logout().await?;
        }
        Ok(())
    }
}

/// Returns whether the homeserver has ended the session, in which case retrying is pointless.
#[must_use]
pub fn is_session_lost(error: &matrix_sdk::Error) -> bool {
    matches!(
        error.client_api_error_kind(),
        Some(ErrorKind::UnknownToken(_) | ErrorKind::MissingToken)
    )
}

fn is_unanswered(error: &HttpError) -> bool {
    match error {
        HttpError::Reqwest(_) => true,
        HttpError::Cached(error) => is_unanswered(error),
        _ => false,
    }
}

async fn client(homeserver: &str) -> Result<Client, LoginError> {
    if !["http://", "https://"].iter().any(|scheme| homeserver.starts_with(scheme)) {
        return Err(LoginError::NotAUrl(homeserver.to_owned()));
    }
    // By default the SDK retries without limit, but here a user waits at the terminal.
    let requests = RequestConfig::new().retry_limit(1).timeout(Duration::from_secs(10));
    let builder = Client::builder().homeserver_url(homeserver);
    let client = builder.request_config(requests).build().await;
    let client = client.map_err(|error| match error {
        ClientBuildError::Url(_) => LoginError::NotAUrl(homeserver.to_owned()),
        ClientBuildError::Http(cause) => LoginError::from_http(&cause),
        other => LoginError::Other(crate::chain(&other)),
    })?;
    // This is the first request, so a wrong URL shows here.
    client.server_versions().await.map_err(|error| {
        let cause = describe_http(&error);
        if is_unanswered(&error) {
            LoginError::Unreachable(cause)
        } else {
            LoginError::NotAHomeserver(cause)
        }
    })?;
    Ok(client)
}

async fn restore(
    homeserver: &str,
    token: &str,
    user_id: OwnedUserId,
    device_id: OwnedDeviceId,
) -> Result<Client, LoginError> {
    let client = client(homeserver).await?;
    let session = MatrixSession {
        meta: SessionMeta { user_id, device_id },
        tokens: SessionTokens { access_token: token.to_owned(), refresh_token: None },
    };
    let authentication = client.matrix_auth();
    let restoring = authentication.restore_session(session, RoomLoadSettings::default());
    restoring.await.map_err(LoginError::from_sdk)?;
    Ok(client)
}

impl LoginError {
    /// Returns the exit code of a command-line tool whose login failed.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotAUrl(_) => 2,
            Self::Refused(_) => 3,
            Self::Unreachable(_) | Self::NotAHomeserver(_) => 4,
            Self::Other(_) => 1,
        }
    }

    fn from_sdk(error: matrix_sdk::Error) -> Self {
        match error {
            matrix_sdk::Error::Http(error) => Self::from_http(&error),
            other => Self::Other(crate::chain(&other)),
        }
    }

    fn from_http(error: &HttpError) -> Self {
        let cause = describe_http(error);
        match error.client_api_error_kind() {
            Some(
                ErrorKind::Forbidden
                | ErrorKind::UnknownToken(_)
                | ErrorKind::UserDeactivated
                | ErrorKind::UserLocked,
            ) => Self::Refused(cause),
            None if is_unanswered(error) => Self::Unreachable(cause),
            _ => Self::Other(cause),
        }
    }
}
