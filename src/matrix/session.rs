//! The session of the client: its user, its identifiers, and its changes.

use matrix_sdk::{Client, SessionChange, ruma::OwnedUserId};
use tokio::sync::broadcast;

use crate::guard::OwnIdentifiers;

/// Returns the logged-in user, if any.
pub(crate) fn user(client: &Client) -> Option<OwnedUserId> {
    client.user_id().map(ToOwned::to_owned)
}

/// Returns the homeserver and the device of the session.
pub(crate) fn homeserver_and_device(client: &Client) -> String {
    let device = client.device_id().map(|device| device.as_str()).unwrap_or_default();
    format!("{} {device}", client.homeserver())
}

/// Returns the host of the homeserver, with its port if that is not the usual one.
pub(crate) fn homeserver_host(client: &Client) -> String {
    let homeserver = client.homeserver();
    let host = homeserver.host_str().unwrap_or_default();
    homeserver.port().map_or(host.to_owned(), |port| format!("{host}:{port}"))
}

/// Subscribes to changes of the session.
pub(crate) fn changes(client: &Client) -> broadcast::Receiver<SessionChange> {
    client.subscribe_to_session_changes()
}

/// Returns the current identifiers and tokens of the session.
pub(crate) fn own_identifiers(client: &Client) -> OwnIdentifiers {
    let homeserver = client.homeserver();
    // This URL is borrowed in matrix-sdk 0.18, and owned in 0.19.
    let server = client.server().and_then(|url| url.host_str().map(str::to_owned));
    let hosts = server.into_iter().chain(homeserver.host_str().map(str::to_owned));
    let mut own = OwnIdentifiers { hosts: hosts.collect(), ..OwnIdentifiers::default() };
    if let Some(session) = client.session_meta() {
        own.user_id = session.user_id.to_string();
        own.localpart = session.user_id.localpart().to_owned();
        own.server_name = session.user_id.server_name().to_string();
        own.hosts.push(session.user_id.server_name().host().to_owned());
        own.device_id = session.device_id.to_string();
    }
    if let Some(tokens) = client.session_tokens() {
        own.tokens.push(tokens.access_token);
        own.tokens.extend(tokens.refresh_token);
    }
    own
}
