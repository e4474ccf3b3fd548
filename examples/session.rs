//! Logging in and out at any homeserver, with errors for people.

use std::{io, time::Duration};

use matrix_sdk::{
    Client, ClientBuildError, HttpError, SessionMeta, SessionTokens,
    authentication::matrix::MatrixSession,
    config::RequestConfig,
    ruma::{OwnedDeviceId, OwnedUserId, api::error::ErrorKind, owned_device_id, user_id},
    store::RoomLoadSettings,
};

use crate::describe::describe_http;

/// Takes `-` for a line of standard input.
///
/// # Errors
///
/// Fails if standard input cannot be read.
pub fn secret(argument: &str) -> io::Result<String> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A client with a session, and whether the session is ours to end.
#[derive(Clone, Debug)]
pub struct Session {
    /// The client.
    pub client: Client,
    is_ours: bool,
}

/// Why there is no session.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoginError {
    /// This is no URL.
    NotAUrl(String),
    /// Nobody answers there.
    Unreachable(String),
    /// Somebody answers, and it is no homeserver.
    NotAHomeserver(String),
    /// The homeserver does not accept the name, the password or the token.
    Refused(String),
    /// Anything else.
    Other(String),
}

impl std::fmt::Display for LoginError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotAUrl(text) => {
                write!(f, "`{text}` is no URL of a homeserver: it begins with https:// or http://")
            }
            Self::Unreachable(cause) => write!(f, "the homeserver cannot be reached: {cause}"),
            Self::NotAHomeserver(cause) => write!(f, "this is no Matrix homeserver: {cause}"),
            Self::Refused(cause) => write!(f, "the homeserver refuses the login: {cause}"),
            Self::Other(cause) => write!(f, "the login failed: {cause}"),
        }
    }
}

impl std::error::Error for LoginError {}

impl Session {
    /// Logs a new device in.
    ///
    /// # Errors
    ///
    /// [`LoginError`].
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
        Ok(Self { client, is_ours: true })
    }

    /// Uses the session of an access token.
    ///
    /// # Errors
    ///
    /// [`LoginError`].
    pub async fn with_token(homeserver: &str, token: &str) -> Result<Self, LoginError> {
        // The SDK needs the owner of a token before it uses it: ask for it with a client of a
        // placeholder user, which is then dropped.
        let placeholder = user_id!("@whoami:invalid").to_owned();
        let asking = restored(homeserver, token, placeholder, owned_device_id!("WHOAMI")).await?;
        let owner = asking.whoami().await.map_err(|error| LoginError::from_http(&error))?;
        let device = owner.device_id.unwrap_or(owned_device_id!("NONE"));
        Ok(Self {
            client: restored(homeserver, token, owner.user_id, device).await?,
            is_ours: false,
        })
    }

    /// Logs the device out, if it was logged in here.
    ///
    /// Analytics must have been told before: see
    /// [`Analytics::end_session`](matrix_analytics::Analytics::end_session).
    ///
    /// # Errors
    ///
    /// The error of the SDK; the device stays in the list of the user's devices.
    pub async fn log_out(self) -> matrix_sdk::Result<()> {
        if self.is_ours {
            self.client.logout().await?;
        }
        Ok(())
    }
}

/// Whether the homeserver has ended the session, so that trying again is in vain.
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
    // By default the SDK retries without end, and a user waits at the terminal here.
    let requests = RequestConfig::new().retry_limit(1).timeout(Duration::from_secs(10));
    let builder = Client::builder().homeserver_url(homeserver);
    let client = builder.request_config(requests).build().await;
    let client = client.map_err(|error| match error {
        ClientBuildError::Url(_) => LoginError::NotAUrl(homeserver.to_owned()),
        ClientBuildError::Http(cause) => LoginError::from_http(&cause),
        other => LoginError::Other(crate::chain(&other)),
    })?;
    // Nothing was asked so far; whatever is wrong with the URL shows here.
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

async fn restored(
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
    let restored = authentication.restore_session(session, RoomLoadSettings::default());
    restored.await.map_err(LoginError::from_sdk)?;
    Ok(client)
}

impl LoginError {
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
