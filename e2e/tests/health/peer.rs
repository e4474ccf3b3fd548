//! A client with encryption that syncs only when it is told to, so that a scenario decides which
//! devices it knows.

use std::time::Duration;

use matrix_sdk::{
    Client, Room,
    config::SyncSettings,
    encryption::{BackupDownloadStrategy, EncryptionSettings},
    ruma::{
        OwnedEventId, OwnedUserId,
        api::client::{keys::get_keys, room::create_room},
        events::{
            InitialStateEvent,
            room::{encryption::RoomEncryptionEventContent, message::RoomMessageEventContent},
        },
        serde::Raw,
    },
};
use matrix_sdk_base::crypto::{CollectStrategy, DecryptionSettings, TrustRequirement};
use serde_json::json;

use super::stage::Stage;
use crate::{
    user::{User, http_client},
    waiting::{Result, eventually},
};

/// The text of a message that must not arrive.
pub(crate) const SECRET: &str = "Under the third plank";

/// How a client treats the keys of messages.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    /// The devices that get the keys of messages it sends.
    pub(crate) recipients: CollectStrategy,
    /// The trust that the device of a sender needs.
    pub(crate) senders: TrustRequirement,
    /// When it fetches keys from the user's backup.
    pub(crate) backup: BackupDownloadStrategy,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            recipients: CollectStrategy::AllDevices,
            senders: TrustRequirement::Untrusted,
            backup: BackupDownloadStrategy::Manual,
        }
    }
}

impl Keys {
    pub(crate) fn to(recipients: CollectStrategy) -> Self {
        Self { recipients, ..Self::default() }
    }

    pub(crate) fn from(senders: TrustRequirement) -> Self {
        Self { senders, ..Self::default() }
    }

    pub(crate) fn by(backup: BackupDownloadStrategy) -> Self {
        Self { backup, ..Self::default() }
    }

    pub(crate) async fn client(&self, url: &str) -> Result<Client> {
        let settings = EncryptionSettings {
            backup_download_strategy: self.backup,
            ..EncryptionSettings::default()
        };
        let decryption = DecryptionSettings { sender_device_trust_requirement: self.senders };
        let builder = Client::builder()
            .homeserver_url(url)
            .http_client(http_client())
            .respect_login_well_known(false)
            .with_encryption_settings(settings)
            .with_room_key_recipient_strategy(self.recipients.clone())
            .with_decryption_settings(decryption);
        Ok(builder.build().await?)
    }

    /// Logs in a new device of `user`.
    pub(crate) async fn log_in(&self, stage: &Stage, user: &User) -> Result<Client> {
        let client = self.client(&stage.homeserver.url).await?;
        let auth = client.matrix_auth();
        auth.login_username(&user.name, stage.homeserver.password()).send().await?;
        stage.personal.add(client.device_id().ok_or("it is logged in")?);
        stage.personal.add(client.access_token().ok_or("it is logged in")?);
        Ok(client)
    }
}

/// A message that a peer has sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) event: OwnedEventId,
    pub(crate) session: String,
}

pub(crate) struct Peer<'a> {
    pub(crate) client: Client,
    pub(crate) id: OwnedUserId,
    stage: &'a Stage,
}

impl<'a> Peer<'a> {
    pub(crate) async fn start(stage: &'a Stage, user: &User, keys: Keys) -> Result<Self> {
        let client = keys.log_in(stage, user).await?;
        let id = client.user_id().ok_or("it is logged in")?.to_owned();
        let peer = Self { client, id, stage };
        peer.catch_up().await?;
        uploads_keys(&peer.client).await?;
        Ok(peer)
    }

    /// Receives what has happened since the last call.
    pub(crate) async fn catch_up(&self) -> Result {
        self.client.sync_once(SyncSettings::new().timeout(Duration::ZERO)).await?;
        Ok(())
    }

    /// Makes a backup of the keys that this peer has, and returns the recovery key.
    pub(crate) async fn enable_recovery(&self) -> Result<String> {
        let encryption = self.client.encryption();
        encryption.bootstrap_cross_signing(None).await?;
        let key = encryption.recovery().enable().wait_for_backups_to_upload().await?;
        self.stage.personal.add(&key);
        Ok(key)
    }

    /// Receives the keys of new messages, and adds them to the backup.
    pub(crate) async fn back_up(&self) -> Result {
        self.catch_up().await?;
        self.client.encryption().backups().wait_for_steady_state().await?;
        Ok(())
    }

    pub(crate) async fn create_room(&self, levels: Option<serde_json::Value>) -> Result<Room> {
        let encryption = RoomEncryptionEventContent::with_recommended_defaults();
        let encryption = InitialStateEvent::with_empty_state_key(encryption).to_raw_any();
        let mut request = create_room::v3::Request::new();
        request.preset = Some(create_room::v3::RoomPreset::PrivateChat);
        request.initial_state = vec![encryption];
        request.power_level_content_override =
            levels.map(|levels| Raw::from_json_string(levels.to_string())).transpose()?;
        let room = self.client.create_room(request).await?;
        self.stage.personal.add(room.room_id());
        self.catch_up().await?;
        Ok(room)
    }

    /// Creates an encrypted room in which only its creator may send messages.
    pub(crate) async fn create_announcements(&self) -> Result<Room> {
        self.create_room(Some(json!({ "events_default": 50 }))).await
    }

    /// Invites `guest`, who joins, and waits until this peer knows.
    pub(crate) async fn admit(&self, room: &Room, guest: &Client) -> Result {
        let id = guest.user_id().ok_or("it is logged in")?;
        room.invite_user_by_id(id).await?;
        guest.join_room_by_id(room.room_id()).await?;
        self.catch_up().await
    }

    /// Sends a message in a new session, whose key other messages do not have.
    pub(crate) async fn send_in_new_session(&self, room: &Room) -> Result<Sent> {
        room.discard_room_key().await?;
        self.send(room).await
    }

    pub(crate) async fn send(&self, room: &Room) -> Result<Sent> {
        self.stage.personal.add(SECRET);
        self.say(room, SECRET).await
    }

    pub(crate) async fn say(&self, room: &Room, text: &str) -> Result<Sent> {
        let sent = room.send(RoomMessageEventContent::text_plain(text)).await?;
        let info = sent.encryption_info.ok_or("the room is encrypted")?;
        let session = info.session_id().ok_or("the message has a session")?.to_owned();
        let event = sent.response.event_id;
        self.stage.personal.add(&event);
        self.stage.personal.add(&session);
        Ok(Sent { event, session })
    }
}

/// Waits until the homeserver has the keys with which others encrypt for `client`.
pub(crate) async fn uploads_keys(client: &Client) -> Result {
    let (user, device) = client.user_id().zip(client.device_id()).ok_or("it is logged in")?;
    let look = async || {
        let mut request = get_keys::v3::Request::new();
        request.device_keys.insert(user.to_owned(), Vec::new());
        let answer = client.send(request).await?;
        let devices = answer.device_keys.get(user);
        Ok(devices.and_then(|devices| devices.get(device)).map(drop))
    };
    eventually("the device's keys to be uploaded", look).await
}
