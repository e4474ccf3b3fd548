//! Agreements to a policy: what opens the gate, whom it asks, and what is written.

mod entries;
mod renewal;
mod restored;
mod table;

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use matrix_analytics::{Analytics, ClosedReason, GateState, Policy};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{AnalyticsExt as _, Device, World, eventually};

const MEMBER: &str = "matrix-analytics.policy";
const NOT_AGREED: GateState = GateState::Closed(ClosedReason::PolicyNotAgreed);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The policy of most tests.
fn third() -> Policy {
    Policy::new("3.0.0").recipients(["eu.example"]).renew_after(YEAR)
}

/// Returns the time that lies `ago`, in milliseconds since 1970.
fn millis(ago: Duration) -> u64 {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() - ago;
    time.as_millis().try_into().unwrap()
}

/// Returns an entry for `version` with `recipients`, given so long before the tests began.
fn entry(version: &str, recipients: &[&str], ago: Duration) -> Value {
    static BEGUN: LazyLock<u64> = LazyLock::new(|| millis(Duration::ZERO));

    let ts = *BEGUN - u64::try_from(ago.as_millis()).unwrap();
    let recipients: serde_json::Map<_, _> =
        recipients.iter().map(|label| ((*label).to_owned(), ts.into())).collect();
    json!({ "version": version, "ts": ts, "recipients": recipients })
}

/// Returns the member with `entries`, bound to `id`.
fn member(id: &str, entries: &[Value]) -> Value {
    let digest = Sha256::digest(format!("{MEMBER}\0{id}"));
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({ "id_sha256": digest, "agreed": entries })
}

/// Returns an opt-in with the agreements in `member`.
fn opt_in(id: Option<&str>, member: Option<Value>) -> String {
    let mut content = json!({ "pseudonymousAnalyticsOptIn": true });
    for (name, value) in [("id", id.map(Value::from)), (MEMBER, member)] {
        if let Some(value) = value {
            content[name] = value;
        }
    }
    content.to_string()
}

/// Returns the versions in the account's event.
fn versions(world: &World) -> Vec<String> {
    let content: Value = serde_json::from_str(&world.content().unwrap()).unwrap();
    let entries = content[MEMBER]["agreed"].as_array().cloned().unwrap_or_default();
    entries.iter().map(|entry| entry["version"].as_str().unwrap().to_owned()).collect()
}

/// Logs in a device whose app asks for `policy`, and whose recipient is `eu.example`.
async fn device_with(world: &World, name: &str, policy: Policy) -> Device {
    asking(world.device(name).await, policy)
}

/// Makes the app of `device` ask for `policy`.
fn asking(device: Device, policy: Policy) -> Device {
    Device { policy: Some((policy, "eu.example")), ..device }
}

/// Returns the ID that the device sends under.
fn id_of(analytics: &Analytics) -> String {
    analytics.analytics_id().unwrap().reveal().to_owned()
}

/// Waits until the device has answered to what sync showed.
async fn settle(device: &Device, analytics: &Analytics) {
    device.sync().await;
    eventually(analytics.recheck()).await.unwrap();
    analytics.confirmed().await;
}
