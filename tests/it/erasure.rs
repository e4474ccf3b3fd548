//! Requests to recipients to delete what they hold, after an opt-out. They are the only thing that
//! may leave then.

#[cfg(feature = "sqlite")]
mod durable;
mod identifiers;
#[cfg(all(feature = "sqlite", unix))]
mod kill;
#[cfg(feature = "sqlite")]
mod unrecorded;

use std::time::Duration;

use futures_util::{StreamExt as _, poll};
use matrix_analytics::{
    Analytics, AnalyticsBuilder, Backend, Batch, DeliveryError, ErasureCause, ErasureReceipt,
    ErasureState, ErasureStorage, Identity, Limits, Note, Recipient,
    testing::{AccountDataMethod, Fault, RecordingBackend},
};

use crate::support::{
    AnalyticsExt as _, Device, FOREIGN_ID, World,
    collector::Collector,
    content,
    erasure_endpoint::{EndpointDouble, Reaction},
    eventually, id_in,
};

const LABEL: &str = "recorder.example.org";
const HALF_A_DAY: Duration = Duration::from_secs(12 * 3600);

/// Returns a recipient with a label, which is asked through `endpoint`.
pub(crate) fn recipient(recorder: &RecordingBackend, endpoint: &EndpointDouble) -> Recipient {
    Recipient::new(recorder.clone()).label(LABEL).erasure(endpoint.erasure())
}

/// An account that has opted in, and an endpoint for erasures.
struct Erasing {
    world: World,
    device: Device,
    endpoint: EndpointDouble,
    recorder: RecordingBackend,
}

impl Erasing {
    async fn new() -> Self {
        let world = World::new().await;
        world.set_content(&content(Some(true), Some(FOREIGN_ID)));
        let device = world.device("PHONE").await;
        let (endpoint, recorder) = (EndpointDouble::start().await, RecordingBackend::new());
        Self { world, device, endpoint, recorder }
    }

    fn builder(&self) -> AnalyticsBuilder {
        self.device.builder().backend(recipient(&self.recorder, &self.endpoint))
    }

    async fn start(&self) -> Analytics {
        let analytics = self.builder().build().await.unwrap();
        analytics.confirmed().await;
        analytics
    }

    /// Withdraws, and returns what the receipt says of erasures.
    async fn erase(&self, analytics: &Analytics) -> Vec<ErasureReceipt> {
        let opt_out = analytics.opt_out().erase_recipients().into_future();
        eventually(opt_out).await.erasures
    }
}

/// Waits until no erasure is pending.
async fn until_settled(analytics: &Analytics) {
    eventually(async {
        while analytics.stats().erasures.pending > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_recipient_is_asked_once_under_the_identifier_that_it_knows() {
    let erasing = Erasing::new().await;
    let analytics = erasing.start().await;
    analytics.capture_one("Sent");
    eventually(analytics.flush_all()).await;
    let receipt = eventually(analytics.opt_out().erase_recipients().into_future()).await;
    assert!(receipt.is_complete(), "{receipt:?}");
    let [erasure] = &receipt.erasures[..] else { panic!("{receipt:?}") };
    assert_eq!(
        (&*erasure.recipient, erasure.state, erasure.cause),
        (LABEL, ErasureState::Done, None)
    );
    assert_eq!(erasure.tries, 1);
    let [request] = &erasing.endpoint.received()[..] else { panic!() };
    assert_eq!((&*request.identifier, &*request.recipient), (FOREIGN_ID, LABEL));
    assert_eq!(erasing.recorder.ids(), [FOREIGN_ID]);
    assert!(request.head.starts_with("POST /erase HTTP/1.1\r\n"), "{}", request.head);
    assert!(!request.head.to_lowercase().contains("user-agent"), "{}", request.head);
    let stats = analytics.stats().erasures;
    assert_eq!((stats.pending, stats.done, stats.failed.len()), (0, 1, 0));
    // No debug output has the identifier.
    assert!(!format!("{receipt:?} {request:?}").is_empty());
    assert!(!format!("{receipt:?}").contains(FOREIGN_ID));
}

#[tokio::test]
async fn no_recipient_is_asked_unless_the_app_wants_it() {
    let erasing = Erasing::new().await;
    let analytics = erasing.start().await;
    let receipt = eventually(analytics.opt_out().into_future()).await;
    assert!(receipt.is_complete() && receipt.erasures.is_empty(), "{receipt:?}");
    tokio::time::advance(HALF_A_DAY).await;
    assert_eq!(erasing.endpoint.received(), []);
    assert_eq!(analytics.stats().erasures.pending, 0);
}

#[tokio::test]
async fn polled_once_and_dropped_it_still_erases() {
    let erasing = Erasing::new().await;
    let analytics = erasing.start().await;
    let mut opt_out = analytics.opt_out().erase_recipients().into_future();
    assert!(poll!(&mut opt_out).is_pending());
    drop(opt_out);
    assert_eq!(analytics.stats().erasures.pending, 1);
    eventually(erasing.endpoint.wait_for(1)).await;
    until_settled(&analytics).await;
    assert_eq!(erasing.endpoint.erased(), [FOREIGN_ID]);
}

#[tokio::test]
async fn the_state_shows_an_erasure_until_it_is_accepted() {
    let erasing = Erasing::new().await;
    let analytics = erasing.start().await;
    assert!(!analytics.state().erasures_pending);
    erasing.endpoint.react(Reaction::Page);
    erasing.erase(&analytics).await;
    let mut states = analytics.state_stream();
    let state = eventually(states.next()).await.unwrap();
    assert_eq!((state.erasures_pending, state.note()), (true, Some(Note::ErasurePending)));
    erasing.endpoint.react(Reaction::Accept);
    tokio::time::advance(Duration::from_secs(60)).await;
    let state = eventually(states.next()).await.unwrap();
    assert_eq!((state.erasures_pending, state.note()), (false, None));
    assert_eq!(analytics.state(), state);
}

#[tokio::test]
async fn each_recipient_is_asked_under_its_own_identifier_and_an_anonymous_one_not_at_all() {
    let erasing = Erasing::new().await;
    let second = RecordingBackend::new();
    let pseudonymous = Recipient::new(second.clone())
        .label("second.example.org")
        .identity(Identity::Pseudonym)
        .erasure(erasing.endpoint.erasure());
    let anonymous = Recipient::new(RecordingBackend::new())
        .label("third.example.org")
        .identity(Identity::Anonymous)
        .erasure(erasing.endpoint.erasure());
    let silent = Recipient::new(RecordingBackend::new()).label("fourth.example.org");
    let builder = erasing.builder().backend(pseudonymous).backend(anonymous).backend(silent);
    let analytics = builder.build().await.unwrap();
    analytics.confirmed().await;
    analytics.capture_one("Sent");
    eventually(analytics.flush_all()).await;
    let erasures = erasing.erase(&analytics).await;
    assert_eq!(erasures.len(), 2, "{erasures:?}");
    let received = erasing.endpoint.received();
    let asked: Vec<_> =
        received.iter().map(|request| (&*request.recipient, &*request.identifier)).collect();
    let pseudonym = second.ids().remove(0);
    assert_ne!(pseudonym, FOREIGN_ID);
    assert_eq!(asked, [(LABEL, FOREIGN_ID), ("second.example.org", &pseudonym)]);
}

#[tokio::test]
async fn nothing_but_the_erasure_leaves_after_the_opt_out() {
    let erasing = Erasing::new().await;
    let collector = Collector::start();
    let posthog = crate::p01_silence_before_proof::posthog(&collector);
    let posthog = Recipient::new(posthog).erasure(erasing.endpoint.erasure());
    let analytics = erasing.device.builder().backend(posthog).build().await.unwrap();
    analytics.confirmed().await;
    analytics.capture_one("Sent");
    eventually(analytics.flush_all()).await;
    analytics.capture_one("Withdrawn");
    erasing.endpoint.react(Reaction::Status("503 Service Unavailable"));
    let erasures = erasing.erase(&analytics).await;
    assert_eq!(erasures[0].cause, Some(ErasureCause::Unreachable));
    assert_eq!(erasures[0].recipient, collector.address.to_string());
    analytics.capture_one("After");
    erasing.endpoint.react(Reaction::Accept);
    tokio::time::advance(Duration::from_secs(60)).await;
    eventually(erasing.endpoint.wait_for(2)).await;
    until_settled(&analytics).await;
    eventually(analytics.flush_all()).await;
    let seen = collector.seen();
    assert_eq!((seen.requests.len(), seen.opened, seen.ended), (1, 1, 1));
}

#[tokio::test]
async fn the_erasure_follows_the_cut_of_a_request_in_flight() {
    let erasing = Erasing::new().await;
    let collector = Collector::start();
    let posthog = crate::p01_silence_before_proof::posthog(&collector);
    let posthog = Recipient::new(posthog).erasure(erasing.endpoint.erasure());
    let analytics = erasing.device.builder().backend(posthog).build().await.unwrap();
    analytics.confirmed().await;
    collector.set_answer(crate::support::collector::Answer::HeadFirst);
    analytics.capture_one("InFlight");
    let mut flush = Box::pin(analytics.flush_all());
    assert!(poll!(&mut flush).is_pending());
    eventually(collector.wait_until(|seen| seen.heads == 1)).await;
    let erasures = erasing.erase(&analytics).await;
    assert_eq!(erasures[0].state, ErasureState::Done);
    eventually(flush).await;
    collector.release_body();
    eventually(collector.wait_until(|seen| seen.ended == 1)).await;
}

#[tokio::test]
async fn an_answer_that_is_no_confirmation_is_a_failure_that_is_repeated_under_the_same_key() {
    for (reaction, cause) in [
        (Reaction::Status("404 Not Found"), ErasureCause::Misconfigured),
        (Reaction::Status("401 Unauthorized"), ErasureCause::Unauthorized),
        (Reaction::Status("204 No Content"), ErasureCause::Misconfigured),
        (Reaction::Status("307 Temporary Redirect\r\nlocation: /"), ErasureCause::Misconfigured),
        (Reaction::Status("500 Oops"), ErasureCause::Unreachable),
        (Reaction::Page, ErasureCause::Misconfigured),
        (Reaction::Hang, ErasureCause::Unreachable),
    ] {
        let erasing = Erasing::new().await;
        let analytics = erasing.start().await;
        erasing.endpoint.react(reaction);
        let erasures = erasing.erase(&analytics).await;
        assert_eq!(erasures.len(), 1, "{reaction:?} {erasures:?}");
        let found = (erasures[0].state, erasures[0].cause, erasures[0].kept_in);
        assert_eq!(found, (ErasureState::Pending, Some(cause), ErasureStorage::Memory));
        let stats = analytics.stats().erasures;
        assert_eq!((stats.pending, stats.last_cause), (1, Some(cause)));
        erasing.endpoint.react(Reaction::Accept);
        // The first wait is at least half a minute.
        tokio::time::advance(Duration::from_secs(29)).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(erasing.endpoint.received().len(), 1, "{reaction:?}");
        tokio::time::advance(Duration::from_secs(31)).await;
        eventually(erasing.endpoint.wait_for(2)).await;
        until_settled(&analytics).await;
        let received = erasing.endpoint.received();
        assert_eq!(received[0].key, received[1].key);
        assert_eq!(analytics.stats().erasures.done, 1);
    }
}

#[tokio::test]
async fn after_thirty_days_it_has_failed_and_the_next_receipt_says_why_once() {
    let erasing = Erasing::new().await;
    let analytics = erasing.start().await;
    erasing.endpoint.react(Reaction::Status("401 Unauthorized"));
    erasing.erase(&analytics).await;
    let mut passed = Duration::ZERO;
    let has_failed = || !analytics.stats().erasures.failed.is_empty();
    while !has_failed() {
        let tries = analytics.stats().erasures.tries;
        tokio::time::advance(HALF_A_DAY).await;
        passed += HALF_A_DAY;
        eventually(async {
            while analytics.stats().erasures.tries == tries {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert!(passed <= Duration::from_secs(31 * 24 * 3600));
    }
    assert!(passed >= Duration::from_secs(30 * 24 * 3600), "{passed:?}");
    let stats = analytics.stats().erasures;
    assert_eq!((stats.pending, stats.failed), (0, [(ErasureCause::Unauthorized, 1)].into()));
    // Any later withdrawal reports it, even one that asks for no erasure.
    let next = eventually(analytics.opt_out().into_future()).await.erasures;
    let [failed] = &next[..] else { panic!("{next:?}") };
    let cause = Some(ErasureCause::Unauthorized);
    assert_eq!((failed.state, failed.cause), (ErasureState::Failed, cause));
    assert!(eventually(analytics.opt_out().into_future()).await.erasures.is_empty());
    let received = erasing.endpoint.received().len();
    tokio::time::advance(HALF_A_DAY).await;
    assert_eq!(erasing.endpoint.received().len(), received);
}

#[tokio::test]
async fn the_time_can_be_chosen() {
    let erasing = Erasing::new().await;
    let limits = Limits::default().erasure_max_age(Duration::from_secs(40));
    let analytics = erasing.builder().limits(limits).build().await.unwrap();
    analytics.confirmed().await;
    erasing.endpoint.react(Reaction::Page);
    erasing.erase(&analytics).await;
    tokio::time::advance(Duration::from_secs(41)).await;
    eventually(erasing.endpoint.wait_for(2)).await;
    until_settled(&analytics).await;
    assert_eq!(analytics.stats().erasures.failed, [(ErasureCause::Misconfigured, 1)].into());
}

#[tokio::test]
async fn a_second_opt_in_before_it_is_done_has_another_id_and_both_are_erased() {
    let erasing = Erasing::new().await;
    let analytics = erasing.start().await;
    erasing.endpoint.react(Reaction::Hang);
    erasing.erase(&analytics).await;
    analytics.opt_in_and_settle().await;
    let second = id_in(&erasing.world.content().unwrap()).unwrap();
    assert_ne!(second, FOREIGN_ID);
    analytics.capture_one("Second");
    eventually(analytics.flush_all()).await;
    let erasures = erasing.erase(&analytics).await;
    assert_eq!(erasures.len(), 2, "{erasures:?}");
    assert_eq!(analytics.stats().erasures.pending, 2);
    erasing.endpoint.react(Reaction::Accept);
    let received = erasing.endpoint.received().len();
    tokio::time::advance(HALF_A_DAY).await;
    eventually(erasing.endpoint.wait_for(received + 2)).await;
    until_settled(&analytics).await;
    let mut erased = erasing.endpoint.erased();
    erased.sort();
    let mut expected = [FOREIGN_ID.to_owned(), second];
    expected.sort();
    assert_eq!(erased, expected);
}

#[tokio::test]
async fn an_unreachable_homeserver_delays_it_by_ten_minutes_only() {
    let erasing = Erasing::new().await;
    let analytics = erasing.start().await;
    erasing.world.server.fail_all(Fault::ResetBefore);
    let erasures = erasing.erase(&analytics).await;
    assert_eq!((erasures.len(), erasures[0].tries), (1, 0));
    tokio::time::advance(Duration::from_secs(10 * 60 + 1)).await;
    eventually(erasing.endpoint.wait_for(1)).await;
    until_settled(&analytics).await;
    // Once the account is clean, there is no second request.
    erasing.world.server.heal();
    eventually(analytics.end_session()).await;
    assert!(!analytics.state().removal_pending);
    tokio::time::advance(HALF_A_DAY).await;
    assert_eq!(erasing.endpoint.erased(), [FOREIGN_ID]);
}

#[tokio::test]
async fn a_session_that_is_lost_does_not_delay_it() {
    let erasing = Erasing::new().await;
    let analytics = erasing.start().await;
    erasing.world.server.fail_all(Fault::UnknownToken);
    erasing.erase(&analytics).await;
    assert!(analytics.state().removal_pending);
    eventually(erasing.endpoint.wait_for(1)).await;
    until_settled(&analytics).await;
    assert_eq!(erasing.endpoint.erased(), [FOREIGN_ID]);
}

#[tokio::test]
async fn a_failure_whose_receipt_was_not_taken_is_in_the_next_one() {
    let erasing = Erasing::new().await;
    let limits = Limits::default().erasure_max_age(Duration::ZERO);
    let analytics = erasing.builder().limits(limits).build().await.unwrap();
    analytics.confirmed().await;
    erasing.endpoint.react(Reaction::Page);
    let mut opt_out = analytics.opt_out().erase_recipients().into_future();
    assert!(poll!(&mut opt_out).is_pending());
    drop(opt_out);
    until_settled(&analytics).await;
    let mut next = analytics.opt_out().into_future();
    assert!(poll!(&mut next).is_pending());
    drop(next);
    eventually(analytics.recheck()).await.unwrap();
    let next = eventually(analytics.opt_out().into_future()).await.erasures;
    assert_eq!((next.len(), next[0].cause), (1, Some(ErasureCause::Misconfigured)));
    assert!(eventually(analytics.opt_out().into_future()).await.erasures.is_empty());
}

/// A recipient of the app's own whose erasure panics.
struct Panics;

impl Backend for Panics {
    fn name(&self) -> &'static str {
        "panics"
    }

    async fn send(&self, _batch: &Batch) -> Result<(), DeliveryError> {
        Ok(())
    }
}

impl matrix_analytics::Erasure for Panics {
    async fn erase(
        &self,
        _request: &matrix_analytics::ErasureRequest,
    ) -> Result<(), matrix_analytics::ErasureError> {
        panic!("part of the test")
    }
}

#[tokio::test]
async fn an_erasure_that_panics_is_tried_again_and_harms_nothing_else() {
    let erasing = Erasing::new().await;
    let panics = Recipient::new(Panics).erasure(Panics);
    let analytics = erasing.builder().backend(panics).build().await.unwrap();
    analytics.confirmed().await;
    let erasures = erasing.erase(&analytics).await;
    let states: Vec<_> = erasures.iter().map(|erasure| (erasure.state, erasure.cause)).collect();
    let panicked = (ErasureState::Pending, Some(ErasureCause::Panicked));
    assert_eq!(states, [(ErasureState::Done, None), panicked]);
    assert_eq!(erasures[1].recipient, "panics");
}
