//! P1: no byte and no connection to a backend before this process has confirmed the opt-in with the
//! homeserver. Asserted at the socket.

use matrix_analytics::{
    Analytics, AnalyticsBuilder, ConsentState, DropReason, GateState, HoldReason, PostHog,
    testing::{AccountDataMethod, Fault},
};

use crate::support::{
    AnalyticsExt as _, BOUND, FOREIGN_ID, World, collector::Collector, content, eventually,
};

pub(crate) fn posthog(collector: &Collector) -> PostHog {
    PostHog::new(&collector.url(), "phc_test").unwrap()
}

async fn start(builder: AnalyticsBuilder, collector: &Collector) -> Analytics {
    builder.backend(posthog(collector)).build().await.unwrap()
}

#[tokio::test]
async fn a_remembered_opt_in_is_a_hint_and_opens_no_connection() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    device.start_opted_in().await;

    let collector = Collector::start();
    world.server.fail_next(Fault::ServerError(503));
    let analytics = start(device.builder(), &collector).await;
    assert_eq!(analytics.state().gate, GateState::Holding(HoldReason::Unverified));
    analytics.capture_one("Early");
    eventually(
        world
            .server
            .wait_for(|requests| requests.last().is_some_and(|last| last.status() == Some(503))),
    )
    .await;
    let report = eventually(analytics.flush_all()).await;
    assert_eq!(report.backends[0].undelivered, 1);
    assert_eq!(collector.seen().opened, 0);

    // The first connection follows the homeserver's confirmation.
    eventually(analytics.recheck()).await.unwrap();
    assert!(analytics.is_open());
    assert!(eventually(analytics.flush_all()).await.is_complete());
    let seen = collector.seen();
    assert_eq!((seen.opened, seen.requests.len()), (1, 1));
    assert!(String::from_utf8_lossy(&seen.requests[0]).contains("Early"));
}

#[tokio::test]
async fn no_connection_is_opened_for_a_user_who_has_not_opted_in() {
    for held in ["{}".to_owned(), content(Some(false), None), content(None, Some(FOREIGN_ID))] {
        let world = World::new().await;
        world.set_content(&held);
        let collector = Collector::start();
        let analytics = start(world.device("PHONE").await.builder(), &collector).await;
        analytics.capture_one("Before");
        analytics.confirmed().await;
        analytics.capture_one("After");
        eventually(analytics.flush_all()).await;
        eventually(analytics.shutdown(BOUND)).await;
        assert_eq!(collector.seen().opened, 0, "{held}");
        assert_eq!(analytics.stats().backends[0].captured, 0, "{held}");
    }
}

#[tokio::test]
async fn events_after_an_opt_in_are_sent_only_once_the_id_has_settled() {
    let world = World::new().await;
    let collector = Collector::start();
    let analytics = start(world.device("PHONE").await.builder(), &collector).await;
    analytics.confirmed().await;
    eventually(analytics.opt_in()).await.unwrap();
    analytics.capture_one("Settling");
    eventually(analytics.flush_all()).await;
    assert_eq!(collector.seen().opened, 0);

    tokio::time::advance(crate::support::SETTLE).await;
    analytics.until(ConsentState::is_open).await;
    eventually(analytics.flush_all()).await;
    assert_eq!(collector.seen().requests.len(), 1);
}

#[tokio::test]
async fn events_held_for_an_unconfirmed_opt_in_are_dropped_and_counted() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    device.start_opted_in().await;
    world.set_content("{}");

    let collector = Collector::start();
    let analytics = start(device.builder(), &collector).await;
    analytics.capture_one("Early");
    analytics.confirmed().await;
    let stats = analytics.stats();
    assert_eq!(stats.backends[0].captured, 1);
    assert_eq!(stats.backends[0].dropped[&DropReason::Withdrawn], 1);
    assert_eq!(collector.seen().opened, 0);
}

/// A captive portal, or a proxy that lost the request, may answer 200.
#[tokio::test]
async fn an_opt_in_that_was_answered_but_not_applied_opens_nothing() {
    for lie in [Fault::Html(200), Fault::Empty] {
        let world = World::new().await;
        world.set_content(&content(None, Some(FOREIGN_ID)));
        let device = world.device("PHONE").await;
        let (analytics, recorder) = device.start_confirmed().await;
        world.server.fail_next_on(AccountDataMethod::Put, lie);
        let state = eventually(analytics.opt_in()).await;
        analytics.capture_one("Never");
        eventually(analytics.flush_all()).await;
        assert_eq!(world.content().unwrap(), content(None, Some(FOREIGN_ID)));
        assert!(recorder.events().is_empty(), "{state:?}, sent {:?}", recorder.ids());
    }
}
