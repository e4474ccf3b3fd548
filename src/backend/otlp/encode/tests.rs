use std::time::Duration;

use serde_json::json;

use super::*;
use crate::{
    backend::samples::{ID, batch, event, noon, with_user},
    event::PropertyValue,
};

fn attributes(properties: &Properties) -> Vec<(String, serde_json::Value)> {
    let mut attributes = Vec::new();
    push_attributes(&mut attributes, "", properties).unwrap();
    let value = |pair: &KeyValue<'_>| serde_json::to_value(&pair.value).unwrap();
    attributes.iter().map(|pair| (spelled(&pair.key), value(pair))).collect()
}

fn keys(properties: Properties) -> Vec<String> {
    let event = event("Keys", properties);
    let record = record(ID, &event).unwrap();
    let count = record.attributes.len() - 2;
    record.attributes.iter().take(count).map(|pair| spelled(&pair.key)).collect()
}

fn spelled(key: &Key<'_>) -> String {
    format!("{}{}", key.prefix, key.name)
}

#[test]
fn the_request_has_exactly_the_documented_members() {
    let resource =
        Properties::new().with("service.name", "example-client").with("service.version", "1.4.0");
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
        .with("small", -5e-324)
        .with("none", PropertyValue::Array(Vec::new()))
        .with("texts", vec!["a\",", "]"])
        .with("numbers", PropertyValue::Array(vec![(-1).into(), 0.5.into()]))
        .with("k\"\\ü", true);
    let array = |values| json!({ "arrayValue": { "values": values } });
    assert_eq!(
        attributes(&properties),
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
            ("none", array(json!([]))),
            ("texts", array(json!([{ "stringValue": "a\"," }, { "stringValue": "]" }]))),
            ("numbers", array(json!([{ "intValue": "-1" }, { "doubleValue": 0.5 }]))),
            ("k\"\\ü", json!({ "boolValue": true })),
        ]
        .map(|(key, value)| (key.to_owned(), value))
    );
}

#[test]
fn a_value_that_is_not_flat_is_none() {
    for json in ["null", "[[4711]]", "[null]", r#"{"b":4711}"#, "", "4711x.", "\"4711", "[4711"] {
        assert!(any_value(json).is_none(), "{json}");
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
