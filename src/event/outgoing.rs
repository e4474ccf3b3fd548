//! An event on its way to a backend.

use std::{borrow::Cow, fmt, time::SystemTime};

use uuid::Uuid;

use super::{Process, Properties, UserProperties, captured::counted_bytes, unix_time};

/// An event on its way to a backend: name, time, unique ID and properties.
///
/// The identifier of the person is part of the [`Batch`](crate::Batch) instead, because it is
/// assigned at the time of sending.
#[derive(Clone, PartialEq)]
pub struct OutgoingEvent {
    pub(crate) uuid: Uuid,
    pub(crate) name: Cow<'static, str>,
    pub(crate) at: SystemTime,
    pub(crate) properties: Properties,
    /// Boxed because few events have user properties.
    pub(crate) user: Option<Box<UserProperties>>,
    pub(crate) epoch: u64,
    /// The process that captured the event.
    pub(crate) process: Process,
}

/// Prints only the unique ID, because names and properties can be personal.
impl fmt::Debug for OutgoingEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingEvent").field("uuid", &self.uuid).finish_non_exhaustive()
    }
}

impl OutgoingEvent {
    /// Returns the unique ID of this event. It is the same on every attempt.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Returns the name of the event.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns when the event happened, by this device's clock: the time of capture, or
    /// the time given to [`Analytics::capture_at`](crate::Analytics::capture_at).
    #[must_use]
    pub fn time(&self) -> SystemTime {
        self.at
    }

    /// Returns [`OutgoingEvent::time`] in RFC 3339 format, in UTC.
    #[must_use]
    pub fn rfc3339_time(&self) -> String {
        unix_time::rfc3339(self.at)
    }

    /// Returns the event's properties, including the super properties.
    #[must_use]
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// Returns the user properties: what this event says about the person rather than
    /// about itself.
    #[must_use]
    pub fn user_properties(&self) -> &UserProperties {
        const NONE: &UserProperties = &UserProperties::none();

        self.user.as_deref().unwrap_or(NONE)
    }

    /// Returns the size for the limits of an event that was restored. Events captured by
    /// this process use [`CapturedEvent::bytes`](super::CapturedEvent::bytes).
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
            process: Process::random(),
        }
    }
}
