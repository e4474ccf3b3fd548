//! The records of a request.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::messages::{
    AnyValue, ExportLogsServiceRequest, InstrumentationScope, KeyValue, LogRecord, Resource,
    ResourceLogs, ScopeLogs, Value,
};
use crate::{
    backend::Batch,
    event::{OutgoingEvent, Properties},
};

/// The attribute with the unique ID of the event.
const UID: &str = "log.record.uid";
/// The attribute with the identifier of the person.
const PERSON: &str = "enduser.pseudo.id";
/// What the keys of user properties begin with.
const USER: &str = "user_property.";
/// What the keys of user properties begin with that do not replace existing ones.
const INITIAL_USER: &str = "initial_user_property.";
/// What the key of a property begins with that would otherwise be taken for one of ours.
const OWN: &str = "property.";

/// `SEVERITY_NUMBER_INFO`, the severity of an event that is not about a problem.
const INFO: i32 = 9;

/// Returns the request that sends `batch`, from a program with these attributes.
pub(super) fn request(
    resource: &[KeyValue],
    batch: &Batch,
) -> serde_json::Result<ExportLogsServiceRequest> {
    let person = batch.distinct_id();
    let log_records =
        batch.events().map(|event| record(person, event)).collect::<serde_json::Result<_>>()?;
    let scope = InstrumentationScope {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    Ok(ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(Resource { attributes: resource.to_vec() }),
            scope_logs: vec![ScopeLogs { scope: Some(scope), log_records }],
        }],
    })
}

/// Returns properties as attributes, with their own keys.
pub(super) fn attributes(properties: &Properties) -> serde_json::Result<Vec<KeyValue>> {
    let Attributes(attributes) = serde_json::from_str(&properties.to_json())?;
    Ok(attributes)
}

fn record(person: &str, event: &OutgoingEvent) -> serde_json::Result<LogRecord> {
    let time = unix_nanoseconds(event.time());
    let mut uuid = uuid::Uuid::encode_buffer();
    let uuid: &str = event.uuid().hyphenated().encode_lower(&mut uuid);
    let mut all = attributes(event.properties())?;
    all.iter_mut().for_each(rename_if_ours);
    let user = event.user_properties();
    for (prefix, properties) in [(USER, user.values()), (INITIAL_USER, user.initial_values())] {
        if !properties.is_empty() {
            let named = attributes(properties)?.into_iter();
            all.extend(
                named.map(|KeyValue { key, value }| KeyValue {
                    key: format!("{prefix}{key}"),
                    value,
                }),
            );
        }
    }
    all.push(text(UID, uuid));
    all.push(text(PERSON, person));
    Ok(LogRecord {
        time_unix_nano: time,
        observed_time_unix_nano: time,
        severity_number: INFO,
        attributes: all,
        event_name: event.name().to_owned(),
    })
}

fn text(key: &str, text: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::Text(text.to_owned())) });
    KeyValue { key: key.to_owned(), value }
}

/// Puts a prefix before the key of a property if it is one of ours, or becomes one without its
/// prefixes. So no two keys become the same.
fn rename_if_ours(attribute: &mut KeyValue) {
    let key = attribute.key.trim_start_matches(OWN);
    let is_ours =
        [UID, PERSON].contains(&key) || key.starts_with(USER) || key.starts_with(INITIAL_USER);
    if is_ours {
        attribute.key.insert_str(0, OWN);
    }
}

/// Returns `time` in nanoseconds since 1970, or the nearest time that OTLP can represent.
fn unix_nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos().try_into().unwrap_or(u64::MAX)
}

/// The members of a flat JSON object.
struct Attributes(Vec<KeyValue>);

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Attributes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a flat JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Attributes, A::Error> {
                let mut attributes = Vec::new();
                while let Some((key, spelled)) = map.next_entry::<String, &RawValue>()? {
                    // The parser's message could quote the value.
                    let value = value(spelled.get())
                        .ok_or_else(|| serde::de::Error::custom("a value that is not flat"))?;
                    attributes.push(KeyValue { key, value: Some(AnyValue { value: Some(value) }) });
                }
                Ok(Attributes(attributes))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// Returns the value that `json` spells. An integer beyond 64 bits with a sign becomes a text, as
/// OpenTelemetry's "Mapping Arbitrary Data to OTLP AnyValue" requires it.
fn value(json: &str) -> Option<Value> {
    Some(match json.as_bytes().first()? {
        b'"' => Value::Text(serde_json::from_str(json).ok()?),
        b't' => Value::Bool(true),
        b'f' => Value::Bool(false),
        b'-' | b'0'..=b'9' if json.contains(['.', 'e', 'E']) => Value::Float(json.parse().ok()?),
        b'-' | b'0'..=b'9' => match json.parse() {
            Ok(integer) => Value::Integer(integer),
            Err(_) => Value::Text(json.to_owned()),
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
