//! Properties of the person behind the analytics ID.

use super::Properties;

/// Properties of the person behind the analytics ID, as a backend stores them.
#[derive(Clone, Debug, Default)]
pub struct UserProperties {
    pub(crate) set: Properties,
    pub(crate) set_once: Properties,
}

impl UserProperties {
    pub(super) const fn none() -> Self {
        Self { set: Properties::none(), set_once: Properties::none() }
    }

    /// Properties that replace what the backend has.
    #[must_use]
    pub fn set(&self) -> &Properties {
        &self.set
    }

    /// Properties that the backend takes only if it has none of that name.
    #[must_use]
    pub fn set_once(&self) -> &Properties {
        &self.set_once
    }

    /// Whether there is nothing to say about the person.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.set_once.is_empty()
    }
}
