//! The test suite that every [`Backend`] must pass.
//!
//! A backend's own tests implement [`BackendHarness`], which connects the suite with the
//! service that the backend sends to (a collector on a loopback address, the other end of
//! a pipe), and call [`check`].
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use matrix_analytics::testing::{
//!     ReceivedEvent, RecordingBackend,
//!     contract::{self, BackendHarness, Mode, Promises, UserPropertySupport},
//! };
//!
//! struct Harness(RecordingBackend);
//!
//! impl BackendHarness for Harness {
//!     type Backend = RecordingBackend;
//!
//!     fn promises(&self) -> Promises {
//!         Promises {
//!             // This one never fails; a backend that can should declare how.
//!             modes: &[],
//!             added_properties: &[],
//!             user_properties: UserPropertySupport::Sent,
//!             secrets: &[],
//!         }
//!     }
//!
//!     fn backend(&self) -> &RecordingBackend {
//!         &self.0
//!     }
//!
//!     async fn was_contacted(&self) -> bool {
//!         !self.0.batches().is_empty()
//!     }
//!
//!     async fn received(&self) -> Vec<ReceivedEvent> {
//!         self.0.events()
//!     }
//!
//!     async fn set_mode(&self, _mode: Mode) {}
//!
//!     async fn stalled(&self) {}
//! }
//!
//! contract::check(&Harness(RecordingBackend::new())).await;
//! # }
//! ```

use std::{
    error::Error,
    pin::pin,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::select;

use super::{DeliveryFailure, ReceivedEvent, batch, event, event_at, with_user_properties};
use crate::{
    backend::{Backend, Batch, DeliveryError},
    event::{OutgoingEvent, Properties, PropertyValue},
};

/// Connects the suite with a backend and its service.
///
/// # Cancel safety
///
/// The suite awaits every future of a harness to its end. The only exception is
/// [`stalled`](BackendHarness::stalled), whose future the suite may drop when the check
/// has already failed.
pub trait BackendHarness {
    /// The backend to check.
    type Backend: Backend;

    /// Returns the modes of the service and the behaviour of the backend to check.
    fn promises(&self) -> Promises;

    /// Returns the backend, always the same one. It must not have sent anything before
    /// the suite begins.
    fn backend(&self) -> &Self::Backend;

    /// Returns whether the backend has ever contacted the service. Opening a connection
    /// counts.
    fn was_contacted(&self) -> impl Future<Output = bool>;

    /// Returns the events that the service has accepted so far, oldest first.
    ///
    /// If the backend has dropped a connection, this must wait until the service has seen
    /// that connection end, so that no event in transit is missed.
    fn received(&self) -> impl Future<Output = Vec<ReceivedEvent>>;

    /// Sets how the service answers requests from now on. The initial mode is
    /// [`Mode::Accept`]. Requests that are stalled when the mode changes must not be
    /// accepted afterwards.
    fn set_mode(&self, mode: Mode) -> impl Future<Output = ()>;

    /// Waits until a request has stalled since [`Mode::Stall`] was set. Never called
    /// unless [`Promises::modes`] contains that mode.
    fn stalled(&self) -> impl Future<Output = ()>;
}

/// How a service answers requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Accepts them.
    Accept,
    /// Refuses them in a way that the backend must report as this failure.
    Refuse(DeliveryFailure),
    /// Stops reading and never answers.
    Stall,
}

/// The declarations of a harness. The suite checks everything that is declared here.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a harness has to declare all of it: the suite would not check a field left out"
)]
pub struct Promises {
    /// The modes that the service supports in addition to [`Mode::Accept`].
    pub modes: &'static [Mode],
    /// The keys of the properties that the backend adds to those of an event.
    pub added_properties: &'static [&'static str],
    /// Whether the backend sends user properties.
    pub user_properties: UserPropertySupport,
    /// Texts that must not appear in an error, such as the backend's key.
    pub secrets: &'static [&'static str],
}

/// Whether a backend sends user properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UserPropertySupport {
    /// Not sent: [`ReceivedEvent::set`] and [`ReceivedEvent::set_once`] stay empty.
    Left,
    /// Sent with the event.
    Sent,
}

/// An analytics ID that needs escapes in JSON.
const ID: &str = "id \"with\" \\ and ü 4f1d";
const OTHER_ID: &str = "9f1c2d7e-0d5e-4c9b-8a53-b6f1d1f1a0aa";
/// A value that is recognised wherever it appears.
const MARK: &str = "mark-7c0a93";

/// Checks that the backend of `harness` keeps the contract of [`Backend`]:
///
/// - Its name is not empty and never changes.
/// - It does not contact the service before the first `send`.
/// - It delivers each event once and in order, with its unique ID, its time (to the
///   millisecond), the batch's analytics ID and its properties, and adds only declared
///   properties.
/// - A batch that is sent twice has the same unique IDs both times.
/// - A refusal is an error of the right kind that contains neither the analytics ID, nor
///   a property, nor a secret.
/// - A `send` that is dropped while it stalls delivers nothing afterwards, and the next
///   `send` works.
/// - It works again after `close`, even if that was called several times.
///
/// # Panics
///
/// Panics if the backend breaks the contract. The message says how.
///
/// # Cancel safety
///
/// The future can be dropped, but the harness must not be reused afterwards.
pub async fn check<H: BackendHarness>(harness: &H) {
    let name = harness.backend().name();
    assert!(!name.trim().is_empty(), "a backend needs a name");

    sends_nothing_before_the_first_send(harness).await;
    delivers_every_event_once_and_unchanged(harness).await;
    repeats_a_batch_with_the_same_uuids(harness).await;
    works_again_after_close(harness).await;
    for mode in harness.promises().modes {
        match *mode {
            Mode::Accept => {}
            Mode::Refuse(failure) => reports_a_refusal(harness, failure).await,
            Mode::Stall => leaves_nothing_behind_when_dropped(harness).await,
        }
    }

    assert_eq!(harness.backend().name(), name, "the name of a backend never changes");
}

async fn sends_nothing_before_the_first_send<H: BackendHarness>(harness: &H) {
    assert!(!harness.was_contacted().await, "the service was contacted before the first `send`");
    harness.backend().close();
    assert!(!harness.was_contacted().await, "the service was contacted by `close`");
}

async fn delivers_every_event_once_and_unchanged<H: BackendHarness>(harness: &H) {
    // One at a time first, so that a failure names the event at fault.
    for event in awkward_events() {
        let name = event.name().to_owned();
        delivers(harness, &batch(OTHER_ID, [event]), &format!("the event {name:?} alone")).await;
    }
    delivers(harness, &batch(ID, awkward_events()), "all events in one batch").await;
    let many = (0..200).map(|n| event("Counted", Properties::new().with("number", n)));
    delivers(harness, &batch(ID, many), "a batch of 200 events").await;
    assert!(
        harness.was_contacted().await,
        "events were received, but the service was not contacted"
    );
}

async fn repeats_a_batch_with_the_same_uuids<H: BackendHarness>(harness: &H) {
    let batch = batch(ID, [event("First", marked()), event("Second", marked())]);
    delivers(harness, &batch, "a batch, the first time").await;
    delivers(harness, &batch, "the same batch, the second time").await;
}

async fn works_again_after_close<H: BackendHarness>(harness: &H) {
    for how_often in ["once", "twice"] {
        harness.backend().close();
        let batch = batch(OTHER_ID, [event("AfterClose", marked())]);
        delivers(harness, &batch, &format!("a batch after `close` was called {how_often}")).await;
        harness.backend().close();
    }
}

async fn reports_a_refusal<H: BackendHarness>(harness: &H, failure: DeliveryFailure) {
    let before = harness.received().await.len();
    harness.set_mode(Mode::Refuse(failure)).await;
    let events =
        [with_user_properties(event(MARK, marked()), marked(), marked()), event("Two", marked())];
    let Err(error) = harness.backend().send(&batch(ID, events)).await else {
        panic!("the refusal {failure:?} was reported as a delivery");
    };
    assert_eq!(
        DeliveryFailure::from(&error),
        failure,
        "the refusal was reported as another kind of failure",
    );
    shows_no_secret(harness, &error);
    let after = harness.received().await.len();
    assert_eq!(after, before, "events were accepted in a batch that failed as {failure:?}");

    harness.set_mode(Mode::Accept).await;
    let batch = batch(ID, [event("AfterRefusal", marked())]);
    delivers(harness, &batch, &format!("a batch after the refusal {failure:?}")).await;
}

async fn leaves_nothing_behind_when_dropped<H: BackendHarness>(harness: &H) {
    harness.set_mode(Mode::Stall).await;
    let long = "x".repeat(16 * 1024);
    let events = (0..40).map(|_| event(MARK, marked().with("long", long.clone())));
    let stuck = batch(ID, events);
    {
        let mut send = pin!(harness.backend().send(&stuck));
        select! {
            biased;
            result = &mut send => match result {
                Ok(()) => panic!("a batch was delivered to a service that stalls"),
                Err(error) => panic!("`send` failed before it was dropped: {error}"),
            },
            () = harness.stalled() => {}
        }
    }
    let at_drop = harness.received().await.len();
    harness.set_mode(Mode::Accept).await;
    let next = batch(OTHER_ID, [event("AfterDrop", marked())]);
    let result = harness.backend().send(&next).await;
    accepted(result, "a batch after a dropped `send`");
    let received = harness.received().await;
    let later: Vec<_> = received.iter().skip(at_drop).map(|event| event.uuid).collect();
    let expected: Vec<_> = next.events().map(OutgoingEvent::uuid).collect();
    assert_eq!(later, expected, "events of a dropped `send` arrived after the drop");
}

/// Sends `batch` and checks that it, and nothing else, arrives.
async fn delivers<H: BackendHarness>(harness: &H, batch: &Batch, what: &str) {
    let before = harness.received().await.len();
    accepted(harness.backend().send(batch).await, what);
    let received = harness.received().await;
    let received = received.get(before..).unwrap_or_default();
    assert_eq!(received.len(), batch.len(), "{what}: number of events received");
    let promises = harness.promises();
    for (received, sent) in received.iter().zip(batch.events()) {
        let mut expected = ReceivedEvent::new(batch.distinct_id(), sent);
        if promises.user_properties == UserPropertySupport::Left {
            expected.set.clear();
            expected.set_once.clear();
        }
        let mut received = received.clone();
        for key in promises.added_properties {
            assert!(
                received.properties.remove(*key).is_some(),
                "{what}: the declared property {key:?} is missing",
            );
        }
        expected.time = to_the_millisecond(expected.time);
        received.time = to_the_millisecond(received.time);
        assert_eq!(received, expected, "{what}: the event differs from what was sent");
    }
}

fn accepted(result: Result<(), DeliveryError>, what: &str) {
    if let Err(error) = result {
        panic!("{what} was not delivered: {error}: {error:?}");
    }
}

fn shows_no_secret<H: BackendHarness>(harness: &H, error: &DeliveryError) {
    let mut shown = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(error) = source {
        shown.push_str(&format!(" {error} {error:?}"));
        source = error.source();
    }
    assert!(!shown.contains("4f1d"), "an error shows the analytics ID");
    assert!(!shown.contains(MARK), "an error shows a property");
    for secret in harness.promises().secrets {
        assert!(!shown.contains(secret), "an error shows a secret");
    }
}

fn marked() -> Properties {
    Properties::new().with("mark", MARK)
}

fn to_the_millisecond(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_millis(since.as_millis().try_into().unwrap_or(u64::MAX))
}

/// Events whose names, times, keys or values are easily damaged on the way.
fn awkward_events() -> Vec<OutgoingEvent> {
    let seconds = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    vec![
        event("NoProperties", Properties::new()),
        event("Unicode \"quoted\" \\ ünïcødé \u{1f980}", marked()),
        event(
            "Texts",
            Properties::new()
                .with("empty", "")
                .with("quotes", "\"double\" 'single' \\ / back\\\\slash")
                .with("controls", "\0\u{1}\t\r\n\u{1f}\u{7f}\u{85}\u{2028}\u{feff}")
                .with("unicode", "ünïcødé \u{1f980} \u{10ffff}")
                .with("json", r#"{"not":["parsed"]},"#)
                .with("long", "l".repeat(10_000)),
        ),
        event(
            "Numbers",
            Properties::new()
                .with("zero", 0)
                .with("least", i64::MIN)
                .with("most", u64::MAX)
                .with("past_53_bits", (1_i64 << 53) + 1)
                .with("half", 0.5)
                .with("whole_float", 3.0)
                .with("tenth", 0.1)
                .with("large_float", 1e300)
                .with("small_float", -5e-324),
        ),
        event(
            "Arrays",
            Properties::new()
                .with("texts", ["", "a,b", "\"quoted\" ] \\", "ünïcødé \u{1f980}"])
                .with("numbers", [i64::MIN, 0, i64::MAX])
                .with("mixed", vec![PropertyValue::from(true), 0.5.into(), "text".into()])
                .with("empty", [0; 0]),
        ),
        event("Booleans", Properties::new().with("yes", true).with("no", false)),
        event(
            "Keys",
            Properties::new()
                .with("with space", 1)
                .with("with \"quotes\" and \\", 2)
                .with("schlüssel", 3)
                .with("event", "not the name")
                .with("timestamp", "not the time")
                .with("uuid", "not the uuid")
                .with("properties", "not the properties"),
        ),
        event_at("Epoch", marked(), UNIX_EPOCH),
        event_at("Old", marked(), seconds(1_000_000_000)),
        event_at("WithMilliseconds", marked(), seconds(1_700_000_000) + Duration::from_millis(7)),
        with_user_properties(
            event("AboutThePerson", marked()),
            Properties::new().with("app", "desk\"top").with("rooms", 12),
            Properties::new().with("first_app", "mobile"),
        ),
        with_user_properties(
            event("SetOnly", Properties::new()),
            Properties::new().with("app", "desktop"),
            Properties::new(),
        ),
        with_user_properties(
            event("SetOnceOnly", Properties::new()),
            Properties::new(),
            Properties::new().with("first_app", "desktop"),
        ),
    ]
}
