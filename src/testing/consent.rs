//! States of consent, as an app would observe them.

use crate::consent::state::{Consent, ConsentState, GateState};

/// A state to test a settings page with, without a homeserver: confirmed, and with
/// nothing left to remove. Both fields can be set after.
///
/// Nothing keeps a test from making a state that never comes about, such as a no with an
/// open gate.
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
    ConsentState { decision, confirmed: true, gate, removal_pending: false }
}
