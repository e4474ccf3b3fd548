//! The observation of a client while the gate is open.

use std::{future::pending, sync::Arc};

use futures_util::{
    FutureExt as _, StreamExt as _,
    stream::{BoxStream, SelectAll},
};
use matrix_sdk::{Client, SessionChange, event_cache::EventCache};
use tokio::time::{Instant, sleep_until};

use super::{
    capture::Capture,
    crypto_session::CryptoSession,
    events::{KeyUploadClash, SendFailure, SessionRenewed},
    messages::Messages,
    progress::Progress,
    send_failure::{SendErrorCode, SendFailures},
    session::Session,
    signals::HealthSignals,
    state::HealthState,
    stats::HealthStats,
};
use crate::{
    element::{CryptoSessionState, UnauthenticatedError, UnauthenticatedErrorCode},
    matrix::health::{self, SendFailed, Signal},
    sink::Sink,
};

/// Returns the client, unless the last handle was dropped. A task must not keep the client.
pub(crate) type ClientSource = Box<dyn Fn() -> Option<Client> + Send + Sync>;

/// The signals of a client, in any order.
pub(super) type Signals<'a> = SelectAll<BoxStream<'a, Signal>>;

/// Subscribes to the signals that are wanted.
pub(super) async fn subscribe<'a>(
    client: &Client,
    cache: &'a EventCache,
    wanted: HealthSignals,
) -> Signals<'a> {
    let mut signals = SelectAll::new();
    if wanted.undecryptable_messages {
        signals.push(health::syncs(client));
        signals.push(health::redecryptions(cache));
        signals.extend(health::keys(client).await);
    }
    if wanted.crypto_session {
        signals.push(health::verification(client));
        signals.push(health::recovery(client));
    }
    if wanted.send_failures {
        signals.push(health::send_failures(client));
    }
    if wanted.sessions {
        signals.push(health::session_changes(client));
    }
    if wanted.key_upload_clashes {
        signals.push(health::key_upload_clashes(client));
    }
    signals
}

/// The state machines, and the sink that their reports go to.
pub(super) struct Open {
    wanted: HealthSignals,
    capture: Capture,
    messages: Messages,
    crypto_session: CryptoSession,
    session: Session,
    send_failures: SendFailures,
    has_synced: bool,
    stats: HealthStats,
}

impl Open {
    pub(super) fn new(sink: Arc<Sink>, wanted: HealthSignals) -> Self {
        Self {
            wanted,
            capture: Capture::new(sink, 0),
            messages: Messages::new(wanted.timing),
            crypto_session: CryptoSession::default(),
            session: Session::default(),
            send_failures: SendFailures::new(),
            has_synced: false,
            stats: HealthStats::default(),
        }
    }

    /// Begins an opening of the gate.
    pub(super) fn begin(&mut self, epoch: u64) {
        if epoch != self.capture.epoch {
            self.forget_epoch();
        }
        self.capture.epoch = epoch;
        self.has_synced = false;
        self.messages.begin();
        self.crypto_session.handle_open(epoch);
        if self.session.handle_open(epoch) {
            self.capture.event(&SessionRenewed {});
        }
    }

    /// Handles that the gate has closed: the messages that wait are forgotten. The digests of
    /// those that were counted are kept until the epoch ends.
    pub(super) fn close(&mut self) {
        self.messages.forget_waiting();
    }

    /// Waits until the epoch has ended.
    pub(super) async fn epoch_ended(&self) {
        self.capture.sink.gate().ended(self.capture.epoch).await;
    }

    /// Forgets all that was observed in the epoch.
    pub(super) fn forget_epoch(&mut self) {
        self.messages.forget_waiting();
        self.messages.forget_seen();
        self.send_failures.forget();
    }

    pub(super) fn stats(&self) -> HealthStats {
        let mut stats = HealthStats { refused_events: self.capture.refused(), ..self.stats };
        self.messages.add_to(&mut stats);
        stats
    }

    pub(super) fn publish(&self, progress: &Progress) {
        let state = if self.wanted.undecryptable_messages && !self.has_synced {
            HealthState::WaitingForSync
        } else {
            HealthState::Watching
        };
        progress.set(state, self.stats());
    }

    /// Turns signals into events, until the client is gone.
    pub(super) async fn report(
        &mut self,
        signals: &mut Signals<'_>,
        client: &ClientSource,
        progress: &Progress,
    ) {
        loop {
            let signal = tokio::select! {
                biased;
                Some(signal) = signals.next() => Some(signal),
                () = sleep(self.deadline()) => None,
            };
            let Some(client) = client() else { return };
            if let Some(signal) = signal {
                self.handle(&client, signal, signals).await;
            }
            // Even between signals that come without a pause.
            if self.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
                self.poll(&client).await;
            }
            self.publish(progress);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.messages.deadline().into_iter().chain(self.crypto_session.deadline()).min()
    }

    async fn poll(&mut self, client: &Client) {
        self.messages.poll(&self.capture, client).await;
        if let Some((verification, recovery)) = self.crypto_session.poll(Instant::now()) {
            self.capture.event(&CryptoSessionState::new(verification, recovery));
        }
    }

    async fn handle(&mut self, client: &Client, signal: Signal, signals: &mut Signals<'_>) {
        let (messages, capture) = (&mut self.messages, &self.capture);
        match signal {
            Signal::Synced(updates) => {
                self.has_synced = true;
                // Missed, if the gate closes before it is handled.
                self.stats.missed_syncs += 1;
                messages.handle_sync(capture, client, updates).await;
                self.stats.missed_syncs -= 1;
                self.stats.syncs += 1;
            }
            Signal::MissedSyncs(syncs) => self.stats.missed_syncs += syncs,
            Signal::Keys(keys) => messages.handle_keys(capture, client, keys).await,
            Signal::MissedKeys => {
                self.stats.missed_signals += 1;
                messages.handle_missed_keys(capture, client).await;
            }
            Signal::KeysEnded => {
                signals.extend(health::keys(client).await);
                messages.handle_missed_keys(capture, client).await;
            }
            Signal::Redecrypted(ids) => messages.handle_redecrypted(capture, &ids),
            Signal::RedecryptionWorks => messages.handle_redecryption_works(),
            Signal::Verification(state) => {
                self.crypto_session.handle_verification(Instant::now(), state);
            }
            Signal::Recovery(state) => {
                self.crypto_session.handle_recovery(Instant::now(), state);
            }
            Signal::SendFailed(failed) => self.handle_send_failure(&failed),
            Signal::Session(change) => self.handle_session_change(client, &change),
            Signal::KeyUploadClash => capture.event(&KeyUploadClash {}),
            Signal::Missed => self.stats.missed_signals += 1,
        }
    }

    fn handle_send_failure(&mut self, failed: &SendFailed) {
        let code = SendErrorCode::of(&failed.error);
        if self.send_failures.handle_failure(failed.transaction.as_str(), code) {
            let is_recoverable = failed.is_recoverable;
            self.capture.event(&SendFailure { is_recoverable, error_code: code });
        }
    }

    /// Handles the signals that came before the gate closed. A soft logout closes it, and may be
    /// known here only afterwards, together with the failures that it caused.
    pub(super) fn drain(&mut self, client: &Client, signals: &mut Signals<'_>) {
        while let Some(Some(signal)) = signals.next().now_or_never() {
            match signal {
                Signal::Session(change) => self.handle_session_change(client, &change),
                Signal::SendFailed(failed) => self.handle_send_failure(&failed),
                Signal::KeyUploadClash => self.capture.event(&KeyUploadClash {}),
                Signal::Synced(_) => self.stats.missed_syncs += 1,
                Signal::MissedSyncs(syncs) => self.stats.missed_syncs += syncs,
                Signal::Missed | Signal::MissedKeys => self.stats.missed_signals += 1,
                // The messages that these are about are forgotten, and states are repeated.
                Signal::Keys(_)
                | Signal::KeysEnded
                | Signal::Redecrypted(_)
                | Signal::RedecryptionWorks
                | Signal::Verification(_)
                | Signal::Recovery(_) => {}
            }
        }
    }

    /// Reports a soft logout.
    fn handle_session_change(&mut self, client: &Client, change: &SessionChange) {
        if let SessionChange::UnknownToken(data) = change
            && data.soft_logout
            && self.session.handle_soft_logout(self.capture.epoch)
        {
            self.capture.event(&UnauthenticatedError::new(
                health::has_refresh_token(client),
                true,
                UnauthenticatedErrorCode::UnknownToken,
                "soft logout",
            ));
        }
    }
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => pending().await,
    }
}
