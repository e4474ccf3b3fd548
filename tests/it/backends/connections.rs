//! Connection handling of an HTTP backend, observed at the socket.

use std::{pin::pin, process::Stdio};

use matrix_analytics::{Backend as _, Properties, testing};
use tokio::process::Command;

use super::posthog::{ID, KEY, opened, posthog};
use crate::support::collector::{Answer, Collector, OK, uncompressed};

#[tokio::test]
async fn close_ends_the_connection_and_the_next_send_opens_another() {
    let collector = Collector::start();
    let backend = posthog(&collector.url());
    backend.send(&opened()).await.unwrap();
    backend.send(&opened()).await.unwrap();
    let seen = collector.seen();
    assert_eq!((seen.opened, seen.ended), (1, 0), "one connection serves two batches");
    backend.close();
    collector.wait_until(|seen| seen.ended == 1).await;
    backend.send(&opened()).await.unwrap();
    let seen = collector.seen();
    assert_eq!((seen.opened, seen.requests.len()), (2, 3));
}

/// A radio that is woken every few seconds empties the battery of a phone.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_idle_connection_has_no_keep_alive_timer() {
    let collector = Collector::start();
    let backend = posthog(&collector.url());
    backend.send(&opened()).await.unwrap();
    let client = collector.client_side().unwrap();
    assert!(!client.has_timer, "{client:?}");

    let with_keep_alive = reqwest::Client::builder().no_proxy().build().unwrap();
    backend.close();
    collector.wait_until(|seen| seen.ended == 1).await;
    let url = format!("{}/batch/", collector.url());
    with_keep_alive.post(url).body("{}").send().await.unwrap();
    assert!(collector.client_side().unwrap().has_timer, "the test does not see the timer");
}

#[tokio::test]
async fn dropping_a_send_ends_its_connection_with_the_request_unfinished() {
    let collector = Collector::start();
    collector.set_answer(Answer::Never);
    let backend = uncompressed(&collector.url(), KEY).build().unwrap();
    let long = "x".repeat(30 * 1024);
    let events =
        (0..1024).map(|_| testing::event("Long", Properties::new().with("long", long.clone())));
    let batch = testing::batch(ID, events);
    {
        let mut send = pin!(backend.send(&batch));
        tokio::select! {
            biased;
            result = &mut send => panic!("a service that reads nothing has answered: {result:?}"),
            () = collector.wait_until(|seen| seen.stalled == 1) => {}
        }
    }
    collector.set_answer(OK);
    collector.wait_until(|seen| seen.ended == 1).await;
    let seen = collector.seen();
    assert!(seen.requests.is_empty());
    assert!(
        seen.stalled_bytes < 1024 * long.len(),
        "the whole request left, {} bytes",
        seen.stalled_bytes,
    );

    backend.send(&opened()).await.unwrap();
    assert_eq!(collector.seen().requests.len(), 1, "the dropped request is not repeated");
}

/// The name of the child's test.
const CHILD: &str = "backends::connections::a_child_sends_to_the_endpoints_in_its_environment";
/// The endpoints of the child. Set in the child process only.
const ENDPOINTS: &str = "MATRIX_ANALYTICS_TEST_ENDPOINTS";

#[tokio::test]
async fn a_proxy_in_the_environment_is_not_used() {
    let (service, proxy) = (Collector::start(), Collector::start());
    let nothing_else = std::env::temp_dir().join("matrix-analytics-no-key-log");
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", CHILD, "--nocapture"]).stdout(Stdio::null()).stderr(Stdio::null());
    let endpoints = format!("{} https://{}", service.url(), service.address);
    child.env(ENDPOINTS, endpoints).env("SSLKEYLOGFILE", &nothing_else);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        child.env(name, proxy.url()).env(name.to_lowercase(), proxy.url());
    }
    for name in ["NO_PROXY", "no_proxy", "REQUEST_METHOD"] {
        child.env_remove(name);
    }
    assert!(child.status().await.unwrap().success());

    assert_eq!(proxy.seen().opened, 0, "the proxy was contacted");
    assert_eq!(service.seen().requests.len(), 1);
    assert!(!nothing_else.exists(), "the session's keys were logged");
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the parent passes the endpoints in the environment")]
async fn a_child_sends_to_the_endpoints_in_its_environment() {
    let Ok(endpoints) = std::env::var(ENDPOINTS) else {
        return;
    };
    for endpoint in endpoints.split(' ') {
        // None of the services speaks TLS. The attempt to connect is enough.
        let _ = posthog(endpoint).send(&opened()).await;
    }
}

#[tokio::test]
async fn twenty_batches_use_one_connection_even_if_each_body_comes_after_its_head() {
    let collector = Collector::start();
    collector.set_answer(Answer::HeadFirst);
    let backend = posthog(&collector.url());
    for number in 1..=20 {
        let batch = opened();
        let (sent, ()) = tokio::join!(backend.send(&batch), async {
            collector.wait_until(|seen| seen.heads == number).await;
            collector.release_body();
        });
        sent.unwrap();
    }
    let seen = collector.seen();
    assert_eq!((seen.opened, seen.requests.len()), (1, 20));
}

#[tokio::test]
async fn a_response_over_the_size_limit_counts_by_its_status_and_ends_the_connection() {
    let collector = Collector::start();
    let backend = posthog(&collector.url());
    for (bytes, connections) in [(64 * 1024, 1), (64 * 1024, 1), (1024 * 1024, 1), (12, 2)] {
        collector.set_answer(Answer::Long(bytes));
        backend.send(&opened()).await.unwrap();
        assert_eq!(collector.seen().opened, connections, "{bytes}");
    }
    collector.wait_until(|seen| seen.ended == 1).await;
}
