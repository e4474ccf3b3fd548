//! The account-data part of a Matrix homeserver, on a `wiremock::MockServer`.

mod account_data;
mod client;
mod json;
mod keys;
mod mocks;
mod reply;
mod request;
mod route;
mod session;
mod state;
mod sync;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, MutexGuard},
    time::Duration,
};

use wiremock::MockServer;

pub use self::{
    client::ClientError,
    request::{AccountDataMethod, AccountDataRequest, Outcome},
    session::DeviceLogin,
    state::{InitialSync, Msc3391},
};
use self::{
    mocks::{Scope, Shared},
    state::{Hook, Moment, State, unique_token},
};
pub(super) use self::{reply::Reply, state::Caller};
use super::{Fault, FaultRule};

/// A mock homeserver that stores account data.
///
/// Cheap to clone: all clones share one homeserver. Contents, devices and faults can be
/// changed at any time, even while clients use it.
///
/// Its answers are those of Synapse 1.163, with these differences:
///
/// - A content is kept byte for byte. Synapse drops white space and duplicate keys.
/// - Sync carries only account data and ignores filters.
/// - The keys of a client with encryption are accepted and forgotten.
/// - A sync without news is answered after 20 ms regardless of its `timeout`, or at once
///   if that is 0.
/// - A refresh token is invalid as soon as it has been used, whereas Synapse accepts it
///   until one of its successors is used. A client that loses the answer to a refresh
///   therefore loses its session, as it can on other servers.
///
/// # With other mocks
///
/// Its mocks have the priority [`PRIORITY`](Self::PRIORITY), which takes precedence over
/// wiremock's default of 5, used by the mocks of matrix-sdk's `MatrixMockServer`. To
/// override an answer, mount a mock with priority 1. Requests for other endpoints go to
/// the other mocks. With [`mount_account_data_only`](Self::mount_account_data_only), so
/// do sync and login.
///
/// ```
/// use matrix_analytics::testing::AccountDataServer;
/// use matrix_sdk::{ruma::events::GlobalAccountDataEventType, test_utils::mocks::MatrixMockServer};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = MatrixMockServer::new().await;
/// let homeserver = AccountDataServer::mount_account_data_only(&server).await;
/// let client = server.client_builder().build().await;
/// homeserver.add_session_of(&client);
///
/// let event_type = GlobalAccountDataEventType::from("org.example.settings");
/// assert!(client.account().fetch_account_data(event_type).await?.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a mock homeserver is only useful to the clients of its devices"]
pub struct AccountDataServer {
    shared: Arc<Shared>,
    /// Kept alive here and not in `Shared`, which the server's own mocks hold.
    _server: Option<Arc<MockServer>>,
}

impl AccountDataServer {
    /// The wiremock priority of the mocks; see [With other mocks](#with-other-mocks).
    pub const PRIORITY: u8 = 2;

    /// Starts a server, which lives as long as this handle and its clones.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the server stops.
    pub async fn start() -> Self {
        // Do not use wiremock's pool: another test of the process may have had the same
        // address.
        let server = MockServer::builder().start().await;
        let homeserver = Self::mount(&server).await;
        Self { _server: Some(Arc::new(server)), ..homeserver }
    }

    /// Mounts all endpoints on a server: account data, both kinds of sync, login, logout,
    /// refresh, whoami, filters, upload and query of keys, and `/versions`.
    ///
    /// They stay mounted until the server is dropped or reset.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, some of the mocks may stay mounted.
    pub async fn mount(server: &MockServer) -> Self {
        Self::mount_scoped(server, Scope::Everything).await
    }

    /// Mounts only the account-data endpoints on a server.
    ///
    /// Sync, login and `/versions` are left to other mocks.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, some of the mocks may stay mounted.
    pub async fn mount_account_data_only(server: &MockServer) -> Self {
        Self::mount_scoped(server, Scope::AccountData).await
    }

    async fn mount_scoped(server: &MockServer, scope: Scope) -> Self {
        Self { shared: Shared::mount(server, scope).await, _server: None }
    }

    /// Returns the base URL.
    pub fn uri(&self) -> &str {
        &self.shared.uri
    }

    // Users and devices.

    /// Logs a device in, with an access token that never expires.
    ///
    /// If the device already exists, it gets a new token and the old one becomes unknown.
    pub fn add_device(&self, user_id: &str, device_id: &str) -> DeviceLogin {
        self.state().log_in(user_id, device_id, unique_token("access"), None).login()
    }

    /// Logs a device in with a refresh token. See [`expire_token`](Self::expire_token).
    pub fn add_device_with_refresh(&self, user_id: &str, device_id: &str) -> DeviceLogin {
        let refresh_token = Some(unique_token("refresh"));
        self.state().log_in(user_id, device_id, unique_token("access"), refresh_token).login()
    }

    /// Logs a guest in. Guests can sync, but every account-data request, including GET,
    /// fails with 403 `M_GUEST_ACCESS_FORBIDDEN`.
    pub fn add_guest(&self, user_id: &str, device_id: &str) -> DeviceLogin {
        let mut state = self.state();
        let device = state.log_in(user_id, device_id, unique_token("access"), None);
        device.guest = true;
        device.login()
    }

    /// Allows a user to log in with this password at `POST /_matrix/client/v3/login`.
    pub fn add_password_login(&self, user_id: &str, password: &str) {
        self.state().passwords.insert(user_id.to_owned(), password.to_owned());
    }

    /// Accepts the session of a client that was logged in by other means, such as a
    /// client built by matrix-sdk's `MatrixMockServer`. Returns `None` if the client has
    /// no session.
    pub fn add_session_of(&self, client: &matrix_sdk::Client) -> Option<DeviceLogin> {
        let (meta, tokens) = client.session_meta().zip(client.session_tokens())?;
        let (user_id, device_id) = (meta.user_id.as_str(), meta.device_id.as_str());
        let mut state = self.state();
        let device = state.log_in(user_id, device_id, tokens.access_token, tokens.refresh_token);
        Some(device.login())
    }

    /// Returns the devices of a user, with their current tokens.
    pub fn devices(&self, user_id: &str) -> Vec<DeviceLogin> {
        let state = self.state();
        state
            .devices
            .iter()
            .filter(|device| device.user_id == user_id)
            .map(state::Device::login)
            .collect()
    }

    /// Logs a device out from elsewhere. Its token then gets 401 `M_UNKNOWN_TOKEN` with
    /// `soft_logout: false`.
    pub fn remove_device(&self, device: &DeviceLogin) {
        self.state()
            .devices
            .retain(|known| known.user_id != device.user_id || known.device_id != device.device_id);
    }

    /// Deactivates an account: logs out all its devices and deletes its data.
    pub fn deactivate(&self, user_id: &str) {
        let mut state = self.state();
        state.devices.retain(|device| device.user_id != user_id);
        state.passwords.remove(user_id);
        state.erase(user_id);
    }

    /// Expires the access token of a device. It gets 401 `M_UNKNOWN_TOKEN` with
    /// `soft_logout: true` until the device refreshes or logs in again.
    pub fn expire_token(&self, device: &DeviceLogin) {
        if let Some(device) = self.state().device_mut(&device.user_id, &device.device_id) {
            device.expired = true;
        }
    }

    /// Returns the number of successful refreshes.
    pub fn refreshes(&self) -> usize {
        self.state().refreshes
    }

    /// Delays the answers to refreshes, in real time. The tokens still change at once.
    pub fn set_refresh_delay(&self, delay: Duration) {
        self.state().refresh_delay = delay;
    }

    pub(super) fn current(&self, device: &DeviceLogin) -> DeviceLogin {
        self.state()
            .device(&device.user_id, &device.device_id)
            .map_or_else(|| device.clone(), state::Device::login)
    }

    // Contents.

    /// Returns the raw JSON text that GET returns now, byte for byte as it was PUT, or
    /// `None` for a 404.
    pub fn content(&self, user_id: &str, event_type: &str) -> Option<String> {
        self.state().content(user_id, event_type).map(str::to_owned)
    }

    /// Sets a content as if another client had PUT it. All devices receive it through
    /// sync.
    ///
    /// Any JSON is accepted, even an array, which Synapse would refuse, because another
    /// server may hold it.
    ///
    /// # Panics
    ///
    /// Panics if the text is not JSON.
    pub fn set_content(&self, user_id: &str, event_type: &str, raw_json: &str) {
        assert!(
            serde_json::from_str::<&serde_json::value::RawValue>(raw_json).is_ok(),
            "the content for {event_type} is not JSON"
        );
        self.state().put(user_id, event_type, raw_json);
    }

    /// Makes the next sync of every device deliver the current content again, unchanged.
    ///
    /// Real servers occasionally do this. A PUT of unchanged content has the same effect.
    pub fn redeliver(&self, user_id: &str, event_type: &str) {
        self.state().redeliver(user_id, event_type);
    }

    /// Sets whether the server supports MSC3391. By default, it does not.
    pub fn set_msc3391(&self, msc3391: Msc3391) {
        self.state().msc3391 = msc3391;
    }

    /// Sets how initial syncs are answered. By default, they show the current data.
    pub fn set_initial_sync(&self, initial_sync: InitialSync) {
        self.state().initial_sync = initial_sync;
    }

    // Requests and faults.

    /// Returns all account-data requests, in the order in which they were applied, except for
    /// those for types of the Matrix specification (`m.…`). A client with encryption sends some
    /// of those itself, at any time.
    pub fn requests(&self) -> Vec<AccountDataRequest> {
        self.state().requests.clone()
    }

    /// Discards the requests recorded so far.
    pub fn clear_requests(&self) {
        self.state().requests.clear();
    }

    /// Adds a rule by which account-data requests fail. Other requests never fail, nor do those
    /// for types of the Matrix specification (`m.…`).
    ///
    /// Rules for a number of requests are used up first, oldest first. After that, the
    /// newest permanent rule applies.
    pub fn fail(&self, rule: FaultRule) {
        self.state().faults.add(rule);
    }

    /// Fails the next account-data request.
    pub fn fail_next(&self, fault: Fault) {
        self.fail(FaultRule::next(fault));
    }

    /// Fails the next account-data request with this method.
    pub fn fail_next_on(&self, method: AccountDataMethod, fault: Fault) {
        self.fail(FaultRule::next(fault).on(method));
    }

    /// Fails every account-data request from now on.
    pub fn fail_all(&self, fault: Fault) {
        self.fail(FaultRule::always(fault));
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Runs `action` just before the next request with this method is applied.
    ///
    /// With it, a test can place another device's write between a client's read and its
    /// write, regardless of timing. The action runs on the server's thread and blocks all
    /// requests, so it must not wait for one.
    pub fn before_next(
        &self,
        method: AccountDataMethod,
        action: impl FnOnce(&Self) + Send + 'static,
    ) {
        let moment = Moment::BeforeApplied;
        self.state().hooks.push(Hook { method, moment, action: Box::new(action) });
    }

    /// Runs `action` once the next request with this method has been applied but not yet
    /// answered.
    ///
    /// It runs even if a fault prevents the request from being applied or answered. As
    /// with [`before_next`](Self::before_next), the action must not wait for a request.
    pub fn after_next(
        &self,
        method: AccountDataMethod,
        action: impl FnOnce(&Self) + Send + 'static,
    ) {
        let moment = Moment::BeforeAnswered;
        self.state().hooks.push(Hook { method, moment, action: Box::new(action) });
    }

    // Waiting.

    /// Waits until `satisfied` returns true for the account-data requests so far.
    ///
    /// It waits forever if that never happens, so wrap it in `tokio::time::timeout`.
    ///
    /// # Cancel safety
    ///
    /// This method only waits. It can be dropped and called again.
    pub async fn wait_for(&self, mut satisfied: impl FnMut(&[AccountDataRequest]) -> bool) {
        self.wait_until(|state| satisfied(&state.requests)).await;
    }

    /// Waits until a device has handled everything that sync had to deliver when this was
    /// called, which the device shows by asking for what comes after it.
    ///
    /// It waits forever if the device does not sync.
    ///
    /// # Cancel safety
    ///
    /// This method only waits. It can be dropped and called again.
    pub async fn wait_for_sync(&self, device: &DeviceLogin) {
        let position = self.state().position;
        self.wait_until(|state| {
            state
                .device(&device.user_id, &device.device_id)
                .and_then(|device| device.synced_to)
                .is_some_and(|synced_to| synced_to >= position)
        })
        .await;
    }

    async fn wait_until(&self, mut satisfied: impl FnMut(&State) -> bool) {
        let mut activity = self.shared.activity.subscribe();
        while !satisfied(&self.state()) {
            // `self` holds the sender, so it cannot be gone.
            let _ = activity.changed().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl fmt::Debug for AccountDataServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountDataServer").field("uri", &self.shared.uri).finish_non_exhaustive()
    }
}
