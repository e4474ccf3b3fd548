//! Ledgers that outlive their process.

use super::*;

#[test]
fn another_process_continues_with_the_same_keys_tries_and_waits() {
    let mut process = Process::new();
    process.erase("one");
    let first = process.expect_try();
    // It was in flight when the process ended, which counts as a failure.
    let mut process = process.restart(Duration::from_secs(5));
    let second = process.expect_try();
    assert_eq!(second.to, address("b"));
    process.answer(second.key, Err(ErasureCause::Unreachable));
    assert_eq!(process.expect_wait(), Some(Duration::from_secs(55)));
    process.pass(Duration::from_secs(55));
    assert_eq!(process.expect_try(), first);
    process.answer(first.key, Err(ErasureCause::Unreachable));
    let mut process = process.restart(Duration::from_secs(20));
    assert_eq!(process.try_all(Ok(())), pairs([("b", "one")]));
    assert_eq!(process.expect_wait(), Some(Duration::from_secs(160)));
    let cause = Some(ErasureCause::Unreachable);
    assert!(process.report().contains(&("a".to_owned(), ErasureState::Pending, cause, 2)));
    process.pass(Duration::from_secs(160));
    assert_eq!(process.expect_try().key, first.key);
}

#[test]
fn a_search_goes_on_in_the_next_process() {
    let mut process = Process::new();
    process.withdraw();
    let mut process = process.restart(DAY);
    process.is_removing = true;
    process.find("one");
    assert_eq!(process.ledger.pending(), 2);
    let mut process = process.restart(DAY);
    // An ID was found, so that a clean account is no failure.
    process.clean();
    process.is_removing = false;
    assert_eq!(process.try_all(Ok(())).len(), 2);
    assert!(process.ledger.is_empty());
}

#[test]
fn short_processes_wait_for_a_clean_account_together_as_long_as_a_single_one() {
    let mut process = Process::new();
    process.is_removing = true;
    process.erase("one");
    for left in [6, 2] {
        process = process.restart(LONGEST_GRACE * 4 / 10);
        assert_eq!(process.expect_wait(), Some(LONGEST_GRACE * left / 10));
    }
    let mut process = process.restart(LONGEST_GRACE);
    assert_eq!(process.try_all(Ok(())).len(), 2);
}

#[test]
fn a_search_whose_time_is_over_goes_on_in_one_more_process() {
    let mut process = Process::new();
    process.is_removing = true;
    process.withdraw();
    let mut process = process.restart(2 * KEEP_FOR);
    assert_eq!(process.expect_wait(), Some(LONGEST_GRACE));
    let mut process = process.restart(LONGEST_GRACE / 2);
    assert_eq!(process.expect_wait(), None);
    let failed = |to: &str, cause| (to.to_owned(), ErasureState::Failed, Some(cause), 0);
    let cause = ErasureCause::NoIdentifier;
    assert_eq!(process.report(), [failed("a", cause), failed("b", cause)]);
}

#[test]
fn an_erasure_whose_time_is_over_at_the_start_is_tried_once_more() {
    let mut process = Process::new();
    process.known.truncate(1);
    process.erase("one");
    let mut process = process.restart(400 * DAY);
    assert_eq!(process.try_all(Err(ErasureCause::Misconfigured)), pairs([("a", "one")]));
    assert_eq!(process.expect_wait(), None);
    // The failure is kept until a receipt reports it.
    let mut process = process.restart(DAY);
    let cause = Some(ErasureCause::Misconfigured);
    assert_eq!(process.ledger.stats().failed, [(ErasureCause::Misconfigured, 1)].into());
    assert_eq!(process.report(), [("a".to_owned(), ErasureState::Failed, cause, 1)]);
    assert!(process.restart(DAY).ledger.is_empty());
}

#[test]
fn a_process_that_ends_in_its_last_try_gives_the_erasure_up() {
    for is_last in [false, true] {
        let mut process = Process::new();
        process.known.truncate(1);
        process.erase("one");
        process.pass(if is_last { KEEP_FOR } else { KEEP_FOR - DAY });
        process.expect_try();
        let mut process = process.restart(2 * DAY);
        let cause = Some(ErasureCause::Unreachable);
        let given_up = ("a".to_owned(), ErasureState::Failed, cause, 1);
        assert_eq!(process.report().contains(&given_up), is_last);
        assert_eq!(process.try_all(Ok(())).len(), usize::from(!is_last));
    }
}

#[test]
fn a_wait_of_a_day_that_the_recipient_asks_for_outlives_the_process() {
    let mut process = Process::new();
    process.known.truncate(1);
    process.erase("one");
    let key = process.expect_try().key;
    let answer = Err((ErasureCause::Throttled, Some(DAY)));
    process.ledger.handle_answer(key, answer, process.now, 0.0);
    assert_eq!(process.restart(DAY / 4).expect_wait(), Some(DAY * 3 / 4));
}

#[test]
fn a_cause_of_a_newer_version_loses_no_request() {
    let mut process = Process::new();
    process.erase("one");
    process.try_all(Err(ErasureCause::Unreachable));
    let bytes = process.ledger.to_bytes(process.now).unwrap();
    let newer = String::from_utf8(bytes).unwrap().replace("unreachable", "unheard_of");
    process.ledger = Ledger::new(KEEP_FOR);
    process.ledger.restore(newer.as_bytes(), process.now).unwrap();
    process.pass(DAY);
    assert_eq!(process.try_all(Ok(())).len(), 2);
}

#[test]
fn a_withdrawal_in_the_future_is_as_of_now_so_that_it_ends() {
    let mut process = Process::new();
    process.known.truncate(1);
    process.erase("one");
    process.now.wall -= 365 * DAY;
    let process = process.restart(DAY);
    assert_eq!(process.ledger.waiting[0].withdrawn_at, process.now.wall);
    let process = process.restart(DAY);
    let left = process.ledger.waiting[0].until - process.now.instant;
    assert_eq!(left, KEEP_FOR - DAY);
}

#[test]
fn a_withdrawal_under_a_clock_that_was_not_set_is_as_of_the_next_start() {
    let mut process = Process::new();
    process.known.truncate(1);
    let set = process.now.wall;
    process.now.wall = SystemTime::UNIX_EPOCH;
    process.erase("one");
    process.now.wall = set;
    let process = process.restart(DAY);
    assert_eq!(process.ledger.waiting[0].withdrawn_at, process.now.wall);
    assert_eq!(process.ledger.waiting[0].until, process.now.instant + KEEP_FOR);
}

#[test]
fn a_wall_clock_that_was_set_back_makes_an_erasure_new_and_delays_it_by_a_day_at_most() {
    let mut process = Process::new();
    process.known.truncate(1);
    process.erase("one");
    process.try_all(Err(ErasureCause::Unreachable));
    let bytes = process.ledger.to_bytes(process.now).unwrap();
    process.now.wall -= 365 * DAY;
    process.ledger = Ledger::new(KEEP_FOR);
    process.ledger.restore(&bytes, process.now).unwrap();
    assert_eq!(process.expect_wait(), Some(DAY));
    assert_eq!(process.ledger.waiting[0].until, process.now.instant + KEEP_FOR);
}

#[test]
fn a_withdrawal_is_in_the_file_until_the_record_has_it() {
    let mut process = Process::new();
    process.withdraw();
    let mut process = process.restart(DAY);
    assert_eq!(process.ledger.unrecorded(), Some(&unrecorded(1)));
    // Even if nothing waits any more.
    process.find("one");
    process.ledger.handle_clean_account(&process.known);
    process.try_all(Ok(()));
    let mut process = process.restart(DAY);
    assert_eq!(process.ledger.unrecorded(), Some(&unrecorded(1)));
    process.ledger.set_unrecorded(None);
    assert!(process.ledger.is_empty() && process.ledger.take_changed());
}

#[test]
fn bytes_that_are_no_ledger_restore_nothing() {
    let mut process = Process::new();
    for bytes in [&b""[..], b"{}", b"[]", b"\xff"] {
        assert!(process.ledger.restore(bytes, process.now).is_none());
        assert!(process.ledger.is_empty());
    }
}

#[test]
fn a_withdrawal_that_is_made_again_searches_the_ids_that_are_still_missing() {
    for is_found in [false, true] {
        let mut process = Process::new();
        process.known.truncate(1);
        process.withdraw();
        if is_found {
            process.find("one");
            process.ledger.handle_clean_account(&process.known);
            process.try_all(Ok(()));
        }
        let mut process = process.restart(DAY);
        process.ledger.handle_repeated_withdrawal(unrecorded(5), process.now);
        assert_eq!(process.ledger.unrecorded(), Some(&unrecorded(5)));
        process.find("two");
        process.clean();
        assert_eq!(process.try_all(Ok(())), pairs([("a", "two")]));
        // It is as old as it was.
        let failed = process.report();
        assert_eq!(failed.len(), usize::from(!is_found) + 1, "{failed:?}");
    }
}
