//! The events that were really sent, for the user to look at.

pub(crate) mod recorded;

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use futures_util::{Stream, StreamExt as _, stream};
use serde::{Serialize, Serializer, ser::SerializeStruct as _};
use tokio::sync::watch;
use tracing::warn;
use uuid::Uuid;

use crate::{
    backend::Batch,
    event::{OutgoingEvent, unix_time},
    named::named,
};

/// An event that was sent to one recipient, as it left; an item of
/// [`Analytics::history`](crate::Analytics::history).
///
/// Serializes with its properties, but without the analytics ID. `Debug` shows neither.
#[derive(Clone)]
pub struct SentEvent {
    recipient: Arc<str>,
    event: Arc<OutgoingEvent>,
    sent_at: SystemTime,
    outcome: SentOutcome,
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
        &self.recipient
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

    fn is(&self, recipient: &str, uuid: Uuid) -> bool {
        self.event.uuid == uuid && *self.recipient == *recipient
    }
}

impl fmt::Debug for SentEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentEvent")
            .field("recipient", &self.recipient)
            .field("event", &self.event)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

impl Serialize for SentEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("SentEvent", 9)?;
        object.serialize_field("recipient", &*self.recipient)?;
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

/// The newest sent events of one session.
pub(crate) struct History {
    entries: Mutex<Entries>,
    /// Counts the changes.
    changes: watch::Sender<u64>,
}

struct Entries {
    list: VecDeque<SentEvent>,
    most: usize,
    /// Events of earlier epochs were withdrawn.
    epoch: u64,
    readers_must_wake: bool,
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").finish_non_exhaustive()
    }
}

impl History {
    /// Creates a history of at most `most` events.
    pub(crate) fn new(most: usize) -> Self {
        let entries = Entries { list: VecDeque::new(), most, epoch: 0, readers_must_wake: false };
        Self { entries: Mutex::new(entries), changes: watch::Sender::new(0) }
    }

    /// Forgets all events, and takes none of an epoch before `epoch`. The caller wakes the
    /// readers once it holds no lock.
    pub(crate) fn wipe(&self, epoch: u64) {
        let mut entries = self.entries();
        entries.list = VecDeque::new();
        entries.epoch = epoch;
        entries.readers_must_wake = true;
    }

    /// Wakes the readers if there was a wipe.
    pub(crate) fn wake_after_wipe(&self) {
        if std::mem::take(&mut self.entries().readers_must_wake) {
            self.changed();
        }
    }

    /// Returns the events, oldest first.
    pub(crate) fn events(&self) -> Vec<SentEvent> {
        self.entries().list.iter().cloned().collect()
    }

    /// Adds the events of `batch`, in place of earlier attempts to send them.
    fn begin(&self, recipient: &Arc<str>, batch: &Batch) {
        {
            let mut entries = self.entries();
            for event in batch.shared_events() {
                if event.epoch < entries.epoch {
                    continue;
                }
                entries.list.retain(|earlier| !earlier.is(recipient, event.uuid));
                entries.list.push_back(SentEvent {
                    recipient: recipient.clone(),
                    event: event.clone(),
                    sent_at: SystemTime::now(),
                    outcome: SentOutcome::InFlight,
                });
                if entries.list.len() > entries.most {
                    entries.list.pop_front();
                }
            }
        }
        self.changed();
    }

    /// Sets the outcome of the events of `batch`.
    fn end(&self, recipient: &str, batch: &Batch, outcome: SentOutcome) {
        {
            let mut entries = self.entries();
            for event in batch.events() {
                if let Some(entry) = entries.list.iter_mut().find(|e| e.is(recipient, event.uuid)) {
                    entry.outcome = outcome;
                }
            }
        }
        self.changed();
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the readers, whose wakers are code of the app. No lock is held.
    fn changed(&self) {
        let wake = AssertUnwindSafe(|| self.changes.send_modify(|number| *number += 1));
        if catch_unwind(wake).is_err() {
            warn!("a reader of the history panicked when it was woken");
        }
    }
}

/// Returns a stream of the history now and after each change, until `history` is dropped. A slow
/// reader sees the newest.
pub(crate) fn stream(
    history: Option<&Arc<History>>,
) -> impl Stream<Item = Vec<SentEvent>> + Send + Unpin + use<> {
    let reader = history.map(|history| {
        let mut changes = history.changes.subscribe();
        changes.mark_changed();
        (Arc::downgrade(history), changes)
    });
    let lists = stream::unfold(reader, |reader| async move {
        let (history, mut changes) = reader?;
        changes.changed().await.ok()?;
        let events = history.upgrade()?.events();
        Some((events, Some((history, changes))))
    });
    Box::pin(lists.fuse())
}
