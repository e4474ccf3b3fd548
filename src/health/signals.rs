//! The choice of signals.

use std::time::Duration;

use super::undecryptable::Timing;

/// The longest grace time.
const LONGEST_GRACE: Duration = Duration::from_secs(3600);

/// The signals that [`Analytics::watch_health`](crate::Analytics::watch_health) turns into
/// events.
///
/// ```
/// use std::time::Duration;
///
/// use matrix_analytics::HealthSignals;
///
/// let signals = HealthSignals::all().sessions(false).grace(Duration::from_secs(30));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct HealthSignals {
    pub(crate) undecryptable_messages: bool,
    pub(crate) crypto_session: bool,
    pub(crate) sessions: bool,
    pub(crate) send_failures: bool,
    pub(crate) key_upload_clashes: bool,
    pub(crate) timing: Timing,
}

impl HealthSignals {
    /// Returns all signals, with the times that Element's apps use.
    pub const fn all() -> Self {
        let timing =
            Timing { ignore_under: Duration::from_secs(4), grace: Duration::from_secs(60) };
        Self {
            undecryptable_messages: true,
            crypto_session: true,
            sessions: true,
            send_failures: true,
            key_upload_clashes: true,
            timing,
        }
    }

    /// Returns no signal, for an app that adds those that it wants.
    pub const fn none() -> Self {
        Self {
            undecryptable_messages: false,
            crypto_session: false,
            sessions: false,
            send_failures: false,
            key_upload_clashes: false,
            ..Self::all()
        }
    }

    /// Sets whether messages that cannot be decrypted are reported, as
    /// [`element::Error`](crate::element::Error).
    pub const fn undecryptable_messages(mut self, watch: bool) -> Self {
        self.undecryptable_messages = watch;
        self
    }

    /// Sets whether the states of verification and recovery are reported, as
    /// [`element::CryptoSessionState`](crate::element::CryptoSessionState).
    pub const fn crypto_session(mut self, watch: bool) -> Self {
        self.crypto_session = watch;
        self
    }

    /// Sets whether a soft logout is reported, as
    /// [`element::UnauthenticatedError`](crate::element::UnauthenticatedError), and the return of
    /// the session after it, as `SessionRenewed`.
    pub const fn sessions(mut self, watch: bool) -> Self {
        self.sessions = watch;
        self
    }

    /// Sets whether failures of the client's send queue are reported, as `SendFailure`.
    pub const fn send_failures(mut self, watch: bool) -> Self {
        self.send_failures = watch;
        self
    }

    /// Sets whether refusals of a one-time key, because the homeserver has another one of the same
    /// ID, are reported, as `KeyUploadClash`.
    pub const fn key_upload_clashes(mut self, watch: bool) -> Self {
        self.key_upload_clashes = watch;
        self
    }

    /// Sets the time within which a message can be decrypted without being reported; 4 s if not
    /// set. A time above the [`grace`](Self::grace) time leaves only permanent failures.
    pub const fn ignore_under(mut self, time: Duration) -> Self {
        self.timing.ignore_under = time;
        self
    }

    /// Sets the time after which a message that was not decrypted is reported as permanent; 60 s
    /// if not set, at most an hour. One that is decrypted before is reported as late.
    pub const fn grace(mut self, time: Duration) -> Self {
        self.timing.grace =
            if time.as_nanos() < LONGEST_GRACE.as_nanos() { time } else { LONGEST_GRACE };
        self
    }
}

impl Default for HealthSignals {
    /// Returns [`HealthSignals::all`].
    fn default() -> Self {
        Self::all()
    }
}
