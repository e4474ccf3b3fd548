//! Decisions on one device, as seen by another.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use matrix_analytics::{
    ClosedReason, Consent, ConsentState, ELEMENT_EVENT_TYPE, GateState, HoldReason, Prompt,
};
use matrix_sdk::{event_handler::RawEvent, ruma::events::AnyGlobalAccountDataEvent};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    device::Device,
    homeserver::Msc3391,
    syncing::SyncKind,
    table::{Cell, Outcome},
    user::User,
    waiting::{Result, ensure},
    wire::Wire,
};

const ID: &str = "9f1c2d7e-0a4b-4c1d-9e2f-3a4b5c6d7e8f";
/// A member of another client, with a number that no float can represent.
const OTHERS: &str = r#""org.example.other":{"big":1180591620717411303424}"#;

fn opted_in() -> String {
    format!(r#"{{{OTHERS},"id":"{ID}","pseudonymousAnalyticsOptIn":true}}"#)
}

/// Starts two devices of a user who opted in elsewhere.
async fn two_open(cell: &Cell) -> Result<(User, Device, Device)> {
    let user = cell.user().await?;
    user.overwrite(&opted_in()).await?;
    let (here, there) = (cell.device(&user).await?, cell.device(&user).await?);
    for device in [&here, &there] {
        ensure("the ID of the account", device.until_open().await? == ID)?;
    }
    Ok((user, here, there))
}

pub(crate) async fn opt_in(cell: Cell) -> Result<Outcome> {
    let user = cell.user().await?;
    user.overwrite(&format!("{{{OTHERS}}}")).await?;
    let (here, there) = (cell.device(&user).await?, cell.device(&user).await?);
    for device in [&here, &there] {
        ensure("the user is to be asked", device.analytics.state().prompt() == Prompt::Ask)?;
        device.capture("TooEarly");
    }

    here.analytics.opt_in().await?;
    here.send("Held").await;
    ensure("nothing leaves before the ID has settled", here.witness.received().is_empty())?;
    let id = here.until_open().await?;
    there.learns(&user, "the opt-in on another device", ConsentState::is_open).await?;
    ensure("one ID", there.until_open().await? == id)?;
    ensure("the server's ID", user.held_id().await?.as_deref() == Some(&*id))?;
    let (_, body) = user.content().await?;
    ensure(
        format!("others' data is kept: {body}"),
        body.contains(r#""big":1180591620717411303424"#),
    )?;

    here.send("After").await;
    there.send("After").await;
    let expected = vec![format!("{id}:Held"), format!("{id}:After")];
    ensure("the held event, and the one after it", here.witness.received() == expected)?;
    ensure("the event after the opt-in", there.witness.received() == expected[1..])?;
    Ok(Outcome::Works)
}

pub(crate) async fn opt_out(cell: Cell) -> Result<Outcome> {
    let (user, here, there) = two_open(&cell).await?;
    there.send("Before").await;
    there.capture("Waiting");

    let began = Instant::now();
    let receipt = here.analytics.opt_out().await;
    ensure(format!("the withdrawal is complete: {receipt:?}"), receipt.is_complete())?;
    let denied = |state: &ConsentState| state.decision == Consent::Denied;
    let state = there.learns(&user, "the opt-out on another device", denied).await?;
    let lag = began.elapsed();
    ensure("closed", state.gate == GateState::Closed(ClosedReason::Denied))?;

    for device in [&here, &there] {
        device.send("After").await;
        ensure(
            "the user is not asked again",
            device.analytics.state().prompt() == Prompt::DontAsk,
        )?;
    }
    ensure("nothing left here", here.witness.received().is_empty())?;
    ensure("waiting events are wiped", there.witness.received() == [format!("{ID}:Before")])?;
    let stats = there.analytics.stats();
    ensure("every event is accounted for", stats.backends.iter().all(|b| b.is_balanced()))?;
    let kept = format!(r#"{{{OTHERS},"pseudonymousAnalyticsOptIn":false}}"#);
    ensure("an opt-out, no ID, and others' data", same(&user.content().await?.1, &kept)?)?;
    Ok(if cell.kind.carries_account_data() {
        Outcome::Measured(format!(
            "the other device was closed {} ms after the call",
            lag.as_millis()
        ))
    } else {
        Outcome::Works
    })
}

pub(crate) async fn erase(cell: Cell) -> Result<Outcome> {
    let (user, here, there) = two_open(&cell).await?;
    there.capture("Waiting");
    let receipt = here.analytics.opt_out().erase_event().await;
    ensure(format!("the withdrawal is complete: {receipt:?}"), receipt.is_complete())?;
    let (status, body) = user.content().await?;
    match cell.homeserver.msc3391 {
        Msc3391::Off => ensure("an empty event", (status, &*body) == (200, "{}"))?,
        Msc3391::On => ensure(format!("no event: {status}"), status == 404)?,
    }

    // Absence does not change the decision: it closes the gate, and does not prompt.
    let unproven = GateState::Closed(ClosedReason::DecisionErased);
    let state = there.learns(&user, "nothing to be held", |state| state.gate == unproven).await?;
    ensure("the user is not asked", state.prompt() == Prompt::DontAsk)?;
    there.send("After").await;
    ensure("nothing was sent", there.witness.received().is_empty())?;
    let fresh = cell.device(&user).await?;
    ensure("a fresh device may ask", fresh.analytics.state().prompt() == Prompt::Ask)?;
    Ok(Outcome::Works)
}

pub(crate) async fn restart(cell: Cell) -> Result<Outcome> {
    let user = cell.user().await?;
    let wire = Wire::start(&cell.homeserver.url).await?;
    let mut install = cell.install().durable()?;
    install.url = wire.url();
    let device = cell.device_of(install, &user).await?;
    device.analytics.opt_in().await?;
    let id = device.until_open().await?;

    let device = reopen(device).await?;
    wire.take();
    let held = GateState::Holding(HoldReason::Unverified);
    let started = device.analytics.state();
    // The answer may have arrived before the test looked.
    ensure("the opt-in is remembered", started.gate == held || started.is_open())?;
    device.capture("Started");
    ensure("the same ID", device.until_open().await? == id)?;
    device.analytics.flush(Duration::from_secs(30)).await;
    ensure("the held event is sent", device.witness.received() == [format!("{id}:Started")])?;

    ensure("the opt-out is complete", device.analytics.opt_out().await.is_complete())?;
    let device = reopen(device).await?;
    ensure("the opt-out is remembered", device.analytics.state().decision == Consent::Denied)?;
    let confirmed = |state: &ConsentState| state.confirmed;
    device.until("an answer", confirmed).await?;
    device.send("Never").await;
    ensure("nothing is sent", device.witness.received().is_empty())?;
    let methods = wire.take_methods();
    ensure(
        format!("only the opt-out was written: {methods}"),
        methods.matches("PUT").count() == 1,
    )?;
    Ok(Outcome::Works)
}

/// Ends the app, and starts it again on its store.
async fn reopen(device: Device) -> Result<Device> {
    let (install, session) = device.quit().await?;
    let client = install.restore(session).await?;
    Device::start_unconfirmed(install, client).await
}

pub(crate) async fn cached_sync(cell: Cell) -> Result<Outcome> {
    if cell.kind != SyncKind::Classic {
        return Ok(Outcome::NotPossible("Synapse caches no answer of sliding sync"));
    }
    let (user, here, there) = two_open(&cell).await?;
    // Its store is in memory, so the first sync after a restart repeats the same request.
    let (install, session) = there.quit().await?;
    ensure("the opt-out is complete", here.analytics.opt_out().await.is_complete())?;

    let client = install.restore(session).await?;
    let shown = Arc::<Mutex<Vec<Value>>>::default();
    let showing = shown.clone();
    client.add_event_handler(async move |_: AnyGlobalAccountDataEvent, raw: RawEvent| {
        let event: Value = serde_json::from_str(raw.get()).unwrap_or_default();
        if event["type"] == ELEMENT_EVENT_TYPE
            && let Ok(mut shown) = showing.lock()
        {
            shown.push(event["content"].clone());
        }
    });
    let there = Device::start_unconfirmed(install, client).await?;
    there.capture("Waiting");
    let denied = |state: &ConsentState| state.decision == Consent::Denied;
    there.until("what the homeserver really holds", denied).await?;
    there.send("After").await;
    ensure("nothing was sent", there.witness.received().is_empty())?;
    let stale = json!(true);
    let first = shown.lock().map_err(|_| "poisoned")?.first().cloned().unwrap_or_default();
    ensure(format!("sync was stale: {first}"), first["pseudonymousAnalyticsOptIn"] == stale)?;
    ensure("and the account is as it was", user.held_id().await?.is_none())?;
    Ok(Outcome::Works)
}

/// Returns whether two contents are equal, apart from the order of their members.
fn same(one: &str, other: &str) -> Result<bool> {
    Ok(serde_json::from_str::<Value>(one)? == serde_json::from_str::<Value>(other)?)
}
