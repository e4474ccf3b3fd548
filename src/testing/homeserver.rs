//! The account-data part of a Matrix homeserver, on a `wiremock::MockServer`.

mod account_data;
mod client;
mod json;
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

/// A mock homeserver that holds account data.
///
/// Cheap to clone: all clones are the same homeserver. Contents, devices and faults can be changed
/// at any time, also while clients talk to it.
///
/// What it answers is what Synapse 1.163 answers, with these differences: a content is kept byte
/// for byte (Synapse drops white space and duplicate keys); sync carries nothing but account data
/// and obeys no filter; a sync with nothing to say is answered after 20 ms, whatever its
/// `timeout`, or at once if that is 0; and a refresh token is dead as soon as it was used (Synapse
/// lets it live until one of its successors is used), so that a client which loses the answer of a
/// refresh loses its session, as it may on other servers.
///
/// # Beside other mocks
///
/// Its mocks have the priority [`PRIORITY`](Self::PRIORITY), which wins over wiremock's default of
/// 5 that the mocks of matrix-sdk's `MatrixMockServer` have. To override one of its answers, mount
/// a mock of priority 1. Requests that are none of its own go to the other mocks. With
/// [`mount_account_data_only`](Self::mount_account_data_only) even sync and login do.
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
#[must_use = "a mock homeserver is of use only to the clients of its devices"]
pub struct AccountDataServer {
    shared: Arc<Shared>,
    /// Kept alive here and not in `Shared`: the server's own mocks hold that.
    _server: Option<Arc<MockServer>>,
}

impl AccountDataServer {
    /// The wiremock priority of the mocks; see [Beside other mocks](#beside-other-mocks).
    pub const PRIORITY: u8 = 2;

    /// Start a server of its own, which lives as long as this handle and its clones.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the server ends.
    pub async fn start() -> Self {
        // Not one of wiremock's pool, whose address another test of the process may have had.
        let server = MockServer::builder().start().await;
        let homeserver = Self::mount(&server).await;
        Self { _server: Some(Arc::new(server)), ..homeserver }
    }

    /// Mount on a server, with all endpoints: account data, both kinds of sync, login, logout,
    /// refresh, whoami, filters and `/versions`.
    ///
    /// It stays mounted until the server is dropped or reset.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, some of the mocks may stay mounted.
    pub async fn mount(server: &MockServer) -> Self {
        Self::mount_scoped(server, Scope::Everything).await
    }

    /// Mount on a server only what reads and writes account data.
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

    /// The base URL.
    pub fn uri(&self) -> &str {
        &self.shared.uri
    }

    // Users and devices.

    /// Log a device in, whose access token never expires.
    ///
    /// A device that was there already gets a new token; the old one is unknown from then on.
    pub fn add_device(&self, user_id: &str, device_id: &str) -> DeviceLogin {
        self.state().log_in(user_id, device_id, unique_token("access"), None).login()
    }

    /// Log a device in, with a refresh token. See [`expire_token`](Self::expire_token).
    pub fn add_device_with_refresh(&self, user_id: &str, device_id: &str) -> DeviceLogin {
        let refresh_token = Some(unique_token("refresh"));
        self.state().log_in(user_id, device_id, unique_token("access"), refresh_token).login()
    }

    /// Log a guest in: sync works, account data is 403 `M_GUEST_ACCESS_FORBIDDEN`, GET too.
    pub fn add_guest(&self, user_id: &str, device_id: &str) -> DeviceLogin {
        let mut state = self.state();
        let device = state.log_in(user_id, device_id, unique_token("access"), None);
        device.guest = true;
        device.login()
    }

    /// Let a user log in with this password, at `POST /_matrix/client/v3/login`.
    pub fn add_password_login(&self, user_id: &str, password: &str) {
        self.state().passwords.insert(user_id.to_owned(), password.to_owned());
    }

    /// Accept the session of a client that was logged in by other means, such as those that
    /// matrix-sdk's `MatrixMockServer` builds; `None` if it has no session.
    pub fn add_session_of(&self, client: &matrix_sdk::Client) -> Option<DeviceLogin> {
        let (meta, tokens) = client.session_meta().zip(client.session_tokens())?;
        let (user_id, device_id) = (meta.user_id.as_str(), meta.device_id.as_str());
        let mut state = self.state();
        let device = state.log_in(user_id, device_id, tokens.access_token, tokens.refresh_token);
        Some(device.login())
    }

    /// The devices of a user, with the tokens that they have now.
    pub fn devices(&self, user_id: &str) -> Vec<DeviceLogin> {
        let state = self.state();
        state
            .devices
            .iter()
            .filter(|device| device.user_id == user_id)
            .map(state::Device::login)
            .collect()
    }

    /// Log a device out from elsewhere: its token is 401 `M_UNKNOWN_TOKEN`, `soft_logout: false`.
    pub fn remove_device(&self, device: &DeviceLogin) {
        self.state()
            .devices
            .retain(|known| known.user_id != device.user_id || known.device_id != device.device_id);
    }

    /// Deactivate an account: all its devices are logged out, its data is gone.
    pub fn deactivate(&self, user_id: &str) {
        let mut state = self.state();
        state.devices.retain(|device| device.user_id != user_id);
        state.passwords.remove(user_id);
        state.erase(user_id);
    }

    /// Let the access token of a device expire: 401 `M_UNKNOWN_TOKEN`, `soft_logout: true`, until
    /// the device refreshes or logs in again.
    pub fn expire_token(&self, device: &DeviceLogin) {
        if let Some(device) = self.state().device_mut(&device.user_id, &device.device_id) {
            device.expired = true;
        }
    }

    /// How many refreshes succeeded.
    pub fn refreshes(&self) -> usize {
        self.state().refreshes
    }

    /// Hold back the answers of refreshes, in real time; the tokens change at once all the same.
    pub fn set_refresh_delay(&self, delay: Duration) {
        self.state().refresh_delay = delay;
    }

    pub(super) fn current(&self, device: &DeviceLogin) -> DeviceLogin {
        self.state()
            .device(&device.user_id, &device.device_id)
            .map_or_else(|| device.clone(), state::Device::login)
    }

    // Contents.

    /// The raw JSON text that a GET shows now: byte for byte what was PUT; `None` for a 404.
    pub fn content(&self, user_id: &str, event_type: &str) -> Option<String> {
        self.state().content(user_id, event_type).map(str::to_owned)
    }

    /// Set a content as if another client had PUT it: all devices learn of it by sync.
    ///
    /// Any JSON is taken, also what Synapse would refuse, such as an array: another server may
    /// hold it.
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

    /// Have the next sync of every device deliver what is held once more, unchanged.
    ///
    /// Real servers do so now and then; a PUT of what is there already looks the same.
    pub fn redeliver(&self, user_id: &str, event_type: &str) {
        self.state().redeliver(user_id, event_type);
    }

    /// Say whether the server has MSC3391; it has not, to begin with.
    pub fn set_msc3391(&self, msc3391: Msc3391) {
        self.state().msc3391 = msc3391;
    }

    /// Say what initial syncs answer with: the truth, to begin with.
    pub fn set_initial_sync(&self, initial_sync: InitialSync) {
        self.state().initial_sync = initial_sync;
    }

    // Requests and faults.

    /// All account-data requests, in the order in which they were applied.
    pub fn requests(&self) -> Vec<AccountDataRequest> {
        self.state().requests.clone()
    }

    /// Forget the requests so far.
    pub fn clear_requests(&self) {
        self.state().requests.clear();
    }

    /// Fail account-data requests by a rule. Other requests never fail.
    ///
    /// Rules that end are used up first, in the order in which they came; then the newest of the
    /// standing ones holds.
    pub fn fail(&self, rule: FaultRule) {
        self.state().faults.add(rule);
    }

    /// Fail the next account-data request.
    pub fn fail_next(&self, fault: Fault) {
        self.fail(FaultRule::next(fault));
    }

    /// Fail the next account-data request with this method.
    pub fn fail_next_on(&self, method: AccountDataMethod, fault: Fault) {
        self.fail(FaultRule::next(fault).on(method));
    }

    /// Fail every account-data request from now on.
    pub fn fail_all(&self, fault: Fault) {
        self.fail(FaultRule::always(fault));
    }

    /// Forget all faults.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Run something just before the next request with this method is applied.
    ///
    /// So a test puts another device's write between a client's read and its write, whatever the
    /// timing. The action runs in the server's thread and holds up all requests: it must not wait
    /// for any.
    pub fn before_next(
        &self,
        method: AccountDataMethod,
        action: impl FnOnce(&Self) + Send + 'static,
    ) {
        let moment = Moment::BeforeApplied;
        self.state().hooks.push(Hook { method, moment, action: Box::new(action) });
    }

    /// Run something when the next request with this method is applied and not yet answered.
    ///
    /// It runs also if a fault keeps the request from being applied or answered.
    /// As for [`before_next`](Self::before_next), the action must not wait for a request.
    pub fn after_next(
        &self,
        method: AccountDataMethod,
        action: impl FnOnce(&Self) + Send + 'static,
    ) {
        let moment = Moment::BeforeAnswered;
        self.state().hooks.push(Hook { method, moment, action: Box::new(action) });
    }

    // Waiting.

    /// Wait until the account-data requests so far are what the test waits for.
    ///
    /// It waits for ever if they never are: put a `tokio::time::timeout` around it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
    pub async fn wait_for(&self, mut satisfied: impl FnMut(&[AccountDataRequest]) -> bool) {
        self.wait_until(|state| satisfied(&state.requests)).await;
    }

    /// Wait until a device has handled all that sync had to deliver when this was called.
    ///
    /// That is so when the device asks for what comes after it. It waits for ever if the device
    /// does not sync.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
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
            // The sender is in `self`: it cannot be gone.
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
