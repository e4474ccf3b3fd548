//! The promises that a protocol makes impossible.

use std::time::Duration;

/// A promise that the protocol of a service makes impossible.
///
/// The suite checks the opposite of the promise instead. A backend that could keep the promise,
/// or breaks it in another way than it declares, fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limitation {
    /// The service refuses an event of at least this age. The backend does not send such an
    /// event, and reports it as [`PartialDelivery::expired`](crate::PartialDelivery::expired).
    /// The other events of its batch arrive.
    NoEventOlderThan(Duration),
    /// The time of an event has no fraction of a second. It is cut off.
    NoFractionOfSecond,
    /// Most failures are final, because the protocol forbids a second attempt. The backend reports
    /// them as [`Refused`](super::DeliveryFailure::Refused), of which
    /// [`Promises::modes`](super::Promises::modes) has at least one. Without this limitation, a
    /// backend reports no failure in this way.
    NoSecondAttempt,
    /// The service cannot recognise an event that it has received already.
    /// [`ReceivedEvent::uuid`](super::ReceivedEvent::uuid) is nil.
    NoUniqueId,
    /// User properties are not sent.
    /// [`Backend::carries_user_properties`](crate::Backend::carries_user_properties) returns
    /// `false` for every event.
    NoUserProperties,
    /// The service takes only the properties with these keys, each of them as a text. An array is
    /// not sent.
    OnlyTexts {
        /// The keys of the properties of an event.
        properties: &'static [&'static str],
        /// The keys of user properties.
        user_properties: &'static [&'static str],
    },
}

impl Limitation {
    /// Returns the age from which the service refuses an event.
    pub(super) fn age(self) -> Option<Duration> {
        match self {
            Self::NoEventOlderThan(age) => Some(age),
            _ => None,
        }
    }
}
