//! What the record says of the requests to erase data.

use std::{future::pending, time::SystemTime};

use matrix_analytics::{
    Analytics, ConsentStatus, Erasure, ErasureError, ErasureRequest, Recipient,
    testing::RecordingBackend,
};
use serde_json::json;

use super::{given_at, store};
use crate::support::{
    AnalyticsExt as _, BOUND, Device, FOREIGN_ID, World, content, erasure_endpoint::EndpointDouble,
    eventually,
};

/// A recipient that never answers.
struct Silent;

impl Erasure for Silent {
    async fn erase(&self, _: &ErasureRequest) -> Result<(), ErasureError> {
        pending().await
    }
}

async fn start(device: &Device, erasure: impl Erasure) -> Analytics {
    let recipient = Recipient::new(RecordingBackend::new()).label("recipient").erasure(erasure);
    let analytics = device.builder().backend(recipient).build().await.unwrap();
    analytics.confirmed().await;
    analytics
}

/// Returns the erasures of the decision at `place`.
fn erasures(analytics: &Analytics, place: usize) -> Vec<(String, String)> {
    let decisions = analytics.consent_record().decisions;
    decisions[place].removed.clone().expect("the receipt was made").erasures
}

#[tokio::test]
async fn a_decision_under_a_clock_in_the_future_hides_no_later_erasure() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let device = world.device("PHONE").await;
    store(&device, &json!([given_at(4_102_444_800_000)])).await;
    let endpoint = EndpointDouble::start().await;
    let analytics = start(&device, endpoint.erasure()).await;
    eventually(analytics.opt_out().erase_recipients().into_future()).await;
    assert_eq!(erasures(&analytics, 1), [("recipient".to_owned(), "done".to_owned())]);
}

#[tokio::test]
async fn each_withdrawal_has_its_own_erasures() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let device = world.device("PHONE").await;
    let analytics = start(&device, Silent).await;
    let pending = [("recipient".to_owned(), "pending".to_owned())];
    for (receipts, place) in [(1, 1), (2, 3)] {
        let mut opt_out = analytics.opt_out().erase_recipients().into_future();
        let receipt = loop {
            tokio::select! {
                receipt = &mut opt_out => break receipt,
                () = tokio::task::yield_now() => tokio::time::advance(BOUND / 100).await,
            }
        };
        // The receipt of the second names those of the first as well.
        assert_eq!(receipt.erasures.len(), receipts);
        assert_eq!(erasures(&analytics, place), pending);
        analytics.opt_in_and_settle().await;
    }
}

#[tokio::test]
async fn an_opt_in_before_the_receipt_loses_nothing_that_the_withdrawal_removed() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let device = world.device("PHONE").await;
    let analytics = start(&device, Silent).await;
    let opt_out = tokio::spawn(analytics.opt_out().erase_recipients().into_future());
    analytics.until(|state| !state.is_open() && !state.removal_pending).await;
    eventually(analytics.opt_in()).await.unwrap();
    assert_eq!(analytics.consent_record().decisions[1].removed, None);
    while !opt_out.is_finished() {
        tokio::time::advance(BOUND / 100).await;
        tokio::task::yield_now().await;
    }
    let record = analytics.consent_record();
    let statuses: Vec<_> = record.decisions.iter().map(|decision| decision.status).collect();
    let given = ConsentStatus::Given;
    assert_eq!(statuses, [given, ConsentStatus::Withdrawn, given]);
    assert!(record.decisions[1].at <= SystemTime::now());
    assert_eq!(erasures(&analytics, 1), [("recipient".to_owned(), "pending".to_owned())]);
    assert_eq!(record.decisions[2].removed, None);
}
