//! A backend that keeps the events it receives.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use serde_json::{Map, Value};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    backend::{Backend, Batch, DeliveryError},
    event::{OutgoingEvent, Properties},
};

/// An event as received by a service.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a harness has to fill all of it: the suite would not check a field left out"
)]
pub struct ReceivedEvent {
    /// The name of the event.
    pub name: String,
    /// The unique ID of the event.
    pub uuid: Uuid,
    /// The identifier of the person under which the event was sent.
    pub distinct_id: String,
    /// When the event happened.
    pub time: SystemTime,
    /// The event's own properties and the super properties.
    pub properties: Map<String, Value>,
    /// User properties that replace existing ones.
    pub set: Map<String, Value>,
    /// User properties that do not replace existing ones.
    pub set_once: Map<String, Value>,
}

impl ReceivedEvent {
    /// Returns the event as a service receives it if the backend sends all of `event`
    /// under `distinct_id`.
    #[must_use]
    pub fn new(distinct_id: &str, event: &OutgoingEvent) -> Self {
        Self {
            name: event.name().to_owned(),
            uuid: event.uuid(),
            distinct_id: distinct_id.to_owned(),
            time: event.time(),
            properties: object(event.properties()),
            set: object(event.user_properties().values()),
            set_once: object(event.user_properties().initial_values()),
        }
    }
}

fn object(properties: &Properties) -> Map<String, Value> {
    properties.deserialize().unwrap_or_default()
}

/// A batch as received by a service.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReceivedBatch {
    /// The identifier of the person under which the batch was sent.
    pub distinct_id: String,
    /// The events, in the order of the batch.
    pub events: Vec<ReceivedEvent>,
}

impl From<&Batch> for ReceivedBatch {
    fn from(batch: &Batch) -> Self {
        let distinct_id = batch.distinct_id();
        Self {
            distinct_id: distinct_id.to_owned(),
            events: batch.events().map(|event| ReceivedEvent::new(distinct_id, event)).collect(),
        }
    }
}

/// A backend that accepts every batch and keeps it in memory.
///
/// Clones share their batches, so a test can keep one clone and hand over the other.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), matrix_analytics::DeliveryError> {
/// use matrix_analytics::{Backend, Properties, testing};
///
/// let backend = testing::RecordingBackend::new();
/// backend.send(&testing::batch("id", [testing::event("Opened", Properties::new())])).await?;
/// assert_eq!(backend.names(), ["Opened"]);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct RecordingBackend {
    log: Arc<Log>,
}

impl RecordingBackend {
    /// Creates a backend that has received nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the received batches, oldest first.
    #[must_use]
    pub fn batches(&self) -> Vec<ReceivedBatch> {
        self.log.batches().clone()
    }

    /// Returns the received events, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<ReceivedEvent> {
        self.log.batches().iter().flat_map(|batch| batch.events.clone()).collect()
    }

    /// Returns the names of the received events, oldest first.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.events().into_iter().map(|event| event.name).collect()
    }

    /// Returns the identifiers of the received batches, oldest first.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.batches().into_iter().map(|batch| batch.distinct_id).collect()
    }

    /// Discards everything received so far.
    pub fn clear(&self) {
        self.log.batches().clear();
    }

    /// Waits until at least `count` events have been received.
    ///
    /// # Cancel safety
    ///
    /// This method only waits. It can be dropped and called again.
    pub async fn wait_for(&self, count: usize) {
        let events = |batches: &[ReceivedBatch]| -> usize {
            batches.iter().map(|batch| batch.events.len()).sum()
        };
        self.log.wait_until(|batches| events(batches) >= count).await;
    }
}

impl Backend for RecordingBackend {
    fn name(&self) -> &'static str {
        "recording"
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        self.log.add(batch.into());
        Ok(())
    }
}

/// The batches that a test double has received.
#[derive(Debug, Default)]
pub(super) struct Log {
    batches: Mutex<Vec<ReceivedBatch>>,
    added: Notify,
}

impl Log {
    pub(super) fn batches(&self) -> MutexGuard<'_, Vec<ReceivedBatch>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, batch: ReceivedBatch) {
        self.batches().push(batch);
        self.added.notify_waiters();
    }

    async fn wait_until(&self, met: impl Fn(&[ReceivedBatch]) -> bool) {
        loop {
            // Create the future before the check, so that no event added after the check
            // is missed.
            let added = self.added.notified();
            if met(&self.batches()) {
                return;
            }
            added.await;
        }
    }
}
