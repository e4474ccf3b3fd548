use std::sync::{Arc, Mutex};

use futures_util::StreamExt as _;
use matrix_sdk::{
    SlidingSyncList,
    config::SyncSettings,
    reqwest::Method,
    ruma::{
        api::client::sync::sync_events::v5::request::AccountData, assign,
        events::AnyGlobalAccountDataEvent, serde::Raw,
    },
    sliding_sync::Version,
};

use super::{ALICE, BOB, Http, TYPE, event, event_type, raw, soon};
use crate::testing::{AccountDataServer, InitialSync};

#[tokio::test]
async fn sync_delivers_the_writes_of_each_device_to_both() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let laptop = homeserver.add_device(ALICE, "LAPTOP");
    let phone_client = homeserver.client(&phone).await.unwrap();
    let laptop_client = homeserver.client(&laptop).await.unwrap();
    phone_client.sync_once(SyncSettings::new()).await.unwrap();
    laptop_client.sync_once(SyncSettings::new()).await.unwrap();

    phone_client.account().set_account_data_raw(event_type(), raw(r#"{"a":1}"#)).await.unwrap();

    for client in [phone_client, laptop_client] {
        client.sync_once(SyncSettings::new()).await.unwrap();
        let seen = client.account().account_data_raw(event_type()).await.unwrap().unwrap();
        assert_eq!(seen.json().get(), r#"{"a":1}"#);
    }
}

#[tokio::test]
async fn a_sync_loop_is_caught_up_when_it_asks_for_more() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let client = homeserver.client(&phone).await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    client.add_event_handler({
        let seen = Arc::clone(&seen);
        move |event: Raw<AnyGlobalAccountDataEvent>| {
            seen.lock().unwrap().push(event.json().get().to_owned());
            std::future::ready(())
        }
    });
    let watched = async {
        homeserver.set_content(ALICE, TYPE, r#"{"a":1}"#);
        homeserver.wait_for_sync(&phone).await;
        homeserver.set_content(ALICE, TYPE, r#"{"a":2}"#);
        homeserver.wait_for_sync(&phone).await;
    };

    tokio::select! {
        ended = client.sync(SyncSettings::new()) => panic!("sync ended: {ended:?}"),
        () = soon(watched) => {}
    }

    let expected = |content| format!(r#"{{"type":"{TYPE}","content":{content}}}"#);
    assert_eq!(*seen.lock().unwrap(), [expected(r#"{"a":1}"#), expected(r#"{"a":2}"#)]);
}

#[tokio::test]
async fn sync_delivers_only_the_newest_write_and_only_to_its_user() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let bob = homeserver.add_device(BOB, "PHONE");
    let http = Http::new(&homeserver, &phone);
    let (since, _) = http.sync(None).await;
    homeserver.set_content(ALICE, "org.example.other", r#"{"o":1}"#);
    for number in 0..5 {
        homeserver.set_content(ALICE, TYPE, &format!(r#"{{"n":{number}}}"#));
    }

    let (since, events) = http.sync(Some(&since)).await;

    let other = ("org.example.other".to_owned(), r#"{"o":1}"#.to_owned());
    assert_eq!(events, [vec![other], event(r#"{"n":4}"#)].concat());
    assert_eq!(http.sync(Some(&since)).await, (since, Vec::new()));
    assert_eq!(Http::new(&homeserver, &bob).sync(None).await.1, []);
}

#[tokio::test]
async fn content_is_delivered_again_when_it_is_put_again_or_redelivered() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let http = Http::new(&homeserver, &phone);
    homeserver.set_content(ALICE, TYPE, r#"{"a":1}"#);
    let (since, _) = http.sync(None).await;

    homeserver.set_content(ALICE, TYPE, r#"{"a":1}"#);
    let (since, events) = http.sync(Some(&since)).await;
    assert_eq!(events, event(r#"{"a":1}"#));

    homeserver.redeliver(ALICE, TYPE);
    let (since, events) = http.sync(Some(&since)).await;
    assert_eq!(events, event(r#"{"a":1}"#));

    homeserver.redeliver(ALICE, "org.example.never_set");
    assert_eq!(http.sync(Some(&since)).await.1, []);
}

#[tokio::test]
async fn a_cached_initial_sync_is_stale_until_the_next_one() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let http = Http::new(&homeserver, &phone);
    homeserver.set_content(ALICE, TYPE, r#"{"a":1}"#);
    homeserver.set_initial_sync(InitialSync::Cached);
    http.sync(None).await;
    homeserver.set_content(ALICE, TYPE, r#"{"a":2}"#);
    let phone = homeserver.add_device(ALICE, "PHONE");
    let http = Http::new(&homeserver, &phone);

    let (since, events) = http.sync(None).await;
    assert_eq!(events, event(r#"{"a":1}"#));
    assert_eq!(http.sync(Some(&since)).await.1, event(r#"{"a":2}"#));
    assert_eq!(http.sliding_sync(None).await.1, event(r#"{"a":2}"#));

    homeserver.set_initial_sync(InitialSync::Fresh);
    assert_eq!(http.sync(None).await.1, event(r#"{"a":2}"#));
}

#[tokio::test]
async fn sliding_sync_starts_with_everything_and_continues_with_changes() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let http = Http::new(&homeserver, &phone);
    homeserver.set_content(ALICE, TYPE, r#"{"a":1}"#);

    let (pos, events) = http.sliding_sync(None).await;
    assert_eq!(events, event(r#"{"a":1}"#));
    let (pos, events) = http.sliding_sync(Some(&pos)).await;
    assert_eq!(events, []);
    homeserver.set_content(ALICE, TYPE, r#"{"a":2}"#);
    assert_eq!(http.sliding_sync(Some(&pos)).await.1, event(r#"{"a":2}"#));
}

#[tokio::test]
async fn the_sdk_receives_changes_through_sliding_sync() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let client = homeserver.client(&phone).await.unwrap();
    let sliding_sync = client
        .sliding_sync("test")
        .unwrap()
        .version(Version::Native)
        // matrix-sdk 0.18 delivers account data only if there is a list or a
        // subscription.
        .add_list(SlidingSyncList::builder("all"))
        .with_account_data_extension(assign!(AccountData::default(), { enabled: Some(true) }))
        .build()
        .await
        .unwrap();
    let mut updates = Box::pin(sliding_sync.sync());

    for content in [r#"{"a":1}"#, r#"{"a":2}"#] {
        homeserver.set_content(ALICE, TYPE, content);
        soon(updates.next()).await.unwrap().unwrap();
        let seen = client.account().account_data_raw(event_type()).await.unwrap().unwrap();
        assert_eq!(seen.json().get(), content);
    }
}

#[tokio::test]
async fn a_device_that_was_logged_out_cannot_sync() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let http = Http::new(&homeserver, &phone);
    homeserver.remove_device(&phone);

    let classic = http.send(Method::GET, "v3/sync", "").await;
    let path = "unstable/org.matrix.simplified_msc3575/sync";
    let sliding = http.send(Method::POST, path, "{}").await;

    assert_eq!(classic.error(), (401, "M_UNKNOWN_TOKEN".to_owned()));
    assert_eq!(sliding.error(), (401, "M_UNKNOWN_TOKEN".to_owned()));
}

#[tokio::test]
async fn sliding_sync_without_the_extension_has_no_account_data() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let http = Http::new(&homeserver, &phone);
    homeserver.set_content(ALICE, TYPE, r#"{"a":1}"#);
    let path = "unstable/org.matrix.simplified_msc3575/sync";

    let answer = http.send(Method::POST, path, r#"{"txn_id":"t1"}"#).await.json();

    assert_eq!(answer["extensions"], serde_json::json!({}));
    assert_eq!(answer["txn_id"], "t1");
    let pos = answer["pos"].as_str().unwrap();
    assert_eq!(http.sliding_sync(Some(pos)).await.1, []);
}

#[tokio::test]
async fn unknown_sync_tokens_are_refused() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let http = Http::new(&homeserver, &phone);

    let classic = http.send(Method::GET, "v3/sync?since=nonsense", "").await;
    let path = "unstable/org.matrix.simplified_msc3575/sync?pos=nonsense";
    let sliding = http.send(Method::POST, path, "{}").await;

    assert_eq!(classic.error(), (400, "M_UNKNOWN".to_owned()));
    assert_eq!(sliding.error(), (400, "M_UNKNOWN".to_owned()));
}
