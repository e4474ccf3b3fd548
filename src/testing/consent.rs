//! Consent states, as an app observes them.

use crate::consent::state::{Consent, ConsentState, GateState};

/// Creates a state for tests of a settings page, without a homeserver. The state is
/// confirmed, and neither a removal nor an erasure is pending; these fields can be changed
/// afterwards.
///
/// The function does not reject impossible states, such as a denied decision with an open
/// gate.
///
/// ```
/// use matrix_analytics::{ClosedReason, Consent, GateState, Prompt, testing};
///
/// let mut state =
///     testing::consent_state(Consent::Denied, GateState::Closed(ClosedReason::Denied));
/// state.removal_pending = true;
/// assert_eq!(state.prompt(), Prompt::DontAsk);
/// ```
#[must_use]
pub fn consent_state(decision: Consent, gate: GateState) -> ConsentState {
    ConsentState {
        decision,
        confirmed: true,
        gate,
        removal_pending: false,
        erasures_pending: false,
    }
}
