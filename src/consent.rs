//! Consent, without I/O: the user's decision, its proof, and the state of the gate.

pub(crate) mod content;
pub(crate) mod hex;
pub(crate) mod machine;
pub(crate) mod policy;
pub(crate) mod record;
pub(crate) mod state;
pub(crate) mod switch;
