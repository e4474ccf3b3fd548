//! An event so large that the homeserver takes no larger one.

use std::time::Duration;

use matrix_analytics::{Consent, GateState};

use crate::{
    homeserver::MAX_REQUEST_BYTES,
    table::{Cell, Outcome},
    waiting::{Result, ensure},
};

/// A content of `bytes` bytes, all but `ours` of another client.
fn padded(ours: &str, bytes: usize) -> String {
    let frame = format!(r#"{{"org.example.other":""{ours}}}"#);
    let padding = "x".repeat(bytes - frame.len());
    format!(r#"{{"org.example.other":"{padding}"{ours}}}"#)
}

pub(crate) async fn largest_event(cell: Cell) -> Result<Outcome> {
    let user = cell.user().await?;
    let full = padded("", MAX_REQUEST_BYTES);
    user.overwrite(&full).await?;
    let mut install = cell.install();
    // Such an event takes its time.
    install.request_timeout = Duration::from_secs(10);
    let device = cell.device_of(install, &user).await?;

    // With an ID and a yes it would be larger than the server takes.
    let refused = device.analytics.opt_in().await;
    ensure(format!("the yes cannot be written: {refused:?}"), refused.is_err())?;
    let state = device.analytics.state();
    ensure("closed", matches!(state.gate, GateState::Closed(_)))?;
    device.send("Never").await;
    ensure("nothing was sent", device.witness.said().is_empty())?;
    ensure("the account is as it was", user.content().await?.1 == full)?;

    // A no makes it smaller.
    let yes = r#","id":"9f1c2d7e-0a4b-4c1d-9e2f-3a4b5c6d7e8f","pseudonymousAnalyticsOptIn":true"#;
    user.overwrite(&padded(yes, MAX_REQUEST_BYTES)).await?;
    let receipt = device.analytics.opt_out().await;
    ensure(format!("the no is complete: {receipt:?}"), receipt.is_complete())?;
    ensure("denied", device.analytics.state().decision == Consent::Denied)?;
    ensure("no ID is left", user.held_id().await?.is_none())?;
    Ok(Outcome::Works)
}
