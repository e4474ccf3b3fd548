//! The counters of a watch.

use serde::Serialize;

/// The counters of a [`HealthWatch`](crate::HealthWatch) since it began. They hold numbers only,
/// and stay on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HealthStats {
    /// Syncs that were seen while the gate was open.
    pub syncs: u64,
    /// Syncs that were missed because the runtime was too busy, or because the gate closed. Their
    /// messages may be in no other counter.
    pub missed_syncs: u64,
    /// Occasions on which other signals were missed because the runtime was too busy.
    pub missed_signals: u64,
    /// Events that were not captured, because the gate closed at that moment. Their messages are
    /// counted as reported.
    pub refused_events: u64,
    /// The messages that could not be decrypted.
    pub undecryptable: UndecryptableStats,
    /// Whether the app's event cache was found not to decrypt messages whose keys came late. It
    /// does not if the app called `Client::event_cache().subscribe()` before it logged in.
    pub redecryption_stalled: bool,
}

/// The counters of messages that could not be decrypted.
///
/// `seen` is the sum of those below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UndecryptableStats {
    /// Undecryptable messages that are not reported, and in no other counter: those that were
    /// sent before the gate opened, that claim to be sent more than a minute from now, that lack
    /// an ID, a sender or a time, or that came when the client had no session. Each counts
    /// whenever it comes.
    pub ignored: u64,
    /// Undecryptable messages that were sent while the gate was open.
    pub seen: u64,
    /// Messages that wait for their keys now.
    pub pending: u64,
    /// Messages that were decrypted so soon that they are not reported.
    pub decrypted_soon: u64,
    /// Messages that were reported as decrypted late.
    pub reported_late: u64,
    /// Messages that were reported as permanently undecryptable.
    pub reported_permanent: u64,
    /// Messages that were not followed, because too many others waited. They are reported as a
    /// number, unless the gate closes before.
    pub overflowed: u64,
    /// Messages that waited when the gate closed or the watch was stopped.
    pub forgotten: u64,
}
