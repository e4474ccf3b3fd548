//! Properties of the person behind the analytics ID.

use std::borrow::Cow;

use super::{InvalidEvent, Properties, PropertyValue};

/// Properties of the person behind the analytics ID, as a backend stores them.
///
/// ```
/// use matrix_analytics::UserProperties;
///
/// let user = UserProperties::new().set("theme", "dark").set_once("first_version", "1.4");
/// assert!(user.check().is_ok());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserProperties {
    pub(crate) set: Properties,
    pub(crate) set_once: Properties,
}

impl UserProperties {
    /// Creates an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::none()
    }

    pub(super) const fn none() -> Self {
        Self { set: Properties::none(), set_once: Properties::none() }
    }

    /// Adds a property that replaces the value which the backend has.
    #[must_use]
    pub fn set(
        mut self,
        key: impl Into<Cow<'static, str>>,
        value: impl Into<PropertyValue>,
    ) -> Self {
        self.set.insert(key, value);
        self
    }

    /// Adds a property that the backend takes only if it has none with that key.
    #[must_use]
    pub fn set_once(
        mut self,
        key: impl Into<Cow<'static, str>>,
        value: impl Into<PropertyValue>,
    ) -> Self {
        self.set_once.insert(key, value);
        self
    }

    /// Returns the properties that replace the values which the backend has.
    #[must_use]
    pub fn values(&self) -> &Properties {
        &self.set
    }

    /// Returns the properties that the backend takes only if it has none with their keys.
    #[must_use]
    pub fn initial_values(&self) -> &Properties {
        &self.set_once
    }

    /// Adds newer properties. For `set`, the newer value wins; for `set_once`, the older one.
    pub(crate) fn add(&mut self, newer: &Self) {
        self.set = newer.set.over(&self.set);
        self.set_once = self.set_once.over(&newer.set_once);
    }

    /// Removes the properties that `sent` has with the same value. A property with another
    /// value was set again since.
    pub(crate) fn remove(&mut self, sent: &Self) {
        self.set = self.set.without_same(&sent.set);
        self.set_once = self.set_once.without_same(&sent.set_once);
    }

    /// Finds what would keep these properties from being sent.
    ///
    /// # Errors
    ///
    /// [`InvalidEvent`]: the first thing that is wrong.
    pub fn check(&self) -> Result<(), InvalidEvent> {
        self.set.check()?;
        self.set_once.check()
    }

    /// Returns whether there are no properties.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.set_once.is_empty()
    }
}

/// Sets each of the properties; none only once.
impl From<Properties> for UserProperties {
    fn from(set: Properties) -> Self {
        Self { set, ..Self::default() }
    }
}

/// Sets each of the properties; none only once.
impl<K: Into<Cow<'static, str>>, V: Into<PropertyValue>, const N: usize> From<[(K, V); N]>
    for UserProperties
{
    fn from(set: [(K, V); N]) -> Self {
        Properties::from(set).into()
    }
}

/// The user properties that the app set in one epoch.
#[derive(Clone, Debug, Default)]
pub(crate) struct UserUpdate {
    pub(crate) user: UserProperties,
    pub(crate) epoch: u64,
}
