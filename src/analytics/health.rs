//! The start and the guard of a watch of the client's health.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use tokio::sync::oneshot;

use super::{Analytics, shared::Shared};
use crate::{
    consent::state::{ClosedReason, GateState},
    health::{
        progress::Progress,
        signals::HealthSignals,
        state::HealthState,
        stats::HealthStats,
        task::{self, Watch},
    },
    spawn::spawn,
};

/// The reason why a watch could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WatchHealthError {
    /// A [`HealthWatch`] of the same [`Analytics`] exists: two would count everything twice.
    #[error("the client is being watched already")]
    AlreadyWatching,
    /// [`Analytics::shutdown`] was called.
    #[error("no more events are taken")]
    ShutDown,
}

/// The guard of a watch that [`Analytics::watch_health`] started. The watch stops when it is
/// dropped.
///
/// It keeps no [`Analytics`] alive.
#[must_use = "the watch stops when its guard is dropped"]
pub struct HealthWatch {
    shared: Weak<Shared>,
    progress: Arc<Progress>,
    ended: Option<oneshot::Receiver<()>>,
}

impl fmt::Debug for HealthWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthWatch")
            .field("state", &self.state())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl HealthWatch {
    /// Returns the state of the watch.
    #[must_use]
    pub fn state(&self) -> HealthState {
        let state = self.progress.state();
        if state != HealthState::WaitingForConsent {
            return state;
        }
        let gate = self.shared.upgrade().map(|shared| shared.machine().state().gate);
        match gate {
            Some(GateState::Closed(ClosedReason::SessionEnded)) => HealthState::SessionEnded,
            Some(_) => state,
            None => HealthState::Stopped,
        }
    }

    /// Returns the counters since the watch began.
    #[must_use]
    pub fn stats(&self) -> HealthStats {
        self.progress.stats()
    }

    /// Stops the watch, and waits until it observes nothing and has forgotten everything.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the watch still stops.
    pub async fn stop(mut self) {
        self.progress.stop.stop();
        if let Some(ended) = self.ended.take() {
            // The runtime may be gone, which ends the task as well.
            let _ = ended.await;
        }
    }
}

impl Drop for HealthWatch {
    fn drop(&mut self) {
        self.progress.stop.stop();
    }
}

/// Health of encryption and of the session.
impl Analytics {
    /// Turns signals of the client about its encryption and its session into events, until the
    /// returned guard is dropped.
    ///
    /// While the gate is open, and only then, the client is observed. These events are captured;
    /// those of signals that came before the gate closed may be held until it opens again:
    ///
    /// | signal | event |
    /// |---|---|
    /// | a message cannot be decrypted | [`element::Error`](crate::element::Error) |
    /// | verification or recovery changed | [`element::CryptoSessionState`](crate::element::CryptoSessionState) |
    /// | soft logout | [`element::UnauthenticatedError`](crate::element::UnauthenticatedError) |
    /// | the session works again after a soft logout | `SessionRenewed` |
    /// | the send queue could not send a message | `SendFailure` with `isRecoverable` and `errorCode` |
    /// | the homeserver refused a key as a duplicate | `KeyUploadClash` |
    /// | more than 500 messages, or 1 MiB of them, waited for their keys | `UndecryptableOverflow` with the number of the `messages` above that |
    ///
    /// All of it is numbers, booleans and words of the program, so all of it leaves under
    /// [`TextPolicy::Refuse`](crate::TextPolicy::Refuse). No identifier, name of a server or text
    /// of an error is in it, and of the age of a message only its sign. Nothing is stored. No request
    /// is made for this; if the app has enabled a key backup, matrix-sdk may ask it once more for a
    /// key that does not suffice.
    ///
    /// A message is reported once: when it is decrypted late, with the time that took, or when
    /// its grace time is over, as permanent. Only messages that were sent after this watch saw
    /// the gate open are reported, by the clocks of the sender's server and of this device. So
    /// those from before the opt-in are not, unless one of these clocks is wrong, nor those that
    /// were sent while the app was not running. A message whose time is more than a minute in the
    /// future is not reported. When the gate closes, the messages that wait are forgotten.
    ///
    /// The app has to sync the client, and to send by its send queue. It can start the watch at
    /// any time after [`build`](crate::AnalyticsBuilder::build), on the [`Analytics`] of the
    /// purpose that its users would expect.
    ///
    /// The counts differ from those of the hook of matrix-sdk-ui, which sees only messages of
    /// timelines that are open, but also those that are paginated. An app uses one of the two.
    ///
    /// ```
    /// # use matrix_analytics::Analytics;
    /// use matrix_analytics::{HealthSignals, HealthWatch, WatchHealthError};
    ///
    /// # fn example(analytics: &Analytics) -> Result<HealthWatch, WatchHealthError> {
    /// let watch = analytics.watch_health(HealthSignals::all())?;
    /// # Ok(watch)
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`WatchHealthError`].
    pub fn watch_health(&self, signals: HealthSignals) -> Result<HealthWatch, WatchHealthError> {
        let inner = &self.handle.inner;
        if self.sink.is_closed() {
            return Err(WatchHealthError::ShutDown);
        }
        let progress = Arc::new(Progress::new());
        if !self.handle.health.begin(&progress) {
            return Err(WatchHealthError::AlreadyWatching);
        }
        // A shutdown in between has not seen this watch.
        if self.sink.is_closed() {
            progress.stop.stop();
            return Err(WatchHealthError::ShutDown);
        }
        let shared = Arc::downgrade(inner);
        let source = shared.clone();
        let watch = Watch {
            client: Box::new(move || source.upgrade().map(|shared| shared.client.clone())),
            sink: self.sink.clone(),
            signals,
            progress: progress.clone(),
            stop: self.handle.stop.clone(),
        };
        let ended = Some(spawn(&inner.runtime, task::run(watch)));
        Ok(HealthWatch { shared, progress, ended })
    }
}
