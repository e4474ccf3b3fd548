//! Consent, without I/O: what the user said, whether that is proven, and what follows.

pub(crate) mod content;
pub(crate) mod machine;
pub(crate) mod record;
pub(crate) mod state;
pub(crate) mod switch;
