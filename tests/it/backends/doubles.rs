use std::{panic::AssertUnwindSafe, pin::pin, sync::Mutex, time::Duration};

use futures_util::{FutureExt as _, poll};
use matrix_analytics::{
    Backend as _, Batch, Properties,
    testing::{
        self, DeliveryFailure, FailingBackend, ReceivedEvent, RecordingBackend,
        contract::{self, BackendHarness, Mode, Promises},
    },
};

const FAILURES: [DeliveryFailure; 6] = [
    DeliveryFailure::Misconfigured,
    DeliveryFailure::Rejected,
    DeliveryFailure::Throttled { retry_after: Some(Duration::from_secs(7)) },
    DeliveryFailure::TooLarge,
    DeliveryFailure::Transient,
    DeliveryFailure::Unauthorized,
];

#[derive(Default)]
struct Failing {
    backend: FailingBackend,
    attempts_when_stalled: Mutex<usize>,
}

impl BackendHarness for Failing {
    type Backend = FailingBackend;

    fn promises(&self) -> Promises {
        let refusals = FAILURES.map(Mode::Refuse).into_iter();
        Promises {
            modes: refusals.chain([Mode::Stall]).collect(),
            added_properties: &[],
            limitations: &[],
            secrets: &[],
        }
    }

    fn backend(&self) -> &FailingBackend {
        &self.backend
    }

    async fn was_contacted(&self) -> bool {
        self.backend.attempts() > 0
    }

    async fn received(&self) -> Vec<ReceivedEvent> {
        self.backend.accepted_events()
    }

    async fn set_mode(&self, mode: Mode) {
        self.backend.heal();
        match mode {
            Mode::Refuse(failure) => self.backend.fail_always(failure),
            Mode::Stall => {
                *self.attempts_when_stalled.lock().unwrap() = self.backend.attempts();
                self.backend.stall();
            }
            _ => {}
        }
    }

    async fn stalled(&self) {
        let attempts = *self.attempts_when_stalled.lock().unwrap();
        self.backend.wait_for_attempts(attempts + 1).await;
    }
}

#[tokio::test]
async fn the_failing_backend_keeps_the_contract() {
    contract::check(&Failing::default()).await;
}

fn opened() -> Batch {
    testing::batch("id", [testing::event("Opened", Properties::new())])
}

#[tokio::test]
async fn the_recording_backend_shows_what_it_received() {
    let backend = RecordingBackend::new();
    let clone = backend.clone();
    let event = testing::event("Opened", Properties::new().with("count", 3));
    let uuid = event.uuid();
    clone.send(&testing::batch("first", [event])).await.unwrap();
    clone.send(&opened()).await.unwrap();
    assert_eq!(backend.ids(), ["first", "id"]);
    assert_eq!(backend.names(), ["Opened", "Opened"]);
    assert_eq!(backend.events()[0].uuid, uuid);
    assert_eq!(backend.events()[0].properties["count"], 3);
    assert_eq!(backend.batches()[1].events.len(), 1);
    backend.clear();
    assert!(clone.events().is_empty());
}

#[tokio::test]
async fn waiting_for_events_ends_when_the_last_one_arrives() {
    let backend = RecordingBackend::new();
    let mut two = pin!(backend.wait_for(2));
    assert!(poll!(&mut two).is_pending());
    backend.send(&opened()).await.unwrap();
    assert!(poll!(&mut two).is_pending());
    backend.send(&opened()).await.unwrap();
    assert!(poll!(&mut two).is_ready());
}

#[tokio::test]
async fn queued_failures_come_in_order_before_the_constant_one() {
    let backend = FailingBackend::new();
    backend.fail_always(DeliveryFailure::Unauthorized);
    for failure in FAILURES {
        backend.fail_next(failure);
    }
    for failure in FAILURES.into_iter().chain([DeliveryFailure::Unauthorized; 2]) {
        let error = backend.send(&opened()).await.unwrap_err();
        assert_eq!(DeliveryFailure::from(&error), failure);
    }
    backend.heal();
    backend.send(&opened()).await.unwrap();
    assert_eq!(backend.attempts(), 9);
    assert_eq!(backend.accepted().len(), 1);
}

#[tokio::test]
async fn a_stalled_backend_takes_a_batch_when_it_is_released() {
    let backend = FailingBackend::new();
    backend.stall();
    let batch = opened();
    let mut send = pin!(backend.send(&batch));
    assert!(poll!(&mut send).is_pending());
    assert_eq!(backend.attempts(), 1);
    assert!(backend.accepted().is_empty());
    backend.release();
    send.await.unwrap();
    assert_eq!(backend.accepted_events().len(), 1);
}

#[tokio::test]
async fn the_failing_backend_panics_once_when_told_to() {
    let backend = FailingBackend::new();
    backend.panic_next();
    let batch = opened();
    assert!(AssertUnwindSafe(backend.send(&batch)).catch_unwind().await.is_err());
    backend.send(&batch).await.unwrap();
}
