//! The state of this device's encryption, without its repetitions and intermediate states.
//!
//! matrix-sdk repeats equal states, and passes through others for a moment while encryption is
//! set up: a state counts once it has lasted.

use std::time::Duration;

use matrix_sdk::encryption::{VerificationState, recovery::RecoveryState};
use tokio::time::Instant;

use crate::element;

/// The time for which a state must last. Set-up passes through others in up to half a second.
pub(crate) const SETTLE: Duration = Duration::from_secs(5);

type State = (element::VerificationState, element::RecoveryState);

/// The state of verification and of recovery.
#[derive(Debug, Default)]
pub(crate) struct CryptoSession {
    verification: Option<element::VerificationState>,
    recovery: Option<element::RecoveryState>,
    /// The time at which the state has lasted, if it was not reported before.
    due: Option<Instant>,
    reported: Option<State>,
    epoch: u64,
}

impl CryptoSession {
    /// Handles that the gate opened in `epoch`. A state is reported once in each epoch.
    pub(crate) fn handle_open(&mut self, epoch: u64) {
        let reported = self.reported.filter(|_| self.epoch == epoch);
        *self = Self { reported, epoch, ..Self::default() };
    }

    pub(crate) fn handle_verification(&mut self, now: Instant, state: VerificationState) {
        let before = self.state();
        self.verification = match state {
            VerificationState::Unknown => None,
            VerificationState::Verified => Some(element::VerificationState::Verified),
            VerificationState::Unverified => Some(element::VerificationState::NotVerified),
        };
        self.changed(now, before);
    }

    pub(crate) fn handle_recovery(&mut self, now: Instant, state: RecoveryState) {
        let before = self.state();
        self.recovery = match state {
            RecoveryState::Unknown => None,
            RecoveryState::Enabled => Some(element::RecoveryState::Enabled),
            RecoveryState::Disabled => Some(element::RecoveryState::Disabled),
            RecoveryState::Incomplete => Some(element::RecoveryState::Incomplete),
        };
        self.changed(now, before);
    }

    /// Returns the state that is to be reported now, if any.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<State> {
        self.due.take_if(|due| *due <= now)?;
        self.reported = self.state();
        self.reported
    }

    /// Returns the time of the next call of [`Self::poll`], if there is something to wait for.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Returns the state, once both parts are known.
    fn state(&self) -> Option<State> {
        self.verification.zip(self.recovery)
    }

    fn changed(&mut self, now: Instant, before: Option<State>) {
        let state = self.state();
        if state != before {
            let is_new = state.is_some() && state != self.reported;
            self.due = is_new.then(|| now + SETTLE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The state machine, and a clock that only the test moves.
    struct Watched {
        inner: CryptoSession,
        start: Instant,
    }

    impl Watched {
        fn new() -> Self {
            let mut inner = CryptoSession::default();
            inner.handle_open(1);
            Self { inner, start: Instant::now() }
        }

        fn at(&self, millis: u64) -> Instant {
            self.start + Duration::from_millis(millis)
        }

        fn verification(&mut self, millis: u64, state: VerificationState) {
            self.inner.handle_verification(self.at(millis), state);
        }

        fn recovery(&mut self, millis: u64, state: RecoveryState) {
            self.inner.handle_recovery(self.at(millis), state);
        }

        fn poll(&mut self, millis: u64) -> Option<State> {
            self.inner.poll(self.at(millis))
        }
    }

    const GOOD: State = (element::VerificationState::Verified, element::RecoveryState::Enabled);

    #[test]
    fn nothing_is_reported_until_both_parts_are_known() {
        let mut watched = Watched::new();
        watched.verification(0, VerificationState::Verified);
        watched.recovery(0, RecoveryState::Unknown);
        assert_eq!((watched.inner.deadline(), watched.poll(60_000)), (None, None));
        watched.recovery(60_000, RecoveryState::Enabled);
        assert_eq!(watched.inner.deadline(), Some(watched.at(65_000)));
        assert_eq!((watched.poll(64_999), watched.poll(65_000)), (None, Some(GOOD)));
    }

    #[test]
    fn a_state_that_lasts_only_a_moment_is_not_reported() {
        let mut watched = Watched::new();
        watched.verification(0, VerificationState::Unverified);
        watched.recovery(0, RecoveryState::Disabled);
        watched.verification(400, VerificationState::Verified);
        watched.recovery(500, RecoveryState::Enabled);
        assert_eq!((watched.poll(5_499), watched.poll(5_500)), (None, Some(GOOD)));
    }

    #[test]
    fn an_equal_state_neither_delays_a_report_nor_repeats_it() {
        let mut watched = Watched::new();
        watched.verification(0, VerificationState::Verified);
        watched.recovery(0, RecoveryState::Enabled);
        watched.recovery(4_000, RecoveryState::Enabled);
        assert_eq!(watched.poll(5_000), Some(GOOD));
        watched.verification(6_000, VerificationState::Verified);
        assert_eq!((watched.inner.deadline(), watched.poll(60_000)), (None, None));
    }

    #[test]
    fn a_state_that_changes_back_before_its_report_is_not_reported_again() {
        let mut watched = Watched::new();
        watched.verification(0, VerificationState::Verified);
        watched.recovery(0, RecoveryState::Enabled);
        assert_eq!(watched.poll(5_000), Some(GOOD));
        watched.recovery(10_000, RecoveryState::Incomplete);
        watched.recovery(11_000, RecoveryState::Enabled);
        assert_eq!((watched.inner.deadline(), watched.poll(60_000)), (None, None));
        watched.recovery(70_000, RecoveryState::Incomplete);
        let worse = (element::VerificationState::Verified, element::RecoveryState::Incomplete);
        assert_eq!(watched.poll(75_000), Some(worse));
    }

    #[test]
    fn a_state_is_reported_again_in_another_epoch_only() {
        for (epoch, reported) in [(1, None), (2, Some(GOOD))] {
            let mut watched = Watched::new();
            watched.verification(0, VerificationState::Verified);
            watched.recovery(0, RecoveryState::Enabled);
            assert_eq!(watched.poll(5_000), Some(GOOD));
            watched.inner.handle_open(epoch);
            watched.verification(6_000, VerificationState::Verified);
            watched.recovery(6_000, RecoveryState::Enabled);
            assert_eq!(watched.poll(60_000), reported, "{epoch}");
        }
    }
}
