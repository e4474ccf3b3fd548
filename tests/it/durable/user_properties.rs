//! User properties survive a restart, unless they were replaced, delivered or withdrawn.

use std::{
    borrow::Cow,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use matrix_analytics::{
    Analytics, Backend, Batch, DeliveryError, Detector, GuardPolicy, Limits, OutgoingEvent,
    OverflowPolicy, Properties, PropertyValue, SqliteQueue, UserProperties,
    testing::{DeliveryFailure, FailingBackend, ReceivedEvent, RecordingBackend},
};
use rusqlite::Connection;

use super::{Durable, counters, flush};
use crate::support::{AnalyticsExt as _, eventually};

fn set_property(
    analytics: &Analytics,
    key: impl Into<Cow<'static, str>>,
    value: impl Into<PropertyValue>,
) {
    analytics.set_user_properties(UserProperties::new().set(key, value)).unwrap();
}

/// Returns the name of each event, and its user property `key`.
fn values_of(events: &[ReceivedEvent], key: &str) -> Vec<(String, Option<serde_json::Value>)> {
    events.iter().map(|event| (event.name.clone(), event.set.get(key).cloned())).collect()
}

/// Returns the number of user-property rows in the file, which must not be open in any process.
fn rows(durable: &Durable) -> i64 {
    let connection = Connection::open(durable.path()).unwrap();
    connection.query_row("SELECT count(*) FROM user", [], |row| row.get(0)).unwrap()
}

/// Accepts a limited number of batches, then fails.
#[derive(Clone, Default)]
struct Allowed(RecordingBackend, Arc<AtomicUsize>);

impl Backend for Allowed {
    fn name(&self) -> &'static str {
        "allowed"
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        if self.1.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_err() {
            return Err(DeliveryError::Transient("offline".into()));
        }
        self.0.send(batch).await
    }
}

#[tokio::test]
async fn a_replaced_value_is_never_sent_after_its_replacement() {
    let durable = Durable::new().await;
    let backend = Allowed::default();
    let builder = durable.builder().backend(backend.clone());
    let builder = builder.limits(
        Limits::default()
            .batch_max_events(1)
            .queue_max_events(2)
            .overflow_policy(OverflowPolicy::DropNewest),
    );
    let analytics = builder.build().await.unwrap();
    analytics.confirmed().await;
    analytics.capture_one("E0");
    flush(&analytics).await;
    for plan in ["old", "new"] {
        set_property(&analytics, "plan", plan);
        analytics.capture_one("E1");
        flush(&analytics).await;
    }
    // One request succeeds, with the new value.
    backend.1.store(1, SeqCst);
    tokio::time::advance(Duration::from_secs(60)).await;
    flush(&analytics).await;
    assert_eq!(values_of(&backend.0.events(), "plan"), [("E0".into(), Some("new".into()))]);
    durable.end(analytics).await;
    assert_eq!((durable.rows(), rows(&durable)), (1, 0));

    backend.1.store(100, SeqCst);
    let analytics = durable.builder().backend(backend.clone()).build().await.unwrap();
    analytics.confirmed().await;
    flush(&analytics).await;
    let plans = values_of(&backend.0.events(), "plan");
    assert_eq!(plans, [("E0".into(), Some("new".into())), ("E1".into(), None)]);
}

#[tokio::test]
async fn they_survive_a_restart_even_if_their_event_had_no_room() {
    for policy in [OverflowPolicy::DropOldest, OverflowPolicy::DropNewest] {
        let durable = Durable::new().await;
        let backend = FailingBackend::new();
        backend.fail_always(DeliveryFailure::Transient);
        let builder = durable.builder().backend(backend);
        let builder = builder.limits(
            Limits::default().batch_max_events(1).queue_max_events(1).overflow_policy(policy),
        );
        let analytics = builder.build().await.unwrap();
        analytics.confirmed().await;
        analytics.capture_one("Waits");
        flush(&analytics).await;
        set_property(&analytics, "rooms", 5);
        for name in ["Carrier", "Next", "Last"] {
            analytics.capture_one(name);
            flush(&analytics).await;
        }
        durable.end(analytics).await;

        let (analytics, backend) = durable.start().await;
        flush(&analytics).await;
        analytics.capture_one("Later");
        flush(&analytics).await;
        let rooms: Vec<_> = values_of(&backend.accepted_events(), "rooms")
            .into_iter()
            .filter_map(|(_, rooms)| rooms)
            .collect();
        assert_eq!(rooms, [5], "{policy:?}");
    }
}

#[tokio::test]
async fn they_survive_a_restart_even_if_their_event_was_evicted_behind_a_request() {
    let durable = Durable::new().await;
    let backend = FailingBackend::new();
    backend.stall();
    let builder = durable.builder().backend(backend.clone());
    let analytics = builder
        .limits(Limits::default().batch_max_events(1).queue_max_events(1))
        .build()
        .await
        .unwrap();
    analytics.confirmed().await;
    analytics.capture_one("Out");
    eventually(backend.wait_for_attempts(1)).await;
    set_property(&analytics, "rooms", 5);
    analytics.capture_one("Carrier");
    for evicted in 1..=3 {
        analytics.capture_one("Next");
        eventually(async {
            while counters(&analytics).dropped_total() < evicted {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    // Timers need the frozen time to advance.
    let push = async {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        tokio::time::advance(Duration::from_millis(5)).await;
    };
    tokio::join!(durable.end(analytics), push);

    let (analytics, backend) = durable.start().await;
    flush(&analytics).await;
    analytics.capture_one("Later");
    flush(&analytics).await;
    let events = backend.accepted_events();
    assert!(events.iter().any(|event| event.set.contains_key("rooms")), "{events:?}");
}

#[tokio::test]
async fn those_set_without_an_event_are_in_the_file_once_a_flush_has_returned() {
    let durable = Durable::new().await;
    let (analytics, _) = durable.start_offline().await;
    set_property(&analytics, "rooms", 5);
    flush(&analytics).await;
    // The files as a kill leaves them.
    let left = tempfile::TempDir::new().unwrap();
    for file in ["queue.sqlite3", "queue.sqlite3-wal"] {
        std::fs::copy(durable.directory.path().join(file), left.path().join(file)).unwrap();
    }
    durable.end(analytics).await;

    let durable = Durable { directory: left, ..durable };
    let (analytics, backend) = durable.start().await;
    analytics.capture_one("Later");
    flush(&analytics).await;
    assert_eq!(values_of(&backend.accepted_events(), "rooms"), [("Later".into(), Some(5.into()))]);
    durable.end(analytics).await;
    assert_eq!(rows(&durable), 0);
}

/// Rejects each request that carries user properties.
#[derive(Clone, Default)]
struct RejectsUserProperties {
    taken: RecordingBackend,
    refusals: Arc<AtomicUsize>,
    is_down: Arc<AtomicBool>,
}

impl Backend for RejectsUserProperties {
    fn name(&self) -> &'static str {
        "rejecting"
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        if self.is_down.load(SeqCst) {
            return Err(DeliveryError::Transient("offline".into()));
        }
        if batch.events().any(|event| !event.user_properties().is_empty()) {
            self.refusals.fetch_add(1, SeqCst);
            return Err(DeliveryError::Rejected("no user".into()));
        }
        self.taken.send(batch).await
    }
}

#[tokio::test]
async fn those_rejected_ten_times_are_deleted_from_the_file() {
    let durable = Durable::new().await;
    let backend = RejectsUserProperties::default();
    for process in 0..3 {
        let analytics = durable.builder().backend(backend.clone()).build().await.unwrap();
        analytics.confirmed().await;
        if process == 0 {
            set_property(&analytics, "rooms", 5);
        }
        for _ in 0..15 {
            analytics.capture_one("Event");
            for _ in 0..3 {
                tokio::time::advance(Duration::from_secs(600)).await;
                flush(&analytics).await;
            }
        }
        // Leaves a row for the next process.
        backend.is_down.store(true, SeqCst);
        analytics.capture_one("Last");
        flush(&analytics).await;
        durable.end(analytics).await;
        backend.is_down.store(false, SeqCst);
        assert_eq!(backend.refusals.load(SeqCst), 10, "process {process}");
        assert_eq!(rows(&durable), 0);
    }
}

struct Codename;

impl Detector for Codename {
    fn name(&self) -> &'static str {
        "codename"
    }

    fn find(&self, text: &str) -> Vec<Range<usize>> {
        text.match_indices("Kingfisher").map(|(at, word)| at..at + word.len()).collect()
    }
}

#[tokio::test]
async fn clean_ones_stay_even_if_a_new_guard_drops_their_event() {
    let durable = Durable::new().await;
    let (analytics, _) = durable.start_offline().await;
    set_property(&analytics, "rooms", 5);
    analytics.capture_named("Opened Kingfisher", Properties::new());
    analytics.capture_one("Closed");
    flush(&analytics).await;
    durable.end(analytics).await;

    let backend = RecordingBackend::new();
    let builder = durable.builder().detector(Codename).guard_policy(GuardPolicy::DropEvent);
    // Rows are assigned to a backend by its name.
    let backend = Named("failing", backend);
    let analytics = builder.backend(backend.clone()).build().await.unwrap();
    analytics.confirmed().await;
    flush(&analytics).await;
    assert_eq!(values_of(&backend.1.events(), "rooms"), [("Closed".into(), Some(5.into()))]);
}

/// A recorder with a name of its own.
#[derive(Clone)]
struct Named(&'static str, RecordingBackend);

impl Backend for Named {
    fn name(&self) -> &'static str {
        self.0
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        self.1.send(batch).await
    }
}

#[tokio::test]
async fn a_hundred_large_ones_take_as_much_room_as_the_last_one() {
    const LIMIT: usize = 64 * 1024;
    let durable = Durable::new().await;
    let backend = FailingBackend::new();
    backend.fail_always(DeliveryFailure::Transient);
    let builder =
        durable.builder().backend(backend.clone()).limits(Limits::default().queue_max_bytes(LIMIT));
    let analytics = builder.build().await.unwrap();
    analytics.confirmed().await;
    for n in 0..100 {
        set_property(&analytics, "text", format!("{n} {}", "word ".repeat(6000)));
        analytics.capture_one("E");
        flush(&analytics).await;
    }
    durable.end(analytics).await;
    let files = std::fs::read_dir(durable.directory.path()).unwrap();
    let bytes: u64 = files.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    // Twice the limit, because SQLite keeps freed pages.
    assert!(bytes < 4 * LIMIT as u64, "{bytes}");
    assert_eq!(rows(&durable), 1);
}

/// Accepts events, but never user properties.
#[derive(Clone, Default)]
struct EventsOnly(RecordingBackend);

impl Backend for EventsOnly {
    fn name(&self) -> &'static str {
        "events-only"
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        self.0.send(batch).await
    }

    fn carries_user_properties(&self, _: &OutgoingEvent) -> bool {
        false
    }
}

#[tokio::test]
async fn a_backend_that_accepts_none_does_not_affect_the_other_backends() {
    let durable = Durable::new().await;
    let (good, bad) = (RecordingBackend::new(), EventsOnly::default());
    let builder = durable.builder().backend(good.clone()).backend(bad.clone());
    let analytics = builder.build().await.unwrap();
    analytics.confirmed().await;
    let text = "word ".repeat(4000);
    for n in 0..5 {
        set_property(&analytics, format!("key{n}"), text.clone());
        analytics.capture_one("E");
        flush(&analytics).await;
        assert_eq!(good.events().last().unwrap().set.len(), 1);
    }
    durable.end(analytics).await;
    // The latest properties replaced those for which there was no room.
    assert_eq!(rows(&durable), 1);
}

/// Leaves user properties in the file, and no event.
async fn leave(durable: &Durable) {
    let (analytics, _) = durable.start_offline().await;
    set_property(&analytics, "rooms", "many");
    flush(&analytics).await;
    durable.end(analytics).await;
    assert_eq!((durable.rows(), rows(durable)), (0, 1));
}

/// Returns the `rooms` that the next process sends, and the number of rows that it discarded.
async fn restored(durable: &Durable) -> (Option<serde_json::Value>, u64) {
    let (analytics, backend) = durable.start().await;
    let discarded = analytics.stats().queue.discarded;
    analytics.capture_one("Later");
    flush(&analytics).await;
    durable.end(analytics).await;
    assert_eq!(rows(durable), 0);
    (backend.accepted_events()[0].set.get("rooms").cloned(), discarded)
}

#[tokio::test]
async fn those_for_a_removed_backend_are_deleted() {
    let durable = Durable::new().await;
    leave(&durable).await;
    let backend = RecordingBackend::new();
    let analytics = durable.builder().backend(backend.clone()).build().await.unwrap();
    analytics.confirmed().await;
    analytics.capture_one("Later");
    flush(&analytics).await;
    durable.end(analytics).await;
    assert_eq!(values_of(&backend.events(), "rooms"), [("Later".into(), None)]);
    assert_eq!((rows(&durable), restored(&durable).await.0), (0, None));
}

#[tokio::test]
async fn those_of_another_user_are_deleted_unsent() {
    let durable = Durable::new().await;
    leave(&durable).await;
    let login = durable.world.server.add_device("@bob:example.org", "PHONE");
    let device = durable.world.device_of(login).await;
    let bob = Durable { device, ..durable };
    let analytics = bob.builder().backend(FailingBackend::new()).build().await.unwrap();
    assert_eq!(analytics.stats().queue.discarded, 1);
    bob.end(analytics).await;
    assert_eq!(rows(&bob), 0);
}

#[tokio::test]
async fn a_damaged_row_is_deleted_and_counted() {
    let durable = Durable::new().await;
    leave(&durable).await;
    let connection = Connection::open(durable.path()).unwrap();
    let sql = "UPDATE user SET payload = CAST(replace(payload, 'many', 'more') AS BLOB)";
    assert_eq!(connection.execute(sql, []).unwrap(), 1);
    drop(connection);
    assert_eq!(restored(&durable).await, (None, 1));
}

#[tokio::test]
async fn a_file_without_their_table_gets_one() {
    let durable = Durable::new().await;
    leave(&durable).await;
    let connection = Connection::open(durable.path()).unwrap();
    connection.execute_batch("DROP TABLE user; PRAGMA user_version = 1").unwrap();
    drop(connection);
    assert_eq!(restored(&durable).await, (None, 0));
    leave(&durable).await;
    assert_eq!(restored(&durable).await, (Some("many".into()), 0));
}

#[tokio::test]
async fn a_passphrase_encrypts_them_even_if_they_were_stored_without_it() {
    let durable = Durable::new().await;
    leave(&durable).await;
    let payload = || {
        let connection = Connection::open(durable.path()).unwrap();
        let sql = "SELECT payload FROM user";
        connection.query_row(sql, [], |row| row.get::<_, Vec<u8>>(0)).unwrap()
    };
    let shows = |word: &str| {
        let files = std::fs::read_dir(durable.directory.path()).unwrap();
        files
            .map(|file| std::fs::read(file.unwrap().path()).unwrap())
            .any(|bytes| bytes.windows(word.len()).any(|window| window == word.as_bytes()))
    };
    assert!(shows("many"));
    for _ in 0..2 {
        let backend = FailingBackend::new();
        backend.fail_always(DeliveryFailure::Transient);
        let queue = SqliteQueue::new(durable.path()).passphrase("correct horse");
        let builder = durable.device.builder().queue(queue).backend(backend);
        let analytics = builder.build().await.unwrap();
        analytics.confirmed().await;
        set_property(&analytics, "spaces", "several");
        flush(&analytics).await;
        durable.end(analytics).await;
        assert!(payload().starts_with(b"{\"version\"") && !shows("many") && !shows("several"));
    }
    let backend = FailingBackend::new();
    let queue = SqliteQueue::new(durable.path()).passphrase("correct horse");
    let builder = durable.device.builder().queue(queue).backend(backend.clone());
    let analytics = builder.build().await.unwrap();
    analytics.confirmed().await;
    analytics.capture_one("Later");
    flush(&analytics).await;
    let set = &backend.accepted_events()[0].set;
    assert_eq!((&set["rooms"], &set["spaces"]), (&"many".into(), &"several".into()));
}
