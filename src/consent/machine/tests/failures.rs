//! Failed requests, recovered sessions, and IDs that another device withdrew.

use super::*;

const LONGEST_RECHECK: Duration = Duration::from_secs(12 * 3600);

fn refused(retry_after: Option<u64>) -> Failure {
    Failure { kind: FailureKind::Refused, retry_after: retry_after.map(Duration::from_secs) }
}

/// Answers all requests of the next hour with `answer`, and returns their number.
fn requests_in_an_hour(
    machine: &mut TestMachine,
    answer: impl Fn(&mut TestMachine, &Action),
) -> usize {
    let end = machine.now + Duration::from_secs(3600);
    let mut requests = 0;
    loop {
        match machine.next() {
            Action::Wait(until) => match until.filter(|until| *until < end) {
                Some(until) => machine.now = until,
                None => break,
            },
            action => {
                requests += 1;
                answer(machine, &action);
            }
        }
    }
    machine.now = end;
    requests
}

#[tokio::test]
async fn a_removal_whose_write_fails_backs_off() {
    for failure in [UNANSWERED, refused(None)] {
        let mut machine = TestMachine::seeing(&opted_in("a"));
        machine.opt_out(Removal::Id);
        let hours: Vec<_> = (0..3)
            .map(|_| {
                requests_in_an_hour(&mut machine, |machine, action| {
                    let random = machine.random();
                    match action {
                        Action::Put(_) => {
                            machine.inner.handle_put(Err(failure), machine.now, &random);
                        }
                        _ => machine.answer(&opted_in("a")),
                    }
                })
            })
            .collect();
        assert!(hours[0] <= 40 && hours[1] < hours[0] && hours[2] <= hours[1], "{hours:?}");
    }
}

#[tokio::test]
async fn a_removal_that_is_acknowledged_but_not_applied_backs_off_and_stays_pending() {
    let mut machine = TestMachine::seeing(&opted_in("a"));
    let call = machine.opt_out(Removal::Id);
    machine.read(&opted_in("a"));
    machine.write();
    // The read-back shows that the write was not applied.
    machine.read(&opted_in("a"));
    assert!(machine.is_idle());
    assert_eq!(machine.outcome(call), Some(Outcome::Pending));
    assert!(machine.inner.state().removal_pending);

    let requests = requests_in_an_hour(&mut machine, |machine, action| match action {
        Action::Put(_) => machine.wrote(),
        _ => machine.answer(&opted_in("a")),
    });
    assert!(requests <= 40, "{requests}");
}

#[tokio::test]
async fn a_removal_is_done_once_it_was_read_back_and_saved() {
    let mut machine = TestMachine::seeing(&opted_in("a"));
    let call = machine.opt_out(Removal::Id);
    machine.read(&opted_in("a"));
    machine.write();
    machine.read(&opted_out());
    // The removal has been read back, but its completion has not been saved.
    let Action::Save(save) = machine.inner.poll(machine.now) else { panic!() };
    let Save { record, .. } = *save;
    assert_eq!(record.removal, None);
    assert!(matches!(machine.inner.poll(machine.now), Action::Wait(_)));
    assert_eq!(machine.outcome(call), None);
    let random = machine.random();
    machine.inner.handle_saved(Ok(record), machine.now, &random);
    assert!(machine.is_idle());
    assert_eq!(machine.outcome(call), Some(Outcome::Done));
}

#[tokio::test]
async fn an_opt_in_elsewhere_right_after_a_removal_is_followed() {
    let mut machine = TestMachine::seeing(&opted_in("a"));
    let call = machine.opt_out(Removal::Id);
    machine.read(&opted_in("a"));
    machine.write();
    // The read-back completes the removal.
    machine.read(&opted_in("b"));
    // Another read confirms the opt-in of the other device.
    machine.read(&opted_in("b"));
    assert_eq!(machine.outcome(call), Some(Outcome::Done));
    assert_eq!(machine.gate(), GateState::Open);
}

#[tokio::test]
async fn a_late_echo_of_an_opt_out_does_not_undo_a_later_opt_in_elsewhere() {
    let mut machine = TestMachine::seeing(&opted_in("a"));
    machine.opt_out(Removal::Id);
    machine.read(&opted_in("a"));
    machine.write();
    machine.read(&opted_in("b"));
    // The echo of this device's own write arrives in sync.
    machine.sync(&opted_out());
    machine.read(&opted_in("b"));
    assert_eq!(machine.gate(), GateState::Open);
    assert!(machine.is_idle());
}

#[tokio::test]
async fn a_late_write_of_an_opt_in_counts_although_sync_repeats_an_older_false() {
    let mut machine = TestMachine::seeing(&opted_out());
    let call = machine.opt_in();
    machine.read(&opted_out());
    machine.fail_write(UNANSWERED);
    machine.fail_read(UNANSWERED);
    // A later read shows no opt-in, so the call fails.
    machine.read(&opted_out());
    assert_eq!(machine.outcome(call), Some(Outcome::Failed));
    machine.now += 10 * REQUEST_TIMEOUT;
    // This device has never read that ID.
    machine.sync(&opted_out_with("older"));
    // The homeserver has applied the write late.
    machine.sync(&opted_in("minted-1"));
    machine.read(&opted_in("minted-1"));
    assert_eq!(machine.gate(), GateState::Open);
}

#[tokio::test]
async fn a_clean_up_that_is_acknowledged_but_not_applied_backs_off_and_is_repeated() {
    let mut machine = TestMachine::seeing(&opted_in("a"));
    machine.opt_out(Removal::Id);
    machine.read(&opted_in("a"));
    machine.write();
    machine.read(&opted_out());
    // The removal is done. A third client restores the ID, so this device cleans up.
    machine.sync(&opted_in("a"));
    let hours: Vec<_> = (0..2)
        .map(|_| {
            requests_in_an_hour(&mut machine, |machine, action| match action {
                Action::Put(_) => machine.wrote(),
                _ => machine.answer(&opted_in("a")),
            })
        })
        .collect();
    assert!(hours[0] <= 40 && hours[1] < hours[0] && hours[1] > 0, "{hours:?}");
}

#[tokio::test]
async fn the_read_after_a_clean_up_does_not_open_the_gate() {
    let mut machine = TestMachine::seeing(&opted_in("a"));
    machine.opt_out(Removal::Id);
    machine.read(&opted_in("a"));
    machine.write();
    machine.read(&opted_out());
    // The removal is done. A third client restores the ID, so this device cleans up.
    machine.sync(&opted_in("a"));
    machine.read(&opted_in("a"));
    machine.write();
    // The read-back of the clean-up is in flight.
    machine.expect_read();
    // This is the echo of the clean-up, or an opt-out on another device.
    machine.sync(&opted_out());
    machine.answer(&opted_in("b"));
    assert_eq!(machine.gate(), GateState::Closed(ClosedReason::Denied));
    // A later read decides.
    let wait = machine.waits_for().unwrap();
    machine.now += wait;
    machine.read(&opted_in("b"));
    assert_eq!(machine.gate(), GateState::Open);
}

#[tokio::test]
async fn sync_does_not_shorten_the_wait_that_the_homeserver_asked_for() {
    let mut machine = TestMachine::seeing(&opted_in("a"));
    machine.opt_out(Removal::Id);
    machine.fail_read(refused(Some(300)));
    for seconds in 0..299 {
        machine.now += Duration::from_secs(1);
        machine.inner.handle_sync_delivers(machine.now);
        assert!(machine.is_idle(), "after {seconds} s");
    }
    machine.now += Duration::from_secs(1);
    machine.expect_read();
}

#[tokio::test]
async fn an_opt_in_before_the_first_answer_is_rechecked_within_twelve_hours() {
    let mut machine = TestMachine::new();
    machine.fail_read(UNANSWERED);
    machine.opt_in();
    machine.read(&opted_in("a"));
    assert_eq!(machine.gate(), GateState::Open);
    assert!(machine.waits_for().is_some_and(|wait| wait <= LONGEST_RECHECK));
}

#[tokio::test]
async fn account_data_in_sync_postpones_the_recheck_by_at_most_twelve_hours() {
    let mut machine = TestMachine::seeing(&opted_in("a"));
    machine.now += Duration::from_secs(3600);
    machine.sync(&opted_in("a"));
    let wait = machine.waits_for().unwrap();
    assert!(wait <= LONGEST_RECHECK, "{wait:?}");
    machine.now += wait;
    machine.expect_read();
}

#[tokio::test]
async fn a_failed_clean_up_is_tried_again_and_a_successful_one_is_not() {
    let mut machine = TestMachine::seeing(&opted_in("a"));
    machine.opt_out(Removal::Id);
    machine.read(&opted_in("a"));
    machine.write();
    machine.read(&opted_out());
    // The removal is done. A third client restores the ID, so this device cleans up.
    machine.sync(&opted_in("a"));
    machine.read(&opted_in("a"));
    machine.fail_write(refused(None));

    // The clean-up is tried again.
    let wait = machine.waits_for().unwrap();
    machine.now += wait;
    machine.read(&opted_in("a"));
    machine.write();
    // The ID is restored once more, and this device has already cleaned up once.
    machine.sync(&opted_in("a"));
    machine.read(&opted_in("a"));
    assert!(machine.is_idle());
}

#[tokio::test]
async fn an_unanswered_clean_up_counts_once_a_read_shows_it() {
    let mut machine = TestMachine::seeing(&opted_in("a"));
    machine.opt_out(Removal::Id);
    machine.read(&opted_in("a"));
    machine.write();
    machine.read(&opted_out());
    // The removal is done. A third client restores the ID, so this device cleans up.
    machine.sync(&opted_in("a"));
    machine.read(&opted_in("a"));
    machine.fail_write(UNANSWERED);
    // The homeserver has applied the write without answering.
    let wait = machine.waits_for().unwrap();
    machine.now += wait;
    machine.read(&opted_out());
    assert_eq!(machine.inner.record().cleaned_in_epoch, Some(machine.inner.epoch()));
}

#[tokio::test]
async fn an_id_that_another_device_withdrew_is_not_used_again() {
    // The `false` arrives in sync or by a GET, with or without the ID next to it.
    for shown in [opted_out(), opted_out_with("a")] {
        for in_sync in [true, false] {
            let mut machine = TestMachine::seeing(&opted_in("a"));
            if in_sync {
                machine.sync(&shown);
            } else {
                machine.recheck();
                machine.read(&shown);
            }
            // A third client writes back its cached content.
            machine.sync(&opted_in("a"));
            machine.read(&opted_in("a"));
            assert_eq!(machine.gate(), GateState::Closed(ClosedReason::Denied));
            // The device that withdrew the ID cleans up, not this one.
            assert!(machine.is_idle());
            machine.sync(&opted_in("b"));
            machine.read(&opted_in("b"));
            assert_eq!(machine.gate(), GateState::Open);
        }
    }
}

#[tokio::test]
async fn an_erasure_retires_and_reports_the_id_that_it_finds() {
    let mut machine = TestMachine::seeing(&opted_in("a"));
    machine.opt_out(Removal::Event);
    machine.read(&opted_in("b"));
    assert_eq!(machine.write(), Change::Erase);
    machine.read(&Observed::UNSET);
    assert_eq!(machine.inner.take_removed_id(), Some(id("b")));
    // Neither of the two IDs opens the gate again.
    for restored in ["a", "b"] {
        machine.sync(&opted_in(restored));
        machine.read(&opted_in(restored));
        assert_eq!(machine.gate(), GateState::Closed(ClosedReason::Denied));
        // Each epoch has one clean-up.
        if restored == "a" {
            machine.write();
        }
    }
}

#[tokio::test]
async fn evidence_that_a_lost_session_works_leads_to_a_read() {
    let losses: [fn(&mut TestMachine); 3] = [
        |machine| machine.inner.handle_session(Session::Lost, machine.now),
        |machine| machine.inner.handle_session(Session::SoftLogout, machine.now),
        |machine| {
            machine.recheck();
            machine.fail_read(Failure { kind: FailureKind::Guest, retry_after: None });
        },
    ];
    let signals: [fn(&mut TestMachine); 4] = [
        |machine| machine.inner.handle_session(Session::Live, machine.now),
        |machine| machine.inner.handle_sync_delivers(machine.now),
        |machine| machine.sync(&opted_in("a")),
        |machine| {
            machine.recheck();
        },
    ];
    for lose in losses {
        for signal in signals {
            let mut machine = TestMachine::seeing(&opted_in("a"));
            lose(&mut machine);
            assert!(machine.is_idle());
            assert_ne!(machine.gate(), GateState::Open);
            signal(&mut machine);
            machine.read(&opted_in("a"));
            assert_eq!(machine.gate(), GateState::Open);
        }
    }
}

#[tokio::test]
async fn a_session_lost_again_is_newer_than_a_read_in_flight() {
    let mut machine = TestMachine::seeing(&opted_in("a"));
    machine.inner.handle_session(Session::Lost, machine.now);
    machine.inner.handle_sync_delivers(machine.now);
    machine.expect_read();
    machine.inner.handle_session(Session::Lost, machine.now);
    machine.answer(&opted_in("a"));
    assert_eq!(machine.gate(), GateState::Closed(ClosedReason::SessionEnded));
}

#[tokio::test]
async fn an_opt_in_interrupted_by_a_lost_session_settles_without_a_request_loop() {
    let mut machine = TestMachine::seeing(&Observed::UNSET);
    machine.opt_in();
    machine.read(&Observed::UNSET);
    machine.expect_write();
    machine.inner.handle_session(Session::Lost, machine.now);
    machine.sync(&opted_in("minted-1"));
    machine.read(&opted_in("minted-1"));
    assert_eq!(machine.gate(), GateState::Holding(HoldReason::Settling));
    let wait = machine.waits_for().unwrap();
    assert!(wait >= 2 * REQUEST_TIMEOUT);
    machine.now += wait;
    machine.read(&opted_in("minted-1"));
    assert_eq!(machine.gate(), GateState::Open);
}

#[tokio::test]
async fn a_lost_session_without_evidence_is_rechecked_within_twelve_hours() {
    for session in [Session::Lost, Session::SoftLogout] {
        let mut machine = TestMachine::new();
        machine.inner.handle_session(session, machine.now);
        let wait = machine.waits_for().unwrap();
        assert!(wait <= LONGEST_RECHECK);
        machine.now += wait;
        machine.fail_read(refused(None));
        // The next try is not immediate.
        assert!(machine.waits_for().is_some_and(|wait| wait >= LONGEST_RECHECK / 2));
    }
}

#[tokio::test]
async fn a_user_with_one_forbidden_request_is_not_treated_as_a_guest() {
    let mut machine = TestMachine::seeing(&opted_in("a"));
    machine.recheck();
    machine.fail_read(Failure { kind: FailureKind::Locked, retry_after: None });
    assert_ne!(machine.inner.state().prompt(), Prompt::Unavailable);
    assert_ne!(machine.gate(), GateState::Open);
    let wait = machine.waits_for().unwrap();
    machine.now += wait;
    machine.read(&opted_in("a"));
    assert_eq!(machine.gate(), GateState::Open);
}

#[tokio::test]
async fn an_opt_in_after_the_end_of_the_session_starts_nothing() {
    let mut machine = TestMachine::seeing(&Observed::UNSET);
    let end = machine.call();
    machine.inner.handle_end_session(end);
    let call = machine.opt_in();
    assert_eq!(machine.outcome(call), Some(Outcome::SessionEnded));
    assert_eq!(machine.next(), Action::Wait(None));
}

#[tokio::test]
async fn a_queued_opt_in_starts_nothing_when_the_session_ends() {
    let mut machine = TestMachine::new();
    machine.expect_read();
    let call = machine.opt_in();
    let end = machine.call();
    machine.inner.handle_end_session(end);
    assert_eq!(machine.outcome(call), Some(Outcome::SessionEnded));
    machine.answer(&Observed::UNSET);
    assert_eq!(machine.next(), Action::Wait(None));
}
