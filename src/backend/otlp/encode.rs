//! The records of a request.

use std::{
    borrow::Cow,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::de::Error as _;
use serde_json::value::RawValue;

use super::messages::{
    AnyValue, ArrayValue, ExportLogsServiceRequest, InstrumentationScope, Key, KeyValue, LogRecord,
    Resource, ResourceLogs, ScopeLogs,
};
use crate::{
    backend::Batch,
    event::{OutgoingEvent, Properties},
};

/// The attribute with the unique ID of the event.
const UID: &str = "log.record.uid";
/// The attribute with the identifier of the person.
const PERSON: &str = "enduser.pseudo.id";
/// The prefix of the keys of user properties.
const USER: &str = "user_property.";
/// The prefix of the keys of user properties that do not replace existing ones.
const INITIAL_USER: &str = "initial_user_property.";
/// The prefix of the key of a property that would otherwise be taken for one of ours.
const OWN: &str = "property.";

/// `SEVERITY_NUMBER_INFO`, the severity of an event that is not about a problem.
const INFO: i32 = 9;

/// Returns the request that sends `batch`, from a program with these properties.
pub(super) fn request<'a>(
    resource: &'a Properties,
    batch: &'a Batch,
) -> serde_json::Result<ExportLogsServiceRequest<'a>> {
    let person = batch.distinct_id();
    let mut log_records = Vec::with_capacity(batch.len());
    for event in batch.events() {
        log_records.push(record(person, event)?);
    }
    let mut attributes = Vec::new();
    push_attributes(&mut attributes, "", resource)?;
    let scope =
        InstrumentationScope { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") };
    Ok(ExportLogsServiceRequest {
        resource_logs: [ResourceLogs {
            resource: Resource { attributes },
            scope_logs: [ScopeLogs { scope, log_records }],
        }],
    })
}

fn record<'a>(person: &'a str, event: &'a OutgoingEvent) -> serde_json::Result<LogRecord<'a>> {
    let time = unix_nanoseconds(event.time());
    let mut uuid = uuid::Uuid::encode_buffer();
    let uuid: &str = event.uuid().hyphenated().encode_lower(&mut uuid);
    // The usual event has no more.
    let mut attributes = Vec::with_capacity(8);
    push_attributes(&mut attributes, "", event.properties())?;
    attributes.iter_mut().for_each(prefix_if_ours);
    let user = event.user_properties();
    push_attributes(&mut attributes, USER, user.values())?;
    push_attributes(&mut attributes, INITIAL_USER, user.initial_values())?;
    attributes.push(text(UID, uuid.to_owned().into()));
    attributes.push(text(PERSON, person.into()));
    Ok(LogRecord {
        time_unix_nano: time,
        observed_time_unix_nano: time,
        severity_number: INFO,
        attributes,
        event_name: event.name(),
    })
}

fn text<'a>(key: &'static str, text: Cow<'a, str>) -> KeyValue<'a> {
    KeyValue { key: Key { prefix: "", name: key.into() }, value: AnyValue::Text(text) }
}

/// Puts a prefix before the key of a property if it is one of ours, or becomes one without its
/// prefixes. So no two keys become the same.
fn prefix_if_ours(attribute: &mut KeyValue<'_>) {
    let mut key = &*attribute.key.name;
    while let Some(rest) = key.strip_prefix(OWN) {
        key = rest;
    }
    let is_ours =
        [UID, PERSON].contains(&key) || key.starts_with(USER) || key.starts_with(INITIAL_USER);
    if is_ours {
        attribute.key.prefix = OWN;
    }
}

/// Returns `time` in nanoseconds since 1970, or the nearest time that OTLP can represent.
fn unix_nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos().try_into().unwrap_or(u64::MAX)
}

/// Adds properties as attributes.
fn push_attributes<'a>(
    attributes: &mut Vec<KeyValue<'a>>,
    prefix: &'static str,
    properties: &'a Properties,
) -> serde_json::Result<()> {
    let pushed = properties.each_spelled(|key, value| {
        let (key, value) = (Key { prefix, name: unquoted(key)? }, any_value(value)?);
        attributes.push(KeyValue { key, value });
        Some(())
    });
    // A parser's message could quote a value.
    pushed.ok_or_else(|| serde_json::Error::custom("properties that are not flat"))
}

/// Returns the value that `json` spells.
fn any_value(json: &str) -> Option<AnyValue<'_>> {
    if json.starts_with('[') {
        let values: Vec<&RawValue> = serde_json::from_str(json).ok()?;
        let values = values.into_iter().map(|value| scalar(value.get())).collect::<Option<_>>()?;
        return Some(AnyValue::Array(ArrayValue { values }));
    }
    scalar(json)
}

/// Returns the value that `json` spells, unless it is an array. An integer beyond 64 bits with a
/// sign becomes a text, as OpenTelemetry's "Mapping Arbitrary Data to OTLP AnyValue" requires it.
fn scalar(json: &str) -> Option<AnyValue<'_>> {
    Some(match json.as_bytes().first()? {
        b'"' => AnyValue::Text(unquoted(json)?),
        b't' => AnyValue::Bool(true),
        b'f' => AnyValue::Bool(false),
        b'-' | b'0'..=b'9' => match json.parse() {
            Ok(integer) => AnyValue::Integer(integer),
            Err(_) if json.contains(['.', 'e', 'E']) => AnyValue::Float(json.parse().ok()?),
            Err(_) => AnyValue::Text(json.into()),
        },
        _ => return None,
    })
}

/// Returns the text that the JSON string `json` spells.
fn unquoted(json: &str) -> Option<Cow<'_, str>> {
    if json.contains('\\') {
        return serde_json::from_str(json).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(json.strip_prefix('"')?.strip_suffix('"')?))
}

#[cfg(test)]
mod tests;
