//! Signals of end-to-end encryption, of the send queue and of the session, and the local
//! questions that are asked about them. Only [`decrypt`] can make the client send a request.

use std::future::ready;

use futures_util::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use matrix_sdk::{
    Client, Error, SessionChange,
    deserialized_responses::{TimelineEventKind, UnableToDecryptInfo, UnableToDecryptReason},
    encryption::{VerificationState, backups::BackupState, recovery::RecoveryState},
    event_cache::{EventCache, RedecryptorReport},
    ruma::{
        MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedTransactionId, OwnedUserId,
        RoomId, UserId,
        events::{AnySyncTimelineEvent, room::encrypted::OriginalSyncRoomEncryptedEvent},
        serde::Raw,
    },
    send_queue::RoomSendQueueUpdate,
    sync::RoomUpdates,
};
use serde::Deserialize;
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// A change that the client announced.
pub(crate) enum Signal {
    Synced(RoomUpdates),
    /// The number of syncs that the reader was too slow for.
    MissedSyncs(u64),
    /// The rooms and sessions of keys that arrived or were imported. Known keys are repeated.
    Keys(Vec<(OwnedRoomId, String)>),
    MissedKeys,
    /// The stream of keys has ended, because the store of keys was replaced.
    KeysEnded,
    /// Messages that the event cache decrypted. They need not have been undecryptable before.
    Redecrypted(Vec<OwnedEventId>),
    /// The event cache said something else, which shows that it decrypts at all.
    RedecryptionWorks,
    Verification(VerificationState),
    Recovery(RecoveryState),
    SendFailed(SendFailed),
    Session(SessionChange),
    KeyUploadClash,
    /// Another kind of signal was missed, because the reader was too slow.
    Missed,
}

/// A failure of the send queue.
pub(crate) struct SendFailed {
    pub(crate) transaction: OwnedTransactionId,
    pub(crate) is_recoverable: bool,
    pub(crate) error: std::sync::Arc<Error>,
}

/// A message in a sync that could not be decrypted.
pub(crate) struct EncryptedMessage {
    pub(crate) id: OwnedEventId,
    pub(crate) room: OwnedRoomId,
    pub(crate) sender: OwnedUserId,
    /// The time at the sender's server.
    pub(crate) sent_at: MilliSecondsSinceUnixEpoch,
    pub(crate) info: UnableToDecryptInfo,
    pub(crate) event: Raw<AnySyncTimelineEvent>,
}

/// Facts about this device that are part of a report.
pub(crate) struct OwnDevice {
    pub(crate) user: OwnedUserId,
    /// `None` if the store of keys could not be read.
    pub(crate) created: Option<MilliSecondsSinceUnixEpoch>,
    /// `None` if the store of keys could not be read.
    pub(crate) trusts_own_identity: Option<bool>,
}

/// The outcome of one more try to decrypt a message.
pub(crate) enum Decryption {
    Succeeded,
    Failed(UnableToDecryptReason),
    /// The client, the room or the store of keys is not available.
    Unavailable,
}

pub(crate) fn syncs(client: &Client) -> BoxStream<'static, Signal> {
    received(client.subscribe_to_all_room_updates(), |sync| {
        Some(sync.map_or_else(Signal::MissedSyncs, Signal::Synced))
    })
}

/// Returns the arrival of keys, and [`Signal::KeysEnded`] at the end. Returns `None` if the
/// client has no store of keys yet.
pub(crate) async fn keys(client: &Client) -> Option<BoxStream<'static, Signal>> {
    let keys = client.encryption().room_keys_received_stream().await?;
    let keys = keys.map(|keys| match keys {
        Ok(keys) => {
            Signal::Keys(keys.into_iter().map(|key| (key.room_id, key.session_id)).collect())
        }
        Err(_) => Signal::MissedKeys,
    });
    Some(keys.chain(stream::once(ready(Signal::KeysEnded))).boxed())
}

pub(crate) fn event_cache(client: &Client) -> EventCache {
    client.event_cache().clone()
}

/// Returns the reports of the event cache, which come only if the app subscribes it to sync.
pub(crate) fn redecryptions(cache: &EventCache) -> BoxStream<'_, Signal> {
    let reports = cache.subscribe_to_decryption_reports();
    let signals = reports.map(|report| match report {
        Ok(RedecryptorReport::ResolvedUtds { events, .. }) => {
            Signal::Redecrypted(events.into_iter().collect())
        }
        Ok(RedecryptorReport::Lagging | RedecryptorReport::BackupAvailable) => {
            Signal::RedecryptionWorks
        }
        Err(_) => Signal::Missed,
    });
    signals.boxed()
}

pub(crate) fn verification(client: &Client) -> BoxStream<'static, Signal> {
    client.encryption().verification_state().map(Signal::Verification).boxed()
}

pub(crate) fn recovery(client: &Client) -> BoxStream<'static, Signal> {
    client.encryption().recovery().state_stream().map(Signal::Recovery).boxed()
}

/// Returns the failures of the send queue. They carry the transaction, by which a retry is told
/// from another message.
pub(crate) fn send_failures(client: &Client) -> BoxStream<'static, Signal> {
    received(client.send_queue().subscribe(), |update| match update {
        Ok(update) => match update.update {
            RoomSendQueueUpdate::SendError { transaction_id, error, is_recoverable } => {
                let transaction = transaction_id;
                Some(Signal::SendFailed(SendFailed { transaction, is_recoverable, error }))
            }
            _ => None,
        },
        Err(_) => Some(Signal::Missed),
    })
}

pub(crate) fn session_changes(client: &Client) -> BoxStream<'static, Signal> {
    received(client.subscribe_to_session_changes(), |change| {
        Some(change.map_or(Signal::Missed, Signal::Session))
    })
}

/// Returns the refusals of a key that the homeserver has another of. The keys in them are
/// dropped here.
pub(crate) fn key_upload_clashes(client: &Client) -> BoxStream<'static, Signal> {
    received(client.subscribe_to_duplicate_key_upload_errors(), |clash| {
        Some(clash.map_or(Signal::Missed, |_keys| Signal::KeyUploadClash))
    })
}

/// Returns what `convert` makes of each item, or of the number of items that were missed.
fn received<T: Clone + Send + 'static>(
    receiver: Receiver<T>,
    convert: impl Fn(Result<T, u64>) -> Option<Signal> + Send + 'static,
) -> BoxStream<'static, Signal> {
    items(receiver).filter_map(move |item| ready(convert(item))).boxed()
}

fn items<T: Clone + Send + 'static>(
    receiver: Receiver<T>,
) -> impl Stream<Item = Result<T, u64>> + Send {
    stream::unfold(receiver, |mut receiver| async move {
        match receiver.recv().await {
            Ok(item) => Some((Ok(item), receiver)),
            Err(RecvError::Lagged(missed)) => Some((Err(missed), receiver)),
            // The client was dropped.
            Err(RecvError::Closed) => None,
        }
    })
}

/// Returns the messages of a sync that could not be decrypted, of joined and of left rooms.
/// Instead of one without ID, sender or time, there is `None`.
pub(crate) fn undecryptable(
    updates: RoomUpdates,
) -> impl Iterator<Item = Option<EncryptedMessage>> {
    let joined = updates.joined.into_iter().map(|(room, update)| (room, update.timeline));
    let left = updates.left.into_iter().map(|(room, update)| (room, update.timeline));
    joined.chain(left).flat_map(|(room, timeline)| {
        timeline.events.into_iter().filter_map(move |event| match event.kind {
            TimelineEventKind::UnableToDecrypt { event, utd_info } => {
                Some(message(room.clone(), event, utd_info))
            }
            TimelineEventKind::Decrypted(_) | TimelineEventKind::PlainText { .. } => None,
        })
    })
}

fn message(
    room: OwnedRoomId,
    event: Raw<AnySyncTimelineEvent>,
    info: UnableToDecryptInfo,
) -> Option<EncryptedMessage> {
    #[derive(Deserialize)]
    struct Members {
        event_id: OwnedEventId,
        sender: OwnedUserId,
        origin_server_ts: MilliSecondsSinceUnixEpoch,
    }

    let members: Members = serde_json::from_str(event.json().get()).ok()?;
    let Members { event_id: id, sender, origin_server_ts: sent_at } = members;
    Some(EncryptedMessage { id, room, sender, sent_at, info, event })
}

/// Returns the facts about this device, or `None` if the client has no session.
pub(crate) async fn own_device(client: &Client) -> Option<OwnDevice> {
    let user = client.user_id()?.to_owned();
    let encryption = client.encryption();
    let device = encryption.get_own_device().await.ok().flatten();
    let created = device.map(|device| device.first_time_seen_ts());
    let identity = encryption.get_user_identity(&user).await.ok();
    let trusts_own_identity =
        identity.map(|identity| identity.is_some_and(|identity| identity.is_verified()));
    Some(OwnDevice { user, created, trusts_own_identity })
}

/// Returns whether this device has the key of `session`. The key need not decrypt a message of
/// the session: it may begin later, or come from a device that is not trusted.
pub(crate) async fn has_key(
    client: &Client,
    room: &RoomId,
    session: &str,
    sender: &UserId,
) -> bool {
    match client.get_room(room) {
        Some(room) => room.get_encryption_info(session, sender).await.is_some(),
        None => false,
    }
}

/// Returns whether a failed decryption can make the client download keys.
pub(crate) fn downloads_keys(client: &Client) -> bool {
    client.encryption().backups().state() == BackupState::Enabled
}

/// Tries to decrypt a message once more. If that fails and there is a backup, the client may
/// download its key: see [`downloads_keys`].
pub(crate) async fn decrypt(
    client: &Client,
    room: &RoomId,
    event: Raw<AnySyncTimelineEvent>,
) -> Decryption {
    let Some(room) = client.get_room(room) else { return Decryption::Unavailable };
    let event = Raw::<OriginalSyncRoomEncryptedEvent>::from_json(event.into_json());
    match room.decrypt_event(&event, None).await {
        Ok(event) => match event.kind {
            TimelineEventKind::UnableToDecrypt { utd_info, .. } => {
                Decryption::Failed(utd_info.reason)
            }
            TimelineEventKind::Decrypted(_) | TimelineEventKind::PlainText { .. } => {
                Decryption::Succeeded
            }
        },
        Err(_) => Decryption::Unavailable,
    }
}

/// Returns whether the session can get a new access token by itself.
pub(crate) fn has_refresh_token(client: &Client) -> bool {
    client.session_tokens().is_some_and(|tokens| tokens.refresh_token.is_some())
}
