use std::{panic::AssertUnwindSafe, pin::pin, sync::Mutex, time::Duration};

use futures_util::{FutureExt as _, poll};
use matrix_analytics::{
    Backend as _, Batch, Properties,
    testing::{
        self, DeliveryFailure, FailingBackend, ReceivedEvent, RecordingBackend,
        contract::{self, BackendHarness, Mode, Promises, UserPropertySupport},
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
        const MODES: [Mode; 7] = [
            Mode::Refuse(FAILURES[0]),
            Mode::Refuse(FAILURES[1]),
            Mode::Refuse(FAILURES[2]),
            Mode::Refuse(FAILURES[3]),
            Mode::Refuse(FAILURES[4]),
            Mode::Refuse(FAILURES[5]),
            Mode::Stall,
        ];
        Promises {
            modes: &MODES,
            added_properties: &[],
            user_properties: UserPropertySupport::Sent,
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

/// A backend with the fault that `name` describes.
struct Faulty {
    name: &'static str,
    inner: RecordingBackend,
}

impl matrix_analytics::Backend for Faulty {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn send(&self, batch: &Batch) -> Result<(), matrix_analytics::DeliveryError> {
        let events = batch.events().cloned();
        match self.name {
            "loses" if batch.len() > 1 => {
                let kept = events.skip(1);
                self.inner.send(&testing::batch(batch.distinct_id(), kept)).await
            }
            "reorders" => {
                let reordered = events.collect::<Vec<_>>().into_iter().rev();
                self.inner.send(&testing::batch(batch.distinct_id(), reordered)).await
            }
            "doubles" => {
                self.inner.send(batch).await?;
                self.inner.send(batch).await
            }
            "renames" => self.inner.send(&testing::batch("another ID", events)).await,
            "reuuids" => {
                let again = events.map(|event| {
                    let time = event.time();
                    testing::event_at(event.name(), event.properties().clone(), time)
                });
                let id = batch.distinct_id();
                self.inner.send(&testing::batch(id, again)).await
            }
            "adds" => {
                let more = events.map(|event| {
                    let more = event.properties().clone().with("host", "added");
                    testing::event_at(event.name(), more, event.time())
                });
                let id = batch.distinct_id();
                self.inner.send(&testing::batch(id, more)).await
            }
            _ => self.inner.send(batch).await,
        }
    }
}

impl BackendHarness for Faulty {
    type Backend = Self;

    fn promises(&self) -> Promises {
        Promises {
            modes: if self.name == "accepts" {
                &[Mode::Refuse(DeliveryFailure::Transient)]
            } else {
                &[]
            },
            added_properties: &[],
            user_properties: UserPropertySupport::Sent,
            secrets: &[],
        }
    }

    fn backend(&self) -> &Self {
        self
    }

    async fn was_contacted(&self) -> bool {
        self.name == "eager" || !self.inner.batches().is_empty()
    }

    async fn received(&self) -> Vec<ReceivedEvent> {
        self.inner.events()
    }

    async fn set_mode(&self, _mode: Mode) {}

    async fn stalled(&self) {}
}

#[tokio::test]
async fn the_contract_finds_every_fault() {
    for (name, message) in [
        ("", "a backend needs a name"),
        ("eager", "contacted before the first `send`"),
        ("loses", "number of events received"),
        ("reorders", "differs from what was sent"),
        ("doubles", "number of events received"),
        ("renames", "differs from what was sent"),
        ("reuuids", "differs from what was sent"),
        ("adds", "differs from what was sent"),
        ("accepts", "was reported as a delivery"),
    ] {
        let faulty = Faulty { name, inner: RecordingBackend::new() };
        let panic = AssertUnwindSafe(contract::check(&faulty)).catch_unwind().await.unwrap_err();
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let panic = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap();
        assert!(panic.contains(message), "{name:?} was found as {panic:?}");
    }
    let sound = Faulty { name: "sound", inner: RecordingBackend::new() };
    contract::check(&sound).await;
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
