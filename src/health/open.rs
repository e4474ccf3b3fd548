//! What is observed while the gate is open.

use std::{future::pending, sync::Arc};

use futures_util::{
    StreamExt as _,
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

/// The state machines, and what they report to.
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
            capture: Capture { sink, epoch: 0 },
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
        self.capture.epoch = epoch;
        self.has_synced = false;
        self.messages.begin();
        self.crypto_session.handle_open(epoch);
        if self.session.handle_open(epoch) {
            self.capture.event(&SessionRenewed {});
        }
    }

    /// Forgets all that was observed since the gate opened.
    pub(super) fn close(&mut self) {
        self.messages.forget();
        self.send_failures.forget();
    }

    pub(super) fn stats(&self) -> HealthStats {
        let mut stats = self.stats;
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
            match signal {
                Some(signal) => self.handle(&client, signal, signals).await,
                None => self.poll(&client).await,
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
                self.stats.syncs += 1;
                messages.handle_sync(capture, client, updates).await;
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
            Signal::Session(_) => self.handle_session_change(client, &signal),
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

    /// Reports a soft logout, and ignores all other signals.
    pub(super) fn handle_session_change(&mut self, client: &Client, signal: &Signal) {
        if let Signal::Session(SessionChange::UnknownToken(data)) = signal
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
