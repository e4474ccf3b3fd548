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
    /// What the event takes in memory, in bytes, roughly.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.name.len() + self.properties.held_bytes()
    }
}
