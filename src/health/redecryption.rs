//! Whether the event cache of the app decrypts messages whose keys come late.
//!
//! If the app calls `Client::event_cache().subscribe()` before it logs in, the task that does
//! this ends at once, and nothing in matrix-sdk says so (0.18 and 0.19,
//! `event_cache/redecryptor.rs`). It shows when a key arrives: the event cache says nothing.

use std::time::Duration;

use tokio::time::Instant;

/// The time that the event cache has for its report. It takes about 20 ms.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// The evidence about the event cache.
#[derive(Debug, Default)]
pub(crate) struct Redecryption {
    works: bool,
    /// The time until which a report must have come.
    expected_until: Option<Instant>,
    pub(crate) is_stalled: bool,
}

impl Redecryption {
    /// Handles any report of the event cache.
    pub(crate) fn handle_report(&mut self) {
        *self = Self { works: true, expected_until: None, is_stalled: false };
    }

    /// Handles that a message was decrypted which the event cache has, and has not reported.
    pub(crate) fn handle_unreported(&mut self, now: Instant) {
        if !self.works && !self.is_stalled {
            self.expected_until.get_or_insert(now + PATIENCE);
        }
    }

    /// Handles that reports cannot be received any more.
    pub(crate) fn expect_nothing(&mut self) {
        self.expected_until = None;
    }

    /// Returns whether it has just become clear that the event cache does not decrypt.
    pub(crate) fn poll(&mut self, now: Instant) -> bool {
        let is_over = self.expected_until.take_if(|until| *until <= now).is_some();
        self.is_stalled |= is_over;
        is_over
    }

    /// Returns the time of the next call of [`Self::poll`], if there is something to wait for.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.expected_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_cache_that_stays_silent_is_stalled_and_that_is_said_once() {
        let (mut redecryption, now) = (Redecryption::default(), Instant::now());
        redecryption.handle_unreported(now);
        redecryption.handle_unreported(now + PATIENCE / 2);
        assert_eq!(redecryption.deadline(), Some(now + PATIENCE));
        assert!(!redecryption.poll(now + PATIENCE - Duration::from_millis(1)));
        assert!(redecryption.poll(now + PATIENCE) && redecryption.is_stalled);
        redecryption.handle_unreported(now + 2 * PATIENCE);
        assert_eq!(redecryption.deadline(), None);
        assert!(!redecryption.poll(now + 4 * PATIENCE) && redecryption.is_stalled);
    }

    #[test]
    fn a_report_that_cannot_be_received_is_not_missed() {
        let (mut redecryption, now) = (Redecryption::default(), Instant::now());
        redecryption.handle_unreported(now);
        redecryption.expect_nothing();
        assert!(!redecryption.poll(now + 2 * PATIENCE) && !redecryption.is_stalled);
    }

    #[test]
    fn one_report_shows_that_the_event_cache_works() {
        let (mut redecryption, now) = (Redecryption::default(), Instant::now());
        redecryption.handle_unreported(now);
        redecryption.handle_report();
        redecryption.handle_unreported(now);
        assert_eq!(redecryption.deadline(), None);
        assert!(!redecryption.poll(now + PATIENCE) && !redecryption.is_stalled);
    }
}
