//! Reads the log records of a request in protobuf, as the `.proto` files of OTLP describe them.

use serde_json::{Map, Value, json};

/// The value of a field.
#[derive(Clone, Copy)]
enum Field<'a> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Varint(_) | Self::Fixed(_) => panic!("a number in place of a message"),
        }
    }

    fn text(self) -> Value {
        std::str::from_utf8(self.bytes()).unwrap().into()
    }

    fn number(self) -> u64 {
        match self {
            Self::Varint(number) | Self::Fixed(number) => number,
            Self::Bytes(_) => panic!("a message in place of a number"),
        }
    }
}

/// Returns the log records of an `ExportLogsServiceRequest`, in the form that they have in JSON.
pub(crate) fn log_records(request: &[u8]) -> Vec<Value> {
    let mut records = Vec::new();
    for resource_logs in all(request, 1) {
        for scope_logs in all(resource_logs.bytes(), 2) {
            records
                .extend(all(scope_logs.bytes(), 2).iter().map(|record| log_record(record.bytes())));
        }
    }
    records
}

/// Returns the texts and the numbers in `message`, whatever its fields mean, except the numbers of 64
/// bits: in a log record, these are times.
///
/// A part is a text if it has no control character, as no message of OTLP is without one.
pub(crate) fn leaves(message: &[u8]) -> Vec<String> {
    let leaf = |field: Field<'_>| match field {
        Field::Varint(number) => vec![number.to_string()],
        Field::Fixed(_) => Vec::new(),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains(char::is_control) => vec![text.to_owned()],
            _ => leaves(bytes),
        },
    };
    match try_fields(message) {
        Some(fields) => fields.into_iter().flat_map(|(_, field)| leaf(field)).collect(),
        None => vec![message.iter().map(|byte| format!("{byte:02x}")).collect()],
    }
}

fn log_record(record: &[u8]) -> Value {
    let one = |number| *all(record, number).first().unwrap_or(&Field::Fixed(0));
    let attributes: Vec<_> = all(record, 6).iter().map(|pair| key_value(pair.bytes())).collect();
    json!({
        "timeUnixNano": one(1).number().to_string(),
        "observedTimeUnixNano": one(11).number().to_string(),
        "severityNumber": one(2).number(),
        "attributes": attributes,
        "eventName": one(12).text(),
    })
}

fn key_value(pair: &[u8]) -> Value {
    let [key, value] = [1, 2].map(|number| all(pair, number)[0]);
    json!({ "key": key.text(), "value": any_value(value.bytes()) })
}

fn any_value(value: &[u8]) -> Value {
    let [(number, field)] = fields(value)[..] else { panic!("a value has one field") };
    let (name, value) = match number {
        1 => ("stringValue", field.text()),
        2 => ("boolValue", (field.number() != 0).into()),
        3 => ("intValue", field.number().cast_signed().to_string().into()),
        4 => ("doubleValue", f64::from_bits(field.number()).into()),
        5 => {
            let values = all(field.bytes(), 1);
            let values: Vec<_> = values.iter().map(|value| any_value(value.bytes())).collect();
            ("arrayValue", json!({ "values": values }))
        }
        other => panic!("a value of the kind {other}"),
    };
    Value::Object(Map::from_iter([(name.to_owned(), value)]))
}

/// Returns the fields of `message` with this number.
fn all(message: &[u8], number: u64) -> Vec<Field<'_>> {
    let found = fields(message).into_iter().filter(|(other, _)| *other == number);
    found.map(|(_, field)| field).collect()
}

fn fields(message: &[u8]) -> Vec<(u64, Field<'_>)> {
    try_fields(message).expect("a message")
}

/// Returns `None` if `message` is not a message, or has a field of another wire type.
fn try_fields(mut message: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let field = match tag & 7 {
            0 => Field::Varint(varint(&mut message)?),
            1 => Field::Fixed(u64::from_le_bytes(take(&mut message, 8)?.try_into().ok()?)),
            2 => {
                let length = varint(&mut message)?;
                Field::Bytes(take(&mut message, length.try_into().ok()?)?)
            }
            _ => return None,
        };
        fields.push((tag >> 3, field));
    }
    Some(fields)
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    message.split_off(..length)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *message.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    Some(value)
}
