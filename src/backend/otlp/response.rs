//! The message of a full and of a partial success.

use serde::{Deserialize, Deserializer};

/// The answer to a request.
///
/// Its text (`error_message`) is not read, because a collector may quote a property in it.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ExportLogsServiceResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) partial_success: Option<ExportLogsPartialSuccess>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ExportLogsPartialSuccess {
    #[prost(int64, tag = "1")]
    #[serde(deserialize_with = "number_or_text")]
    pub(super) rejected_log_records: i64,
}

/// Reads a number of 64 bits as JSON allows it for protobuf: a number, a text with a number, or
/// `null` for 0.
fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Spelled {
        Number(i64),
        Text(String),
    }

    match Option::deserialize(deserializer)? {
        None => Ok(0),
        Some(Spelled::Number(number)) => Ok(number),
        Some(Spelled::Text(text)) => {
            text.parse().map_err(|_| serde::de::Error::custom("a text that is not a number"))
        }
    }
}
