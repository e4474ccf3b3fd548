//! What the service must receive of a batch.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use uuid::Uuid;

use super::{BackendHarness, Limitation, Promises};
use crate::{
    backend::{Backend as _, Batch, DeliveryError},
    event::OutgoingEvent,
    testing::ReceivedEvent,
};

/// Sends `batch` and checks that it, and nothing else, arrives.
pub(super) async fn delivers<H: BackendHarness>(harness: &H, batch: &Batch, what: &str) {
    let before = harness.received().await.len();
    accepted(harness.backend().send(batch).await, what);
    let received = harness.received().await;
    let received = received.get(before..).unwrap_or_default();
    assert_eq!(received.len(), batch.len(), "{what}: number of events received");
    let promises = harness.promises();
    let person = harness.backend().stored_identifier(batch.distinct_id());
    for (received, sent) in received.iter().zip(batch.events()) {
        let mut received = received.clone();
        for key in promises.added_properties {
            assert!(
                received.properties.remove(*key).is_some(),
                "{what}: the declared property {key:?} is missing",
            );
        }
        received.time = in_units_of(Duration::from_millis(1), received.time);
        let expected = expected(&promises, &person, sent);
        assert_eq!(received, expected, "{what}: the event differs from what was sent");
    }
}

pub(super) fn accepted(result: Result<(), DeliveryError>, what: &str) {
    if let Err(error) = result {
        panic!("{what} was not delivered: {error}: {error:?}");
    }
}

fn expected(promises: &Promises, person: &str, sent: &OutgoingEvent) -> ReceivedEvent {
    let mut expected = ReceivedEvent::new(person, sent);
    let mut unit = Duration::from_millis(1);
    for limitation in promises.limitations {
        match limitation {
            Limitation::NoEventOlderThan(_) | Limitation::NoSecondAttempt => {}
            Limitation::NoFractionOfSecond => unit = Duration::from_secs(1),
            Limitation::NoUniqueId => expected.uuid = Uuid::nil(),
            Limitation::NoUserProperties => {
                expected.set.clear();
                expected.set_once.clear();
            }
            Limitation::OnlyTexts { properties, user_properties } => {
                keep_texts(&mut expected.properties, properties);
                keep_texts(&mut expected.set, user_properties);
                keep_texts(&mut expected.set_once, user_properties);
            }
        }
    }
    expected.time = in_units_of(unit, expected.time);
    expected
}

fn keep_texts(properties: &mut Map<String, Value>, keys: &[&str]) {
    properties.retain(|key, value| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return false,
        };
        *value = text.into();
        keys.contains(&&**key)
    });
}

/// Returns `time` without what is less than `unit`, which is a part of a second or a second.
fn in_units_of(unit: Duration, time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let rest = since.as_nanos() % unit.as_nanos();
    time - Duration::from_nanos(rest.try_into().unwrap_or_default())
}
