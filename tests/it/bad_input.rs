//! Bad input leads to a typed error and a bounded wait, and loses no data.

use std::{error::Error as _, time::Duration};

use matrix_analytics::{
    AccountDataError, Analytics, BuildError, ClosedReason, Consent, ConsentState,
    ELEMENT_EVENT_TYPE, GateState, HoldReason, OptInError, Prompt, WithdrawalStep,
    testing::{AccountDataMethod, Fault},
};
use matrix_sdk::Client;

use crate::support::{ALICE, AnalyticsExt as _, BOUND, FOREIGN_ID, World, content, eventually};

#[tokio::test]
async fn a_client_without_a_session_is_refused_at_build() {
    let client = Client::builder().homeserver_url("http://127.0.0.1:1").build().await.unwrap();
    let built = Analytics::builder(client, ELEMENT_EVENT_TYPE).build().await;
    assert!(matches!(built, Err(BuildError::NoSession)));
}

#[tokio::test]
async fn an_invalid_event_type_is_refused_at_build() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    for event_type in ["", "m.direct", "a b"] {
        let built = Analytics::builder(device.client.clone(), event_type).build().await;
        assert!(matches!(built, Err(BuildError::EventType)), "{event_type:?}");
    }
}

#[test]
fn a_build_outside_a_runtime_is_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = runtime.block_on(async {
        let world = World::new().await;
        world.device("PHONE").await.client
    });
    let built = futures_util::FutureExt::now_or_never(
        Analytics::builder(client, ELEMENT_EVENT_TYPE).build(),
    );
    assert!(matches!(built, Some(Err(BuildError::NoRuntime))));
}

#[tokio::test]
async fn a_guest_is_not_asked_and_writes_nothing() {
    let world = World::new().await;
    let login = world.server.add_guest(ALICE, "GUEST");
    let device = world.device_of(login).await;
    let (analytics, _) = device.start().await;
    analytics.until(|state| state.gate == GateState::Closed(ClosedReason::Unavailable)).await;
    assert_eq!(analytics.state().prompt(), Prompt::Unavailable);
    let refused = eventually(analytics.opt_in()).await.unwrap_err();
    assert!(matches!(refused, OptInError::AccountData(AccountDataError::Forbidden(_))));
    assert_eq!(analytics.state().prompt(), Prompt::Unavailable);
    assert!(!world.take_requests().contains("PUT"));
}

type ErrorCheck = fn(&AccountDataError) -> bool;

/// Returns every fault that a request can meet, with a check for the error that reports it.
fn faults() -> Vec<(Fault, ErrorCheck)> {
    use AccountDataError as E;

    vec![
        (Fault::RateLimited { retry_after: None }, |e| {
            matches!(e, E::RateLimited { retry_after: None, .. })
        }),
        (Fault::RateLimited { retry_after: Some(Duration::from_secs(334)) }, |e| {
            matches!(e, E::RateLimited { retry_after: Some(after), .. }
                if *after == Duration::from_secs(334))
        }),
        (Fault::ServerError(500), |e| matches!(e, E::Http(_))),
        (Fault::ServerError(503), |e| matches!(e, E::Http(_))),
        (Fault::ResetBefore, |e| matches!(e, E::Http(_))),
        (Fault::Html(502), |e| matches!(e, E::Http(_))),
        (Fault::Html(404), |e| matches!(e, E::Http(_))),
        (Fault::Html(200), |e| matches!(e, E::Http(_))),
        (Fault::NotFoundUnrecognized, |e| matches!(e, E::Http(_))),
        (Fault::Forbidden, |e| matches!(e, E::Forbidden(_))),
        (Fault::UserLocked, |e| matches!(e, E::SessionLost(_))),
        (Fault::StallBefore, |e| matches!(e, E::Timeout | E::Http(_))),
    ]
}

/// Waits for `what`. If `fault` stalls the request, lets the request timeout elapse first.
async fn outlasting<T>(world: &World, fault: &Fault, what: impl Future<Output = T>) -> T {
    let mut what = Box::pin(what);
    if matches!(fault, Fault::StallAfter | Fault::StallBefore) {
        tokio::select! {
            biased;
            done = &mut what => return done,
            () = world.until_stalled() => {}
        }
        tokio::time::advance(BOUND + Duration::from_millis(1)).await;
    }
    eventually(what).await
}

#[tokio::test]
async fn an_opt_in_that_meets_a_fault_changes_nothing_and_succeeds_later() {
    for (fault, is_expected) in faults() {
        for method in [AccountDataMethod::Get, AccountDataMethod::Put] {
            // An HTML page with status 200 is as good an answer to a write as `{}`.
            if fault == Fault::Html(200) && method == AccountDataMethod::Put {
                continue;
            }
            let case = format!("{fault:?} on {method:?}");
            let world = World::new().await;
            let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
            world.server.fail_next_on(method, fault.clone());
            let error = outlasting(&world, &fault, analytics.opt_in()).await.unwrap_err();
            let OptInError::AccountData(error) = error else { panic!("{case}: {error}") };
            assert!(is_expected(&error), "{case}: {error:?}");
            let has_source = !matches!(error, AccountDataError::Timeout);
            assert_eq!(error.source().is_some(), has_source, "{case}");
            assert_eq!(analytics.state().decision, Consent::Undecided, "{case}");
            assert!(!analytics.is_open(), "{case}");
            assert_eq!(world.content(), None, "{case}");

            eventually(analytics.opt_in()).await.unwrap();
            assert_eq!(analytics.state().decision, Consent::Granted, "{case}");
        }
    }
}

#[tokio::test]
async fn an_opt_out_that_meets_a_fault_stands_locally_and_cleans_up_later() {
    for (fault, is_expected) in faults() {
        for method in [AccountDataMethod::Get, AccountDataMethod::Put] {
            if fault == Fault::Html(200) && method == AccountDataMethod::Put {
                continue;
            }
            let case = format!("{fault:?} on {method:?}");
            let world = World::new().await;
            let (analytics, _) = world.device("PHONE").await.start_opted_in().await;
            world.server.fail_next_on(method, fault.clone());
            let receipt = outlasting(&world, &fault, analytics.opt_out().into_future()).await;
            assert!(receipt.record.is_done(), "{case}");
            let WithdrawalStep::Pending(Some(error)) = &receipt.account else {
                panic!("{case}: {receipt:?}")
            };
            assert!(is_expected(error), "{case}: {error:?}");
            assert_eq!(analytics.state().decision, Consent::Denied, "{case}");

            let receipt = eventually(analytics.opt_out().into_future()).await;
            assert!(receipt.is_complete(), "{case}: {receipt:?}");
            assert_eq!(world.content().unwrap(), content(Some(false), None), "{case}");
        }
    }
}

#[tokio::test]
async fn a_recheck_that_meets_a_fault_keeps_the_gate_open() {
    for (fault, is_expected) in faults() {
        if matches!(fault, Fault::Forbidden | Fault::UserLocked) {
            // These faults affect the session; they are tested elsewhere (here below, and P2).
            continue;
        }
        let world = World::new().await;
        let (analytics, _) = world.device("PHONE").await.start_opted_in().await;
        world.server.fail_next(fault.clone());
        let error = outlasting(&world, &fault, analytics.recheck()).await.unwrap_err();
        assert!(is_expected(&error), "{fault:?}: {error:?}");
        assert!(analytics.is_open(), "{fault:?}");
        eventually(analytics.recheck()).await.unwrap();
        assert!(analytics.is_open(), "{fault:?}");
    }
}

#[tokio::test]
async fn a_single_forbidden_answer_holds_the_gate_until_the_next_get() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_opted_in().await;
    world.server.fail_next(Fault::Forbidden);
    assert!(eventually(analytics.recheck()).await.is_err());
    assert_eq!(analytics.state().gate, GateState::Holding(HoldReason::Unverified));
    assert_eq!(analytics.state().prompt(), Prompt::DontAsk);
    eventually(analytics.recheck()).await.unwrap();
    analytics.until(ConsentState::is_open).await;
}

#[tokio::test]
async fn content_that_is_not_an_object_is_reported_and_left_alone() {
    for held in ["[1]", "\"text\"", "7", "null"] {
        let world = World::new().await;
        world.set_content(held);
        let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
        assert_eq!(analytics.state().decision, Consent::Undecided, "{held}");

        let error = eventually(analytics.opt_in()).await.unwrap_err();
        assert!(
            matches!(&error, OptInError::AccountData(AccountDataError::NotAnObject)),
            "{held}: {error:?}"
        );
        let receipt = eventually(analytics.opt_out().into_future()).await;
        assert!(
            matches!(
                &receipt.account,
                WithdrawalStep::Pending(Some(AccountDataError::NotAnObject))
            ),
            "{held}: {receipt:?}"
        );
        assert_eq!(world.content().unwrap(), held);
        // The user can still remove everything.
        let receipt = eventually(analytics.opt_out().erase_event().into_future()).await;
        assert!(receipt.is_complete(), "{held}: {receipt:?}");
        assert_eq!(world.content().unwrap(), "{}");
    }
}

#[tokio::test]
async fn content_that_only_raw_json_can_hold_is_read() {
    let deep = format!("{}{}", "[".repeat(900), "]".repeat(900));
    for (member, id) in [
        (r#""\ud800":1"#, FOREIGN_ID),
        (r#""n":"\udfff""#, FOREIGN_ID),
        (&format!(r#""n":{}"#, "9".repeat(400)), FOREIGN_ID),
        (&format!(r#""n":{deep}"#), FOREIGN_ID),
    ] {
        let world = World::new().await;
        let held = format!(r#"{{{member},"id":"{id}","pseudonymousAnalyticsOptIn":true}}"#);
        world.set_content(&held);
        let device = world.device("PHONE").await;
        let (analytics, _) = device.start_confirmed().await;
        assert_eq!(analytics.analytics_id().unwrap().reveal(), id);
        // Sync delivers the same content, so nothing is requested.
        device.sync().await;
        assert!(analytics.is_open());
        assert_eq!(world.take_requests(), "GET");
    }
}

#[tokio::test]
async fn a_late_answer_is_not_taken_for_the_next_one() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
    world.server.fail_next_on(AccountDataMethod::Put, Fault::StallAfter);
    let state = outlasting(&world, &Fault::StallAfter, analytics.opt_in()).await.unwrap();
    assert_eq!(state.gate, GateState::Holding(HoldReason::Settling));
    let written = crate::support::id_in(&world.content().unwrap()).unwrap();

    eventually(analytics.opt_in()).await.unwrap();
    tokio::time::advance(3 * BOUND + Duration::from_millis(1)).await;
    analytics.until(ConsentState::is_open).await;
    assert_eq!(analytics.analytics_id().unwrap().reveal(), written);
}
