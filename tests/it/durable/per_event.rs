//! Events that have left before earlier ones, because their service answers for each event.

use matrix_analytics::{
    Backend, Batch, DeliveryError, EventOutcome,
    testing::{self, RecordingBackend},
};

use super::{Durable, counters, flush};
use crate::support::AnalyticsExt as _;

/// Takes every event but those whose names begin with `Later`.
#[derive(Clone, Default)]
struct TakesSome(RecordingBackend);

impl Backend for TakesSome {
    fn name(&self) -> &'static str {
        "takes-some"
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let is_taken = |name: &str| !name.starts_with("Later");
        let taken: Vec<_> =
            batch.events().filter(|event| is_taken(event.name())).cloned().collect();
        if !taken.is_empty() {
            self.0.send(&testing::batch(batch.distinct_id(), taken)).await?;
        }
        let outcomes = batch.events().map(|event| match is_taken(event.name()) {
            true => EventOutcome::Delivered,
            false => EventOutcome::SendAgain,
        });
        Err(DeliveryError::PerEvent { outcomes: outcomes.collect(), retry_after: None })
    }
}

#[tokio::test]
async fn only_the_events_that_are_wanted_again_are_restored() {
    let durable = Durable::new().await;
    let backend = TakesSome::default();
    let analytics = durable.builder().backend(backend.clone()).build().await.unwrap();
    analytics.confirmed().await;
    for name in ["A", "Later1", "B", "C", "Later2", "D"] {
        analytics.capture_one(name);
    }
    flush(&analytics).await;
    assert_eq!(backend.0.names(), ["A", "B", "C", "D"]);
    let before = counters(&analytics);
    assert_eq!((before.delivered, before.queued), (4, 2));
    durable.end(analytics).await;

    // The next process has another backend under the same name.
    let all = RecordingBackend::new();
    let analytics = durable.builder().backend(Named(all.clone())).build().await.unwrap();
    analytics.confirmed().await;
    flush(&analytics).await;
    assert_eq!(all.names(), ["Later1", "Later2"]);
    let counted = counters(&analytics);
    assert_eq!((counted.restored, counted.delivered), (2, 2));
    durable.end(analytics).await;
    assert_eq!(durable.rows(), 0);
}

/// Takes everything, under the name of [`TakesSome`].
struct Named(RecordingBackend);

impl Backend for Named {
    fn name(&self) -> &'static str {
        "takes-some"
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        self.0.send(batch).await
    }
}
