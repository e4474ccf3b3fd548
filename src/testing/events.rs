//! Events and batches as a backend receives them.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    backend::{Batch, Identity},
    event::{OutgoingEvent, Properties, UserProperties},
};

/// Creates an event as a backend receives it, with a new unique ID, captured on 31
/// January 2026 at 12:00:00.25 UTC.
#[must_use]
pub fn event(name: &str, properties: Properties) -> OutgoingEvent {
    event_at(name, properties, SystemTime::UNIX_EPOCH + Duration::from_millis(1_769_860_800_250))
}

/// Creates an event as a backend receives it, with a new unique ID.
#[must_use]
pub fn event_at(name: &str, properties: Properties, time: SystemTime) -> OutgoingEvent {
    OutgoingEvent::for_testing(name, properties, time)
}

/// Adds the user properties `set` and `set_once` to `event`.
#[must_use]
pub fn with_user_properties(
    event: OutgoingEvent,
    set: Properties,
    set_once: Properties,
) -> OutgoingEvent {
    OutgoingEvent { user: Some(Box::new(UserProperties { set, set_once })), ..event }
}

/// Creates a batch as a backend receives it, under the analytics ID `id`.
///
/// ```
/// use matrix_analytics::{Properties, testing};
///
/// let event = testing::event("RoomJoined", Properties::new().with("trigger", "Invite"));
/// let batch = testing::batch("9f1c2d7e-0d5e-4c9b-8a53-b6f1d1f1a0aa", [event]);
/// assert_eq!(batch.len(), 1);
/// ```
///
/// # Panics
///
/// Panics if there is no event, because a batch is never empty.
#[must_use]
pub fn batch(id: &str, events: impl IntoIterator<Item = OutgoingEvent>) -> Batch {
    let events: Vec<_> = events.into_iter().map(Arc::new).collect();
    assert!(!events.is_empty(), "a batch is never empty");
    Batch::new(Identity::Account, id.to_owned(), events)
}
