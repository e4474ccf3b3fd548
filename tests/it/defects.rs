//! Known defects of other Matrix clients, numbered as in the list of them that this project keeps.
//! Each test shows that this crate does not have one.
//!
//! Three cannot be tested here. D26 (a raw room ID as a property) and D27 (a room name in a path)
//! depend on what the app captures; the guard of P8 is for those. D29 (free text of an error as a
//! property; an event counted as reported although consent dropped it) is up to the app: `capture`
//! does not say whether it accepted an event, so an app cannot rely on that.

use std::collections::BTreeSet;

use hyper::Method;
use matrix_analytics::{
    Analytics, Consent, ConsentState, GateState, HoldReason, Prompt, Properties, UserProperties,
    testing::{AccountDataMethod, DeliveryFailure, FailingBackend, Fault, RecordingBackend},
};

use crate::support::{
    AnalyticsExt as _, FOREIGN_ID, GatedProxy, SETTLE, World, content, eventually, id_in, log::Log,
};

/// Starts a device whose account-data requests are held, and releases its first answer.
async fn gated(world: &World, name: &str) -> (GatedProxy, Analytics, RecordingBackend) {
    let (mut proxy, device) = world.gated_device(name).await;
    let (analytics, recorder) = device.start().await;
    proxy.next(Method::GET).await.pass().await;
    analytics.confirmed().await;
    (proxy, analytics, recorder)
}

#[tokio::test]
async fn d01_d02_the_loser_of_a_race_takes_the_winners_id() {
    let world = World::new().await;
    let (mut first, loser, sent) = gated(&world, "PHONE").await;
    let (mut second, winner, _) = gated(&world, "LAPTOP").await;
    let opt_ins: Vec<_> = [loser.clone(), winner.clone()]
        .into_iter()
        .map(|analytics| tokio::spawn(async move { analytics.opt_in().await }))
        .collect();
    // Both read before either writes: the last write stands.
    first.next(Method::GET).await.pass().await;
    second.next(Method::GET).await.pass().await;
    first.next(Method::PUT).await.pass().await;
    second.next(Method::PUT).await.pass().await;
    for opt_in in opt_ins {
        eventually(opt_in).await.unwrap().unwrap();
    }
    loser.capture_one("Raced");
    tokio::time::advance(SETTLE).await;
    first.next(Method::GET).await.pass().await;
    second.next(Method::GET).await.pass().await;
    loser.until(ConsentState::is_open).await;
    winner.until(ConsentState::is_open).await;
    eventually(loser.flush_all()).await;

    let held = id_in(&world.content().unwrap()).unwrap();
    assert_eq!(winner.analytics_id().unwrap().reveal(), held);
    assert_eq!(sent.ids(), [held]);
}

#[tokio::test]
async fn d03_an_id_has_all_of_its_digits() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
    for _ in 0..8 {
        analytics.opt_in_and_settle().await;
        let id = analytics.analytics_id().unwrap();
        assert_eq!(uuid::Uuid::parse_str(id.reveal()).unwrap().to_string(), id.reveal());
        eventually(analytics.opt_out().into_future()).await;
    }
}

#[tokio::test]
async fn d04_an_id_that_could_not_be_stored_is_not_used() {
    let world = World::new().await;
    let (analytics, recorder) = world.device("PHONE").await.start_confirmed().await;
    world.server.fail_next_on(AccountDataMethod::Put, Fault::ServerError(500));
    assert!(eventually(analytics.opt_in()).await.is_err());
    analytics.capture_one("Orphan");
    eventually(analytics.flush_all()).await;
    assert!(analytics.analytics_id().is_none());
    assert!(recorder.events().is_empty());
}

#[tokio::test]
async fn d05_a_falsy_id_is_replaced_and_never_written() {
    for falsy in ["null", "\"\""] {
        let world = World::new().await;
        world.set_content(&format!(r#"{{"id":{falsy},"pseudonymousAnalyticsOptIn":true}}"#));
        let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
        analytics.opt_in_and_settle().await;
        let held = world.content().unwrap();
        assert_eq!(held.matches("\"id\"").count(), 1);
        assert_eq!(id_in(&held).unwrap(), analytics.analytics_id().unwrap().reveal());
        eventually(analytics.opt_out().into_future()).await;
        assert!(!world.content().unwrap().contains("\"id\""));
    }
}

#[tokio::test]
async fn d06_an_overwrite_without_the_flag_changes_no_decision() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_opted_in().await;
    eventually(analytics.opt_out().into_future()).await;
    world.set_content(&content(None, Some(FOREIGN_ID)));
    device.sync().await;
    eventually(analytics.recheck()).await.unwrap();
    assert_eq!(analytics.state().decision, Consent::Denied);
    assert_eq!(analytics.state().prompt(), Prompt::DontAsk);
}

#[tokio::test]
async fn d07_members_of_other_clients_are_written_back() {
    let world = World::new().await;
    world.set_content(r#"{"showPseudonymousAnalyticsPrompt":false,"x":{"y":1.0}}"#);
    let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
    analytics.opt_in_and_settle().await;
    eventually(analytics.opt_out().into_future()).await;
    assert_eq!(
        world.content().unwrap(),
        r#"{"showPseudonymousAnalyticsPrompt":false,"x":{"y":1.0},"pseudonymousAnalyticsOptIn":false}"#
    );
}

#[tokio::test]
async fn d08_d09_writes_merge_into_the_current_content_of_the_homeserver() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    world.set_content(r#"{"old":1}"#);
    device.sync().await;
    let (analytics, _) = device.start_confirmed().await;
    // Another client wrote this while the device was offline.
    world.set_content(&format!(
        r#"{{"new":2,"id":"{FOREIGN_ID}","pseudonymousAnalyticsOptIn":true}}"#
    ));
    eventually(analytics.opt_in()).await.unwrap();
    assert_eq!(analytics.analytics_id().unwrap().reveal(), FOREIGN_ID);
    eventually(analytics.opt_out().into_future()).await;
    assert_eq!(world.content().unwrap(), r#"{"new":2,"pseudonymousAnalyticsOptIn":false}"#);
}

#[tokio::test]
async fn d10_a_write_does_not_wait_for_sync() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
    // No sync runs in this test.
    analytics.opt_in_and_settle().await;
    eventually(analytics.opt_in()).await.unwrap();
    assert!(eventually(analytics.opt_out().into_future()).await.is_complete());
}

#[tokio::test]
async fn d11_an_account_without_an_id_yields_none() {
    let world = World::new().await;
    world.set_content(&content(Some(true), None));
    let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
    assert!(analytics.analytics_id().is_none());
}

#[tokio::test]
async fn d12_two_users_have_two_ids() {
    let world = World::new().await;
    let (alice, _) = world.device("PHONE").await.start_opted_in().await;
    let login = world.server.add_device("@bob:example.org", "TABLET");
    let (bob, _) = world.device_of(login).await.start_opted_in().await;
    assert_ne!(alice.analytics_id(), bob.analytics_id());
}

#[tokio::test]
async fn d13_opting_out_deletes_the_id() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_opted_in().await;
    eventually(analytics.opt_out().into_future()).await;
    assert_eq!(world.content().unwrap(), content(Some(false), None));
}

#[tokio::test]
async fn d14_d22_an_opt_out_on_another_device_applies_here() {
    let world = World::new().await;
    let (phone, laptop) = (world.device("PHONE").await, world.device("LAPTOP").await);
    let (here, _) = phone.start_opted_in().await;
    let (there, _) = laptop.start_confirmed().await;
    eventually(there.opt_out().into_future()).await;
    phone.sync().await;
    assert_eq!(here.state().decision, Consent::Denied);
    assert!(!here.is_open());
}

#[tokio::test]
async fn d15_d16_d19_no_queued_event_is_sent_during_or_after_an_opt_out() {
    let world = World::new().await;
    let backend = FailingBackend::new();
    let device = world.device("PHONE").await;
    let analytics = device.builder().backend(backend.clone()).build().await.unwrap();
    analytics.opt_in_and_settle().await;
    backend.fail_always(DeliveryFailure::Transient);
    analytics.capture_one("Queued");
    eventually(analytics.flush_all()).await;
    let before = backend.attempts();

    eventually(analytics.opt_out().into_future()).await;
    backend.heal();
    tokio::time::advance(std::time::Duration::from_secs(3600)).await;
    eventually(analytics.flush_all()).await;
    assert_eq!(backend.attempts(), before);

    analytics.opt_in_and_settle().await;
    analytics.capture_one("Again");
    eventually(analytics.flush_all()).await;
    let names: Vec<_> = backend.accepted_events().into_iter().map(|event| event.name).collect();
    assert_eq!(names, ["Again"]);
}

#[tokio::test]
async fn d17_each_opt_in_has_a_new_id() {
    let world = World::new().await;
    let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
    let mut ids = BTreeSet::new();
    for _ in 0..3 {
        analytics.opt_in_and_settle().await;
        assert!(ids.insert(analytics.analytics_id().unwrap().reveal().to_owned()));
        eventually(analytics.opt_out().into_future()).await;
    }
}

#[tokio::test]
async fn d18_an_opt_out_during_the_write_of_an_opt_in_wins() {
    let world = World::new().await;
    let (mut proxy, analytics, recorder) = gated(&world, "PHONE").await;
    let opt_in = {
        let analytics = analytics.clone();
        tokio::spawn(async move { analytics.opt_in().await })
    };
    proxy.next(Method::GET).await.pass().await;
    let written = proxy.next(Method::PUT).await;
    analytics.capture_one("Held");
    let opt_out = tokio::spawn(analytics.opt_out().into_future());
    analytics.until(|state| state.decision == Consent::Denied).await;
    // The write is applied after the opt-out, and must be cleaned up.
    written.pass().await;
    assert_eq!(eventually(opt_in).await.unwrap().unwrap().decision, Consent::Denied);
    proxy.next(Method::GET).await.pass().await;
    proxy.next(Method::PUT).await.pass().await;
    proxy.next(Method::GET).await.pass().await;
    assert!(eventually(opt_out).await.unwrap().is_complete());
    assert_eq!(world.content().unwrap(), content(Some(false), None));
    eventually(analytics.flush_all()).await;
    assert!(recorder.events().is_empty());
}

#[tokio::test]
async fn d20_d21_a_user_who_was_not_asked_is_not_opted_in() {
    for held in ["{}".to_owned(), content(Some(false), None)] {
        let world = World::new().await;
        world.set_content(&held);
        let device = world.device("PHONE").await;
        let (analytics, recorder) = device.start_confirmed().await;
        device.sync().await;
        analytics.capture_one("Never");
        eventually(analytics.recheck()).await.unwrap();
        eventually(analytics.flush_all()).await;
        assert_ne!(analytics.state().decision, Consent::Granted);
        assert!(recorder.events().is_empty());
        assert_eq!(world.content().unwrap(), held);
    }
}

#[tokio::test]
async fn d23_d24_the_next_account_inherits_nothing() {
    let world = World::new().await;
    let (alice, _) = world.device("PHONE").await.start_opted_in().await;
    alice.set_super_properties(Properties::new().with("plan", "alices")).unwrap();
    alice.set_user_properties(UserProperties::new().set("rooms", 5)).unwrap();
    eventually(alice.end_session()).await;
    drop(alice);

    let login = world.server.add_device("@bob:example.org", "PHONE");
    let (bob, sent) = world.device_of(login).await.start_confirmed().await;
    assert_eq!(bob.state().prompt(), Prompt::Ask);
    bob.opt_in_and_settle().await;
    bob.capture_one("First");
    eventually(bob.flush_all()).await;
    assert!(sent.events()[0].properties.is_empty() && sent.events()[0].set.is_empty());
}

#[tokio::test]
async fn d25_events_captured_before_the_id_wait_for_it() {
    let world = World::new().await;
    let (analytics, recorder) = world.device("PHONE").await.start_confirmed().await;
    let state = eventually(analytics.opt_in()).await.unwrap();
    assert_eq!(state.gate, GateState::Holding(HoldReason::Settling));
    analytics.capture_one("Early");
    eventually(analytics.flush_all()).await;
    assert!(recorder.events().is_empty());
    tokio::time::advance(SETTLE).await;
    analytics.until(ConsentState::is_open).await;
    eventually(analytics.flush_all()).await;
    assert_eq!(recorder.ids(), [id_in(&world.content().unwrap()).unwrap()]);
}

#[tokio::test]
async fn d28_no_log_line_contains_the_id() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(log.clone())
        .finish();
    let _default = tracing::subscriber::set_default(subscriber);

    let world = World::new().await;
    let backend = FailingBackend::new();
    let device = world.device("PHONE").await;
    let analytics = device.builder().backend(backend.clone()).build().await.unwrap();
    analytics.opt_in_and_settle().await;
    let id = analytics.analytics_id().unwrap();
    backend.fail_next(DeliveryFailure::Transient);
    backend.panic_next();
    analytics.capture_named("Event", Properties::new().with("key", "a-personal-value"));
    eventually(analytics.flush_all()).await;
    tokio::time::advance(std::time::Duration::from_secs(5)).await;
    eventually(analytics.flush_all()).await;
    eventually(analytics.opt_out().into_future()).await;

    let log = log.text();
    let ours: Vec<_> = log.lines().filter(|line| line.contains("matrix_analytics")).collect();
    assert!(!ours.is_empty(), "the failure of the backend is logged");
    for line in log.lines() {
        assert!(!line.contains(id.reveal()) && !line.contains("a-personal-value"), "{line}");
    }
}
