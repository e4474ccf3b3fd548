//! An event in the intake.

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use super::Properties;

/// What `capture` puts into the intake.
pub(crate) struct CapturedEvent {
    pub(crate) name: Cow<'static, str>,
    pub(crate) properties: Properties,
    /// The super properties at the time of capture.
    pub(crate) super_properties: Option<Arc<Properties>>,
    pub(crate) at: SystemTime,
    pub(crate) epoch: u64,
}

impl CapturedEvent {
    /// Returns what the limits count for this event, from here until it is delivered.
    ///
    /// What the super properties add is known only when they are merged, so all of them
    /// count: an event that had room in the intake must not be too much for a queue of
    /// the same size.
    pub(crate) fn bytes(&self) -> usize {
        let super_bytes = self.super_properties.as_ref().map_or(0, |shared| shared.held_bytes());
        counted_bytes(&self.name, self.properties.held_bytes() + super_bytes)
    }
}

/// What the limits count for an event: its name, its properties, and 160 bytes for what is
/// around them in memory and in a request.
pub(super) fn counted_bytes(name: &str, property_bytes: usize) -> usize {
    const ENVELOPE: usize = 160;

    ENVELOPE + name.len() + property_bytes
}
