//! An event in the intake.

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use super::Properties;

/// A captured event on its way to the background task.
pub(crate) struct CapturedEvent {
    pub(crate) name: Cow<'static, str>,
    pub(crate) properties: Properties,
    /// The super properties at the time of capture.
    pub(crate) super_properties: Option<Arc<Properties>>,
    pub(crate) at: SystemTime,
    pub(crate) epoch: u64,
}

impl CapturedEvent {
    /// Returns the size of this event for the limits, which apply until it is delivered.
    ///
    /// All super properties count, because the part that they add is known only when they
    /// are merged. Otherwise an event that fits into the intake could be too large for a
    /// queue of the same size.
    pub(crate) fn bytes(&self) -> usize {
        let super_bytes = self.super_properties.as_ref().map_or(0, |shared| shared.held_bytes());
        counted_bytes(&self.name, self.properties.held_bytes() + super_bytes)
    }
}

/// Returns the size of an event for the limits: its name, its properties, and 160 bytes
/// of overhead in memory and in a request.
pub(crate) fn counted_bytes(name: &str, property_bytes: usize) -> usize {
    const ENVELOPE: usize = 160;

    ENVELOPE + name.len() + property_bytes
}
