//! The other client, driven by lines on its standard input.

use std::{
    collections::HashMap,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use matrix_analytics::ELEMENT_EVENT_TYPE;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    sync::{Mutex as AsyncMutex, oneshot},
};

use crate::{
    homeserver::root,
    user::{FENCE_TYPE, User},
    waiting::{Result, within},
};

/// A process that runs `e2e/peer/peer.js`, where `scripts/e2e` has put it. Killed on drop.
pub(crate) struct Peer {
    _process: Child,
    commands: AsyncMutex<(u64, ChildStdin)>,
    waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>,
}

/// The peer's state.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PeerState {
    pub(crate) flag: Option<bool>,
    pub(crate) held_id: Option<String>,
    /// The ID that it sends under.
    pub(crate) sends_under: Option<String>,
    /// The IDs that it has created, oldest first.
    pub(crate) minted: Vec<String>,
    /// The number of operations that it began on its own and has not finished.
    pub(crate) pending: u64,
    pub(crate) failures: Vec<String>,
}

impl Peer {
    /// Starts the peer on a device of `user`, and waits for its first sync.
    pub(crate) async fn start(url: &str, user: &User) -> Result<Self> {
        let mut process = Command::new("node")
            .arg(root().join("target/e2e-peer/peer.js"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = process.stdin.take().ok_or("it has a standard input")?;
        let stdout = process.stdout.take().ok_or("it has a standard output")?;
        let waiting = Arc::<Mutex<HashMap<u64, oneshot::Sender<Value>>>>::default();
        let answered = waiting.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let Ok(answer) = serde_json::from_str::<Value>(&line) else { continue };
                let mut waiting = answered.lock().unwrap_or_else(PoisonError::into_inner);
                let number = answer["number"].as_u64();
                if let Some(waiter) = number.and_then(|number| waiting.remove(&number)) {
                    let _ = waiter.send(answer);
                }
            }
            // Waiting callers learn that the peer has exited.
            answered.lock().unwrap_or_else(PoisonError::into_inner).clear();
        });
        let peer = Self { _process: process, commands: AsyncMutex::new((0, stdin)), waiting };
        let session = json!({
            "url": url,
            "userId": user.id,
            "deviceId": user.device,
            "accessToken": user.token,
            "eventType": ELEMENT_EVENT_TYPE,
            "fenceType": FENCE_TYPE,
        });
        peer.command("start", session).await?;
        Ok(peer)
    }

    /// Sets the flag, as the switch in the settings does.
    pub(crate) async fn set_flag(&self, value: bool) -> Result {
        self.command("setFlag", json!({ "value": value })).await.map(drop)
    }

    pub(crate) async fn erase(&self) -> Result {
        self.command("erase", json!({})).await.map(drop)
    }

    /// Waits until the peer's sync has shown the fence.
    pub(crate) async fn reaches(&self, fence: u64) -> Result {
        self.command("fence", json!({ "reach": fence })).await.map(drop)
    }

    pub(crate) async fn state(&self) -> Result<PeerState> {
        Ok(serde_json::from_value(self.command("state", json!({})).await?)?)
    }

    async fn command(&self, name: &str, mut options: Value) -> Result<Value> {
        let (answer, answered) = oneshot::channel();
        {
            let mut commands = self.commands.lock().await;
            let (number, stdin) = &mut *commands;
            *number += 1;
            options["command"] = name.into();
            options["number"] = (*number).into();
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(*number, answer);
            stdin.write_all(format!("{options}\n").as_bytes()).await?;
        }
        let answer = within(format!("the peer to answer to {name}"), answered).await??;
        match answer["error"].as_str() {
            Some(error) => Err(format!("the peer failed at {name}: {error}").into()),
            None => Ok(answer["result"].clone()),
        }
    }
}
