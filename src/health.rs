//! Signals of a client about its encryption and its session, as events.
//!
//! ```text
//!               while the gate is open, in one epoch
//! client ── signals ─▶ task ─▶ pure state machines ─▶ task ── capture ─▶ sink
//! ```
//!
//! Each state machine takes signals and the time, and says what to report and when to ask again.
//! The task subscribes to the signals when the gate opens, and forgets everything when it closes.

mod capture;
mod cause;
mod crypto_session;
pub(crate) mod current;
mod events;
mod messages;
mod open;
pub(crate) mod progress;
mod redecryption;
mod seen;
mod send_failure;
mod session;
pub(crate) mod signals;
pub(crate) mod state;
pub(crate) mod stats;
pub(crate) mod task;
mod undecryptable;
