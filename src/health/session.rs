//! Whether the session was lost and came back.
//!
//! Only a soft logout is reported. If the homeserver ends the session for good, the consent of
//! this session ends with it, and all events are wiped.

/// The losses of the session in one epoch.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// The epoch in which the session was lost, until it comes back.
    lost_in: Option<u64>,
}

impl Session {
    /// Handles a soft logout in `epoch`. Returns whether it is to be reported: each request
    /// that fails announces it again.
    pub(crate) fn handle_soft_logout(&mut self, epoch: u64) -> bool {
        self.lost_in.replace(epoch) != Some(epoch)
    }

    /// Handles that the gate opened in `epoch`, for which the session must work. Returns whether
    /// it was lost in this epoch.
    pub(crate) fn handle_open(&mut self, epoch: u64) -> bool {
        self.lost_in.take() == Some(epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_reported_once_until_the_session_comes_back() {
        let mut session = Session::default();
        assert!(!session.handle_open(1));
        assert!(session.handle_soft_logout(1));
        assert!(!session.handle_soft_logout(1) && !session.handle_soft_logout(1));
        assert!(session.handle_open(1));
        assert!(!session.handle_open(1));
        assert!(session.handle_soft_logout(1));
    }

    #[test]
    fn a_loss_in_one_epoch_is_not_reported_as_renewed_in_another() {
        let mut session = Session::default();
        assert!(session.handle_soft_logout(1));
        assert!(!session.handle_open(2));
    }
}
