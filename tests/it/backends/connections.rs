//! What a backend that speaks HTTP does with its connections, down to the socket.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use matrix_analytics::{Backend as _, PostHog, Properties, testing};
use reqwest::Client;

use super::posthog::{ID, KEY, opened, posthog};
use crate::support::collector::{Answer, Collector, OK};

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

#[tokio::test]
async fn the_client_is_made_at_the_first_send_and_after_close() {
    let collector = Collector::start();
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    let factory = move || {
        count.fetch_add(1, Ordering::Relaxed);
        Client::builder().build()
    };
    let backend = PostHog::builder(&collector.url(), KEY).http_client(factory).build().unwrap();
    backend.close();
    assert_eq!(made.load(Ordering::Relaxed), 0);
    for clients in [1, 2, 3] {
        backend.send(&opened()).await.unwrap();
        backend.send(&opened()).await.unwrap();
        assert_eq!(made.load(Ordering::Relaxed), clients);
        backend.close();
    }
}

#[tokio::test]
async fn dropping_a_send_ends_its_connection_with_the_request_unfinished() {
    let collector = Collector::start();
    collector.set_answer(Answer::Never);
    let backend = posthog(&collector.url());
    let long = "x".repeat(30 * 1024);
    let events =
        (0..1024).map(|_| testing::event("Long", Properties::new().with("long", long.as_str())));
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
