//! The device's verification, its session, and its own requests.

use matrix_analytics::HealthSignals;
use matrix_sdk::{
    authentication::matrix::MatrixSession, ruma::events::room::message::RoomMessageEventContent,
    store::RoomLoadSettings,
};
use matrix_sdk_base::crypto::CollectStrategy;

use super::{
    messages::unreadable,
    peer::{Keys, Peer, SECRET, uploads_keys},
    report::{Expected, Report, Want},
    stage::Stage,
    watcher::{GRACE, IGNORED, Readable, Watcher, opt_in_elsewhere},
};
use crate::{
    device::{Install, Tokens},
    waiting::{Result, ensure, eventually},
};

/// The sender shares keys with devices that their owners have signed. The watched device is
/// signed halfway.
pub(super) async fn verified_halfway(stage: &Stage) -> Result<Vec<Report>> {
    let sender = stage.register("wilhelmina").await?;
    let keys = Keys::to(CollectStrategy::IdentityBasedStrategy);
    let sender = Peer::start(stage, &sender, keys).await?;
    sender.client.encryption().bootstrap_cross_signing(None).await?;
    let user = stage.register("maximilian").await?;
    let signals = HealthSignals::all().ignore_under(IGNORED).grace(GRACE);
    let mut watcher = Watcher::start(stage, &user, Keys::default(), signals).await?;
    let room = sender.create_room(None).await?;
    watcher.joins(&room, &sender).await?;
    let before = sender.send(&room).await?;
    ensure("the key is withheld", watcher.receives(&before).await? == Readable::No)?;
    let not_verified = watcher.arrived(2).await?;

    watcher.client.encryption().bootstrap_cross_signing(None).await?;
    sender.catch_up().await?;
    watcher.reads(&room, &sender.send(&room).await?).await?;
    ensure("nothing else was reported", not_verified.len() == 2)?;
    let state = |verification| {
        let fields = [("verificationState", verification), ("recoveryState", "Disabled")];
        Expected::exact("CryptoSessionState", &fields)
    };
    let withheld = unreadable("RoomKeysWithheldForUnverifiedDevice", Want::is(-1), false);
    watcher.finish(&[state("NotVerified"), withheld, state("Verified")]).await
}

/// The user writes where only others may.
pub(super) async fn send_failure(stage: &Stage) -> Result<Vec<Report>> {
    let host = stage.register("wilhelmina").await?;
    let host = Peer::start(stage, &host, Keys::default()).await?;
    let user = stage.register("maximilian").await?;
    let signals = HealthSignals::none().send_failures(true);
    let watcher = Watcher::start(stage, &user, Keys::default(), signals).await?;
    let room = host.create_announcements().await?;
    watcher.joins(&room, &host).await?;
    let look = async || Ok(watcher.client.get_room(room.room_id()));
    let room = eventually("the room", look).await?;
    let text = RoomMessageEventContent::text_plain(SECRET);
    stage.personal.add(SECRET);
    room.send_queue().send(text.into()).await?;
    let fields = vec![("isRecoverable", Want::is(false)), ("errorCode", Want::is("M_FORBIDDEN"))];
    watcher.finish(&[Expected { name: "SendFailure", fields }]).await
}

/// The access token expires, and the app renews it.
pub(super) async fn soft_logout(stage: &Stage) -> Result<Vec<Report>> {
    let user = stage.register("maximilian").await?;
    opt_in_elsewhere(&user).await?;
    let mut install = Install::new(&stage.homeserver.url, stage.kind);
    install.tokens = Tokens::Expiring;
    let client = install.log_in(&user, stage.homeserver.password()).await?;
    stage.personal.add(client.device_id().ok_or("it is logged in")?);
    let token = client.access_token().ok_or("it is logged in")?;
    stage.personal.add(&token);
    let signals = HealthSignals::none().sessions(true);
    let mut watcher = Watcher::build(stage, client, signals).await?;
    watcher.sync().await?;
    watcher.begins().await?;
    let expired = user.with_token(&token);
    let look = async || {
        let path = "/_matrix/client/v3/account/whoami";
        let (status, _) = expired.request("GET", path, None).await?;
        Ok((status == 401).then_some(()))
    };
    eventually("the token to expire", look).await?;
    // Sync may be in its long poll, so the app's next request is refused.
    ensure("refused", watcher.client.whoami().await.is_err())?;
    let look = async || Ok((!watcher.analytics.state().is_open()).then_some(()));
    eventually("a gate that is not open", look).await?;
    watcher.client.refresh_access_token().await?;
    let lost = vec![
        ("refreshTokenAuth", Want::is(true)),
        ("softLogout", Want::is(true)),
        ("errorCode", Want::is("M_UNKNOWN_TOKEN")),
        ("errorReason", Want::is("soft logout")),
    ];
    let lost = Expected { name: "UnauthenticatedError", fields: lost };
    watcher.finish(&[lost, Expected { name: "SessionRenewed", fields: Vec::new() }]).await
}

/// The store of the device was lost, but not its session: the homeserver holds keys of the device
/// that this store does not know.
pub(super) async fn key_upload_clash(stage: &Stage) -> Result<Vec<Report>> {
    let user = stage.register("maximilian").await?;
    opt_in_elsewhere(&user).await?;
    let session = lost_store(stage, &Peer::start(stage, &user, Keys::default()).await?).await?;
    let client = Keys::default().client(&stage.homeserver.url).await?;
    client.matrix_auth().restore_session(session, RoomLoadSettings::default()).await?;
    let signals = HealthSignals::none().key_upload_clashes(true);
    let mut watcher = Watcher::build(stage, client, signals).await?;
    // The SDK tells it once, so the watch has to be there when sync begins.
    watcher.begins().await?;
    watcher.sync().await?;
    watcher.finish(&[Expected { name: "KeyUploadClash", fields: Vec::new() }]).await
}

async fn lost_store(stage: &Stage, peer: &Peer<'_>) -> Result<MatrixSession> {
    uploads_keys(&peer.client).await?;
    let session = peer.client.matrix_auth().session().ok_or("there is a session")?;
    stage.personal.add(session.meta.device_id.as_str());
    Ok(session)
}
