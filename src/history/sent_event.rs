//! An entry of the history.

use std::{fmt, sync::Arc, time::SystemTime};

use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use crate::{
    event::{OutgoingEvent, unix_time},
    named::named,
};

/// An event that was sent to one recipient, as it left; an item of
/// [`Analytics::history`](crate::Analytics::history).
///
/// Serializes with its properties, but without the analytics ID. `Debug` shows neither.
#[derive(Clone)]
pub struct SentEvent {
    pub(crate) to: Arc<Addressee>,
    pub(crate) event: Arc<OutgoingEvent>,
    pub(crate) sent_at: SystemTime,
    pub(crate) outcome: SentOutcome,
}

/// The recipient of a sent event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Addressee {
    /// The unique name of the backend, which is stable across restarts.
    pub(crate) backend: String,
    /// The name that is shown.
    pub(crate) name: String,
}

/// The outcome of sending an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SentOutcome {
    /// The recipient confirmed that it has the event.
    Delivered,
    /// The request is in progress.
    InFlight,
    /// The recipient refused the event.
    Refused,
    /// There was no answer, the answer asks for another attempt, or the request was cut. The
    /// event may have arrived.
    Unconfirmed,
}

named!(SentOutcome {
    Delivered => "delivered",
    InFlight => "in_flight",
    Refused => "refused",
    Unconfirmed => "unconfirmed",
});

impl SentEvent {
    /// Returns the event, with its properties as they left.
    #[must_use]
    pub fn event(&self) -> &OutgoingEvent {
        &self.event
    }

    /// Returns the name of the recipient: the declared one, or that of the backend.
    #[must_use]
    pub fn recipient(&self) -> &str {
        &self.to.name
    }

    /// Returns when the last attempt to send the event began.
    #[must_use]
    pub fn sent_at(&self) -> SystemTime {
        self.sent_at
    }

    /// Returns the outcome of the last attempt.
    #[must_use]
    pub fn outcome(&self) -> SentOutcome {
        self.outcome
    }

    /// Returns the size of the event with the user properties that it carried, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let user = self.event.user_properties();
        self.event.bytes() + user.values().held_bytes() + user.initial_values().held_bytes()
    }

    /// Returns whether this was sent to `addressee`. After a restart, another recipient may have
    /// the number of this one's backend.
    pub(super) fn is_to(&self, addressee: &Addressee) -> bool {
        self.to.backend == addressee.backend && self.to.name == addressee.name
    }
}

impl fmt::Debug for SentEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentEvent")
            .field("recipient", &self.to.name)
            .field("event", &self.event)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

impl Serialize for SentEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("SentEvent", 9)?;
        object.serialize_field("recipient", self.recipient())?;
        object.serialize_field("sent_at", &unix_time::rfc3339(self.sent_at))?;
        object.serialize_field("outcome", &self.outcome)?;
        object.serialize_field("event", self.event.name())?;
        object.serialize_field("uuid", &self.event.uuid().hyphenated().to_string())?;
        object.serialize_field("timestamp", &self.event.rfc3339_time())?;
        object.serialize_field("properties", self.event.properties())?;
        object.serialize_field("set", self.event.user_properties().values())?;
        object.serialize_field("set_once", self.event.user_properties().initial_values())?;
        object.end()
    }
}
