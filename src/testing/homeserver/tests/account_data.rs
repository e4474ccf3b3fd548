use matrix_sdk::reqwest::Method;

use super::{ALICE, BOB, Http, TYPE, data_path, event_type, raw};
use crate::testing::{AccountDataMethod, AccountDataServer, Msc3391, Outcome};

#[tokio::test]
async fn a_content_is_kept_byte_for_byte() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let http = Http::new(&homeserver, &phone);
    let digits = "9".repeat(400);
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    let content = format!(
        r#"{{ "\ud800":"\udfff", "huge":{digits}, "float":100.0, "deep":{deep}, "a":1, "a":2}}"#
    );

    assert_eq!(http.put(content.clone()).await.body, "{}");

    assert_eq!(http.get().await.body, content);
    assert_eq!(homeserver.content(ALICE, TYPE), Some(content.clone()));
    assert_eq!(http.sync(None).await.1, super::event(&content));
    assert_eq!(http.sliding_sync(None).await.1, super::event(&content));
}

#[tokio::test]
async fn data_that_was_never_set_is_not_found() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let client = homeserver.client(&phone).await.unwrap();

    assert!(client.account().fetch_account_data(event_type()).await.unwrap().is_none());

    let answer = Http::new(&homeserver, &phone).get().await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.body, r#"{"errcode":"M_NOT_FOUND","error":"Account data not found"}"#);
}

#[tokio::test]
async fn the_sdk_reads_what_it_wrote() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let client = homeserver.client(&phone).await.unwrap();

    client.account().set_account_data_raw(event_type(), raw(r#"{"a":1}"#)).await.unwrap();

    let read = client.account().fetch_account_data(event_type()).await.unwrap().unwrap();
    assert_eq!(read.json().get(), r#"{"a":1}"#);
}

#[tokio::test]
async fn bodies_that_are_not_objects_are_refused_and_change_nothing() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let http = Http::new(&homeserver, &phone);
    homeserver.set_content(ALICE, TYPE, r#"{"kept":true}"#);

    for (body, status, errcode) in [
        ("", 400, "M_NOT_JSON"),
        ("{", 400, "M_NOT_JSON"),
        ("[]", 400, "M_BAD_JSON"),
        ("null", 400, "M_BAD_JSON"),
        (r#"{"a":1e400}"#, 500, "M_UNKNOWN"),
    ] {
        assert_eq!(http.put(body).await.error(), (status, errcode.to_owned()), "{body}");
    }
    assert_eq!(http.put(&b"{\"a\":\"\xed\xa0\x80\"}"[..]).await.error().1, "M_NOT_JSON");

    assert_eq!(homeserver.content(ALICE, TYPE).as_deref(), Some(r#"{"kept":true}"#));
    assert!(homeserver.requests().iter().all(|request| !request.applied));
}

#[tokio::test]
async fn only_the_user_has_access() {
    let homeserver = AccountDataServer::start().await;
    let alice = homeserver.add_device(ALICE, "PHONE");
    let bob = homeserver.add_device(BOB, "PHONE");
    let guest = homeserver.add_guest("@7:example.org", "GUEST");
    let mut http = Http::new(&homeserver, &bob);

    assert_eq!(http.get().await.error(), (403, "M_FORBIDDEN".to_owned()));
    assert_eq!(http.put("{}").await.error(), (403, "M_FORBIDDEN".to_owned()));
    http.token = Some("unknown".to_owned());
    let answer = http.get().await;
    assert_eq!(answer.error(), (401, "M_UNKNOWN_TOKEN".to_owned()));
    assert_eq!(answer.json()["soft_logout"], false);
    http.token = None;
    assert_eq!(http.get().await.error(), (401, "M_MISSING_TOKEN".to_owned()));
    let http = Http::new(&homeserver, &guest);
    let own = http.send(Method::GET, &data_path("@7:example.org"), "").await;
    assert_eq!(own.error(), (403, "M_GUEST_ACCESS_FORBIDDEN".to_owned()));
    assert_eq!(http.sync(None).await.1, []);
    assert_eq!(Http::new(&homeserver, &alice).put("{}").await.status, 200);
}

#[tokio::test]
async fn paths_are_percent_decoded_and_r0_works() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let http = Http::new(&homeserver, &phone);

    let path = "r0/user/%40alice%3Aexample.org/account_data/org.example%2Fodd";
    assert_eq!(http.send(Method::PUT, path, r#"{"a":1}"#).await.status, 200);

    assert_eq!(homeserver.content(ALICE, "org.example/odd").as_deref(), Some(r#"{"a":1}"#));
}

#[tokio::test]
async fn types_with_an_endpoint_of_their_own_cannot_be_set() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let http = Http::new(&homeserver, &phone);

    for event_type in ["m.fully_read", "m.push_rules"] {
        let path = format!("v3/user/{ALICE}/account_data/{event_type}");
        let answer = http.send(Method::PUT, &path, "{}").await;
        assert_eq!(answer.error(), (405, "M_BAD_JSON".to_owned()));
    }
}

#[tokio::test]
async fn without_msc3391_a_put_of_an_empty_object_is_stored() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let http = Http::new(&homeserver, &phone);
    http.put(r#"{"a":1}"#).await;
    let (since, _) = http.sync(None).await;

    http.put("{}").await;

    let answer = http.get().await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
    assert_eq!(http.sync(None).await.1, super::event("{}"));
    let (since, events) = http.sync(Some(&since)).await;
    assert_eq!(events, super::event("{}"));
    http.put("{}").await;
    assert_eq!(http.sync(Some(&since)).await.1, super::event("{}"));
    assert_eq!(http.delete().await.error(), (404, "M_UNRECOGNIZED".to_owned()));
}

#[tokio::test]
async fn with_msc3391_a_put_of_an_empty_object_removes_the_content() {
    let homeserver = AccountDataServer::start().await;
    homeserver.set_msc3391(Msc3391::On);
    let phone = homeserver.add_device(ALICE, "PHONE");
    let http = Http::new(&homeserver, &phone);
    http.put(r#"{"a":1}"#).await;
    let (since, _) = http.sync(None).await;

    http.put("{}").await;

    assert_eq!(http.get().await.error(), (404, "M_NOT_FOUND".to_owned()));
    assert_eq!(homeserver.content(ALICE, TYPE), None);
    assert_eq!(http.sync(None).await.1, []);
    assert_eq!(http.sliding_sync(None).await.1, []);
    let (since, events) = http.sync(Some(&since)).await;
    assert_eq!(events, super::event("{}"));
    http.put("{}").await;
    assert_eq!(http.sync(Some(&since)).await.1, []);
}

#[tokio::test]
async fn with_msc3391_a_delete_removes_the_content() {
    let homeserver = AccountDataServer::start().await;
    homeserver.set_msc3391(Msc3391::On);
    let phone = homeserver.add_device(ALICE, "PHONE");
    let http = Http::new(&homeserver, &phone);
    assert_eq!(http.delete().await.status, 200);
    http.put(r#"{"a":1}"#).await;
    let (since, _) = http.sync(None).await;

    assert_eq!(http.delete().await.body, "{}");

    assert_eq!(http.get().await.status, 404);
    let (since, events) = http.sync(Some(&since)).await;
    assert_eq!(events, super::event("{}"));
    http.delete().await;
    assert_eq!(http.sync(Some(&since)).await.1, []);
    let stable = http.send(Method::DELETE, &data_path(ALICE), "").await;
    assert_eq!(stable.error(), (405, "M_UNRECOGNIZED".to_owned()));
}

#[tokio::test]
async fn requests_are_recorded_in_order() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let http = Http::new(&homeserver, &phone);
    http.get().await;
    http.put(r#"{"a":1}"#).await;

    let requests = homeserver.requests();

    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].method, AccountDataMethod::Get);
    assert_eq!(requests[0].outcome, Outcome::Answered(404));
    assert_eq!(requests[1].method, AccountDataMethod::Put);
    assert_eq!(requests[1].user_id, ALICE);
    assert_eq!(requests[1].event_type, TYPE);
    assert_eq!(requests[1].device_id.as_deref(), Some("PHONE"));
    assert_eq!(requests[1].body, r#"{"a":1}"#);
    assert!(requests[1].applied);
    homeserver.clear_requests();
    assert!(homeserver.requests().is_empty());
}

#[tokio::test]
async fn another_device_can_write_between_a_read_and_a_write() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let http = Http::new(&homeserver, &phone);
    homeserver.before_next(AccountDataMethod::Put, |homeserver| {
        assert_eq!(homeserver.content(ALICE, TYPE), None);
        homeserver.set_content(ALICE, TYPE, r#"{"by":"other"}"#);
    });
    homeserver.after_next(AccountDataMethod::Put, |homeserver| {
        assert_eq!(homeserver.content(ALICE, TYPE).as_deref(), Some(r#"{"by":"phone"}"#));
        homeserver.set_content(ALICE, TYPE, r#"{"by":"third"}"#);
    });

    http.get().await;
    assert_eq!(http.put(r#"{"by":"phone"}"#).await.status, 200);

    assert_eq!(http.get().await.body, r#"{"by":"third"}"#);
}

#[tokio::test]
#[should_panic(expected = "is not JSON")]
async fn a_content_that_is_not_json_panics() {
    AccountDataServer::start().await.set_content(ALICE, TYPE, "{");
}
