//! What must happen when a `send` fails or is dropped.

use std::{error::Error as _, pin::pin};

use tokio::select;

use super::{
    BackendHarness, Mode,
    expected::{accepted, delivers},
    samples::{ID, MARK, OTHER_ID, Samples, marked},
};
use crate::{
    backend::{Backend as _, DeliveryError, EventOutcome},
    testing::{DeliveryFailure, batch, with_user_properties},
};

pub(super) async fn reports_a_refusal<H: BackendHarness>(harness: &H, failure: DeliveryFailure) {
    let samples = Samples::new(&harness.promises());
    let before = harness.received().await.len();
    harness.set_mode(Mode::Refuse(failure)).await;
    let first = with_user_properties(samples.event(MARK, marked()), marked(), marked());
    let refused = batch(ID, [first, samples.event("Two", marked())]);
    let Err(error) = harness.backend().send(&refused).await else {
        panic!("the refusal {failure:?} was reported as a delivery");
    };
    assert_eq!(
        DeliveryFailure::from(&error),
        failure,
        "the refusal was reported as another kind of failure",
    );
    if let DeliveryError::PerEvent { outcomes, .. } = &error {
        assert_eq!(outcomes.len(), refused.len(), "number of outcomes of a batch");
    }
    shows_no_secret(harness, &error);
    let delivered = match failure {
        DeliveryFailure::Partial(partial) => {
            refused.len() - partial.within(refused.len()).dropped()
        }
        DeliveryFailure::PerEvent(outcome) if outcome.is_delivered() => refused.len(),
        _ => 0,
    };
    let after = harness.received().await.len();
    assert_eq!(after - before, delivered, "events accepted in a batch that failed as {failure:?}");

    harness.set_mode(Mode::Accept).await;
    let what = format!("a batch after the refusal {failure:?}");
    if is_repeated(failure) {
        delivers(harness, &refused, &what).await;
    }
    delivers(harness, &batch(ID, [samples.event("AfterRefusal", marked())]), &what).await;
}

/// Returns whether the sink sends the same batch again after `failure`.
fn is_repeated(failure: DeliveryFailure) -> bool {
    match failure {
        DeliveryFailure::Misconfigured
        | DeliveryFailure::PerEvent(EventOutcome::SendAgain)
        | DeliveryFailure::Throttled { .. }
        | DeliveryFailure::Transient
        | DeliveryFailure::Unauthorized => true,
        DeliveryFailure::Partial(_)
        | DeliveryFailure::PerEvent(_)
        | DeliveryFailure::Refused { .. }
        | DeliveryFailure::Rejected
        | DeliveryFailure::TooLarge => false,
    }
}

pub(super) async fn leaves_nothing_behind_when_dropped<H: BackendHarness>(harness: &H) {
    let samples = Samples::new(&harness.promises());
    harness.set_mode(Mode::Stall).await;
    let long = "x".repeat(16 * 1024);
    let events = (0..40).map(|_| samples.event(MARK, marked().with("long", long.clone())));
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
    let next = batch(OTHER_ID, [samples.event("AfterDrop", marked())]);
    let result = harness.backend().send(&next).await;
    accepted(result, "a batch after a dropped `send`");
    let received = harness.received().await;
    let later: Vec<_> = received.into_iter().skip(at_drop).map(|event| event.name).collect();
    let expected: Vec<_> = next.events().map(|event| event.name().to_owned()).collect();
    assert_eq!(later, expected, "events of a dropped `send` arrived after the drop");
}

fn shows_no_secret<H: BackendHarness>(harness: &H, error: &DeliveryError) {
    let mut shown = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(error) = source {
        shown.push_str(&format!(" {error} {error:?}"));
        source = error.source();
    }
    assert!(!shown.contains("4f1d"), "an error shows the identifier");
    assert!(!shown.contains(MARK), "an error shows a property");
    for secret in harness.promises().secrets {
        assert!(!shown.contains(secret), "an error shows a secret");
    }
}
