use std::time::Duration;

use matrix_sdk::reqwest::Method;

use super::{ALICE, Http, TYPE, data_path, soon};
use crate::testing::{
    AccountDataMethod, AccountDataRequest, AccountDataServer, Fault, FaultRule, Outcome,
};

const OLD: &str = r#"{"old":1}"#;
const NEW: &str = r#"{"new":1}"#;

#[tokio::test]
async fn answers_that_are_faults_apply_nothing() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let http = Http::new(&homeserver, &phone);
    homeserver.set_content(ALICE, TYPE, OLD);

    for (fault, status, errcode, soft_logout) in [
        (Fault::Forbidden, 403, "M_FORBIDDEN", None),
        (Fault::GuestForbidden, 403, "M_GUEST_ACCESS_FORBIDDEN", None),
        (Fault::NotFoundUnrecognized, 404, "M_UNRECOGNIZED", None),
        (Fault::ServerError(503), 503, "M_UNKNOWN", None),
        (Fault::ServerError(0), 500, "M_UNKNOWN", None),
        (Fault::SoftLogout, 401, "M_UNKNOWN_TOKEN", Some(true)),
        (Fault::UnknownToken, 401, "M_UNKNOWN_TOKEN", Some(false)),
        (Fault::UserLocked, 401, "M_USER_LOCKED", Some(true)),
    ] {
        homeserver.fail_next(fault.clone());
        let answer = http.put(NEW).await;
        assert_eq!(answer.error(), (status, errcode.to_owned()), "{fault:?}");
        assert_eq!(answer.json()["soft_logout"].as_bool(), soft_logout, "{fault:?}");
        assert_eq!(homeserver.requests().last().unwrap().status(), Some(status));
    }

    assert_eq!(http.get().await.body, OLD);
}

#[tokio::test]
async fn a_rate_limit_includes_the_wait_if_it_has_one() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let http = Http::new(&homeserver, &phone);

    let retry_after = Some(Duration::from_millis(333_230));
    homeserver.fail_next(Fault::RateLimited { retry_after });
    let answer = http.put(NEW).await;
    assert_eq!(answer.error(), (429, "M_LIMIT_EXCEEDED".to_owned()));
    assert_eq!(answer.retry_after.as_deref(), Some("334"));
    assert_eq!(answer.json()["retry_after_ms"], 333_230);

    homeserver.fail_next(Fault::RateLimited { retry_after: None });
    let answer = http.put(NEW).await;
    assert_eq!(answer.retry_after, None);
    assert!(answer.json().get("retry_after_ms").is_none());
    assert_eq!(homeserver.content(ALICE, TYPE), None);
}

#[tokio::test]
async fn an_html_page_can_have_any_status() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let http = Http::new(&homeserver, &phone);

    for status in [200, 502] {
        homeserver.fail_next(Fault::Html(status));
        let answer = http.put(NEW).await;
        assert_eq!(answer.status, status);
        assert!(answer.body.starts_with("<!DOCTYPE html>"));
        assert!(!homeserver.requests().last().unwrap().applied);
    }
    assert_eq!(homeserver.content(ALICE, TYPE), None);
}

#[tokio::test]
async fn a_reset_before_applies_nothing() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let http = Http::new(&homeserver, &phone);
    homeserver.fail_next_on(AccountDataMethod::Put, Fault::ResetBefore);
    assert_eq!(http.get().await.status, 404);

    http.try_send(Method::PUT, &data_path(ALICE), NEW.into()).await.unwrap_err();

    assert_eq!(homeserver.content(ALICE, TYPE), None);
    let requests = homeserver.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].outcome, Outcome::Reset);
    assert!(!requests[1].applied);
    assert_eq!(http.put(NEW).await.status, 200);
}

#[tokio::test]
async fn a_reset_after_applies_exactly_once() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let http = Http::new(&homeserver, &phone);
    let (since, _) = http.sync(None).await;
    homeserver.fail_next(Fault::ResetAfter);

    http.try_send(Method::PUT, &data_path(ALICE), NEW.into()).await.unwrap_err();

    let (after, events) = http.sync(Some(&since)).await;
    assert_eq!(events, super::event(NEW));
    assert_eq!((since.as_str(), after.as_str()), ("s0", "s1"));
    let requests = homeserver.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].outcome, Outcome::Reset);
    assert!(requests[0].applied);
}

#[tokio::test]
async fn a_stalled_request_is_recorded_while_its_client_waits() {
    for (fault, applied) in [(Fault::StallBefore, false), (Fault::StallAfter, true)] {
        let homeserver = AccountDataServer::start().await;
        let phone = homeserver.add_device(ALICE, "PHONE");
        let http = Http::new(&homeserver, &phone);
        homeserver.fail_next(fault);

        tokio::select! {
            answer = http.put(NEW) => panic!("answered: {answer:?}"),
            () = soon(homeserver.wait_for(|requests| !requests.is_empty())) => {}
        }

        let requests = homeserver.requests();
        assert_eq!(requests[0].outcome, Outcome::Stalled);
        assert_eq!(requests[0].applied, applied);
        assert_eq!(homeserver.content(ALICE, TYPE).is_some(), applied);
        assert_eq!(http.put(NEW).await.status, 200);
    }
}

#[tokio::test]
async fn a_slow_request_is_applied_and_answered() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let http = Http::new(&homeserver, &phone);
    homeserver.fail_next(Fault::Slow(Duration::from_millis(1)));

    assert_eq!(http.put(NEW).await.status, 200);

    assert!(homeserver.requests()[0].applied);
}

#[tokio::test]
async fn a_permanent_fault_lasts_until_it_is_healed_and_does_not_affect_sync() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let laptop = homeserver.add_device(ALICE, "LAPTOP");
    let http = Http::new(&homeserver, &phone);
    homeserver.fail(FaultRule::always(Fault::ServerError(500)).from(&phone));

    assert_eq!(http.get().await.status, 500);
    assert_eq!(http.put(NEW).await.status, 500);
    assert_eq!(Http::new(&homeserver, &laptop).put(OLD).await.status, 200);
    assert_eq!(http.sync(None).await.1, super::event(OLD));
    homeserver.heal();
    assert_eq!(http.put(NEW).await.status, 200);

    homeserver.fail_all(Fault::Forbidden);
    assert_eq!(Http::new(&homeserver, &laptop).get().await.status, 403);
}

#[tokio::test]
async fn requests_at_the_same_time_do_not_take_each_others_faults() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let http = Http::new(&homeserver, &phone);
    homeserver.fail(FaultRule::times(10, Fault::ResetAfter));
    homeserver.fail(FaultRule::times(10, Fault::ResetBefore));

    let path = data_path(ALICE);
    let puts = (0..40).map(|_| http.try_send(Method::PUT, &path, NEW.into()));
    let answers = futures_util::future::join_all(puts).await;

    assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 20);
    let requests = homeserver.requests();
    assert_eq!(requests.len(), 40);
    let of = |outcome, applied| {
        let same = |request: &&AccountDataRequest| {
            request.outcome == outcome && request.applied == applied
        };
        requests.iter().filter(same).count()
    };
    assert_eq!(of(Outcome::Reset, true), 10);
    assert_eq!(of(Outcome::Reset, false), 10);
    assert_eq!(of(Outcome::Answered(200), true), 20);
    assert_eq!(http.sync(None).await.0, "s30");
}
