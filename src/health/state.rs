//! The state of a watch.

use crate::named::named;

/// The state of a [`HealthWatch`](crate::HealthWatch).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HealthState {
    /// The gate is not open. Nothing is observed.
    WaitingForConsent,
    /// The gate is open, and the client has not synced since. Messages that cannot be decrypted
    /// are found in sync only: if this state lasts, the app does not sync this client.
    WaitingForSync,
    /// Signals are observed.
    Watching,
    /// The session has ended, by [`Analytics::end_session`](crate::Analytics::end_session) or
    /// because the homeserver no longer accepts its token. Nothing is observed.
    SessionEnded,
    /// The last [`Analytics`](crate::Analytics) was dropped or shut down, or its runtime ended.
    /// This is final.
    Stopped,
}

named!(HealthState {
    WaitingForConsent => "waiting_for_consent",
    WaitingForSync => "waiting_for_sync",
    Watching => "watching",
    SessionEnded => "session_ended",
    Stopped => "stopped",
});
