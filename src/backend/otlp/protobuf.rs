//! The messages of a request in protobuf.
//!
//! Messages that prost derives own their texts, so that each attribute would take two
//! allocations. These are written from where the texts are, into one buffer.

use prost::encoding::{
    WireType::{LengthDelimited, SixtyFourBit, Varint},
    encode_key, encode_varint, encoded_len_varint,
};

use super::messages::{AnyValue, ExportLogsServiceRequest, KeyValue, LogRecord};

/// Returns `request` in protobuf.
pub(super) fn request(request: &ExportLogsServiceRequest<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for resource_logs in &request.resource_logs {
        push_message(&mut out, 1, |out| {
            push_message(out, 1, |out| push_attributes(out, 1, &resource_logs.resource.attributes));
            for scope_logs in &resource_logs.scope_logs {
                push_message(out, 2, |out| {
                    push_message(out, 1, |out| {
                        push_text(out, 1, &[scope_logs.scope.name]);
                        push_text(out, 2, &[scope_logs.scope.version]);
                    });
                    for record in &scope_logs.log_records {
                        push_message(out, 2, |out| push_record(out, record));
                    }
                });
            }
        });
    }
    out
}

fn push_record(out: &mut Vec<u8>, record: &LogRecord<'_>) {
    push_fixed64(out, 1, record.time_unix_nano.to_le_bytes());
    push_varint(out, 2, i64::from(record.severity_number).cast_unsigned());
    push_attributes(out, 6, &record.attributes);
    push_fixed64(out, 11, record.observed_time_unix_nano.to_le_bytes());
    push_text(out, 12, &[record.event_name]);
}

fn push_attributes(out: &mut Vec<u8>, tag: u32, attributes: &[KeyValue<'_>]) {
    for KeyValue { key, value } in attributes {
        push_message(out, tag, |out| {
            push_text(out, 1, &[key.prefix, &key.name]);
            push_message(out, 2, |out| push_value(out, value));
        });
    }
}

/// Appends the field that has the value, even if it is the default of its type: without a field,
/// there is no value.
fn push_value(out: &mut Vec<u8>, value: &AnyValue<'_>) {
    match value {
        AnyValue::Text(text) => push_text(out, 1, &[text]),
        AnyValue::Bool(value) => push_varint(out, 2, u64::from(*value)),
        AnyValue::Integer(value) => push_varint(out, 3, value.cast_unsigned()),
        AnyValue::Float(value) => push_fixed64(out, 4, value.to_le_bytes()),
        AnyValue::Array(array) => push_message(out, 5, |out| {
            for value in &array.values {
                push_message(out, 1, |out| push_value(out, value));
            }
        }),
    }
}

/// Appends a field with the message that `push` appends.
fn push_message(out: &mut Vec<u8>, tag: u32, push: impl FnOnce(&mut Vec<u8>)) {
    encode_key(tag, LengthDelimited, out);
    let start = out.len();
    // Room for the length of a short message. That of a longer one moves it.
    out.push(0);
    push(out);
    let length = out.len() - start - 1;
    let head = encoded_len_varint(length as u64);
    if head > 1 {
        let end = out.len();
        out.resize(end + head - 1, 0);
        out.copy_within(start + 1..end, start + head);
    }
    encode_varint(length as u64, &mut &mut out[start..start + head]);
}

/// Appends a field with the parts of a text.
fn push_text(out: &mut Vec<u8>, tag: u32, parts: &[&str]) {
    encode_key(tag, LengthDelimited, out);
    encode_varint(parts.iter().map(|part| part.len() as u64).sum(), out);
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

fn push_varint(out: &mut Vec<u8>, tag: u32, number: u64) {
    encode_key(tag, Varint, out);
    encode_varint(number, out);
}

fn push_fixed64(out: &mut Vec<u8>, tag: u32, number: [u8; 8]) {
    encode_key(tag, SixtyFourBit, out);
    out.extend_from_slice(&number);
}

#[cfg(test)]
mod tests;
