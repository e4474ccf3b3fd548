//! Login, logout, and the lifetime of tokens.

use serde::Deserialize;
use serde_json::json;
use wiremock::Request;

use super::{
    Msc3391,
    reply::Reply,
    state::{Device, State, unique_token},
};

/// The advertised lifetime of an access token with a refresh token. The token does not
/// expire by time, only by
/// [`AccountDataServer::expire_token`](super::AccountDataServer::expire_token).
const EXPIRES_IN_MS: u64 = 300_000;

/// A device of a user, as of its login.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceLogin {
    /// The Matrix ID of the user.
    pub user_id: String,
    /// The device ID.
    pub device_id: String,
    /// The access token. A refresh replaces it.
    pub access_token: String,
    /// The refresh token, if the device has one. A refresh replaces it.
    pub refresh_token: Option<String>,
}

impl Device {
    pub(super) fn login(&self) -> DeviceLogin {
        DeviceLogin {
            user_id: self.user_id.clone(),
            device_id: self.device_id.clone(),
            access_token: self.access_token.clone(),
            refresh_token: self.refresh_token.clone(),
        }
    }
}

impl State {
    /// `GET /versions`: section "API Versions" of the client-server API.
    pub(super) fn versions(&self) -> Reply {
        let versions: Vec<String> = std::iter::once("r0.6.1".to_owned())
            .chain((1..=12).map(|minor| format!("v1.{minor}")))
            .collect();
        let unstable_features = json!({
            "org.matrix.msc3391": self.msc3391 == Msc3391::On,
            "org.matrix.simplified_msc3575": true,
        });
        Reply::json(200, &json!({ "versions": versions, "unstable_features": unstable_features }))
    }

    pub(super) fn filter(&self, request: &Request) -> Result<Reply, Reply> {
        self.authenticate(request)?;
        Ok(Reply::json(200, &json!({ "filter_id": "1" })))
    }

    pub(super) fn whoami(&self, request: &Request) -> Result<Reply, Reply> {
        let caller = self.authenticate(request)?;
        let answer = json!({
            "user_id": caller.user_id,
            "device_id": caller.device_id,
            "is_guest": caller.guest,
        });
        Ok(Reply::json(200, &answer))
    }

    /// `POST /login`: section "Login" of the client-server API, password only.
    pub(super) fn login(&mut self, request: &Request) -> Reply {
        let Ok(body) = serde_json::from_slice::<LoginBody>(&request.body) else {
            return Reply::error(400, "M_BAD_JSON", "Content must be a JSON object.");
        };
        if body.kind != "m.login.password" {
            return Reply::error(400, "M_UNKNOWN", "Unknown login type");
        }
        let name = body.identifier.and_then(|identifier| identifier.user).or(body.user);
        let known = name.zip(body.password).and_then(|(name, password)| {
            self.passwords
                .iter()
                .find(|(user_id, _)| **user_id == name || localpart(user_id) == Some(&name))
                .filter(|(_, known)| **known == password)
                .map(|(user_id, _)| user_id.clone())
        });
        let Some(user_id) = known else {
            return Reply::error(403, "M_FORBIDDEN", "Invalid username or password");
        };
        let device_id = body.device_id.unwrap_or_else(|| unique_token("DEVICE"));
        let refresh_token = body.refresh_token.unwrap_or(false).then(|| unique_token("refresh"));
        let device = self.log_in(&user_id, &device_id, unique_token("access"), refresh_token);
        let mut answer = json!({
            "user_id": device.user_id,
            "device_id": device.device_id,
            "access_token": device.access_token,
        });
        if let Some(refresh_token) = &device.refresh_token {
            answer["refresh_token"] = json!(refresh_token);
            answer["expires_in_ms"] = json!(EXPIRES_IN_MS);
        }
        Reply::json(200, &answer)
    }

    pub(super) fn login_flows() -> Reply {
        Reply::json(200, &json!({ "flows": [{ "type": "m.login.password" }] }))
    }

    pub(super) fn logout(&mut self, request: &Request) -> Result<Reply, Reply> {
        let caller = self.authenticate(request)?;
        self.devices.retain(|device| {
            device.user_id != caller.user_id || device.device_id != caller.device_id
        });
        Ok(Reply::empty_object())
    }

    pub(super) fn logout_all(&mut self, request: &Request) -> Result<Reply, Reply> {
        let caller = self.authenticate(request)?;
        self.devices.retain(|device| device.user_id != caller.user_id);
        Ok(Reply::empty_object())
    }

    /// `POST /refresh`: section "Refreshing access tokens" of the client-server API.
    ///
    /// The tokens are replaced as soon as the request arrives, even if its answer is
    /// delayed.
    pub(super) fn refresh(&mut self, request: &Request) -> Reply {
        let Ok(body) = serde_json::from_slice::<RefreshBody>(&request.body) else {
            return Reply::error(400, "M_BAD_JSON", "Content must be a JSON object.");
        };
        let device = self
            .devices
            .iter_mut()
            .find(|device| device.refresh_token.as_ref() == Some(&body.refresh_token));
        let Some(device) = device else {
            return Reply::logged_out("M_UNKNOWN_TOKEN", "refresh token does not exist", false);
        };
        let (access_token, refresh_token) = (unique_token("access"), unique_token("refresh"));
        device.access_token.clone_from(&access_token);
        device.refresh_token = Some(refresh_token.clone());
        device.expired = false;
        self.refreshes += 1;
        let reply = Reply::json(
            200,
            &json!({
                "access_token": access_token,
                "refresh_token": refresh_token,
                "expires_in_ms": EXPIRES_IN_MS,
            }),
        );
        if self.refresh_delay.is_zero() { reply } else { reply.after(self.refresh_delay) }
    }
}

#[derive(Deserialize)]
struct LoginBody {
    #[serde(rename = "type")]
    kind: String,
    identifier: Option<Identifier>,
    /// The place of the user name before identifiers were introduced. Some clients still
    /// use it.
    user: Option<String>,
    password: Option<String>,
    device_id: Option<String>,
    refresh_token: Option<bool>,
}

#[derive(Deserialize)]
struct Identifier {
    user: Option<String>,
}

#[derive(Deserialize)]
struct RefreshBody {
    refresh_token: String,
}

fn localpart(user_id: &str) -> Option<&str> {
    user_id.strip_prefix('@')?.split_once(':').map(|(localpart, _)| localpart)
}
