#[cfg(feature = "sqlite")]
mod restarts;

use super::*;
use crate::erasure::report::{ErasureReceipt, ErasureState, ErasureStorage};

const DAY: Duration = Duration::from_secs(24 * 3600);
const KEEP_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// The clocks and the account of one process.
struct Process {
    ledger: Ledger,
    now: Now,
    keys: u128,
    is_removing: bool,
    known: Vec<Address>,
}

fn address(label: &str) -> Address {
    Address { id: format!("id of {label}"), label: label.to_owned() }
}

fn fingerprint(id: &str) -> String {
    format!("fingerprint of {id}")
}

/// Returns a withdrawal that only the record of `epoch` lacks.
fn unrecorded(epoch: u64) -> Unrecorded {
    Unrecorded { epochs: epoch..epoch + 1, erases_event: true }
}

impl Process {
    fn new() -> Self {
        let now = Now { instant: Instant::now(), wall: SystemTime::UNIX_EPOCH + 21_000 * DAY };
        Self {
            ledger: Ledger::new(KEEP_FOR),
            now,
            keys: 0,
            is_removing: false,
            known: vec![address("a"), address("b")],
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now.instant += time;
        self.now.wall += time;
    }

    fn withdraw(&mut self) {
        self.withdraw_used(&["one"]);
    }

    /// Withdraws after this device has used `ids`.
    fn withdraw_used(&mut self, ids: &[&str]) {
        let fingerprints = ids.iter().map(|id| fingerprint(id)).collect();
        self.ledger.handle_withdrawal(unrecorded(1), fingerprints, self.now);
    }

    /// Finds an ID that both recipients know as it is.
    fn find(&mut self, id: &str) {
        let Some(withdrawn_at) = self.ledger.handle_found(&fingerprint(id)) else { return };
        let found: Vec<_> = self.known.iter().map(|to| (to.clone(), id.to_owned())).collect();
        self.ledger.handle_identifiers(found, withdrawn_at, self.now, || {
            self.keys += 1;
            Uuid::from_u128(self.keys)
        });
    }

    /// The account is clean, and the record of consent has the withdrawal.
    fn clean(&mut self) {
        self.ledger.handle_clean_account(&self.known);
        self.ledger.set_unrecorded(None);
    }

    /// Withdraws the ID `id`, whose account is clean at once.
    fn erase(&mut self, id: &str) {
        self.withdraw_used(&[id]);
        self.find(id);
        self.clean();
    }

    fn poll(&mut self) -> Next {
        let known: Vec<_> = self.known.iter().collect();
        self.ledger.poll(self.now, self.is_removing, &known)
    }

    fn expect_try(&mut self) -> Try {
        match self.poll() {
            Next::Try(wanted) => wanted,
            Next::Wait(until) => {
                panic!("waits {:?}", until.map(|until| until - self.now.instant));
            }
        }
    }

    /// Returns how long the ledger waits, or `None` if it waits for an input only.
    fn expect_wait(&mut self) -> Option<Duration> {
        let known: Vec<_> = self.known.iter().collect();
        match self.ledger.next(self.now.instant, self.is_removing, &known) {
            Next::Try(wanted) => panic!("{wanted:?}"),
            Next::Wait(until) => until.map(|until| until - self.now.instant),
        }
    }

    fn answer(&mut self, key: Uuid, answer: Result<(), ErasureCause>) {
        let answer = answer.map_err(|cause| (cause, None));
        self.ledger.handle_answer(key, answer, self.now, 1.0);
    }

    /// Makes every try that is due, each with the answer `answer`, and returns them in order.
    fn try_all(&mut self, answer: Result<(), ErasureCause>) -> Vec<(String, String)> {
        let mut tried = Vec::new();
        while let Next::Try(Try { key, to, identifier }) = self.poll() {
            tried.push((to.label, identifier));
            self.answer(key, answer);
        }
        tried
    }

    fn report(&mut self) -> Vec<(String, ErasureState, Option<ErasureCause>, u32)> {
        let report = self.ledger.report(0, ErasureStorage::Memory, &self.known);
        self.ledger.handle_reported(&report);
        let receipt = |e: ErasureReceipt| (e.recipient, e.state, e.cause, e.tries);
        report.into_iter().map(receipt).collect()
    }

    /// Ends this process, and begins one that finds what it left, after `time` by the wall clock.
    #[cfg(feature = "sqlite")]
    fn restart(mut self, time: Duration) -> Self {
        let bytes = self.ledger.to_bytes(self.now);
        self.pass(time);
        let mut ledger = Ledger::new(KEEP_FOR);
        if let Some(bytes) = bytes {
            ledger.restore(&bytes, self.now).unwrap();
        }
        Self { ledger, ..self }
    }
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
    pairs.map(|(label, id)| (label.to_owned(), id.to_owned())).to_vec()
}

#[test]
fn each_recipient_gets_one_request_and_nothing_is_left_of_it() {
    let mut process = Process::new();
    process.erase("9f1c");
    assert_eq!(process.ledger.pending(), 2);
    assert!(!format!("{:?}", process.ledger).contains("9f1c"));
    assert_eq!(process.try_all(Ok(())), pairs([("a", "9f1c"), ("b", "9f1c")]));
    assert_eq!(process.expect_wait(), None);
    assert!(process.ledger.is_empty());
    assert_eq!(process.ledger.stats().done, 2);
    let done = |label: &str| (label.to_owned(), ErasureState::Done, None, 1);
    assert_eq!(process.report(), [done("a"), done("b")]);
}

#[test]
fn nothing_is_sent_before_an_id_is_found_and_without_a_withdrawal_none_is() {
    let mut process = Process::new();
    process.find("early");
    process.clean();
    assert_eq!(process.expect_wait(), None);
    process.withdraw();
    assert_eq!(process.expect_wait(), Some(KEEP_FOR));
    assert_eq!(process.ledger.pending(), 1);
    process.find("one");
    assert_eq!(process.try_all(Ok(())).len(), 2);
    process.clean();
    process.find("of a later opt-in");
    assert_eq!(process.expect_wait(), None);
}

#[test]
fn an_erasure_waits_for_the_account_to_be_clean_but_not_for_long() {
    for is_cleaned in [true, false] {
        let mut process = Process::new();
        process.is_removing = true;
        process.withdraw();
        process.find("one");
        assert_eq!(process.expect_wait(), Some(LONGEST_GRACE));
        if is_cleaned {
            process.is_removing = false;
        } else {
            process.pass(LONGEST_GRACE);
        }
        assert_eq!(process.try_all(Ok(())).len(), 2);
    }
}

#[test]
fn an_account_without_its_id_is_a_failure_only_if_this_device_had_one() {
    for had_id in [true, false] {
        let mut process = Process::new();
        process.withdraw_used(if had_id { &["one"] } else { &[] });
        process.clean();
        let failed =
            |to: &str| (to.to_owned(), ErasureState::Failed, Some(ErasureCause::NoIdentifier), 0);
        let expected = if had_id { vec![failed("a"), failed("b")] } else { Vec::new() };
        assert_eq!(process.report(), expected);
        // Each failure is reported once.
        assert_eq!(process.report(), []);
    }
}

#[test]
fn each_id_that_was_used_and_not_found_is_a_failure_whatever_else_was_found() {
    let mut process = Process::new();
    process.known.truncate(1);
    process.withdraw_used(&["one", "two"]);
    process.withdraw_used(&["three"]);
    assert!(!format!("{:?}", process.ledger).contains("fingerprint"));
    process.find("of another device");
    process.find("two");
    assert_eq!(process.ledger.pending(), 3);
    process.find("one");
    process.clean();
    let done = |of: &(String, ErasureState, Option<ErasureCause>, u32)| of.1 == ErasureState::Done;
    assert_eq!(process.try_all(Ok(())).len(), 3);
    let report = process.report();
    let failed = ("a".to_owned(), ErasureState::Failed, Some(ErasureCause::NoIdentifier), 0);
    assert!(report.contains(&failed), "{report:?}");
    assert_eq!((report.len(), report.iter().filter(|of| done(of)).count()), (4, 3));
}

#[test]
fn an_id_that_is_not_found_in_time_is_a_failure() {
    let mut process = Process::new();
    process.known.truncate(1);
    process.is_removing = true;
    process.withdraw();
    process.pass(KEEP_FOR - DAY);
    assert_eq!(process.expect_wait(), Some(DAY));
    process.pass(DAY);
    assert_eq!(process.expect_wait(), None);
    let cause = Some(ErasureCause::NoIdentifier);
    assert_eq!(process.report(), [("a".to_owned(), ErasureState::Failed, cause, 0)]);
    assert!(!process.ledger.is_searching());
}

#[test]
fn a_failed_try_is_repeated_until_the_time_is_over_and_then_fails_with_its_cause() {
    let mut process = Process::new();
    process.known.truncate(1);
    process.erase("one");
    let (mut tries, mut waited, mut last_wait) = (0, Duration::ZERO, Duration::ZERO);
    loop {
        assert_eq!(process.try_all(Err(ErasureCause::Unauthorized)), pairs([("a", "one")]));
        tries += 1;
        let Some(wait) = process.expect_wait() else { break };
        if waited + wait < KEEP_FOR {
            assert!(wait >= last_wait, "{wait:?} after {last_wait:?}");
        }
        last_wait = wait;
        waited += wait;
        process.pass(wait);
    }
    // The last try is at the end of its time.
    assert_eq!(waited, KEEP_FOR);
    assert!((60..80).contains(&tries), "{tries}");
    let stats = process.ledger.stats();
    assert_eq!((stats.pending, stats.done), (0, 0));
    assert_eq!(stats.failed, [(ErasureCause::Unauthorized, 1)].into());
    assert_eq!(stats.last_cause, Some(ErasureCause::Unauthorized));
    let cause = Some(ErasureCause::Unauthorized);
    assert_eq!(process.report(), [("a".to_owned(), ErasureState::Failed, cause, tries)]);
    assert!(process.ledger.is_empty());
}

#[test]
fn a_wait_that_the_recipient_asks_for_is_obeyed() {
    let mut process = Process::new();
    process.known.truncate(1);
    process.erase("one");
    let key = process.expect_try().key;
    let hour = Duration::from_secs(3600);
    let answer = Err((ErasureCause::Throttled, Some(hour)));
    process.ledger.handle_answer(key, answer, process.now, 0.0);
    assert_eq!(process.expect_wait(), Some(hour));
}

#[test]
fn the_time_in_which_the_device_was_suspended_shortens_each_wait() {
    let mut process = Process::new();
    process.known.truncate(1);
    process.erase("one");
    process.withdraw_used(&["two"]);
    let key = process.expect_try().key;
    let answer = Err((ErasureCause::Throttled, Some(DAY)));
    process.ledger.handle_answer(key, answer, process.now, 0.0);
    // The clocks are compared each hour, whatever the wait.
    let hour = Duration::from_secs(3600);
    assert_eq!(process.poll(), Next::Wait(Some(process.now.instant + hour)));
    process.pass(hour);
    process.now.wall += Duration::from_secs(299);
    assert_eq!(process.poll(), Next::Wait(Some(process.now.instant + hour)));
    process.now.wall += DAY - hour;
    process.now.instant += Duration::from_secs(1);
    assert_eq!(process.expect_try().key, key);
    let left = KEEP_FOR - DAY - Duration::from_secs(299);
    assert_eq!(process.ledger.waiting[0].until, process.now.instant + left);
    assert_eq!(process.ledger.search.as_ref().unwrap().until, process.now.instant + left);
    // A clock that was set back lengthens nothing, and the next suspension counts.
    process.now.wall -= 2 * DAY;
    process.poll();
    assert_eq!(process.ledger.waiting[0].until, process.now.instant + left);
    process.now.wall += DAY;
    process.poll();
    assert_eq!(process.ledger.waiting[0].until, process.now.instant + left - DAY);
}

#[test]
fn a_suspension_before_a_wait_does_not_shorten_it() {
    let mut process = Process::new();
    process.known.truncate(1);
    process.is_removing = true;
    // The ledger is empty, so the clocks were compared long ago.
    assert_eq!(process.poll(), Next::Wait(None));
    process.now.wall += 40 * DAY;
    process.withdraw();
    process.find("one");
    process.poll();
    assert_eq!(process.expect_wait(), Some(LONGEST_GRACE));
    process.pass(LONGEST_GRACE);
    let key = process.expect_try().key;
    process.now.wall += DAY;
    let answer = Err((ErasureCause::Throttled, Some(Duration::from_secs(3000))));
    process.ledger.handle_answer(key, answer, process.now, 0.0);
    process.poll();
    assert_eq!(process.expect_wait(), Some(Duration::from_secs(3000)));
}

#[test]
fn a_search_goes_on_for_a_while_after_a_long_suspension_and_only_once() {
    let mut process = Process::new();
    process.withdraw();
    process.poll();
    process.now.wall += 40 * DAY;
    process.poll();
    assert_eq!(process.expect_wait(), Some(LONGEST_GRACE));
    process.now.wall += DAY;
    process.poll();
    assert!(!process.ledger.is_searching());
    assert_eq!(process.ledger.failed.len(), 2);
}

#[test]
fn a_clock_that_is_set_for_the_first_time_ends_nothing() {
    let mut process = Process::new();
    let set = process.now.wall;
    process.now.wall = SystemTime::UNIX_EPOCH;
    process.is_removing = true;
    process.withdraw();
    process.find("one");
    process.poll();
    process.now.wall = set + 1_000 * DAY;
    process.poll();
    assert_eq!(process.expect_wait(), Some(LONGEST_GRACE));
    assert!(process.ledger.is_searching());
}

#[test]
fn one_try_is_made_at_a_time_and_a_late_answer_to_an_unknown_key_is_ignored() {
    let mut process = Process::new();
    process.erase("one");
    let first = process.expect_try();
    assert_eq!(process.expect_wait(), None);
    process.answer(Uuid::from_u128(99), Ok(()));
    assert_eq!(process.ledger.pending(), 2);
    process.answer(first.key, Ok(()));
    assert_eq!(process.expect_try().to, address("b"));
}

#[test]
fn the_failure_of_one_recipient_does_not_delay_another() {
    let mut process = Process::new();
    process.erase("one");
    let first = process.expect_try();
    process.answer(first.key, Err(ErasureCause::Unreachable));
    let second = process.expect_try();
    assert_eq!((first.to, second.to), (address("a"), address("b")));
    process.answer(second.key, Ok(()));
    assert_eq!(process.ledger.stats().done, 1);
}

#[test]
fn two_withdrawals_are_carried_out_each_under_its_own_id() {
    let mut process = Process::new();
    process.erase("one");
    assert_eq!(process.try_all(Err(ErasureCause::Unreachable)).len(), 2);
    process.erase("two");
    assert_eq!(process.try_all(Ok(())), pairs([("a", "two"), ("b", "two")]));
    process.pass(DAY);
    assert_eq!(process.try_all(Ok(())), pairs([("a", "one"), ("b", "one")]));
}

#[test]
fn a_second_withdrawal_of_one_id_makes_no_second_request_unless_the_first_is_in_flight() {
    let mut process = Process::new();
    process.known.truncate(1);
    process.erase("one");
    process.pass(DAY);
    process.erase("one");
    assert_eq!(process.ledger.pending(), 1);
    // It is kept from the later withdrawal on.
    assert_eq!(process.ledger.waiting[0].until, process.now.instant + KEEP_FOR);
    let in_flight = process.expect_try();
    process.erase("one");
    assert_eq!(process.ledger.pending(), 2);
    process.answer(in_flight.key, Ok(()));
    let again = process.expect_try();
    assert_eq!(again.identifier, "one");
    assert_ne!(again.key, in_flight.key);
}

#[test]
fn a_recipient_that_is_gone_is_waited_for_and_then_given_up() {
    let mut process = Process::new();
    process.erase("one");
    let gone = process.known.remove(0);
    assert_eq!(process.try_all(Ok(())), pairs([("b", "one")]));
    assert_eq!(process.expect_wait(), Some(KEEP_FOR));
    process.pass(DAY);
    process.known.push(gone);
    let back = process.expect_try();
    process.answer(back.key, Err(ErasureCause::Unreachable));
    process.known.pop();
    process.pass(KEEP_FOR);
    assert_eq!(process.expect_wait(), None);
    let cause = Some(ErasureCause::NoEndpoint);
    assert!(process.report().contains(&("a".to_owned(), ErasureState::Failed, cause, 1)));
}

#[test]
fn what_waits_and_what_failed_is_bounded_and_what_is_displaced_is_reported() {
    let mut process = Process::new();
    process.known.truncate(1);
    for number in 0..3 * MOST_WAITING {
        process.erase(&number.to_string());
    }
    assert_eq!(process.ledger.pending(), MOST_WAITING);
    let stats = process.ledger.stats();
    assert_eq!(stats.failed, [(ErasureCause::Displaced, 2 * MOST_WAITING as u64)].into());
    let tried = process.try_all(Ok(()));
    assert_eq!(tried[0].1, (2 * MOST_WAITING).to_string());
    assert_eq!(process.report().len(), MOST_WAITING + MOST_ENDED);
}

#[test]
fn a_change_is_one_that_the_file_has_to_hold() {
    let mut process = Process::new();
    assert!(!process.ledger.take_changed());
    process.withdraw();
    assert!(process.ledger.take_changed());
    process.find("one");
    assert!(process.ledger.take_changed());
    process.find("one");
    assert!(!process.ledger.take_changed());
    process.clean();
    assert!(process.ledger.take_changed());
    let key = process.expect_try().key;
    // The file has a try before it is made.
    assert!(process.ledger.take_changed());
    assert_eq!(process.expect_wait(), None);
    assert!(!process.ledger.take_changed());
    process.answer(key, Err(ErasureCause::Unreachable));
    assert!(process.ledger.take_changed());
    process.try_all(Ok(()));
    process.pass(DAY);
    process.try_all(Ok(()));
    assert!(process.ledger.take_changed());
    assert_eq!(process.ledger.to_bytes(process.now), None);
}
