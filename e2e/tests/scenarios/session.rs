//! Guest sessions, and sessions that end or have to be renewed.

use std::time::Duration;

use matrix_analytics::{
    AccountDataError, ClosedReason, ConsentState, GateState, HoldReason, OptInError, Prompt,
};
use serde_json::json;

use crate::{
    device::{Device, Tokens, session_of},
    syncing::SyncKind,
    table::{Cell, Outcome},
    user::User,
    waiting::{Result, ensure, eventually},
};

const ID: &str = "9f1c2d7e-0a4b-4c1d-9e2f-3a4b5c6d7e8f";
const OPTED_IN: &str =
    r#"{"id":"9f1c2d7e-0a4b-4c1d-9e2f-3a4b5c6d7e8f","pseudonymousAnalyticsOptIn":true}"#;

/// Starts an app with an open gate, for a user who opted in elsewhere.
async fn opened(cell: &Cell, tokens: Tokens) -> Result<(User, Device)> {
    let user = cell.user().await?;
    user.overwrite(OPTED_IN).await?;
    let mut install = cell.install();
    install.tokens = tokens;
    let device = cell.device_of(install, &user).await?;
    ensure("the ID of the account", device.until_open().await? == ID)?;
    Ok((user, device))
}

/// Waits until the homeserver refuses the access token.
async fn refused(user: &User, token: &str) -> Result {
    let user = user.with_token(token);
    let look = async || {
        let path = "/_matrix/client/v3/account/whoami";
        let (status, _) = user.request("GET", path, None).await?;
        Ok((status == 401).then_some(()))
    };
    eventually("the token to be refused", look).await
}

fn is_closed(reason: ClosedReason) -> impl Fn(&ConsentState) -> bool {
    move |state| state.gate == GateState::Closed(reason)
}

pub(crate) async fn guest(cell: Cell) -> Result<Outcome> {
    let guest = User::register_guest(&cell.homeserver.url).await?;
    let install = cell.install();
    let client = install.restore(session_of(&guest)?).await?;
    let device = Device::start_unconfirmed(install, client).await?;
    device.until("that a guest has no account data", is_closed(ClosedReason::Unavailable)).await?;
    ensure("there is no user to ask", device.analytics.state().prompt() == Prompt::Unavailable)?;
    let refused = device.analytics.opt_in().await;
    let forbidden = matches!(refused, Err(OptInError::AccountData(AccountDataError::Forbidden(_))));
    ensure(format!("a guest cannot opt in: {refused:?}"), forbidden)?;
    device.send("Never").await;
    ensure("nothing was sent", device.witness.received().is_empty())?;
    Ok(Outcome::Works)
}

pub(crate) async fn refreshed_token(cell: Cell) -> Result<Outcome> {
    let user = cell.user().await?;
    let mut install = cell.install();
    install.tokens = Tokens::Refreshed;
    let device = cell.device_of(install, &user).await?;
    let first = device.client.access_token().ok_or("there is a session")?;
    refused(&user, &first).await?;
    device.analytics.opt_in().await?;
    device.until_open().await?;
    device.send("Sent").await;
    ensure("sent", device.witness.arrivals().len() == 1)?;

    let second = device.client.access_token().ok_or("there is a session")?;
    ensure("the SDK has got a new one", first != second)?;
    refused(&user, &second).await?;
    let receipt = device.analytics.opt_out().await;
    ensure(format!("an opt-out with an expired token: {receipt:?}"), receipt.is_complete())?;
    device.client.whoami().await?;
    Ok(Outcome::Works)
}

pub(crate) async fn soft_logout(cell: Cell) -> Result<Outcome> {
    let (user, device) = opened(&cell, Tokens::Expiring).await?;
    let token = device.client.access_token().ok_or("there is a session")?;
    refused(&user, &token).await?;
    // Sync is in its long poll, so the app's next request is refused.
    ensure("refused", device.client.whoami().await.is_err())?;
    let held = GateState::Holding(HoldReason::SoftLogout);
    device.until("a session to be renewed", |state| state.gate == held).await?;
    device.send("Held").await;
    ensure("nothing leaves meanwhile", device.witness.received().is_empty())?;

    device.client.refresh_access_token().await?;
    device.until_open().await?;
    device.analytics.flush(Duration::from_secs(30)).await;
    ensure("the held event is sent", device.witness.received() == [format!("{ID}:Held")])?;
    Ok(Outcome::Works)
}

pub(crate) async fn hard_logout(cell: Cell) -> Result<Outcome> {
    let (user, device) = opened(&cell, Tokens::Lasting).await?;
    device.capture("Waiting");
    let token = device.client.access_token().ok_or("there is a session")?;
    let logout = "/_matrix/client/v3/logout";
    user.with_token(&token).request("POST", logout, Some("{}".into())).await?;
    if cell.kind == SyncKind::Bare {
        // The poll ends only at its timeout, half a minute later. The app's next request notices.
        ensure("refused", device.client.whoami().await.is_err())?;
    }
    gone(&device).await?;
    ensure("the account is as it was", user.content().await?.1 == OPTED_IN)?;
    Ok(Outcome::Works)
}

/// Asserts that the session has ended, and that nothing was or will be sent.
async fn gone(device: &Device) -> Result {
    device.until("the end of the session", is_closed(ClosedReason::SessionEnded)).await?;
    ensure("there is no user to ask", device.analytics.state().prompt() == Prompt::Unavailable)?;
    device.send("After").await;
    ensure("nothing was sent", device.witness.received().is_empty())?;
    // A session that the homeserver ended may work again, so the crate asks. A session that the app
    // ended is final.
    use OptInError::{AccountData, SessionEnded};
    let refused = device.analytics.opt_in().await;
    let is_refused =
        matches!(refused, Err(SessionEnded | AccountData(AccountDataError::SessionLost(_))));
    ensure("no opt-in", is_refused)
}

pub(crate) async fn own_logout(cell: Cell) -> Result<Outcome> {
    let (user, device) = opened(&cell, Tokens::Lasting).await?;
    device.capture("Waiting");
    let receipt = device.analytics.end_session().await;
    ensure(format!("nothing is left to do: {receipt:?}"), receipt.is_complete())?;
    device.client.logout().await?;
    gone(&device).await?;
    ensure("the account is as it was", user.content().await?.1 == OPTED_IN)?;
    Ok(Outcome::Works)
}

pub(crate) async fn locked(cell: Cell) -> Result<Outcome> {
    let (user, device) = opened(&cell, Tokens::Lasting).await?;
    let lock = |locked: bool| json!({ "locked": locked });
    cell.homeserver.administer("PUT", "v2/users", &user, &lock(true)).await?;
    let refused = device.analytics.recheck().await;
    let lost = matches!(refused, Err(AccountDataError::SessionLost(_)));
    ensure(format!("the homeserver says nothing: {refused:?}"), lost)?;
    let held = GateState::Holding(HoldReason::Unverified);
    ensure("held", device.analytics.state().gate == held)?;
    device.send("Held").await;
    ensure("nothing leaves meanwhile", device.witness.received().is_empty())?;

    cell.homeserver.administer("PUT", "v2/users", &user, &lock(false)).await?;
    device.until_open().await?;
    device.analytics.flush(Duration::from_secs(30)).await;
    ensure("the held event is sent", device.witness.received() == [format!("{ID}:Held")])?;
    Ok(Outcome::Works)
}

pub(crate) async fn deactivated(cell: Cell) -> Result<Outcome> {
    let (user, device) = opened(&cell, Tokens::Lasting).await?;
    device.capture("Waiting");
    let erase = json!({ "erase": false });
    cell.homeserver.administer("POST", "v1/deactivate", &user, &erase).await?;
    if cell.kind == SyncKind::Bare {
        ensure("refused", device.client.whoami().await.is_err())?;
    }
    gone(&device).await?;
    Ok(Outcome::Works)
}
