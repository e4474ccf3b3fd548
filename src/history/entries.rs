//! The entries of a history, within their bounds.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::SystemTime,
};

use uuid::Uuid;

use super::sent_event::{Addressee, SentEvent, SentOutcome};
use crate::{backend::Batch, event::OutgoingEvent};

/// The largest size of a history, in bytes.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// The number of an entry. A later attempt has a higher one.
pub(crate) type EntryId = u64;

/// The newest sent events, oldest attempt first.
pub(super) struct Entries {
    list: VecDeque<(EntryId, SentEvent)>,
    /// The size of the events in `list`, each of which counts for each recipient.
    bytes: usize,
    most: usize,
    last_id: EntryId,
    /// Events of earlier epochs were withdrawn.
    epoch: u64,
    pub(super) readers_must_wake: bool,
}

impl Entries {
    pub(super) fn new(most: usize) -> Self {
        Self {
            list: VecDeque::new(),
            bytes: 0,
            most,
            last_id: 0,
            epoch: 0,
            readers_must_wake: false,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(EntryId, SentEvent)> {
        self.list.iter()
    }

    /// Adds the events of `batch`, in place of earlier attempts to send them.
    pub(super) fn begin(&mut self, to: &Arc<Addressee>, batch: &Batch) {
        let sent_at = SystemTime::now();
        let mut earlier = self.remove(to, batch);
        for event in batch.shared_events() {
            if event.epoch < self.epoch {
                continue;
            }
            // User properties may have left with an earlier attempt only.
            let user = earlier.remove(&event.uuid).and_then(|earlier| earlier.user.clone());
            let event = match user.filter(|_| event.user.is_none()) {
                Some(user) => Arc::new(OutgoingEvent { user: Some(user), ..(**event).clone() }),
                None => event.clone(),
            };
            let outcome = SentOutcome::InFlight;
            self.push(self.last_id + 1, SentEvent { to: to.clone(), event, sent_at, outcome });
        }
    }

    /// Sets the outcome of each event of `batch`, which `outcome` returns for its place.
    pub(super) fn end(
        &mut self,
        to: &Addressee,
        batch: &Batch,
        outcome: impl Fn(usize) -> SentOutcome,
    ) {
        let places: HashMap<_, _> =
            batch.events().enumerate().map(|(place, event)| (event.uuid, place)).collect();
        for (_, entry) in self.list.iter_mut().filter(|(_, entry)| entry.is_to(to)) {
            if let Some(place) = places.get(&entry.event.uuid) {
                entry.outcome = outcome(*place);
            }
        }
    }

    /// Removes all entries, and takes none of an epoch before `epoch`. Returns the entries, for
    /// the caller to drop without the lock.
    #[must_use]
    pub(super) fn wipe(&mut self, epoch: u64) -> VecDeque<(EntryId, SentEvent)> {
        self.bytes = 0;
        self.epoch = epoch;
        self.readers_must_wake = true;
        std::mem::take(&mut self.list)
    }

    /// Removes the entries of the events of `batch`, and returns their events.
    fn remove(&mut self, to: &Addressee, batch: &Batch) -> HashMap<Uuid, Arc<OutgoingEvent>> {
        let sent: HashSet<_> = batch.events().map(|event| event.uuid).collect();
        let mut removed = HashMap::new();
        self.list.retain(|(_, entry)| {
            let is_kept = !entry.is_to(to) || !sent.contains(&entry.event.uuid);
            if !is_kept {
                self.bytes -= entry.bytes();
                removed.insert(entry.event.uuid, entry.event.clone());
            }
            is_kept
        });
        removed
    }

    /// Adds the newest entry. Removes the oldest ones that have no room any more.
    pub(super) fn push(&mut self, id: EntryId, entry: SentEvent) {
        self.last_id = id;
        self.bytes += entry.bytes();
        self.list.push_back((id, entry));
        while self.list.len() > self.most || self.bytes > MOST_BYTES {
            let Some((_, oldest)) = self.list.pop_front() else { return };
            self.bytes -= oldest.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::Identity,
        event::{Process, Properties, UserProperties},
    };

    fn recipient() -> Arc<Addressee> {
        Arc::new(Addressee { backend: "backend#0".to_owned(), name: "recipient".to_owned() })
    }

    fn event(name: &'static str, epoch: u64) -> OutgoingEvent {
        OutgoingEvent {
            uuid: Uuid::new_v4(),
            name: name.into(),
            at: SystemTime::UNIX_EPOCH,
            properties: Properties::new(),
            user: None,
            epoch,
            process: Process::random(),
        }
    }

    fn batch(events: impl IntoIterator<Item = OutgoingEvent>) -> Batch {
        let events = events.into_iter().map(Arc::new).collect();
        Batch::new(Identity::Account, "id".to_owned(), events)
    }

    #[test]
    fn an_event_of_an_epoch_that_was_wiped_is_not_taken() {
        let mut entries = Entries::new(10);
        let (recipient, late) = (recipient(), batch([event("Late", 1)]));
        drop(entries.wipe(2));
        entries.begin(&recipient, &late);
        entries.end(&recipient, &late, |_| SentOutcome::Delivered);
        assert_eq!(entries.list.len(), 0);
        entries.begin(&recipient, &batch([event("New", 2)]));
        assert_eq!(entries.list.len(), 1);
    }

    #[test]
    fn user_properties_that_left_with_an_earlier_attempt_stay_in_the_entry() {
        let mut entries = Entries::new(10);
        let (recipient, plain) = (recipient(), event("Event", 1));
        let user = Some(Box::new(UserProperties::new().set("rooms", 3)));
        entries.begin(&recipient, &batch([OutgoingEvent { user, ..plain.clone() }]));
        entries.begin(&recipient, &batch([plain]));
        assert_eq!(entries.list.len(), 1);
        assert!(!entries.list[0].1.event().user_properties().is_empty());
    }

    #[test]
    fn a_new_attempt_shows_the_event_as_it_leaves_now() {
        let mut entries = Entries::new(10);
        let (recipient, redacted) = (recipient(), event("Event", 1));
        let properties = Properties::new().with("text", "found by a new detector");
        let user = Some(Box::new(UserProperties::new().set("rooms", 3)));
        entries.begin(&recipient, &batch([OutgoingEvent { properties, user, ..redacted.clone() }]));
        entries.begin(&recipient, &batch([redacted]));
        assert!(entries.list[0].1.event().properties().is_empty());
        assert!(!entries.list[0].1.event().user_properties().is_empty());
    }

    #[test]
    fn entries_for_another_recipient_with_the_number_of_the_first_stay() {
        let mut entries = Entries::new(10);
        let (first, again) = (recipient(), batch([event("Again", 1)]));
        let (backend, name) = (first.backend.clone(), "other".to_owned());
        let second = Arc::new(Addressee { backend, name });
        entries.begin(&first, &again);
        entries.begin(&second, &again);
        assert_eq!(entries.list.len(), 2);
    }

    #[test]
    fn the_size_of_the_entries_is_bounded_and_counted_exactly() {
        let mut entries = Entries::new(1000);
        let recipient = recipient();
        let large = |name| OutgoingEvent {
            properties: Properties::new().with("text", "x".repeat(30_000)),
            ..event(name, 1)
        };
        for _ in 0..300 {
            let user = UserProperties::new().set("text", "x".repeat(20_000));
            let carrier = OutgoingEvent { user: Some(Box::new(user)), ..event("Carrier", 1) };
            let attempts = batch([large("Large"), carrier]);
            entries.begin(&recipient, &attempts);
            entries.begin(&recipient, &attempts);
            let texts = entries.list.iter().map(|(_, entry)| match entry.event.name() {
                "Large" => 30_000,
                _ => 20_000,
            });
            assert!(texts.sum::<usize>() <= entries.bytes);
            let size: usize = entries.list.iter().map(|(_, entry)| entry.bytes()).sum();
            assert_eq!(entries.bytes, size);
            assert!(size <= MOST_BYTES);
        }
        assert!(entries.list.len() > 100);
        drop(entries.wipe(2));
        assert_eq!(entries.bytes, 0);
    }

    #[test]
    fn an_attempt_has_a_higher_number_than_all_before_it_even_restored_ones() {
        let mut entries = Entries::new(10);
        let (recipient, again) = (recipient(), batch([event("Again", 1)]));
        entries.begin(&recipient, &again);
        let (_, restored) = entries.list[0].clone();
        let mut entries = Entries::new(10);
        entries.push(7, restored.clone());
        entries.push(9, SentEvent { event: Arc::new(event("Other", 1)), ..restored });
        entries.begin(&recipient, &again);
        assert_eq!(entries.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [9, 10]);
    }
}
