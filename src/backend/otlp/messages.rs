//! The messages of a request: what they hold, and with `serde` how they are written in JSON.
//!
//! They are those of `opentelemetry/proto/{collector/logs,common,logs,resource}/v1`, version
//! 1.11, without the fields that this crate does not use. They borrow from the batch, and are
//! written to a request at once. `Debug` is not derived, because they hold properties.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExportLogsServiceRequest<'a> {
    pub(super) resource_logs: [ResourceLogs<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResourceLogs<'a> {
    pub(super) resource: Resource<'a>,
    pub(super) scope_logs: [ScopeLogs<'a>; 1],
}

#[derive(Serialize)]
pub(super) struct Resource<'a> {
    pub(super) attributes: Vec<KeyValue<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ScopeLogs<'a> {
    pub(super) scope: InstrumentationScope,
    pub(super) log_records: Vec<LogRecord<'a>>,
}

#[derive(Serialize)]
pub(super) struct InstrumentationScope {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LogRecord<'a> {
    #[serde(serialize_with = "as_text")]
    pub(super) time_unix_nano: u64,
    #[serde(serialize_with = "as_text")]
    pub(super) observed_time_unix_nano: u64,
    pub(super) severity_number: i32,
    pub(super) attributes: Vec<KeyValue<'a>>,
    pub(super) event_name: &'a str,
}

#[derive(Serialize)]
pub(super) struct KeyValue<'a> {
    pub(super) key: Key<'a>,
    pub(super) value: AnyValue<'a>,
}

/// A key in two parts, so that a prefix needs no copy.
pub(super) struct Key<'a> {
    pub(super) prefix: &'static str,
    pub(super) name: Cow<'a, str>,
}

#[derive(Serialize)]
pub(super) enum AnyValue<'a> {
    #[serde(rename = "stringValue")]
    Text(Cow<'a, str>),
    #[serde(rename = "boolValue")]
    Bool(bool),
    #[serde(rename = "intValue", serialize_with = "as_text")]
    Integer(i64),
    #[serde(rename = "doubleValue")]
    Float(f64),
    #[serde(rename = "arrayValue")]
    Array(ArrayValue<'a>),
}

#[derive(Serialize)]
pub(super) struct ArrayValue<'a> {
    pub(super) values: Vec<AnyValue<'a>>,
}

impl Serialize for Key<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self { prefix: "", name } => serializer.serialize_str(name),
            Self { prefix, name } => serializer.collect_str(&format_args!("{prefix}{name}")),
        }
    }
}

/// Writes a number of 64 bits as JSON does for protobuf: as a text.
fn as_text<S: Serializer>(number: &impl ToString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&number.to_string())
}
