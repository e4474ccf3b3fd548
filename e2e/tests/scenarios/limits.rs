//! An event of the largest size that the homeserver accepts.

use std::time::Duration;

use matrix_analytics::{Consent, GateState};

use crate::{
    homeserver::MAX_REQUEST_BYTES,
    table::{Cell, Outcome},
    waiting::{Result, ensure},
};

/// Returns content of `bytes` bytes, all but `ours` being another client's.
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
    // The homeserver is slow with such an event.
    install.request_timeout = Duration::from_secs(10);
    let device = cell.device_of(install, &user).await?;

    // With an ID and an opt-in, it would exceed the server's limit.
    let refused = device.analytics.opt_in().await;
    ensure(format!("the opt-in cannot be written: {refused:?}"), refused.is_err())?;
    let state = device.analytics.state();
    ensure("closed", matches!(state.gate, GateState::Closed(_)))?;
    device.send("Never").await;
    ensure("nothing was sent", device.witness.received().is_empty())?;
    ensure("the account is as it was", user.content().await?.1 == full)?;

    // An opt-out makes it smaller.
    let opted_in =
        r#","id":"9f1c2d7e-0a4b-4c1d-9e2f-3a4b5c6d7e8f","pseudonymousAnalyticsOptIn":true"#;
    user.overwrite(&padded(opted_in, MAX_REQUEST_BYTES)).await?;
    let receipt = device.analytics.opt_out().await;
    ensure(format!("the opt-out is complete: {receipt:?}"), receipt.is_complete())?;
    ensure("denied", device.analytics.state().decision == Consent::Denied)?;
    ensure("no ID is left", user.held_id().await?.is_none())?;
    Ok(Outcome::Works)
}
