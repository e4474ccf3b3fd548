//! matrix-sdk-ui's hook, next to the watch.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use matrix_analytics::element::{CryptoSdk, Error, ErrorDomain, ErrorName};
use matrix_sdk_base::crypto::{CollectStrategy, types::events::UtdCause};
use matrix_sdk_ui::{
    timeline::TimelineBuilder,
    unable_to_decrypt_hook::{UnableToDecryptHook, UnableToDecryptInfo, UtdHookManager},
};
use serde_json::Value;

use super::{
    messages::{WITHHELD, both, is_unreadable, never, unreadable},
    peer::Keys,
    report::Report,
    stage::Stage,
    watcher::{GRACE, Watcher, messages},
};
use crate::waiting::{Result, ensure, eventually};

/// A hook that keeps its reports.
#[derive(Debug, Default)]
struct Hook(Mutex<Vec<UnableToDecryptInfo>>);

impl UnableToDecryptHook for Hook {
    fn on_utd(&self, info: UnableToDecryptInfo) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(info);
    }
}

// The conversion of `docs/health.md`, compiled with the type of matrix-sdk-ui itself.
fn to_event(info: &UnableToDecryptInfo) -> Error {
    let name = match info.cause {
        UtdCause::Unknown | UtdCause::WithheldBySender => ErrorName::OlmKeysNotSentError,
        UtdCause::SentBeforeWeJoined => ErrorName::ExpectedDueToMembership,
        UtdCause::VerificationViolation => ErrorName::ExpectedVerificationViolation,
        UtdCause::UnsignedDevice | UtdCause::UnknownDevice => {
            ErrorName::ExpectedSentByInsecureDevice
        }
        UtdCause::HistoricalMessageAndBackupIsDisabled
        | UtdCause::HistoricalMessageAndDeviceIsUnverified => ErrorName::HistoricalMessage,
        UtdCause::WithheldForUnverifiedOrInsecureDevice => {
            ErrorName::RoomKeysWithheldForUnverifiedDevice
        }
    };
    let time =
        info.time_to_decrypt.map_or(-1, |time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
    let own = info.own_homeserver.as_ref();
    Error::new(ErrorDomain::E2ee, name)
        .crypto_sdk(CryptoSdk::Rust)
        .time_to_decrypt_millis(time)
        .event_local_age_millis(info.event_local_age_millis.signum().min(0))
        .user_trusts_own_identity(info.user_trusts_own_identity)
        .is_federated(own.is_some_and(|own| *own != info.sender_homeserver))
}

/// The watch counts messages in both rooms, the hook only in the one that is open, and both tell
/// the same about that.
pub(super) async fn next_to_the_watch(stage: &Stage) -> Result<Vec<Report>> {
    let page = include_str!("../../../docs/health.md");
    let (_, code) = include_str!("hook.rs").split_once("\nfn to_event").ok_or("it is above")?;
    let (code, _) = code.split_once("\n}\n").ok_or("it ends")?;
    ensure("the page has this conversion", page.contains(code))?;

    let (sender, user) = both(stage, Keys::to(CollectStrategy::OnlyTrustedDevices)).await?;
    let mut watcher = Watcher::start(stage, &user, Keys::default(), messages()).await?;
    let (open, closed) = (sender.create_room(None).await?, sender.create_room(None).await?);
    for room in [&open, &closed] {
        watcher.joins(room, &sender).await?;
    }
    let hook = Arc::new(Hook::default());
    let manager = UtdHookManager::new(hook.clone(), watcher.client.clone()).with_max_delay(GRACE);
    let look = async || Ok(watcher.client.get_room(open.room_id()));
    let room = eventually("the room", look).await?;
    let timeline = TimelineBuilder::new(&room).with_unable_to_decrypt_hook(Arc::new(manager));
    let _timeline = timeline.build().await?;
    for room in [&open, &closed] {
        is_unreadable(watcher.receives(&sender.send(room).await?).await?)?;
    }
    let reports = watcher.arrived(2).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let told = std::mem::take(&mut *hook.0.lock().unwrap_or_else(PoisonError::into_inner));
    ensure(format!("the hook is told once: {told:?}"), told.len() == 1)?;
    let Value::Object(fields) = serde_json::to_value(to_event(&told[0]))? else {
        return Err("an event is an object".into());
    };
    let same = |report: &Report| report.fields.clone().into_iter().eq(fields.clone());
    ensure(format!("{fields:?} is in {reports:?}"), reports.iter().any(same))?;
    let expected = unreadable(WITHHELD, never(), false);
    watcher.finish(&[expected.clone(), expected]).await
}
