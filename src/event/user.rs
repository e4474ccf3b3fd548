//! Properties of the person behind the analytics ID.

use super::{InvalidEvent, Properties};

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

    /// Adds what was said later: the last value of a property counts, and the first of
    /// one that is set once.
    pub(crate) fn add(&mut self, newer: &Self) {
        self.set = newer.set.over(&self.set);
        self.set_once = self.set_once.over(&newer.set_once);
    }

    /// Removes what `sent` has with the same value: another was said since.
    pub(crate) fn remove(&mut self, sent: &Self) {
        self.set = self.set.without_same(&sent.set);
        self.set_once = self.set_once.without_same(&sent.set_once);
    }

    pub(crate) fn check(&self) -> Result<(), InvalidEvent> {
        self.set.check()?;
        self.set_once.check()
    }

    /// Whether there is nothing to say about the person.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.set_once.is_empty()
    }
}

/// What was said about the user in one epoch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    pub(crate) user: UserProperties,
    pub(crate) epoch: u64,
}
