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
//!     contract::{self, BackendHarness, Mode, Promises},
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
//!             modes: Vec::new(),
//!             added_properties: &[],
//!             limitations: &[],
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

mod expected;
mod failures;
mod limitation;
mod samples;

use std::time::Duration;

use tokio::time::timeout;

pub use self::limitation::Limitation;
use self::{
    expected::{accepted, delivers},
    failures::{leaves_nothing_behind_when_dropped, reports_a_refusal},
    samples::{ID, MARK, OTHER_ID, Samples, marked, old_events},
};
use super::{DeliveryFailure, ReceivedEvent, batch};
use crate::{
    backend::{Backend, PartialDelivery},
    event::Properties,
};

/// How long a backend may take to release what it holds.
const CLOSING: Duration = Duration::from_secs(60);

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
#[derive(Clone, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a harness has to declare all of it: the suite would not check a field left out"
)]
pub struct Promises {
    /// The modes that the service supports in addition to [`Mode::Accept`].
    pub modes: Vec<Mode>,
    /// The keys of the properties that the backend adds to those of an event.
    pub added_properties: &'static [&'static str],
    /// The promises that the service's protocol makes impossible. None for a backend whose
    /// protocol takes a whole event.
    pub limitations: &'static [Limitation],
    /// Texts that must not appear in an error or in a preview, such as the backend's key.
    pub secrets: &'static [&'static str],
}

/// Checks that the backend of `harness` keeps the contract of [`Backend`]:
///
/// - Its name is not empty and never changes. Its host is a host only.
/// - It does not contact the service before the first `send`.
/// - It delivers each event once and in order, with its unique ID, its time (to the
///   millisecond), the identifier that [`Backend::stored_identifier`] returns and its
///   properties, and adds only declared properties.
/// - It carries the user properties of an event if it says that it does.
/// - Two accounts have different identifiers.
/// - A batch that is sent twice has the same unique IDs both times.
/// - A refusal is an error of the right kind that contains neither the identifier, nor
///   a property, nor a secret. Of a batch that it refuses, no event arrives, except those that
///   it reports as delivered. The same batch is delivered later, if the sink may repeat it.
/// - It reports no batch as refused for good. Only some protocols require that.
/// - A `send` that is dropped while it stalls delivers nothing afterwards, and the next
///   `send` works.
/// - It works again after `close`, even if that was called several times, and `closed` ends.
/// - A preview shows the event and no secret, and sends nothing.
///
/// A harness whose protocol makes one of these impossible declares a [`Limitation`]. The suite
/// then checks that the backend keeps to it.
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
    names_a_host_only(harness);

    sends_nothing_before_the_first_send(harness).await;
    delivers_every_event_once_and_unchanged(harness).await;
    keeps_accounts_apart(harness).await;
    repeats_a_batch_with_the_same_uuids(harness).await;
    drops_only_what_is_too_old(harness).await;
    previews_without_secrets(harness).await;
    works_again_after_close(harness).await;
    refuses_for_good_only_if_declared(harness);
    for mode in harness.promises().modes {
        match mode {
            Mode::Accept => {}
            Mode::Refuse(failure) => reports_a_refusal(harness, failure).await,
            Mode::Stall => leaves_nothing_behind_when_dropped(harness).await,
        }
    }

    assert_eq!(harness.backend().name(), name, "the name of a backend never changes");
}

fn names_a_host_only<H: BackendHarness>(harness: &H) {
    let Some(host) = harness.backend().host() else { return };
    let is_host = !host.is_empty() && !host.contains(['/', '@', '?', '#']);
    assert!(is_host, "the host of a backend is more than a host and a port");
}

async fn sends_nothing_before_the_first_send<H: BackendHarness>(harness: &H) {
    assert!(!harness.was_contacted().await, "the service was contacted before the first `send`");
    harness.backend().close();
    assert!(!harness.was_contacted().await, "the service was contacted by `close`");
}

async fn delivers_every_event_once_and_unchanged<H: BackendHarness>(harness: &H) {
    let samples = Samples::new(&harness.promises());
    // One at a time first, so that a failure names the event at fault.
    for event in samples.awkward() {
        let name = event.name().to_owned();
        delivers(harness, &batch(OTHER_ID, [event]), &format!("the event {name:?} alone")).await;
    }
    delivers(harness, &batch(ID, samples.awkward()), "all events in one batch").await;
    let many = (0..200).map(|n| samples.event("Counted", Properties::new().with("number", n)));
    delivers(harness, &batch(ID, many), "a batch of 200 events").await;
    assert!(
        harness.was_contacted().await,
        "events were received, but the service was not contacted"
    );
    let carries = !harness.promises().limitations.contains(&Limitation::NoUserProperties);
    for event in samples.about_the_person() {
        assert_eq!(
            harness.backend().carries_user_properties(&event),
            carries,
            "whether the backend says that it carries the user properties of {:?}",
            event.name(),
        );
    }
}

async fn keeps_accounts_apart<H: BackendHarness>(harness: &H) {
    let samples = Samples::new(&harness.promises());
    let mut people = Vec::new();
    for id in [ID, OTHER_ID, ID] {
        let batch = batch(id, [samples.event("Opened", marked())]);
        accepted(harness.backend().send(&batch).await, "a batch of one of two accounts");
        let last = harness.received().await.pop();
        people.push(last.map(|event| event.distinct_id));
    }
    assert_ne!(people[0], people[1], "two accounts have the same identifier");
    assert_eq!(people[0], people[2], "an account has two identifiers");
}

async fn repeats_a_batch_with_the_same_uuids<H: BackendHarness>(harness: &H) {
    let samples = Samples::new(&harness.promises());
    let batch = batch(ID, [samples.event("First", marked()), samples.event("Second", marked())]);
    delivers(harness, &batch, "a batch, the first time").await;
    delivers(harness, &batch, "the same batch, the second time").await;
}

async fn drops_only_what_is_too_old<H: BackendHarness>(harness: &H) {
    let samples = Samples::new(&harness.promises());
    let before = harness.received().await.len();
    let old = old_events();
    let count = old.len();
    if !harness.promises().limitations.iter().any(|limitation| limitation.age().is_some()) {
        return delivers(harness, &batch(ID, old), "a batch of old events").await;
    }
    let recent = [samples.event("First", marked()), samples.event("Second", marked())];
    let [first, second] = recent.clone();
    let mixed = std::iter::once(first).chain(old.clone()).chain([second]);
    for (batch, what) in [
        (batch(ID, mixed), "a batch with events that are too old"),
        (batch(ID, old), "a batch of events that are all too old"),
    ] {
        let result = harness.backend().send(&batch).await;
        let expired = PartialDelivery { expired: count, ..PartialDelivery::default() };
        match result.as_ref().map_err(DeliveryFailure::from) {
            Err(DeliveryFailure::Partial(partial)) if partial == expired => {}
            _ => panic!("{what} was not reported as partly expired: {result:?}"),
        }
    }
    let names: Vec<_> = harness.received().await.drain(before..).map(|event| event.name).collect();
    assert_eq!(
        names,
        recent.map(|event| event.name().to_owned()),
        "the events that are not too old"
    );
}

async fn previews_without_secrets<H: BackendHarness>(harness: &H) {
    let promises = harness.promises();
    let before = harness.received().await.len();
    let event = Samples::new(&promises).event(MARK, marked());
    if let Some(text) = harness.backend().render(&batch(OTHER_ID, [event])) {
        assert!(text.contains(MARK), "a preview does not show the event");
        let shows_one = promises.secrets.iter().any(|secret| text.contains(secret));
        assert!(!shows_one, "a preview shows a secret");
    }
    assert_eq!(harness.received().await.len(), before, "a preview was sent");
}

async fn works_again_after_close<H: BackendHarness>(harness: &H) {
    let samples = Samples::new(&harness.promises());
    for how_often in ["once", "twice"] {
        harness.backend().close();
        let closed = timeout(CLOSING, harness.backend().closed()).await;
        assert!(closed.is_ok(), "`closed` does not end after a `close` without a request");
        let batch = batch(OTHER_ID, [samples.event("AfterClose", marked())]);
        delivers(harness, &batch, &format!("a batch after `close` was called {how_often}")).await;
        harness.backend().close();
    }
}

fn refuses_for_good_only_if_declared<H: BackendHarness>(harness: &H) {
    let Promises { modes, limitations, .. } = harness.promises();
    let is_final = |mode: &Mode| matches!(mode, Mode::Refuse(DeliveryFailure::Refused { .. }));
    assert_eq!(
        modes.iter().any(is_final),
        limitations.contains(&Limitation::NoSecondAttempt),
        "a refusal for good and the limitation that requires it belong together",
    );
}
