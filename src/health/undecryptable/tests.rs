//! Tests of the state machine, with a time of their own.

use super::*;

const TIMING: Timing =
    Timing { ignore_under: Duration::from_secs(4), grace: Duration::from_secs(60) };

/// The state machine, and a clock that only the test moves.
struct Watched {
    inner: Undecryptable<&'static str>,
    start: Instant,
}

impl Watched {
    fn new() -> Self {
        Self { inner: Undecryptable::new(TIMING), start: Instant::now() }
    }

    fn at(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    fn fails(&mut self, millis: u64, id: &'static str) {
        let (now, digest) = (self.at(millis), self.inner.digest(id));
        self.inner.handle_first_seen(now, digest, 100, id);
    }

    fn decrypted(&mut self, millis: u64, id: &str) -> Option<(&'static str, u128)> {
        let (now, digest) = (self.at(millis), self.inner.digest(id));
        let late = self.inner.handle_decrypted(now, digest);
        self.check();
        late.map(|(id, took)| (id, took.as_millis()))
    }

    fn poll(&mut self, millis: u64) -> Vec<&'static str> {
        let reports = self.inner.poll(self.at(millis));
        assert_eq!(reports.overflowed, 0);
        self.check();
        reports.permanent
    }

    /// Checks that each message has one fate.
    fn check(&self) {
        let stats = self.inner.stats();
        let sum = stats.decrypted_soon + stats.reported_late + stats.reported_permanent;
        assert_eq!(stats.seen, sum + stats.pending + stats.overflowed + stats.forgotten);
    }
}

#[test]
fn a_message_that_stays_undecryptable_is_reported_once_when_its_grace_time_is_over() {
    let mut watched = Watched::new();
    watched.fails(0, "a");
    watched.fails(10_000, "b");
    assert_eq!(watched.inner.deadline(), Some(watched.at(60_000)));
    assert!(watched.poll(59_999).is_empty());
    assert_eq!(watched.poll(60_000), ["a"]);
    assert_eq!(watched.inner.deadline(), Some(watched.at(70_000)));
    assert_eq!(watched.poll(80_000), ["b"]);
    assert_eq!(watched.inner.deadline(), None);
    assert_eq!(watched.decrypted(90_000, "a"), None);
    assert!(watched.poll(200_000).is_empty());
}

#[test]
fn a_message_that_is_decrypted_late_is_reported_with_its_time_and_not_again() {
    let mut watched = Watched::new();
    watched.fails(500, "a");
    assert_eq!(watched.decrypted(4_500, "a"), Some(("a", 4_000)));
    assert_eq!(watched.decrypted(5_000, "a"), None);
    assert!(watched.poll(100_000).is_empty());
    assert_eq!(watched.inner.stats().reported_late, 1);
}

#[test]
fn a_message_that_is_decrypted_in_a_moment_is_not_reported() {
    let mut watched = Watched::new();
    watched.fails(0, "a");
    assert_eq!(watched.decrypted(3_999, "a"), None);
    assert!(watched.poll(100_000).is_empty());
    assert_eq!(watched.inner.stats().decrypted_soon, 1);
}

#[test]
fn a_message_that_is_decrypted_after_its_grace_time_is_permanent() {
    let mut watched = Watched::new();
    watched.fails(0, "a");
    watched.fails(0, "b");
    assert_eq!(watched.decrypted(60_500, "a"), Some(("a", 60_000)), "the timer was late");
    assert_eq!(watched.decrypted(61_001, "b"), None);
    assert_eq!(watched.poll(61_001), ["b"]);
}

#[test]
fn a_message_that_there_was_no_room_for_counts_once() {
    let mut watched = Watched::new();
    for id in ["large", "large", "small", "small"] {
        let (now, digest) = (watched.at(0), watched.inner.digest(id));
        watched.inner.handle_first_seen(now, digest, MOST_PENDING_BYTES, id);
    }
    let stats = watched.inner.stats();
    assert_eq!((stats.seen, stats.pending, stats.overflowed), (2, 1, 1));
}

#[test]
fn a_message_that_comes_again_counts_once() {
    let mut watched = Watched::new();
    watched.fails(0, "a");
    watched.fails(1_000, "a");
    assert_eq!(watched.poll(60_000), ["a"]);
    watched.fails(61_000, "a");
    assert_eq!(watched.inner.deadline(), None);
    assert_eq!(watched.inner.stats().seen, 1);
}

#[test]
fn a_message_that_was_never_undecryptable_is_no_late_decryption() {
    let mut watched = Watched::new();
    watched.fails(0, "a");
    assert_eq!(watched.decrypted(10_000, "other"), None);
    assert_eq!(watched.poll(60_000), ["a"]);
}

#[test]
fn messages_beyond_the_highest_number_are_counted_and_reported_as_a_number() {
    let mut watched = Watched::new();
    for number in 0..10_000 {
        let (now, digest) = (watched.at(number), watched.inner.digest(&number.to_string()));
        watched.inner.handle_first_seen(now, digest, 100, "flood");
    }
    let stats = watched.inner.stats();
    assert_eq!((stats.seen, stats.pending, stats.overflowed), (10_000, 500, 9_500));
    let first_overflow = watched.at(500 + 60_000);
    assert!(watched.inner.poll(first_overflow - Duration::from_millis(1)).overflowed == 0);
    assert_eq!(watched.inner.poll(first_overflow).overflowed, 9_500);
    assert_eq!(watched.inner.deadline(), None);
    watched.check();
    for number in 0..10_000 {
        let digest = watched.inner.digest(&number.to_string());
        let is_remembered = watched.inner.is_known(digest);
        assert_eq!(is_remembered, number >= 10_000 - MOST_SEEN, "message {number}");
    }
    watched.fails(100_000, "room again");
    assert_eq!(watched.inner.stats().pending, 1);
}

#[test]
fn messages_beyond_the_highest_number_of_bytes_are_counted() {
    let mut watched = Watched::new();
    for id in ["large", "small", "smallest"] {
        let bytes = if id == "large" { MOST_PENDING_BYTES - 100 } else { 100 };
        let (now, digest) = (watched.at(0), watched.inner.digest(id));
        watched.inner.handle_first_seen(now, digest, bytes, id);
    }
    assert_eq!((watched.inner.stats().pending, watched.inner.stats().overflowed), (2, 1));
    assert_eq!(watched.decrypted(0, "large"), None);
    watched.fails(0, "new");
    assert_eq!(watched.inner.stats().pending, 2);
}

#[test]
fn messages_that_wait_are_forgotten_at_once_and_counted_once() {
    let mut watched = Watched::new();
    watched.fails(0, "a");
    let digest = watched.inner.digest("a");
    watched.inner.forget_waiting();
    assert_eq!((watched.inner.stats().pending, watched.inner.stats().forgotten), (0, 1));
    assert_eq!(watched.inner.deadline(), None);
    assert_eq!(watched.decrypted(10_000, "a"), None);
    assert!(watched.poll(100_000).is_empty());
    watched.fails(100_000, "a");
    assert_eq!(watched.inner.stats().seen, 1);
    watched.inner.forget_seen();
    assert!(!watched.inner.is_known(digest));
}
