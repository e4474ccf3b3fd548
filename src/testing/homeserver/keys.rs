//! The keys of a client with encryption.

use serde_json::json;
use wiremock::Request;

use super::{reply::Reply, state::State};

impl State {
    /// `POST /keys/upload`. Says that there are enough one-time keys, so that the client uploads
    /// no more.
    pub(super) fn keys_upload(&mut self, request: &Request) -> Result<Reply, Reply> {
        self.authenticate(request)?;
        Ok(Reply::json(200, &json!({"one_time_key_counts": {"signed_curve25519": 50}})))
    }

    /// `POST /keys/query`. No user has a device with keys.
    pub(super) fn keys_query(&mut self, request: &Request) -> Result<Reply, Reply> {
        self.authenticate(request)?;
        Ok(Reply::json(200, &json!({"device_keys": {}})))
    }
}
