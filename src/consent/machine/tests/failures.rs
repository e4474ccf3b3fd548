//! Failed requests, recovered sessions, and IDs that another device withdrew.

use super::*;

const LONGEST_RECHECK: Duration = Duration::from_secs(12 * 3600);

fn refused(retry_after: Option<u64>) -> Failure {
    Failure { kind: FailureKind::Refused, retry_after: retry_after.map(Duration::from_secs) }
}

/// Counts the requests of the hour from `driven.now` on, each answered by `answer`.
fn requests_in_an_hour(driven: &mut Driven, answer: impl Fn(&mut Driven, &Action)) -> usize {
    let end = driven.now + Duration::from_secs(3600);
    let mut requests = 0;
    loop {
        match driven.next() {
            Action::Wait(until) => match until.filter(|until| *until < end) {
                Some(until) => driven.now = until,
                None => break,
            },
            action => {
                requests += 1;
                answer(driven, &action);
            }
        }
    }
    driven.now = end;
    requests
}

#[tokio::test]
async fn a_removal_whose_write_fails_backs_off() {
    for failure in [UNANSWERED, refused(None)] {
        let mut driven = Driven::seeing(&opted_in("a"));
        driven.opt_out(Removal::Id);
        let hours: Vec<_> = (0..3)
            .map(|_| {
                requests_in_an_hour(&mut driven, |driven, action| {
                    let random = driven.random();
                    match action {
                        Action::Put(_) => {
                            driven.machine.handle_put(Err(failure), driven.now, &random);
                        }
                        _ => driven.answer(&opted_in("a")),
                    }
                })
            })
            .collect();
        assert!(hours[0] <= 40 && hours[1] < hours[0] && hours[2] <= hours[1], "{hours:?}");
    }
}

#[tokio::test]
async fn a_removal_that_is_acknowledged_but_not_applied_backs_off_and_stays_pending() {
    let mut driven = Driven::seeing(&opted_in("a"));
    let call = driven.opt_out(Removal::Id);
    driven.read(&opted_in("a"));
    driven.write();
    driven.read(&opted_in("a"));
    assert!(driven.is_idle());
    assert_eq!(driven.outcome(call), Some(Outcome::Pending));
    assert!(driven.machine.state().removal_pending);

    let requests = requests_in_an_hour(&mut driven, |driven, action| match action {
        Action::Put(_) => driven.wrote(),
        _ => driven.answer(&opted_in("a")),
    });
    assert!(requests <= 40, "{requests}");
}

#[tokio::test]
async fn a_removal_is_done_once_it_was_read_back_and_saved() {
    let mut driven = Driven::seeing(&opted_in("a"));
    let call = driven.opt_out(Removal::Id);
    driven.read(&opted_in("a"));
    driven.write();
    driven.read(&opted_out());
    // The save has not ended yet.
    let Action::Save(save) = driven.machine.poll(driven.now) else { panic!() };
    let Save { record, .. } = *save;
    assert_eq!(record.removal, None);
    assert!(matches!(driven.machine.poll(driven.now), Action::Wait(_)));
    assert_eq!(driven.outcome(call), None);
    let random = driven.random();
    driven.machine.handle_saved(Ok(record), driven.now, &random);
    assert!(driven.is_idle());
    assert_eq!(driven.outcome(call), Some(Outcome::Done));
}

#[tokio::test]
async fn an_opt_in_elsewhere_right_after_a_removal_is_followed() {
    let mut driven = Driven::seeing(&opted_in("a"));
    let call = driven.opt_out(Removal::Id);
    driven.read(&opted_in("a"));
    driven.write();
    driven.read(&opted_in("b"));
    driven.read(&opted_in("b"));
    assert_eq!(driven.outcome(call), Some(Outcome::Done));
    assert_eq!(driven.gate(), GateState::Open);
}

#[tokio::test]
async fn a_late_echo_of_an_opt_out_does_not_undo_a_later_opt_in_elsewhere() {
    let mut driven = Driven::seeing(&opted_in("a"));
    driven.opt_out(Removal::Id);
    driven.read(&opted_in("a"));
    driven.write();
    driven.read(&opted_in("b"));
    driven.sync(&opted_out());
    driven.read(&opted_in("b"));
    assert_eq!(driven.gate(), GateState::Open);
    assert!(driven.is_idle());
}

#[tokio::test]
async fn a_late_write_of_an_opt_in_counts_although_sync_repeats_an_older_false() {
    let mut driven = Driven::seeing(&opted_out());
    let call = driven.opt_in();
    driven.read(&opted_out());
    driven.fail_write(UNANSWERED);
    driven.fail_read(UNANSWERED);
    driven.read(&opted_out());
    assert_eq!(driven.outcome(call), Some(Outcome::Failed));
    driven.now += 10 * REQUEST_TIMEOUT;
    // This device has never read that ID.
    driven.sync(&opted_out_with("older"));
    driven.sync(&opted_in("minted-1"));
    driven.read(&opted_in("minted-1"));
    assert_eq!(driven.gate(), GateState::Open);
}

#[tokio::test]
async fn a_clean_up_that_is_acknowledged_but_not_applied_backs_off_and_is_repeated() {
    let mut driven = Driven::seeing(&opted_in("a"));
    driven.opt_out(Removal::Id);
    driven.read(&opted_in("a"));
    driven.write();
    driven.read(&opted_out());
    driven.sync(&opted_in("a"));
    let hours: Vec<_> = (0..2)
        .map(|_| {
            requests_in_an_hour(&mut driven, |driven, action| match action {
                Action::Put(_) => driven.wrote(),
                _ => driven.answer(&opted_in("a")),
            })
        })
        .collect();
    assert!(hours[0] <= 40 && hours[1] < hours[0] && hours[1] > 0, "{hours:?}");
}

#[tokio::test]
async fn the_read_after_a_clean_up_does_not_open_the_gate() {
    let mut driven = Driven::seeing(&opted_in("a"));
    driven.opt_out(Removal::Id);
    driven.read(&opted_in("a"));
    driven.write();
    driven.read(&opted_out());
    driven.sync(&opted_in("a"));
    driven.read(&opted_in("a"));
    driven.write();
    driven.expect_read();
    // This may be the echo of the clean-up, or an opt-out on another device.
    driven.sync(&opted_out());
    driven.answer(&opted_in("b"));
    assert_eq!(driven.gate(), GateState::Closed(ClosedReason::Denied));
    let wait = driven.waits_for().unwrap();
    driven.now += wait;
    driven.read(&opted_in("b"));
    assert_eq!(driven.gate(), GateState::Open);
}

#[tokio::test]
async fn sync_does_not_shorten_the_wait_that_the_homeserver_asked_for() {
    let mut driven = Driven::seeing(&opted_in("a"));
    driven.opt_out(Removal::Id);
    driven.fail_read(refused(Some(300)));
    for seconds in 0..299 {
        driven.now += Duration::from_secs(1);
        driven.machine.handle_sync_delivers(driven.now);
        assert!(driven.is_idle(), "after {seconds} s");
    }
    driven.now += Duration::from_secs(1);
    driven.expect_read();
}

#[tokio::test]
async fn an_opt_in_before_the_first_answer_is_rechecked_within_twelve_hours() {
    let mut driven = Driven::new();
    driven.fail_read(UNANSWERED);
    driven.opt_in();
    driven.read(&opted_in("a"));
    assert_eq!(driven.gate(), GateState::Open);
    assert!(driven.waits_for().is_some_and(|wait| wait <= LONGEST_RECHECK));
}

#[tokio::test]
async fn account_data_in_sync_postpones_the_recheck_by_at_most_twelve_hours() {
    let mut driven = Driven::seeing(&opted_in("a"));
    driven.now += Duration::from_secs(3600);
    driven.sync(&opted_in("a"));
    let wait = driven.waits_for().unwrap();
    assert!(wait <= LONGEST_RECHECK, "{wait:?}");
    driven.now += wait;
    driven.expect_read();
}

#[tokio::test]
async fn a_failed_clean_up_is_tried_again_and_a_successful_one_is_not() {
    let mut driven = Driven::seeing(&opted_in("a"));
    driven.opt_out(Removal::Id);
    driven.read(&opted_in("a"));
    driven.write();
    driven.read(&opted_out());
    driven.sync(&opted_in("a"));
    driven.read(&opted_in("a"));
    driven.fail_write(refused(None));

    let wait = driven.waits_for().unwrap();
    driven.now += wait;
    driven.read(&opted_in("a"));
    driven.write();
    driven.sync(&opted_in("a"));
    driven.read(&opted_in("a"));
    assert!(driven.is_idle());
}

#[tokio::test]
async fn an_unanswered_clean_up_counts_once_a_read_shows_it() {
    let mut driven = Driven::seeing(&opted_in("a"));
    driven.opt_out(Removal::Id);
    driven.read(&opted_in("a"));
    driven.write();
    driven.read(&opted_out());
    driven.sync(&opted_in("a"));
    driven.read(&opted_in("a"));
    driven.fail_write(UNANSWERED);
    let wait = driven.waits_for().unwrap();
    driven.now += wait;
    driven.read(&opted_out());
    assert_eq!(driven.machine.record().cleaned_in_epoch, Some(driven.machine.epoch()));
}

#[tokio::test]
async fn an_id_that_another_device_withdrew_is_not_used_again() {
    // The `false` arrives in sync or by a GET, with or without the ID next to it.
    for shown in [opted_out(), opted_out_with("a")] {
        for in_sync in [true, false] {
            let mut driven = Driven::seeing(&opted_in("a"));
            if in_sync {
                driven.sync(&shown);
            } else {
                driven.recheck();
                driven.read(&shown);
            }
            // A third client writes back its cached content.
            driven.sync(&opted_in("a"));
            driven.read(&opted_in("a"));
            assert_eq!(driven.gate(), GateState::Closed(ClosedReason::Denied));
            // The device that withdrew the ID cleans up, not this one.
            assert!(driven.is_idle());
            driven.sync(&opted_in("b"));
            driven.read(&opted_in("b"));
            assert_eq!(driven.gate(), GateState::Open);
        }
    }
}

#[tokio::test]
async fn an_erasure_retires_and_reports_the_id_that_it_finds() {
    let mut driven = Driven::seeing(&opted_in("a"));
    driven.opt_out(Removal::Event);
    driven.read(&opted_in("b"));
    assert_eq!(driven.write(), Change::Erase);
    driven.read(&Observed::UNSET);
    assert_eq!(driven.machine.take_removed_id(), Some(id("b")));
    for restored in ["a", "b"] {
        driven.sync(&opted_in(restored));
        driven.read(&opted_in(restored));
        assert_eq!(driven.gate(), GateState::Closed(ClosedReason::Denied));
        if restored == "a" {
            driven.write();
        }
    }
}

#[tokio::test]
async fn evidence_that_a_lost_session_works_leads_to_a_read() {
    let lose: [fn(&mut Driven); 3] = [
        |driven| driven.machine.handle_session(Session::Lost, driven.now),
        |driven| driven.machine.handle_session(Session::SoftLogout, driven.now),
        |driven| {
            driven.recheck();
            driven.fail_read(Failure { kind: FailureKind::Guest, retry_after: None });
        },
    ];
    let evidence: [fn(&mut Driven); 4] = [
        |driven| driven.machine.handle_session(Session::Live, driven.now),
        |driven| driven.machine.handle_sync_delivers(driven.now),
        |driven| driven.sync(&opted_in("a")),
        |driven| {
            driven.recheck();
        },
    ];
    for lose in lose {
        for evidence in evidence {
            let mut driven = Driven::seeing(&opted_in("a"));
            lose(&mut driven);
            assert!(driven.is_idle());
            assert_ne!(driven.gate(), GateState::Open);
            evidence(&mut driven);
            driven.read(&opted_in("a"));
            assert_eq!(driven.gate(), GateState::Open);
        }
    }
}

#[tokio::test]
async fn a_session_lost_again_is_newer_than_a_read_in_flight() {
    let mut driven = Driven::seeing(&opted_in("a"));
    driven.machine.handle_session(Session::Lost, driven.now);
    driven.machine.handle_sync_delivers(driven.now);
    driven.expect_read();
    driven.machine.handle_session(Session::Lost, driven.now);
    driven.answer(&opted_in("a"));
    assert_eq!(driven.gate(), GateState::Closed(ClosedReason::SessionEnded));
}

#[tokio::test]
async fn an_opt_in_interrupted_by_a_lost_session_settles_without_a_request_loop() {
    let mut driven = Driven::seeing(&Observed::UNSET);
    driven.opt_in();
    driven.read(&Observed::UNSET);
    driven.expect_write();
    driven.machine.handle_session(Session::Lost, driven.now);
    driven.sync(&opted_in("minted-1"));
    driven.read(&opted_in("minted-1"));
    assert_eq!(driven.gate(), GateState::Holding(HoldReason::Settling));
    let wait = driven.waits_for().unwrap();
    assert!(wait >= 2 * REQUEST_TIMEOUT);
    driven.now += wait;
    driven.read(&opted_in("minted-1"));
    assert_eq!(driven.gate(), GateState::Open);
}

#[tokio::test]
async fn a_lost_session_without_evidence_is_rechecked_within_twelve_hours() {
    for session in [Session::Lost, Session::SoftLogout] {
        let mut driven = Driven::new();
        driven.machine.handle_session(session, driven.now);
        let wait = driven.waits_for().unwrap();
        assert!(wait <= LONGEST_RECHECK);
        driven.now += wait;
        driven.fail_read(refused(None));
        // The next try is not immediate.
        assert!(driven.waits_for().is_some_and(|wait| wait >= LONGEST_RECHECK / 2));
    }
}

#[tokio::test]
async fn a_user_with_one_forbidden_request_is_not_treated_as_a_guest() {
    let mut driven = Driven::seeing(&opted_in("a"));
    driven.recheck();
    driven.fail_read(Failure { kind: FailureKind::Locked, retry_after: None });
    assert_ne!(driven.machine.state().prompt(), Prompt::Unavailable);
    assert_ne!(driven.gate(), GateState::Open);
    let wait = driven.waits_for().unwrap();
    driven.now += wait;
    driven.read(&opted_in("a"));
    assert_eq!(driven.gate(), GateState::Open);
}

#[tokio::test]
async fn an_opt_in_after_the_end_of_the_session_starts_nothing() {
    let mut driven = Driven::seeing(&Observed::UNSET);
    let end = driven.call();
    driven.machine.handle_end_session(end);
    let call = driven.opt_in();
    assert_eq!(driven.outcome(call), Some(Outcome::SessionEnded));
    assert_eq!(driven.next(), Action::Wait(None));
}

#[tokio::test]
async fn a_queued_opt_in_starts_nothing_when_the_session_ends() {
    let mut driven = Driven::new();
    driven.expect_read();
    let call = driven.opt_in();
    let end = driven.call();
    driven.machine.handle_end_session(end);
    assert_eq!(driven.outcome(call), Some(Outcome::SessionEnded));
    driven.answer(&Observed::UNSET);
    assert_eq!(driven.next(), Action::Wait(None));
    assert_ne!(call, CallId(0));
}
