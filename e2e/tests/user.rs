//! A user by raw HTTP, for checks that do not depend on the library, and for clients that
//! overwrite.

use std::sync::atomic::{AtomicU64, Ordering};

use matrix_analytics::ELEMENT_EVENT_TYPE;
use matrix_sdk::reqwest;
use serde_json::{Value, json};

use crate::waiting::{Result, ensure};

/// An event type that no client uses, which shows how far sync has come.
pub(crate) const FENCE_TYPE: &str = "org.example.fence";

/// A user, and a device of theirs that only raw HTTP uses.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) token: String,
    pub(crate) device: String,
    url: String,
    http: reqwest::Client,
}

/// The status and body of a response.
pub(crate) type Answer = (u16, String);

/// Returns the body of a successful response.
pub(crate) fn answer_of((status, body): Answer) -> Result<Value> {
    ensure(format!("{status} is a success: {body}"), status == 200)?;
    Ok(serde_json::from_str(&body)?)
}

/// Builds an HTTP client for loopback. It loads no system certificates, because that is slow.
pub(crate) fn http_client() -> reqwest::Client {
    let built = reqwest::Client::builder().tls_certs_only([]).no_proxy().build();
    built.expect("the client loads no certificates")
}

impl User {
    pub(crate) async fn register(url: &str, name: &str, password: &str) -> Result<Self> {
        let auth = json!({ "type": "m.login.dummy" });
        let body = json!({ "username": name, "password": password, "auth": auth });
        Self::without_session(url, name).into_session("/_matrix/client/v3/register", &body).await
    }

    pub(crate) async fn register_guest(url: &str) -> Result<Self> {
        let path = "/_matrix/client/v3/register?kind=guest";
        Self::without_session(url, "guest").into_session(path, &json!({})).await
    }

    pub(crate) async fn log_in(url: &str, name: &str, password: &str) -> Result<Self> {
        let identifier = json!({ "type": "m.id.user", "user": name });
        let kind = "m.login.password";
        let body = json!({ "type": kind, "identifier": identifier, "password": password });
        Self::without_session(url, name).into_session("/_matrix/client/v3/login", &body).await
    }

    fn without_session(url: &str, name: &str) -> Self {
        Self {
            id: String::new(),
            name: name.to_owned(),
            token: String::new(),
            device: String::new(),
            url: url.to_owned(),
            http: http_client(),
        }
    }

    async fn into_session(mut self, path: &str, body: &Value) -> Result<Self> {
        let session = answer_of(self.request("POST", path, Some(body.to_string())).await?)?;
        let member = |name: &str| session[name].as_str().map(str::to_owned);
        let session = (member("user_id"), member("access_token"), member("device_id"));
        let (Some(id), Some(token), Some(device)) = session else {
            return Err("the answer holds no session".into());
        };
        (self.id, self.token, self.device) = (id, token, device);
        Ok(self)
    }

    /// Returns this user with the access token of another device.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// Returns this user at another URL.
    pub(crate) fn via(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<String>,
    ) -> Result<Answer> {
        let method = reqwest::Method::from_bytes(method.as_bytes())?;
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let answer = request.send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// Returns the homeserver's answer for the analytics event.
    pub(crate) async fn content(&self) -> Result<Answer> {
        self.request("GET", &self.account_data(ELEMENT_EVENT_TYPE), None).await
    }

    /// Overwrites the analytics event, as any client can.
    pub(crate) async fn overwrite(&self, content: &str) -> Result {
        let path = self.account_data(ELEMENT_EVENT_TYPE);
        answer_of(self.request("PUT", &path, Some(content.to_owned())).await?).map(drop)
    }

    /// Returns the analytics ID on the homeserver.
    pub(crate) async fn held_id(&self) -> Result<Option<String>> {
        let (_, body) = self.content().await?;
        let content: Value = serde_json::from_str(&body)?;
        Ok(content["id"].as_str().map(str::to_owned))
    }

    /// Writes the next fence, and returns its number.
    pub(crate) async fn fence(&self) -> Result<u64> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);

        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let fence = json!({ "number": number }).to_string();
        let path = self.account_data(FENCE_TYPE);
        answer_of(self.request("PUT", &path, Some(fence)).await?)?;
        Ok(number)
    }

    fn account_data(&self, event_type: &str) -> String {
        format!("/_matrix/client/v3/user/{}/account_data/{event_type}", self.id)
    }

    /// Creates an unencrypted room, and returns its ID.
    pub(crate) async fn create_room(&self, invited: &[&User]) -> Result<String> {
        let invited: Vec<_> = invited.iter().map(|user| &user.id).collect();
        let room = json!({ "preset": "private_chat", "invite": invited });
        let path = "/_matrix/client/v3/createRoom";
        let room = answer_of(self.request("POST", path, Some(room.to_string())).await?)?;
        Ok(room["room_id"].as_str().ok_or("the answer holds no room")?.to_owned())
    }
}
