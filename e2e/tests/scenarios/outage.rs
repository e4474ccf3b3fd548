//! The homeserver dies during a decision, and comes back.

use std::time::Duration;

use matrix_analytics::{ClosedReason, ConsentState, GateState, OptInError};
use tokio::time::Instant;

use crate::{
    device::Device,
    table::{Cell, Outcome},
    user::User,
    waiting::{Result, ensure, eventually},
    wire::{Wire, Writes},
};

const OPTED_IN: &str =
    r#"{"id":"9f1c2d7e-0a4b-4c1d-9e2f-3a4b5c6d7e8f","pseudonymousAnalyticsOptIn":true}"#;

/// Starts an app that reaches the homeserver through a wire.
async fn wired(cell: &Cell) -> Result<(User, Wire, Device)> {
    let user = cell.user().await?;
    let wire = Wire::start(&cell.homeserver.url).await?;
    let mut install = cell.install();
    install.url = wire.url();
    let device = cell.device_of(install, &user).await?;
    Ok((user, wire, device))
}

/// Kills the homeserver during the stopped write.
async fn crash(cell: &Cell, wire: &Wire) -> Result {
    cell.homeserver.kill().await?;
    wire.set_writes(Writes::Pass);
    Ok(())
}

async fn opt_out(cell: Cell, writes: Writes) -> Result<Outcome> {
    let (user, wire, device) = wired(&cell).await?;
    user.overwrite(OPTED_IN).await?;
    device.analytics.recheck().await?;
    device.until_open().await?;
    device.capture("Waiting");

    wire.set_writes(writes);
    let withdrawing = tokio::spawn(device.analytics.opt_out().into_future());
    wire.stopped().await?;
    ensure("closed at once", !device.analytics.is_open())?;
    crash(&cell, &wire).await?;
    let receipt = withdrawing.await?;
    ensure("the account is still to be cleaned", !receipt.account.is_done())?;
    ensure("but all else is done", receipt.requests.is_done() && receipt.record.is_done())?;

    cell.homeserver.start_again().await?;
    let back = Instant::now();
    device.syncing.resume().await;
    let clean = |state: &ConsentState| !state.removal_pending;
    device.until("a clean account", clean).await?;
    let took = back.elapsed();
    let no = r#"{"pseudonymousAnalyticsOptIn":false}"#;
    ensure("an opt-out, and no ID", user.content().await?.1 == no)?;
    device.send("After").await;
    ensure("nothing was sent", device.witness.received().is_empty())?;
    let seconds = took.as_secs_f64();
    Ok(Outcome::Measured(format!("clean {seconds:.1} s after the server was back")))
}

pub(crate) async fn opt_out_before(cell: Cell) -> Result<Outcome> {
    opt_out(cell, Writes::StopBefore).await
}

pub(crate) async fn opt_out_after(cell: Cell) -> Result<Outcome> {
    opt_out(cell, Writes::StopAfter).await
}

/// Starts an opt-in whose write is stopped while the homeserver dies.
async fn broken_opt_in(cell: &Cell, writes: Writes) -> Result<(User, Wire, Device)> {
    let (user, wire, device) = wired(cell).await?;
    wire.set_writes(writes);
    let analytics = device.analytics.clone();
    let opting_in = tokio::spawn(async move { analytics.opt_in().await });
    wire.stopped().await?;
    device.capture("Held");
    crash(cell, &wire).await?;
    let failed = opting_in.await?;
    ensure("the opt-in says so", matches!(failed, Err(OptInError::AccountData(_))))?;
    ensure("closed", matches!(device.analytics.state().gate, GateState::Closed(_)))?;
    cell.homeserver.start_again().await?;
    device.syncing.resume().await;
    Ok((user, wire, device))
}

pub(crate) async fn opt_in_before(cell: Cell) -> Result<Outcome> {
    let (user, _wire, device) = broken_opt_in(&cell, Writes::StopBefore).await?;
    ensure("nothing was written", user.content().await?.0 == 404)?;
    device.analytics.recheck().await?;
    let undecided = GateState::Closed(ClosedReason::Undecided);
    ensure("the user may be asked again", device.analytics.state().gate == undecided)?;
    device.analytics.opt_in().await?;
    let id = device.until_open().await?;
    device.send("After").await;
    ensure("earlier events are gone", device.witness.received() == [format!("{id}:After")])?;
    ensure("the server's ID", user.held_id().await?.as_deref() == Some(&*id))?;
    Ok(Outcome::Works)
}

pub(crate) async fn opt_in_after(cell: Cell) -> Result<Outcome> {
    let (user, wire, device) = broken_opt_in(&cell, Writes::StopAfter).await?;
    let written = user.held_id().await?.ok_or("the write was applied")?;
    // The app tries again, because the user had opted in.
    device.analytics.opt_in().await?;
    ensure("no second ID", device.until_open().await? == written)?;
    device.send("After").await;
    ensure("sent under it", device.witness.received() == [format!("{written}:After")])?;
    let puts = wire.take_methods().matches("PUT").count();
    ensure(format!("{puts} writes, one of them unanswered"), puts == 1)?;
    Ok(Outcome::Works)
}

pub(crate) async fn settling(cell: Cell) -> Result<Outcome> {
    let (user, _wire, device) = wired(&cell).await?;
    device.analytics.opt_in().await?;
    device.capture("Held");
    cell.homeserver.kill().await?;
    // The ID has settled, but the homeserver cannot confirm it.
    let look = async || Ok(device.analytics.recheck().await.is_err().then_some(()));
    eventually("a read that fails", look).await?;
    ensure("nothing was sent", device.witness.received().is_empty())?;
    cell.homeserver.start_again().await?;
    let back = Instant::now();
    device.syncing.resume().await;
    let id = device.until_open().await?;
    let took = back.elapsed();
    device.analytics.flush(Duration::from_secs(30)).await;
    ensure("the held event is sent", device.witness.received() == [format!("{id}:Held")])?;
    ensure("the server's ID", user.held_id().await?.as_deref() == Some(&*id))?;
    let seconds = took.as_secs_f64();
    Ok(Outcome::Measured(format!("open {seconds:.1} s after the server was back")))
}
