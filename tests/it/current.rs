//! `CurrentAnalytics`: captures before, during and after a session.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use futures_util::StreamExt as _;
use matrix_analytics::{
    AnalyticsEvent, BuildError, ConsentState, CurrentAnalytics, ELEMENT_EVENT_TYPE, Properties,
};

use crate::support::{ALICE, AnalyticsExt as _, FOREIGN_ID, World, content, eventually};

const BOB: &str = "@bob:example.org";

#[derive(serde::Serialize)]
struct Typed;

impl AnalyticsEvent for Typed {
    const NAME: &'static str = "Typed";
}

fn capture_each_way(current: &CurrentAnalytics, name: &'static str) {
    current.capture(&Typed);
    current.capture_named(name, Properties::new());
    current.capture_with(name, || Properties::new().with("lazy", true));
}

#[tokio::test]
async fn events_from_before_the_login_are_dropped_and_not_counted() {
    let world = World::new().await;
    let current = CurrentAnalytics::new();
    let clone = current.clone();
    assert!(!current.is_open() && current.get().is_none());
    capture_each_way(&clone, "Early");
    clone.capture_with("Early", || panic!("the properties are built for nothing"));

    let (analytics, recorder) = world.device("PHONE").await.start_opted_in().await;
    capture_each_way(&clone, "Early");
    current.set(&analytics);
    assert!(clone.is_open() && clone.get().is_some());
    capture_each_way(&clone, "Late");
    assert!(eventually(analytics.flush_all()).await.is_complete());
    assert_eq!(recorder.names(), ["Typed", "Late", "Late"]);
    assert_eq!(analytics.stats().backends[0].captured, 3);
}

#[tokio::test]
async fn it_obeys_the_gate_of_the_analytics_that_is_set() {
    let world = World::new().await;
    let (analytics, recorder) = world.device("PHONE").await.start_opted_in().await;
    let current = CurrentAnalytics::new();
    current.set(&analytics);
    eventually(analytics.opt_out().into_future()).await;
    assert!(!current.is_open());
    current.capture_with("Denied", || panic!("the properties are built at a closed gate"));
    analytics.opt_in_and_settle().await;
    assert!(current.is_open());
    current.capture_named("Again", Properties::new());
    eventually(analytics.flush_all()).await;
    assert_eq!(recorder.names(), ["Again"]);

    eventually(analytics.end_session()).await;
    assert!(!current.is_open());
    current.capture_with("Ended", || panic!("the properties are built after the session"));
}

#[tokio::test]
async fn it_keeps_no_analytics_alive() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _recorder) = device.start_opted_in().await;
    let current = CurrentAnalytics::new();
    current.set(&analytics);
    let mut states = analytics.state_stream();
    drop(analytics);
    // No task has run since.
    assert!(!current.is_open() && current.get().is_none());
    current.capture_with("Dropped", || panic!("the properties are built for nothing"));
    eventually(async { while states.next().await.is_some() {} }).await;
    device.start().await;
}

#[tokio::test]
async fn the_one_that_it_returns_is_like_any_clone() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _recorder) = device.start().await;
    let current = CurrentAnalytics::new();
    current.set(&analytics);
    let clone = current.get();
    drop(analytics);
    let again = device.builder().build().await;
    assert!(matches!(again, Err(BuildError::AlreadyBuilt)), "{again:?}");
    drop(clone);
    device.start().await;
}

#[tokio::test]
async fn no_event_of_one_account_goes_to_the_next() {
    let world = World::new().await;
    let current = CurrentAnalytics::new();
    let mut sessions = Vec::new();
    for (user, id) in [(ALICE, FOREIGN_ID), (BOB, "bobs-id")] {
        world.server.set_content(user, ELEMENT_EVENT_TYPE, &content(Some(true), Some(id)));
        let device = world.device_of(world.server.add_device(user, "PHONE")).await;
        let (analytics, recorder) = device.start().await;
        analytics.until(ConsentState::is_open).await;
        sessions.push((analytics, recorder));
    }
    let [(alice, to_alice), (bob, to_bob)] = sessions.try_into().unwrap();

    current.set(&alice);
    current.capture_named("OfAlice", Properties::new());
    // Alice stays logged in, with an event that has not left yet.
    current.set(&bob);
    current.capture_named("OfBob", Properties::new());
    eventually(alice.flush_all()).await;
    eventually(bob.flush_all()).await;
    assert_eq!(
        (to_alice.names(), to_alice.ids()),
        (vec!["OfAlice".into()], vec![FOREIGN_ID.into()])
    );
    assert_eq!((to_bob.names(), to_bob.ids()), (vec!["OfBob".into()], vec!["bobs-id".into()]));

    eventually(bob.end_session()).await;
    drop(bob);
    current.capture_named("Between", Properties::new());
    current.set(&alice);
    eventually(alice.flush_all()).await;
    assert_eq!((to_alice.names().len(), to_bob.names().len()), (1, 1));
}

/// A capture in another thread must not hold the record that the next login claims.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the app's own threads capture")]
async fn the_same_user_can_log_in_again_at_any_moment_while_threads_capture() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let current = CurrentAnalytics::new();
    let stop = Arc::new(AtomicBool::new(false));
    let threads = [(); 2].map(|()| {
        let (current, stop) = (current.clone(), stop.clone());
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                capture_each_way(&current, "Threaded");
                let _ = current.is_open();
            }
        })
    });
    for _ in 0..100 {
        let analytics = device.builder().build().await;
        let analytics = analytics.inspect_err(|_| stop.store(true, Ordering::Relaxed)).unwrap();
        current.set(&analytics);
        tokio::task::yield_now().await;
    }
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
}
