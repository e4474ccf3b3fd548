//! The session of the client: whose it is, what it is known by, and when it changes.

use matrix_sdk::{Client, SessionChange, ruma::OwnedUserId};
use tokio::sync::broadcast;

use crate::guard::OwnIdentifiers;

/// Returns who is logged in.
pub(crate) fn user(client: &Client) -> Option<OwnedUserId> {
    client.user_id().map(ToOwned::to_owned)
}

/// Returns the changes of the session from here on.
pub(crate) fn changes(client: &Client) -> broadcast::Receiver<SessionChange> {
    client.subscribe_to_session_changes()
}

/// Returns what `client` knows that its session is known by, now.
pub(crate) fn own_identifiers(client: &Client) -> OwnIdentifiers {
    let homeserver = client.homeserver();
    // The SDK lends this URL in 0.18 and gives it in 0.19.
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
