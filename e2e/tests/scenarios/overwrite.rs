//! Clients that overwrite the event, by raw HTTP: Element Android and Element iOS write their
//! content whatever was there.

use matrix_analytics::{ClosedReason, Consent, ConsentState, GateState, Prompt};

use crate::{
    device::Device,
    table::{Cell, Outcome},
    user::User,
    waiting::{Result, ensure},
    wire::Wire,
};

const ANDROID_ID: &str = "1b0ed3a1-6f1c-4c63-a9b1-2f0f4f4f1c55";
const IOS_ID: &str = "5D2F6C4A-98D5-4A0E-8C8B-0B6D4C3E2F11";

/// Element Android drops the flag, and everything else.
fn android() -> String {
    format!(r#"{{"id":"{ANDROID_ID}"}}"#)
}

/// Starts an app behind a wire, for a user who has opted in.
async fn opened(cell: &Cell) -> Result<(User, Wire, Device, String)> {
    let user = cell.user().await?;
    let wire = Wire::start(&cell.homeserver.url).await?;
    let mut install = cell.install();
    install.url = wire.url();
    let device = cell.device_of(install, &user).await?;
    device.analytics.opt_in().await?;
    let id = device.until_open().await?;
    let methods = wire.take_methods();
    ensure(format!("the wire sees what is asked: {methods}"), methods.ends_with("PUT GET"))?;
    Ok((user, wire, device, id))
}

/// Asserts that this app wrote nothing, and that the other client's content is still there.
async fn unanswered(user: &User, wire: &Wire, written: &str) -> Result {
    let methods = wire.take_methods();
    ensure(format!("no write: {methods}"), !methods.contains("PUT"))?;
    ensure("what the other client wrote", user.content().await?.1 == written)
}

pub(crate) async fn android_over_an_opt_in(cell: Cell) -> Result<Outcome> {
    let (user, wire, device, id) = opened(&cell).await?;
    device.send("Before").await;
    device.capture("Waiting");
    user.overwrite(&android()).await?;

    let unproven = GateState::Closed(ClosedReason::DecisionErased);
    let state =
        device.learns(&user, "the opt-in to be gone", |state| state.gate == unproven).await?;
    ensure("not taken for an opt-out", state.decision == Consent::Granted)?;
    ensure("the user is not asked", state.prompt() == Prompt::DontAsk)?;
    device.send("After").await;
    ensure("nothing was sent after it", device.witness.received() == [format!("{id}:Before")])?;
    unanswered(&user, &wire, &android()).await?;

    // The user opts in again, in the settings.
    device.analytics.opt_in().await?;
    ensure("one ID: the one that is there", device.until_open().await? == ANDROID_ID)?;
    device.send("Again").await;
    let expected = [format!("{id}:Before"), format!("{ANDROID_ID}:Again")];
    ensure("sent under the new ID", device.witness.received() == expected)?;
    Ok(Outcome::Works)
}

pub(crate) async fn android_over_an_opt_out(cell: Cell) -> Result<Outcome> {
    let (user, wire, device, _) = opened(&cell).await?;
    ensure("the opt-out is complete", device.analytics.opt_out().await.is_complete())?;
    wire.take();
    user.overwrite(&android()).await?;

    // Its answer to the overwrite is that the opt-out stands.
    let passed = |state: &ConsentState| state.decision == Consent::Denied;
    device.learns(&user, "the opt-out to stand", passed).await?;
    device.analytics.recheck().await?;
    let state = device.analytics.state();
    ensure("the opt-out stands", state.gate == GateState::Closed(ClosedReason::Denied))?;
    ensure("the user is not asked again", state.prompt() == Prompt::DontAsk)?;
    device.send("After").await;
    ensure("nothing was sent", device.witness.received().is_empty())?;
    unanswered(&user, &wire, &android()).await?;
    Ok(Outcome::Works)
}

pub(crate) async fn ios(cell: Cell) -> Result<Outcome> {
    let (user, wire, device, id) = opened(&cell).await?;
    device.send("Before").await;
    device.capture("Waiting");
    // It preserves no member except these two.
    let written = format!(r#"{{"id":"{IOS_ID}","pseudonymousAnalyticsOptIn":true}}"#);
    user.overwrite(&written).await?;

    let open = |state: &ConsentState| state.is_open() && device.has_id(IOS_ID);
    device.learns(&user, "the other ID", open).await?;
    device.send("After").await;
    let expected = [format!("{id}:Before"), format!("{IOS_ID}:After")];
    let received = device.witness.received();
    ensure(format!("the waiting event went under neither ID: {received:?}"), received == expected)?;
    unanswered(&user, &wire, &written).await?;
    Ok(Outcome::Works)
}
