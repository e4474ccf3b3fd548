//! A Synapse for this run, which tests can kill and restart.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tokio::task::spawn_blocking;

use crate::{
    user::{User, answer_of},
    waiting::{Result, ensure},
};

const ADMIN: &str = "root";
const PASSWORD: &str = "a-password-for-a-test";

/// Settings that differ from those of `scripts/synapse`: the default cache of sync responses,
/// refreshable tokens that expire soon, and a small limit on requests.
const SETTINGS: [&str; 3] =
    ["caches={}", r#"refreshable_access_token_lifetime="6s""#, r#"max_upload_size="1M""#];

/// The longest request body that this server accepts. Synapse allows no lower limit.
pub(crate) const MAX_REQUEST_BYTES: usize = 200 * 65536;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Msc3391 {
    Off,
    On,
}

impl Msc3391 {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
        }
    }
}

/// A homeserver that is stopped on drop.
pub(crate) struct Homeserver {
    pub(crate) url: String,
    pub(crate) msc3391: Msc3391,
    directory: PathBuf,
    admin: User,
}

impl Homeserver {
    pub(crate) async fn start(name: &str, msc3391: Msc3391) -> Result<Self> {
        let directory = root().join("target/synapse").join(format!("{name}-{}", msc3391.name()));
        // A killed run may have left its server running.
        synapse(&directory, &["stop"]).await?;
        let admin = format!("{ADMIN}:{PASSWORD}");
        let start = ["start", "--fresh", "--msc3391", msc3391.name(), "--admin", &admin];
        let url = synapse(&directory, &[&start[..], &settings()].concat()).await?;
        let admin = User::log_in(&url, ADMIN, PASSWORD).await?;
        Ok(Self { url, msc3391, directory, admin })
    }

    /// Registers a new user.
    pub(crate) async fn register(&self, name: &str) -> Result<User> {
        User::register(&self.url, name, PASSWORD).await
    }

    pub(crate) fn password(&self) -> &'static str {
        PASSWORD
    }

    /// Kills the server, whatever it is doing.
    pub(crate) async fn kill(&self) -> Result {
        let state = std::fs::read(self.directory.join("state.json"))?;
        let state: Value = serde_json::from_slice(&state)?;
        let pid = state["pid"].to_string();
        let mut kill = Command::new("kill");
        kill.args(["-KILL", &pid]);
        run(kill).await.map(drop)
    }

    /// Restarts the server with the same data and address.
    pub(crate) async fn start_again(&self) -> Result {
        let (_, port) = self.url.rsplit_once(':').ok_or("the URL has a port")?;
        let start = ["start", "--port", port, "--msc3391", self.msc3391.name()];
        let url = synapse(&self.directory, &[&start[..], &settings()].concat()).await?;
        ensure("the server is where it was", url == self.url)
    }

    /// Calls the administrator API for `user`.
    pub(crate) async fn administer(
        &self,
        method: &str,
        path: &str,
        user: &User,
        body: &Value,
    ) -> Result {
        let path = format!("/_synapse/admin/{path}/{}", user.id);
        let answer = self.admin.request(method, &path, Some(body.to_string())).await?;
        answer_of(answer).map(drop)
    }
}

impl Drop for Homeserver {
    fn drop(&mut self) {
        // Not awaited, because the server is not needed any more.
        let mut stop = script(&self.directory, &["stop"]);
        let _ = stop.stdout(std::process::Stdio::null()).status();
    }
}

fn settings() -> Vec<&'static str> {
    SETTINGS.into_iter().flat_map(|setting| ["--set", setting]).collect()
}

/// Returns the root directory of the project.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

fn script(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(root().join("scripts/synapse"));
    command.args(arguments).arg("--dir").arg(directory);
    command
}

async fn synapse(directory: &Path, arguments: &[&str]) -> Result<String> {
    run(script(directory, arguments)).await
}

/// Runs `command`, and returns its output.
async fn run(mut command: Command) -> Result<String> {
    let output = spawn_blocking(move || command.output()).await??;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure(format!("the command works: {stderr}"), output.status.success())?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
