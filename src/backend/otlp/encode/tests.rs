use std::time::Duration;

use prost::Message as _;
use serde_json::json;

use super::*;
use crate::backend::samples::{ID, batch, event, noon, with_user};

fn pairs(attributes: &[KeyValue]) -> Vec<(&str, serde_json::Value)> {
    let value = |value: &Option<AnyValue>| serde_json::to_value(value.as_ref().unwrap()).unwrap();
    attributes.iter().map(|pair| (&*pair.key, value(&pair.value))).collect()
}

fn keys(properties: Properties) -> Vec<String> {
    let record = record(ID, &event("Keys", properties)).unwrap();
    let count = record.attributes.len() - 2;
    record.attributes.into_iter().take(count).map(|pair| pair.key).collect()
}

#[test]
fn the_request_has_exactly_the_documented_members() {
    let resource = attributes(
        &Properties::new().with("service.name", "example-client").with("service.version", "1.4.0"),
    )
    .unwrap();
    let joined = with_user(
        event("RoomJoined", Properties::new().with("trigger", "Invite").with("members", 3)),
        Properties::new().with("app", "desktop"),
        Properties::new().with("first_app", "desktop"),
    );
    let sent = batch([joined, event("Opened", Properties::new())]);
    let request = request(&resource, &sent).unwrap();
    let ours = [
        json!({ "key": "log.record.uid", "value": {
            "stringValue": "0b42f1a5-6f0c-4a38-9a1d-3c1f1b9f6d0e"
        } }),
        json!({ "key": "enduser.pseudo.id", "value": { "stringValue": ID } }),
    ];
    let text = |key: &str, text: &str| json!({ "key": key, "value": { "stringValue": text } });
    let record = |name: &str, attributes: Vec<serde_json::Value>| {
        json!({
            "timeUnixNano": "1769860800250000000",
            "observedTimeUnixNano": "1769860800250000000",
            "severityNumber": 9,
            "attributes": ([attributes, ours.to_vec()].concat()),
            "eventName": name,
        })
    };
    let expected = json!({ "resourceLogs": [{
        "resource": { "attributes": [
            text("service.name", "example-client"), text("service.version", "1.4.0"),
        ] },
        "scopeLogs": [{
            "scope": { "name": "matrix-analytics", "version": env!("CARGO_PKG_VERSION") },
            "logRecords": [
                record("RoomJoined", vec![
                    text("trigger", "Invite"),
                    json!({ "key": "members", "value": { "intValue": "3" } }),
                    text("user_property.app", "desktop"),
                    text("initial_user_property.first_app", "desktop"),
                ]),
                record("Opened", vec![]),
            ],
        }],
    }] });
    assert_eq!(serde_json::to_value(&request).unwrap(), expected);

    let decoded = ExportLogsServiceRequest::decode(&*request.encode_to_vec()).unwrap();
    assert!(decoded == request);
}

#[test]
fn each_kind_of_value_keeps_its_type() {
    let properties = Properties::new()
        .with("text", "ü \"\\\n\0\u{1f980}")
        .with("empty", "")
        .with("yes", true)
        .with("no", false)
        .with("zero", 0)
        .with("least", i64::MIN)
        .with("most", i64::MAX)
        .with("beyond", u64::MAX)
        .with("whole", 3.0)
        .with("tenth", 0.1)
        .with("large", 1e300)
        .with("small", -5e-324);
    let attributes = attributes(&properties).unwrap();
    assert_eq!(
        pairs(&attributes),
        [
            ("text", json!({ "stringValue": "ü \"\\\n\0\u{1f980}" })),
            ("empty", json!({ "stringValue": "" })),
            ("yes", json!({ "boolValue": true })),
            ("no", json!({ "boolValue": false })),
            ("zero", json!({ "intValue": "0" })),
            ("least", json!({ "intValue": "-9223372036854775808" })),
            ("most", json!({ "intValue": "9223372036854775807" })),
            ("beyond", json!({ "stringValue": "18446744073709551615" })),
            ("whole", json!({ "doubleValue": 3.0 })),
            ("tenth", json!({ "doubleValue": 0.1 })),
            ("large", json!({ "doubleValue": 1e300 })),
            ("small", json!({ "doubleValue": -5e-324 })),
        ]
    );
}

#[test]
fn a_value_that_is_not_flat_is_an_error_that_does_not_quote_it() {
    for json in [r#"{"a":null}"#, r#"{"a":[4711]}"#, r#"{"a":{"b":4711}}"#, r#"["4711"]"#] {
        let error = serde_json::from_str::<Attributes>(json).map(|_| ()).unwrap_err().to_string();
        assert!(!error.contains("4711"), "{error}");
    }
}

#[test]
fn a_property_with_the_name_of_an_attribute_of_ours_gets_a_prefix() {
    let found = keys(
        Properties::new()
            .with("log.record.uid", 1)
            .with("property.log.record.uid", 2)
            .with("property.property.log.record.uid", 3)
            .with("enduser.pseudo.id", 4)
            .with("user_property.app", 5)
            .with("initial_user_property.app", 6)
            .with("property.user_property.app", 7)
            .with("property.other", 8)
            .with("log.record.uid2", 9)
            .with("user_property", 10),
    );
    assert_eq!(
        found,
        [
            "property.log.record.uid",
            "property.property.log.record.uid",
            "property.property.property.log.record.uid",
            "property.enduser.pseudo.id",
            "property.user_property.app",
            "property.initial_user_property.app",
            "property.property.user_property.app",
            "property.other",
            "log.record.uid2",
            "user_property",
        ]
    );
}

#[test]
fn a_time_is_in_nanoseconds_within_the_bounds_of_the_format() {
    for (time, nanoseconds) in [
        (noon(), 1_769_860_800_250_000_000),
        (UNIX_EPOCH, 0),
        (UNIX_EPOCH - Duration::from_secs(1), 0),
        (UNIX_EPOCH + Duration::from_secs(20_000_000_000), u64::MAX),
    ] {
        assert_eq!(unix_nanoseconds(time), nanoseconds);
    }
}
