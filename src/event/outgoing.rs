//! An event on its way to a backend.

use std::{borrow::Cow, fmt, time::SystemTime};

use uuid::Uuid;

use super::{Properties, UserProperties, captured::counted_bytes, unix_time};

/// An event on its way to a backend: name, time, unique ID and properties.
///
/// The analytics ID is not part of it: the [`Batch`](crate::Batch) has it, for
/// an event is stamped when it leaves.
#[derive(Clone)]
pub struct OutgoingEvent {
    pub(crate) uuid: Uuid,
    pub(crate) name: Cow<'static, str>,
    pub(crate) at: SystemTime,
    pub(crate) properties: Properties,
    /// Few events have any.
    pub(crate) user: Option<Box<UserProperties>>,
    pub(crate) epoch: u64,
}

/// Prints the unique ID only: names and properties may be personal.
impl fmt::Debug for OutgoingEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingEvent").field("uuid", &self.uuid).finish_non_exhaustive()
    }
}

impl OutgoingEvent {
    /// The unique ID of this event, the same on every try.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// The name of the event.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When the event happened, by this device's clock: when it was captured, or what
    /// [`Analytics::capture_at`](crate::Analytics::capture_at) was given.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        self.at
    }

    /// [`OutgoingEvent::time`] in the form of RFC 3339, in UTC.
    #[must_use]
    pub fn rfc3339_time(&self) -> String {
        unix_time::rfc3339(self.at)
    }

    /// The event's properties, with the super properties.
    #[must_use]
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// What this event says about the person, rather than about itself.
    #[must_use]
    pub fn user_properties(&self) -> &UserProperties {
        const NONE: &UserProperties = &UserProperties::none();

        self.user.as_deref().unwrap_or(NONE)
    }

    /// Returns what the limits count for this event if it was not captured by this
    /// process; else [`CapturedEvent::bytes`](super::CapturedEvent::bytes) counts.
    pub(crate) fn bytes(&self) -> usize {
        counted_bytes(&self.name, self.properties.held_bytes())
    }

    #[cfg(feature = "testing")]
    pub(crate) fn for_testing(name: &str, properties: Properties, at: SystemTime) -> Self {
        Self {
            uuid: Uuid::new_v4(),
            name: Cow::Owned(name.to_owned()),
            at,
            properties: properties.without_repeats(),
            user: None,
            epoch: 0,
        }
    }
}
