//! Reads what is written with messages that prost derives.

mod messages;

use prost::Message as _;

use self::messages::ExportLogsServiceRequest;
use crate::{
    backend::{
        otlp::encode,
        samples::{batch, event, with_user},
    },
    event::{OutgoingEvent, Properties, PropertyValue},
};

/// Checks that the request for `events` says the same in protobuf as in JSON.
#[track_caller]
fn assert_same_in_both_encodings(events: impl IntoIterator<Item = OutgoingEvent>) {
    let (resource, batch) = (Properties::new().with("service.name", "example"), batch(events));
    let request = encode::request(&resource, &batch).unwrap();
    let decoded = ExportLogsServiceRequest::decode(&*super::request(&request)).unwrap();
    assert_eq!(serde_json::to_value(&decoded).unwrap(), serde_json::to_value(&request).unwrap());
}

#[test]
fn each_kind_of_value_is_written() {
    let values = Properties::new()
        .with("text", "ü \"\\\n\0\u{1f980}")
        .with("empty", "")
        .with("yes", true)
        .with("no", false)
        .with("zero", 0)
        .with("least", i64::MIN)
        .with("most", i64::MAX)
        .with("beyond", u64::MAX)
        .with("nought", 0.0)
        .with("small", -5e-324)
        .with("none", PropertyValue::Array(Vec::new()))
        .with("mixed", PropertyValue::Array(vec!["a".into(), 0.into(), 0.5.into(), false.into()]));
    let user = Properties::new().with("app", "desktop");
    assert_same_in_both_encodings([
        with_user(event("Values", values), user.clone(), user),
        event("Opened", Properties::new()),
    ]);
}

/// A length takes another byte from 128, 16,384 and 2,097,152 on.
#[test]
fn each_size_of_a_length_is_written() {
    for length in [0, 1, 100, 110, 120, 126, 127, 128, 129, 16_200, 16_383, 16_384, 60_000] {
        let long = || event("Long", Properties::new().with("text", "x".repeat(length)));
        assert_same_in_both_encodings([long(), long()]);
    }
    let long = || event("Long", Properties::new().with("text", "x".repeat(60_000)));
    assert_same_in_both_encodings((0..40).map(|_| long()));
}
