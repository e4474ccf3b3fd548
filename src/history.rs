//! The events that were really sent, for the user to look at.

pub(crate) mod recorded;

use std::{
    collections::{HashMap, HashSet, VecDeque},
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

    /// Returns the size of the event with the user properties that it carried, in bytes.
    fn bytes(&self) -> usize {
        let user = self.event.user_properties();
        self.event.bytes() + user.values().held_bytes() + user.initial_values().held_bytes()
    }

    /// Returns whether this was sent to `recipient`. Two recipients may have one name.
    fn is_to(&self, recipient: &Arc<str>) -> bool {
        Arc::ptr_eq(&self.recipient, recipient)
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

/// The largest size of a history, in bytes.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// The newest sent events of one session.
pub(crate) struct History {
    entries: Mutex<Entries>,
    /// Counts the changes.
    changes: watch::Sender<u64>,
}

struct Entries {
    list: VecDeque<SentEvent>,
    /// The size of the events in `list`, each of which counts for each recipient.
    bytes: usize,
    most: usize,
    /// Events of earlier epochs were withdrawn.
    epoch: u64,
    readers_must_wake: bool,
}

impl Entries {
    /// Removes the entries of the events of `batch`, and returns their events.
    fn remove(&mut self, recipient: &Arc<str>, batch: &Batch) -> HashMap<Uuid, Arc<OutgoingEvent>> {
        let sent: HashSet<_> = batch.events().map(|event| event.uuid).collect();
        let mut removed = HashMap::new();
        self.list.retain(|entry| {
            let is_kept = !entry.is_to(recipient) || !sent.contains(&entry.event.uuid);
            if !is_kept {
                self.bytes -= entry.bytes();
                removed.insert(entry.event.uuid, entry.event.clone());
            }
            is_kept
        });
        removed
    }

    /// Adds an entry. Removes the oldest ones that have no room any more.
    fn push(&mut self, entry: SentEvent) {
        self.bytes += entry.bytes();
        self.list.push_back(entry);
        while self.list.len() > self.most || self.bytes > MOST_BYTES {
            let Some(oldest) = self.list.pop_front() else { return };
            self.bytes -= oldest.bytes();
        }
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").finish_non_exhaustive()
    }
}

impl History {
    /// Creates a history of at most `most` events.
    pub(crate) fn new(most: usize) -> Self {
        let entries =
            Entries { list: VecDeque::new(), bytes: 0, most, epoch: 0, readers_must_wake: false };
        Self { entries: Mutex::new(entries), changes: watch::Sender::new(0) }
    }

    /// Forgets all events, and takes none of an epoch before `epoch`. The caller wakes the
    /// readers once it holds no lock.
    pub(crate) fn wipe(&self, epoch: u64) {
        let mut entries = self.entries();
        let wiped = std::mem::take(&mut entries.list);
        entries.bytes = 0;
        entries.epoch = epoch;
        entries.readers_must_wake = true;
        drop(entries);
        drop(wiped);
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
        let sent_at = SystemTime::now();
        {
            let mut entries = self.entries();
            let mut earlier = entries.remove(recipient, batch);
            for event in batch.shared_events() {
                if event.epoch < entries.epoch {
                    continue;
                }
                // User properties may have left with an earlier attempt only.
                let earlier = earlier.remove(&event.uuid).filter(|_| event.user.is_none());
                let event = earlier.unwrap_or_else(|| event.clone());
                let outcome = SentOutcome::InFlight;
                entries.push(SentEvent { recipient: recipient.clone(), event, sent_at, outcome });
            }
        }
        self.changed();
    }

    /// Sets the outcome of the events of `batch`.
    fn end(&self, recipient: &Arc<str>, batch: &Batch, outcome: SentOutcome) {
        let sent: HashSet<_> = batch.events().map(|event| event.uuid).collect();
        for entry in self.entries().list.iter_mut().filter(|entry| entry.is_to(recipient)) {
            if sent.contains(&entry.event.uuid) {
                entry.outcome = outcome;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        analytics_id::AnalyticsId,
        event::{Properties, UserProperties},
    };

    fn event(name: &'static str, epoch: u64) -> OutgoingEvent {
        OutgoingEvent {
            uuid: Uuid::new_v4(),
            name: name.into(),
            at: SystemTime::UNIX_EPOCH,
            properties: Properties::new(),
            user: None,
            epoch,
        }
    }

    fn batch(events: impl IntoIterator<Item = OutgoingEvent>) -> Batch {
        let events = events.into_iter().map(Arc::new).collect();
        Batch::new(AnalyticsId::placeholder(), events)
    }

    #[test]
    fn an_event_of_an_epoch_that_was_wiped_is_not_taken() {
        let history = History::new(10);
        let recipient = "recipient".into();
        let late = batch([event("Late", 1)]);
        history.wipe(2);
        history.begin(&recipient, &late);
        history.end(&recipient, &late, SentOutcome::Delivered);
        assert!(history.events().is_empty());
        history.begin(&recipient, &batch([event("New", 2)]));
        assert_eq!(history.events().len(), 1);
    }

    #[test]
    fn user_properties_that_left_with_an_earlier_attempt_stay_in_the_entry() {
        let history = History::new(10);
        let recipient = "recipient".into();
        let plain = event("Event", 1);
        let user = Some(Box::new(UserProperties::new().set("rooms", 3)));
        history.begin(&recipient, &batch([OutgoingEvent { user, ..plain.clone() }]));
        history.begin(&recipient, &batch([plain]));
        let [sent] = history.events().try_into().unwrap();
        assert!(!sent.event().user_properties().is_empty());
    }

    #[test]
    fn the_size_of_the_entries_is_bounded_and_counted_exactly() {
        let history = History::new(1000);
        let recipient = "recipient".into();
        let large = |name| OutgoingEvent {
            properties: Properties::new().with("text", "x".repeat(30_000)),
            ..event(name, 1)
        };
        for _ in 0..300 {
            let user = UserProperties::new().set("text", "x".repeat(20_000));
            let carrier = OutgoingEvent { user: Some(Box::new(user)), ..event("Carrier", 1) };
            let attempts = batch([large("Large"), carrier]);
            history.begin(&recipient, &attempts);
            history.begin(&recipient, &attempts);
            let entries = history.entries();
            let texts = entries.list.iter().map(|entry| match entry.event.name() {
                "Large" => 30_000,
                _ => 20_000,
            });
            assert!(texts.sum::<usize>() <= entries.bytes);
            let size: usize = entries.list.iter().map(SentEvent::bytes).sum();
            assert_eq!(entries.bytes, size);
            assert!(size <= MOST_BYTES);
        }
        assert!(history.events().len() > 100);
        history.wipe(2);
        assert_eq!(history.entries().bytes, 0);
    }
}
