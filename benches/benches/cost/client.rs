//! Clients of the homeserver.

use matrix_sdk::{
    Client, ClientBuilder, SessionMeta, SessionTokens, authentication::matrix::MatrixSession,
    store::RoomLoadSettings,
};

/// Creates the HTTP client that the clients of a process share.
pub(crate) fn http_client() -> reqwest::Client {
    reqwest::Client::builder().build().expect("a client")
}

/// Creates a client with a store in memory, logged in as user `n`.
pub(crate) async fn client(homeserver: &str, http_client: &reqwest::Client, n: u32) -> Client {
    logged_in(Client::builder().homeserver_url(homeserver).http_client(http_client.clone()), n)
        .await
}

/// Creates a client that is logged in as user `n`.
pub(crate) async fn logged_in(builder: ClientBuilder, n: u32) -> Client {
    let client = builder.build().await.expect("a client");
    let session = MatrixSession {
        meta: SessionMeta {
            user_id: format!("@user{n}:example.org").try_into().expect("a user ID"),
            device_id: "DEVICE".into(),
        },
        tokens: SessionTokens { access_token: format!("token{n}"), refresh_token: None },
    };
    let auth = client.matrix_auth();
    auth.restore_session(session, RoomLoadSettings::default()).await.expect("a session");
    client
}
