use std::time::Duration;

use matrix_sdk::{reqwest::Method, test_utils::mocks::MatrixMockServer};
use serde_json::json;

use super::{ALICE, BOB, Http, TYPE, data_path, event_type};
use crate::testing::{AccountDataServer, Msc3391};

#[tokio::test]
async fn versions_show_whether_msc3391_is_supported() {
    let homeserver = AccountDataServer::start().await;
    let http = Http { homeserver: &homeserver, token: None };

    for (msc3391, there) in [(Msc3391::Off, false), (Msc3391::On, true)] {
        homeserver.set_msc3391(msc3391);
        let answer = http.send(Method::GET, "versions", "").await.json();
        assert_eq!(answer["unstable_features"]["org.matrix.msc3391"], there);
        assert_eq!(answer["versions"].as_array().unwrap().last().unwrap(), "v1.12");
    }
}

#[tokio::test]
async fn an_expired_token_works_again_after_a_refresh() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device_with_refresh(ALICE, "PHONE");
    let http = Http::new(&homeserver, &phone);
    homeserver.expire_token(&phone);
    let answer = http.get().await;
    assert_eq!(answer.error(), (401, "M_UNKNOWN_TOKEN".to_owned()));
    assert_eq!(answer.json()["soft_logout"], true);

    let client = homeserver.client(&phone).await.unwrap();
    assert!(client.account().fetch_account_data(event_type()).await.unwrap().is_none());

    // Not counted: a client with encryption refreshes for requests of its own as well.
    assert_ne!(homeserver.refreshes(), 0);
    assert_eq!(http.get().await.json()["soft_logout"], false);
    let restarted = homeserver.client(&phone).await.unwrap();
    assert!(restarted.account().fetch_account_data(event_type()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_refresh_rotates_both_tokens_at_once() {
    let homeserver = AccountDataServer::start().await;
    homeserver.set_refresh_delay(Duration::from_millis(1));
    let phone = homeserver.add_device_with_refresh(ALICE, "PHONE");
    let http = Http { homeserver: &homeserver, token: None };
    let body = json!({ "refresh_token": phone.refresh_token }).to_string();

    let first = http.send(Method::POST, "v3/refresh", body.clone()).await;
    let second = http.send(Method::POST, "v3/refresh", body).await;

    assert_eq!(first.status, 200);
    let current = homeserver.devices(ALICE).remove(0);
    assert_eq!(first.json()["access_token"], current.access_token);
    assert_eq!(first.json()["refresh_token"], current.refresh_token.clone().unwrap());
    assert_ne!(current.access_token, phone.access_token);
    assert_ne!(current.refresh_token, phone.refresh_token);
    assert_eq!(second.error(), (401, "M_UNKNOWN_TOKEN".to_owned()));
    assert_eq!(homeserver.refreshes(), 1);
}

#[tokio::test]
async fn a_password_makes_a_new_device() {
    let homeserver = AccountDataServer::start().await;
    homeserver.add_password_login(ALICE, "secret");
    let client = matrix_sdk::Client::builder()
        .homeserver_url(homeserver.uri())
        .handle_refresh_tokens()
        .build()
        .await
        .unwrap();

    client.matrix_auth().login_username("alice", "wrong").send().await.unwrap_err();
    client
        .matrix_auth()
        .login_username("alice", "secret")
        .device_id("NEW")
        .request_refresh_token()
        .send()
        .await
        .unwrap();

    assert_eq!(client.whoami().await.unwrap().user_id, ALICE);
    assert_eq!(client.whoami().await.unwrap().device_id.unwrap(), "NEW");
    let device = homeserver.devices(ALICE).remove(0);
    assert_eq!(device.device_id, "NEW");
    homeserver.expire_token(&device);
    client.whoami().await.unwrap();
    assert_ne!(homeserver.refreshes(), 0);
}

#[tokio::test]
async fn a_logout_ends_one_device_and_leaves_the_data() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    let laptop = homeserver.add_device(ALICE, "LAPTOP");
    homeserver.set_content(ALICE, TYPE, r#"{"a":1}"#);

    homeserver.client(&phone).await.unwrap().logout().await.unwrap();

    assert_eq!(Http::new(&homeserver, &phone).get().await.status, 401);
    assert_eq!(Http::new(&homeserver, &laptop).get().await.body, r#"{"a":1}"#);
    homeserver.remove_device(&laptop);
    let answer = Http::new(&homeserver, &laptop).get().await;
    assert_eq!(answer.json()["soft_logout"], false);
    assert_eq!(homeserver.devices(ALICE), []);
}

#[tokio::test]
async fn a_logout_of_all_devices_does_not_affect_other_users() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    homeserver.add_device(ALICE, "LAPTOP");
    let bob = homeserver.add_device(BOB, "PHONE");

    let http = Http::new(&homeserver, &phone);
    assert_eq!(http.send(Method::POST, "v3/logout/all", "{}").await.status, 200);

    assert_eq!(homeserver.devices(ALICE), []);
    assert_eq!(homeserver.devices(BOB), [bob]);
}

#[tokio::test]
async fn a_deactivation_ends_all_devices_and_the_data() {
    let homeserver = AccountDataServer::start().await;
    let phone = homeserver.add_device(ALICE, "PHONE");
    homeserver.set_content(ALICE, TYPE, r#"{"a":1}"#);

    homeserver.deactivate(ALICE);

    let answer = Http::new(&homeserver, &phone).get().await;
    assert_eq!(answer.error(), (401, "M_UNKNOWN_TOKEN".to_owned()));
    assert_eq!(homeserver.content(ALICE, TYPE), None);
}

#[tokio::test]
async fn a_session_of_a_client_built_elsewhere_can_be_added() {
    let server = MatrixMockServer::new().await;
    let homeserver = AccountDataServer::mount(&server).await;
    let client = server.client_builder().build().await;
    let device = homeserver.add_session_of(&client).unwrap();

    assert!(client.account().fetch_account_data(event_type()).await.unwrap().is_none());

    assert_eq!(homeserver.requests()[0].device_id, Some(device.device_id));
}

#[tokio::test]
async fn next_to_other_mocks_only_account_data_is_answered() {
    let server = MatrixMockServer::new().await;
    server.mock_who_am_i().ok().expect(1).mount().await;
    let homeserver = AccountDataServer::mount_account_data_only(&server).await;
    let client = server.client_builder().build().await;
    homeserver.add_session_of(&client).unwrap();

    client.whoami().await.unwrap();
    assert!(client.account().fetch_account_data(event_type()).await.unwrap().is_none());

    let http = Http { homeserver: &homeserver, token: None };
    assert_eq!(http.send(Method::GET, "v3/sync", "").await.status, 404);
    assert_eq!(http.send(Method::GET, &data_path(ALICE), "").await.status, 401);
}
