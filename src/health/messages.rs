//! Messages that cannot be decrypted: from their arrival in sync to their report.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use matrix_sdk::{
    Client,
    deserialized_responses::UnableToDecryptReason,
    ruma::{
        MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId,
        events::AnySyncTimelineEvent, serde::Raw,
    },
    sync::RoomUpdates,
};
use tokio::time::Instant;
use tracing::warn;

use super::{
    capture::Capture,
    cause::Cause,
    events::UndecryptableOverflow,
    redecryption::Redecryption,
    seen::Digest,
    stats::{HealthStats, UndecryptableStats},
    undecryptable::{Timing, Undecryptable},
};
use crate::{
    element::{CryptoSdk, Error, ErrorDomain},
    matrix::health::{self, Decryption, EncryptedMessage, OwnDevice},
};

/// How far the clock of another server may be ahead of this device's, in milliseconds.
const CLOCK_TOLERANCE: u64 = 60_000;

/// The messages of one opening of the gate.
pub(super) struct Messages {
    undecryptable: Undecryptable<Message>,
    redecryption: Redecryption,
    opened_at: MilliSecondsSinceUnixEpoch,
    ignored: u64,
}

/// A message that waits for its key. It is held in memory only.
struct Message {
    room: OwnedRoomId,
    sender: OwnedUserId,
    session: Option<String>,
    event: Raw<AnySyncTimelineEvent>,
    /// Whether there was no key when it arrived, or only one for later messages.
    lacked_key: bool,
    /// Whether the event cache has it, and therefore has to decrypt it as well.
    is_cached: bool,
    report: Report,
}

/// The facts about a message that its report has.
#[derive(Clone, Copy)]
struct Report {
    cause: Cause,
    local_age_millis: Option<i64>,
    trusts_own_identity: Option<bool>,
    is_federated: bool,
}

impl Message {
    fn new(message: EncryptedMessage, device: &OwnDevice, is_cached: bool) -> Self {
        let EncryptedMessage { room, sender, sent_at, info, event, .. } = message;
        let sent_at = i64::from(sent_at.get());
        let age = |created: MilliSecondsSinceUnixEpoch| {
            // The exact age would tell the recipient when the user logged in, by which it could
            // join the two IDs of a user who opts out and in again. So only its sign is sent.
            sent_at.saturating_sub(i64::from(created.get())).signum().min(0)
        };
        let report = Report {
            cause: Cause::of(&info.reason, &event),
            local_age_millis: device.created.map(age),
            trusts_own_identity: device.trusts_own_identity,
            is_federated: sender.server_name() != device.user.server_name(),
        };
        let lacked_key = matches!(
            info.reason,
            UnableToDecryptReason::MissingMegolmSession { .. }
                | UnableToDecryptReason::UnknownMegolmMessageIndex
        );
        Self { room, sender, session: info.session_id, event, lacked_key, is_cached, report }
    }

    /// Returns the size in memory.
    fn bytes(&self) -> usize {
        let session = self.session.as_ref().map_or(0, String::len);
        let ids = self.room.as_str().len() + self.sender.as_str().len() + session;
        size_of::<Self>() + ids + self.event.json().get().len()
    }
}

impl Report {
    /// Returns the event for a message that took this time, or stays undecryptable.
    fn event(self, took: Option<Duration>) -> Error {
        let millis = took.map_or(-1, |took| i64::try_from(took.as_millis()).unwrap_or(i64::MAX));
        let mut error = Error::new(ErrorDomain::E2ee, self.cause.name())
            .time_to_decrypt_millis(millis)
            .crypto_sdk(CryptoSdk::Rust)
            .is_federated(self.is_federated);
        if let Some(age) = self.local_age_millis {
            error = error.event_local_age_millis(age);
        }
        match self.trusts_own_identity {
            Some(trusts) => error.user_trusts_own_identity(trusts),
            None => error,
        }
    }
}

impl Messages {
    pub(super) fn new(timing: Timing) -> Self {
        Self {
            undecryptable: Undecryptable::new(timing),
            redecryption: Redecryption::default(),
            opened_at: MilliSecondsSinceUnixEpoch::now(),
            ignored: 0,
        }
    }

    /// Begins to report messages that are sent from now on.
    pub(super) fn begin(&mut self) {
        self.opened_at = MilliSecondsSinceUnixEpoch::now();
    }

    /// Forgets the messages that wait.
    pub(super) fn forget_waiting(&mut self) {
        self.undecryptable.forget_waiting();
        // The event cache may report while nothing is observed.
        self.redecryption.expect_nothing();
    }

    /// Forgets which messages were seen.
    pub(super) fn forget_seen(&mut self) {
        self.undecryptable.forget_seen();
    }

    pub(super) fn add_to(&self, stats: &mut HealthStats) {
        let ignored = self.ignored;
        stats.undecryptable = UndecryptableStats { ignored, ..self.undecryptable.stats() };
        stats.redecryption_stalled = self.redecryption.is_stalled;
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.undecryptable.deadline().into_iter().chain(self.redecryption.deadline()).min()
    }

    /// Handles the messages of one sync.
    pub(super) async fn handle_sync(
        &mut self,
        capture: &Capture,
        client: &Client,
        updates: RoomUpdates,
    ) {
        let now = Instant::now();
        let mut new = Vec::new();
        for message in health::undecryptable(updates) {
            let Some(message) = message.filter(|message| self.is_of_this_opening(message)) else {
                self.ignored += 1;
                continue;
            };
            let digest = self.undecryptable.digest(message.id.as_str());
            if !self.undecryptable.is_known(digest) {
                new.push((digest, message));
            }
        }
        if new.is_empty() {
            return;
        }
        let Some(device) = health::own_device(client).await else {
            self.ignored += new.len() as u64;
            return;
        };
        let is_cached = health::event_cache(client).has_subscribed();
        let mut lacking = Vec::new();
        for (digest, message) in new {
            let message = Message::new(message, &device, is_cached);
            if message.lacked_key {
                lacking.push(digest);
            }
            self.undecryptable.handle_first_seen(now, digest, message.bytes(), message);
        }
        // A key that arrived before the messages were added was announced too early for them.
        self.decrypt_with_stored_keys(capture, client, lacking, now).await;
    }

    /// Returns whether a message was sent while the gate has been open. Its time is that of its
    /// sender's server, which may be wrong: a time in the future proves nothing.
    fn is_of_this_opening(&self, message: &EncryptedMessage) -> bool {
        let now = u64::from(MilliSecondsSinceUnixEpoch::now().get());
        message.sent_at >= self.opened_at
            && u64::from(message.sent_at.get()) <= now.saturating_add(CLOCK_TOLERANCE)
    }

    /// Handles the arrival of the keys of these rooms and sessions.
    pub(super) async fn handle_keys(
        &mut self,
        capture: &Capture,
        client: &Client,
        keys: Vec<(OwnedRoomId, String)>,
    ) {
        let (now, keys) = (Instant::now(), keys.into_iter().collect::<BTreeSet<_>>());
        let has_key = |message: &Message| {
            let key = message.session.clone().map(|session| (message.room.clone(), session));
            key.is_some_and(|key| keys.contains(&key))
        };
        let waiting = self.undecryptable.waiting().filter(|(_, message)| has_key(message));
        let digests: Vec<_> = waiting.map(|(digest, _)| digest).collect();
        for digest in digests {
            self.decrypt(capture, client, digest, now).await;
        }
    }

    /// Handles that the arrival of keys was missed.
    pub(super) async fn handle_missed_keys(&mut self, capture: &Capture, client: &Client) {
        let waiting = self.undecryptable.waiting().map(|(digest, _)| digest).collect();
        self.decrypt_with_stored_keys(capture, client, waiting, Instant::now()).await;
    }

    /// Handles that the event cache has decrypted messages.
    pub(super) fn handle_redecrypted(&mut self, capture: &Capture, ids: &[OwnedEventId]) {
        self.handle_redecryption_works();
        for id in ids {
            let digest = self.undecryptable.digest(id.as_str());
            self.decrypted(capture, digest, Instant::now());
        }
    }

    pub(super) fn handle_redecryption_works(&mut self) {
        self.redecryption.handle_report();
    }

    /// Reports what is due.
    pub(super) async fn poll(&mut self, capture: &Capture, client: &Client) {
        let now = Instant::now();
        if self.redecryption.poll(now) {
            warn!(
                "the event cache does not decrypt messages whose keys arrive late: it was \
                 subscribed to sync before the client logged in"
            );
        }
        let due: Vec<_> = self.undecryptable.due(now).map(|(digest, _)| digest).collect();
        for digest in due {
            self.look_again(capture, client, digest, now).await;
        }
        let reports = self.undecryptable.poll(now);
        for message in reports.permanent {
            capture.event(&message.report.event(None));
        }
        if reports.overflowed > 0 {
            capture.event(&UndecryptableOverflow { messages: reports.overflowed });
        }
    }

    /// Looks at a message before it is reported as permanent: its key may have come unnoticed,
    /// and a notice of the sender may have explained what was unknown.
    async fn look_again(
        &mut self,
        capture: &Capture,
        client: &Client,
        digest: Digest,
        now: Instant,
    ) {
        let Some(message) = self.undecryptable.get_mut(digest) else { return };
        let is_unknown = message.report.cause == Cause::Unknown;
        // Where a failure would download keys, only a key is worth a try.
        let is_worth_a_try = (is_unknown && !health::downloads_keys(client))
            || (message.lacked_key && message.has_stored_key(client).await);
        if is_worth_a_try
            && let Some(reason) = self.decrypt(capture, client, digest, now).await
            && let Some(message) = self.undecryptable.get_mut(digest)
            && is_unknown
        {
            message.report.cause = Cause::of(&reason, &message.event);
        }
    }

    /// Decrypts those of the messages whose keys this device has.
    async fn decrypt_with_stored_keys(
        &mut self,
        capture: &Capture,
        client: &Client,
        messages: Vec<Digest>,
        now: Instant,
    ) {
        let mut absent = HashSet::new();
        for digest in messages {
            let Some(message) = self.undecryptable.get_mut(digest) else { continue };
            let key = (message.room.clone(), message.session.clone());
            if absent.contains(&key) {
                continue;
            }
            if message.has_stored_key(client).await {
                self.decrypt(capture, client, digest, now).await;
            } else {
                absent.insert(key);
            }
        }
    }

    /// Tries to decrypt a message that waits. Returns the reason if that fails.
    async fn decrypt(
        &mut self,
        capture: &Capture,
        client: &Client,
        digest: Digest,
        now: Instant,
    ) -> Option<UnableToDecryptReason> {
        let message = self.undecryptable.get_mut(digest)?;
        let is_cached = message.is_cached;
        match health::decrypt(client, &message.room, message.event.clone()).await {
            Decryption::Succeeded => {
                self.decrypted(capture, digest, now);
                if is_cached {
                    self.redecryption.handle_unreported(now);
                }
                None
            }
            Decryption::Failed(reason) => Some(reason),
            Decryption::Unavailable => None,
        }
    }

    fn decrypted(&mut self, capture: &Capture, digest: Digest, now: Instant) {
        if let Some((message, took)) = self.undecryptable.handle_decrypted(now, digest) {
            capture.event(&message.report.event(Some(took)));
        }
    }
}

impl Message {
    async fn has_stored_key(&self, client: &Client) -> bool {
        match &self.session {
            Some(session) => health::has_key(client, &self.room, session, &self.sender).await,
            None => false,
        }
    }
}
