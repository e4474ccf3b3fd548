//! Events and batches for the unit tests of backends.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use uuid::{Uuid, uuid};

use super::{Batch, Identity};
use crate::event::{OutgoingEvent, Process, Properties, UserProperties};

pub(super) const ID: &str = "9f1c2d7e-0d5e-4c9b-8a53-b6f1d1f1a0aa";
pub(super) const UNIQUE_ID: Uuid = uuid!("0b42f1a5-6f0c-4a38-9a1d-3c1f1b9f6d0e");

/// Returns 31 January 2026 at 12:00:00.25 UTC.
pub(super) fn noon() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_769_860_800_250)
}

pub(super) fn event(name: &'static str, properties: Properties) -> OutgoingEvent {
    OutgoingEvent {
        uuid: UNIQUE_ID,
        name: name.into(),
        at: noon(),
        properties: properties.without_repeats(),
        user: None,
        epoch: 0,
        process: Process::random(),
    }
}

pub(super) fn with_user(
    event: OutgoingEvent,
    set: Properties,
    set_once: Properties,
) -> OutgoingEvent {
    OutgoingEvent { user: Some(Box::new(UserProperties { set, set_once })), ..event }
}

pub(super) fn batch(events: impl IntoIterator<Item = OutgoingEvent>) -> Batch {
    let events = events.into_iter().map(Arc::new).collect();
    Batch::new(Identity::Account, ID.to_owned(), events)
}
