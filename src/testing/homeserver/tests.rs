//! Tests over real HTTP on the loopback interface. They use matrix-sdk where possible,
//! and plain requests where its types do not allow the case.

mod account_data;
mod faults;
mod sessions;
mod sync;

use std::{future::Future, time::Duration};

use matrix_sdk::{
    reqwest::{Client as HttpClient, Error, Method, Response},
    ruma::{events::GlobalAccountDataEventType, serde::Raw},
};
use serde_json::Value;

use super::{AccountDataServer, DeviceLogin};

const ALICE: &str = "@alice:example.org";
const BOB: &str = "@bob:example.org";
const TYPE: &str = "org.example.settings";

/// An answer, read to its end.
#[derive(Debug)]
struct Answer {
    status: u16,
    retry_after: Option<String>,
    body: String,
}

impl Answer {
    async fn of(response: Response) -> Self {
        let retry_after = response.headers().get("retry-after");
        Self {
            status: response.status().as_u16(),
            retry_after: retry_after.map(|value| value.to_str().unwrap().to_owned()),
            body: response.text().await.unwrap(),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn error(&self) -> (u16, String) {
        (self.status, self.json()["errcode"].as_str().unwrap().to_owned())
    }
}

/// A device that sends plain HTTP requests.
struct Http<'a> {
    homeserver: &'a AccountDataServer,
    token: Option<String>,
}

impl<'a> Http<'a> {
    fn new(homeserver: &'a AccountDataServer, device: &DeviceLogin) -> Self {
        Self { homeserver, token: Some(device.access_token.clone()) }
    }

    async fn try_send(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Answer, Error> {
        let url = format!("{}/_matrix/client/{path}", self.homeserver.uri());
        let mut request = HttpClient::new().request(method, url).body(body);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        Ok(Answer::of(request.send().await?).await)
    }

    async fn send(&self, method: Method, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.try_send(method, path, body.into()).await.unwrap()
    }

    async fn get(&self) -> Answer {
        self.send(Method::GET, &data_path(ALICE), "").await
    }

    async fn put(&self, body: impl Into<Vec<u8>>) -> Answer {
        self.send(Method::PUT, &data_path(ALICE), body).await
    }

    async fn delete(&self) -> Answer {
        let path = format!("unstable/org.matrix.msc3391/user/{ALICE}/account_data/{TYPE}");
        self.send(Method::DELETE, &path, "").await
    }

    /// Returns the token for the next sync, and the events as (type, raw content).
    async fn sync(&self, since: Option<&str>) -> (String, Vec<(String, String)>) {
        let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
        let answer = self.send(Method::GET, &format!("v3/sync?timeout=0{since}"), "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let body: SyncBody<'_> = serde_json::from_str(&answer.body).unwrap();
        (body.next_batch, raw_events(&body.account_data.events))
    }

    async fn sliding_sync(&self, pos: Option<&str>) -> (String, Vec<(String, String)>) {
        let pos = pos.map(|pos| format!("&pos={pos}")).unwrap_or_default();
        let path = format!("unstable/org.matrix.simplified_msc3575/sync?timeout=0{pos}");
        let body = r#"{"extensions":{"account_data":{"enabled":true}}}"#;
        let answer = self.send(Method::POST, &path, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let body: SlidingBody<'_> = serde_json::from_str(&answer.body).unwrap();
        (body.pos, raw_events(&body.extensions.account_data.global))
    }
}

#[derive(serde::Deserialize)]
struct SyncBody<'a> {
    next_batch: String,
    #[serde(borrow, default)]
    account_data: Events<'a>,
}

#[derive(Default, serde::Deserialize)]
struct Events<'a> {
    #[serde(borrow)]
    events: Vec<RawEvent<'a>>,
}

#[derive(serde::Deserialize)]
struct SlidingBody<'a> {
    pos: String,
    #[serde(borrow)]
    extensions: SlidingExtensions<'a>,
}

#[derive(serde::Deserialize)]
struct SlidingExtensions<'a> {
    #[serde(borrow)]
    account_data: Global<'a>,
}

#[derive(serde::Deserialize)]
struct Global<'a> {
    #[serde(borrow)]
    global: Vec<RawEvent<'a>>,
}

#[derive(serde::Deserialize)]
struct RawEvent<'a> {
    #[serde(rename = "type")]
    event_type: String,
    #[serde(borrow)]
    content: &'a serde_json::value::RawValue,
}

fn raw_events(events: &[RawEvent<'_>]) -> Vec<(String, String)> {
    events.iter().map(|event| (event.event_type.clone(), event.content.get().to_owned())).collect()
}

fn event(content: &str) -> Vec<(String, String)> {
    vec![(TYPE.to_owned(), content.to_owned())]
}

fn data_path(user_id: &str) -> String {
    format!("v3/user/{user_id}/account_data/{TYPE}")
}

fn event_type() -> GlobalAccountDataEventType {
    GlobalAccountDataEventType::from(TYPE)
}

fn raw<T>(json: &str) -> Raw<T> {
    Raw::from_json_string(json.to_owned()).unwrap()
}

/// Fails the test instead of waiting forever.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.unwrap()
}
