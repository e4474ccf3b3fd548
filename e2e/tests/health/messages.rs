//! Messages that the watched client cannot decrypt, or only late.

use std::time::Duration;

use matrix_analytics::{HealthSignals, HealthState};
use matrix_sdk::{
    Room,
    encryption::{BackupDownloadStrategy, VerificationState},
};
use matrix_sdk_base::crypto::{CollectStrategy, TrustRequirement};
use tokio::time::{Instant, sleep};

use super::{
    peer::{Keys, Peer, Sent},
    report::{Expected, Report, Want},
    stage::Stage,
    watcher::{GRACE, IGNORED, Readable, Watcher, messages},
};
use crate::{
    user::User,
    waiting::{Result, ensure, eventually},
};

pub(super) const WITHHELD: &str = "RoomKeysWithheldForUnverifiedDevice";
const NOT_SENT: &str = "OlmKeysNotSentError";
const NEVER: i64 = -1;

/// Returns the event about a message, with the time after which it could be decrypted.
pub(super) fn unreadable(name: &str, time: Want, trusts_own_identity: bool) -> Expected {
    let fields = vec![
        ("domain", Want::is("E2EE")),
        ("name", Want::is(name)),
        ("timeToDecryptMillis", time),
        ("cryptoSDK", Want::is("Rust")),
        // The device logs in at the start of a scenario, and none takes longer.
        ("eventLocalAgeMillis", Want::Within(0..=0)),
        ("userTrustsOwnIdentity", Want::is(trusts_own_identity)),
        ("isFederated", Want::is(false)),
    ];
    Expected { name: "Error", fields }
}

pub(super) fn never() -> Want {
    Want::is(NEVER)
}

/// The watch may have seen a message a little later than the test.
fn between(least: Duration, most: Duration) -> Want {
    let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    Want::Within(millis(least) - 300..=millis(most))
}

/// A user who sends messages, and another one.
pub(super) async fn both(stage: &Stage, keys: Keys) -> Result<(Peer<'_>, User)> {
    let sender = stage.register("wilhelmina").await?;
    let sender = Peer::start(stage, &sender, keys).await?;
    Ok((sender, stage.register("maximilian").await?))
}

pub(super) fn is_unreadable(readable: Readable) -> Result {
    ensure("it cannot be decrypted", readable == Readable::No)
}

/// The sender shares keys with verified devices only, and has verified none.
pub(super) async fn withheld(stage: &Stage) -> Result<Vec<Report>> {
    let (sender, user) = both(stage, Keys::to(CollectStrategy::OnlyTrustedDevices)).await?;
    let mut watcher = Watcher::start(stage, &user, Keys::default(), messages()).await?;
    watcher.client.encryption().bootstrap_cross_signing(None).await?;
    let room = sender.create_room(None).await?;
    watcher.joins(&room, &sender).await?;
    is_unreadable(watcher.receives(&sender.send(&room).await?).await?)?;
    watcher.finish(&[unreadable(WITHHELD, never(), true)]).await
}

/// Two messages were sent before the user joined, of which one is from before the opt-in: sync
/// carries both.
pub(super) async fn joins_late(stage: &Stage) -> Result<Vec<Report>> {
    let (sender, user) = both(stage, Keys::default()).await?;
    let room = sender.create_room(None).await?;
    let before_the_opt_in = sender.send(&room).await?;
    let mut watcher = Watcher::start(stage, &user, Keys::default(), messages()).await?;
    let before_the_join = sender.send(&room).await?;
    watcher.joins(&room, &sender).await?;
    watcher.receives_all_unreadable(&[before_the_opt_in, before_the_join]).await?;
    watcher.reads(&room, &sender.send(&room).await?).await?;
    watcher.finish(&[unreadable("ExpectedDueToMembership", never(), false)]).await
}

/// The watched client reads no messages of devices that their owners have not signed.
pub(super) async fn unsigned(stage: &Stage) -> Result<Vec<Report>> {
    let (sender, user) = both(stage, Keys::default()).await?;
    let keys = Keys::from(TrustRequirement::CrossSigned);
    let mut watcher = Watcher::start(stage, &user, keys, messages()).await?;
    let room = sender.create_room(None).await?;
    watcher.joins(&room, &sender).await?;
    is_unreadable(watcher.receives(&sender.send(&room).await?).await?)?;
    watcher.finish(&[unreadable("ExpectedSentByInsecureDevice", never(), false)]).await
}

/// A user whose new device the sender does not know, so that it gets keys from the backup alone.
struct TwoDevices<'a> {
    sender: Peer<'a>,
    first: Peer<'a>,
    user: User,
    room: Room,
    recovery_key: String,
}

impl<'a> TwoDevices<'a> {
    async fn start(stage: &'a Stage) -> Result<Self> {
        let (sender, user) = both(stage, Keys::default()).await?;
        let first = Peer::start(stage, &user, Keys::default()).await?;
        let room = sender.create_room(None).await?;
        sender.admit(&room, &first.client).await?;
        sender.send(&room).await?;
        first.catch_up().await?;
        let recovery_key = first.enable_recovery().await?;
        Ok(Self { sender, first, user, room, recovery_key })
    }

    /// Sends a message whose key is in the backup.
    async fn send(&self) -> Result<Sent> {
        let message = self.sender.send_in_new_session(&self.room).await?;
        self.first.back_up().await?;
        Ok(message)
    }

    /// Sends a message whose key the new device never gets.
    async fn send_unreadable(&self) -> Result<Sent> {
        self.sender.send_in_new_session(&self.room).await
    }

    async fn recover(&self, watcher: &Watcher<'_>) -> Result {
        watcher.opens(self.room.room_id()).await?;
        let encryption = watcher.client.encryption();
        encryption.recovery().recover(&self.recovery_key).await?;
        let verified = async || {
            let state = encryption.verification_state().get();
            Ok((state == VerificationState::Verified).then_some(()))
        };
        eventually("a verified device", verified).await
    }

    /// Gives the key of a message to the new device.
    async fn fetch(&self, message: &Sent, watcher: &Watcher<'_>) -> Result {
        let backups = watcher.client.encryption().backups();
        let look = async || {
            let found = backups.download_room_key(self.room.room_id(), &message.session).await?;
            Ok(found.then_some(()))
        };
        eventually("the key in the backup", look).await
    }
}

/// The key arrives within the time of grace.
pub(super) async fn key_comes_late(stage: &Stage) -> Result<Vec<Report>> {
    let devices = TwoDevices::start(stage).await?;
    // The key is certain to arrive, so that a busy machine may take its time.
    let signals = messages().grace(Duration::from_secs(40));
    let mut watcher = Watcher::start(stage, &devices.user, Keys::default(), signals).await?;
    devices.recover(&watcher).await?;
    let sent = Instant::now();
    let message = devices.send().await?;
    is_unreadable(watcher.receives(&message).await?)?;
    let seen = Instant::now();
    sleep(IGNORED + Duration::from_millis(500)).await;
    let least = seen.elapsed();
    devices.fetch(&message, &watcher).await?;
    watcher.arrived(1).await?;
    watcher.finish(&[unreadable(NOT_SENT, between(least, sent.elapsed()), true)]).await
}

/// The key arrives at once. A later message, which stays unreadable, shows that the first one
/// would have been reported by then.
pub(super) async fn key_comes_at_once(stage: &Stage) -> Result<Vec<Report>> {
    let devices = TwoDevices::start(stage).await?;
    let signals = messages().ignore_under(Duration::from_secs(5)).grace(Duration::from_secs(6));
    let mut watcher = Watcher::start(stage, &devices.user, Keys::default(), signals).await?;
    devices.recover(&watcher).await?;
    let message = devices.send().await?;
    is_unreadable(watcher.receives(&message).await?)?;
    devices.fetch(&message, &watcher).await?;
    is_unreadable(watcher.receives(&devices.send_unreadable().await?).await?)?;
    watcher.finish(&[unreadable(NOT_SENT, never(), true)]).await
}

/// Of two messages from before the opt-in, one is decrypted after it, and one never.
pub(super) async fn before_the_opt_in(stage: &Stage) -> Result<Vec<Report>> {
    let devices = TwoDevices::start(stage).await?;
    let client = Keys::default().log_in(stage, &devices.user).await?;
    let mut watcher = Watcher::build(stage, client, messages()).await?;
    watcher.sync().await?;
    devices.recover(&watcher).await?;
    let readable_later = devices.send().await?;
    is_unreadable(watcher.receives(&readable_later).await?)?;
    is_unreadable(watcher.receives(&devices.send_unreadable().await?).await?)?;
    ensure("the watch has not begun", watcher.state() == HealthState::WaitingForConsent)?;
    watcher.analytics.opt_in().await?;
    watcher.begins().await?;

    sleep(IGNORED).await;
    devices.fetch(&readable_later, &watcher).await?;
    is_unreadable(watcher.receives(&devices.send_unreadable().await?).await?)?;
    watcher.finish(&[unreadable(NOT_SENT, never(), true)]).await
}

/// The user opts out while a message waits for its key, and opts in again.
pub(super) async fn opt_out_while_pending(stage: &Stage) -> Result<Vec<Report>> {
    let devices = TwoDevices::start(stage).await?;
    let signals = messages();
    let mut watcher = Watcher::start(stage, &devices.user, Keys::default(), signals).await?;
    devices.recover(&watcher).await?;
    let message = devices.sender.send_in_new_session(&devices.room).await?;
    is_unreadable(watcher.receives(&message).await?)?;
    watcher.analytics.opt_out().await;
    devices.first.back_up().await?;
    sleep(GRACE + Duration::from_millis(500)).await;
    ensure("nothing has arrived", watcher.has_sent_nothing())?;

    watcher.analytics.opt_in().await?;
    watcher.begins().await?;
    devices.fetch(&message, &watcher).await?;
    is_unreadable(watcher.receives(&devices.send_unreadable().await?).await?)?;
    watcher.finish(&[unreadable(NOT_SENT, never(), true)]).await
}

/// A new device gets the key of a message from the backup, ten seconds late, with the times that
/// hold if the app sets none.
pub(super) async fn recovered_late(stage: &Stage) -> Result<Vec<Report>> {
    let devices = TwoDevices::start(stage).await?;
    let (keys, signals) = (Keys::by(BackupDownloadStrategy::OneShot), HealthSignals::all());
    let mut watcher = Watcher::start(stage, &devices.user, keys, signals).await?;
    watcher.opens(devices.room.room_id()).await?;
    let sent = Instant::now();
    let message = devices.send().await?;
    is_unreadable(watcher.receives(&message).await?)?;
    let seen = Instant::now();
    sleep(Duration::from_secs(10)).await;
    let least = seen.elapsed();
    devices.recover(&watcher).await?;
    watcher.arrived(2).await?;
    let time = between(least, sent.elapsed());
    let state = |verification, recovery| {
        let fields = [("verificationState", verification), ("recoveryState", recovery)];
        Expected::exact("CryptoSessionState", &fields)
    };
    let expected = [
        state("NotVerified", "Incomplete"),
        unreadable(NOT_SENT, time, false),
        state("Verified", "Enabled"),
    ];
    watcher.finish(&expected).await
}
