//! Serialises a flat value as JSON members without braces.

mod macros;
#[cfg(test)]
mod tests;
mod value;
mod write;

use std::cell::Cell;

use serde::{
    Serialize,
    ser::{Impossible, SerializeMap, SerializeStruct, Serializer},
};

#[cfg(feature = "element-events")]
pub(crate) use self::value::PROGRAM_TEXT;
use self::{
    macros::{not_flat, unwraps_and_nests_nothing, unwraps_newtypes_and_has_no_array},
    value::{Value, Written},
    write::{FlatError, push_bool, push_float, push_key, push_number, push_text},
};
use super::{BorrowedProperties, InvalidEvent, PropertyValue, computed::Computed};

/// Where the texts and keys of an event come from.
#[derive(Default)]
struct Origins {
    /// Whether there is a text or a key that the type of the event does not fix.
    has_text: bool,
    computed: Computed,
}

thread_local! {
    /// Holds an event while it is written, so that `capture` does not allocate.
    static BUFFER: Cell<String> = const { Cell::new(String::new()) };
}

/// Twice the size of a usual event.
const BUFFER_BYTES: usize = 256;
/// Larger buffers are not kept, because few events need them.
const LARGEST_KEPT_BYTES: usize = 4096;

/// Serialises `value` to properties, and passes them to `then`, which checks their size.
pub(crate) fn write_flat<T: Serialize + ?Sized, R>(
    value: &T,
    then: impl FnOnce(BorrowedProperties<'_>) -> Result<R, InvalidEvent>,
) -> Result<R, InvalidEvent> {
    let mut buffer = take_buffer();
    let written = value.serialize(Object { out: &mut buffer });
    let Origins { has_text, computed } = written.map_err(|FlatError(error)| error)?;
    let properties = BorrowedProperties {
        members: &buffer,
        // A type may name two of its fields the same. Whether it did is found out in the
        // background: a caller does not wait for that.
        may_repeat: true,
        has_text,
        computed,
    };
    let result = then(properties);
    keep_buffer(buffer);
    result
}

fn take_buffer() -> String {
    // Taken, not borrowed: an event may capture another one while it is serialised.
    let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    buffer.clear();
    buffer.reserve(BUFFER_BYTES);
    buffer
}

fn keep_buffer(buffer: String) {
    if buffer.capacity() <= LARGEST_KEPT_BYTES {
        // Fails on a thread that is ending.
        let _ = BUFFER.try_with(|kept| kept.set(buffer));
    }
}

/// Adds `"key":value` to `members`.
pub(super) fn push_member(
    members: &mut String,
    key: &str,
    value: &PropertyValue,
) -> Result<(), InvalidEvent> {
    let length = members.len();
    let written = push_key(members, key).and_then(|()| match value {
        PropertyValue::Array(_) => value.serialize(Value::new(members)).map(|_| ()),
        PropertyValue::Bool(value) => push_bool(members, *value),
        PropertyValue::Float(value) => push_float(members, *value, value.is_finite()),
        PropertyValue::Float32(value) => push_float(members, *value, value.is_finite()),
        PropertyValue::Integer(value) => push_number(members, value),
        PropertyValue::Text(value) => push_text(members, value),
        PropertyValue::Unsigned(value) => push_number(members, value),
    });
    written.map_err(|FlatError(problem)| {
        members.truncate(length);
        problem
    })
}

/// Adds `"key":value` to `members` without validation, for members that were checked
/// before.
pub(super) fn push_raw(members: &mut String, key: &str, value: &str) {
    if !members.is_empty() {
        members.push(',');
    }
    members.push_str(&serde_json::to_string(key).unwrap_or_default());
    members.push(':');
    members.push_str(value);
}

/// The prefix of the struct names that `serde_json` reserves for itself: see
/// `serde_json::value::RawValue` and its feature `arbitrary_precision`.
const SERDE_JSON_PRIVATE: &str = "$serde_json::private::";

const NOT_FLAT: FlatError = FlatError(InvalidEvent::NotFlat);

/// Serialises the event itself, a struct or a map.
struct Object<'a> {
    out: &'a mut String,
}

impl<'a> Serializer for Object<'a> {
    type SerializeMap = MapMembers<'a>;
    type SerializeStruct = StructMembers<'a>;

    unwraps_and_nests_nothing! { Origins }
    unwraps_newtypes_and_has_no_array! { Origins }

    not_flat! { value:
        serialize_bool(bool); serialize_i8(i8); serialize_i16(i16); serialize_i32(i32);
        serialize_i64(i64); serialize_u8(u8); serialize_u16(u16); serialize_u32(u32);
        serialize_u64(u64); serialize_f32(f32); serialize_f64(f64); serialize_char(char);
        serialize_str(&str); serialize_bytes(&[u8]);
        serialize_unit_variant(&'static str, u32, &'static str);
    }

    fn serialize_none(self) -> Result<Origins, FlatError> {
        self.serialize_unit()
    }

    fn serialize_unit(self) -> Result<Origins, FlatError> {
        Ok(Origins::default())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<Origins, FlatError> {
        Ok(Origins::default())
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<MapMembers<'a>, FlatError> {
        Ok(MapMembers { out: self.out, before_key: 0, key: None, computed: Computed::NONE })
    }

    fn serialize_struct(
        self,
        name: &'static str,
        _length: usize,
    ) -> Result<StructMembers<'a>, FlatError> {
        // `serde_json` represents raw JSON and arbitrary-precision numbers as private
        // structs that only its own serialiser understands.
        if name.starts_with(SERDE_JSON_PRIVATE) {
            return Err(NOT_FLAT);
        }
        Ok(StructMembers { out: self.out, origins: Origins::default() })
    }
}

struct StructMembers<'a> {
    out: &'a mut String,
    origins: Origins,
}

impl SerializeStruct for StructMembers<'_> {
    type Ok = Origins;
    type Error = FlatError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), FlatError> {
        match push_property(self.out, key, value)? {
            Written::Nothing => {}
            Written::Fixed => self.origins.computed.push(false),
            Written::ProgramText => {
                self.origins.has_text = true;
                self.origins.computed.push(false);
            }
            Written::Text => {
                self.origins.has_text = true;
                self.origins.computed.push(true);
            }
        }
        Ok(())
    }

    fn end(self) -> Result<Origins, FlatError> {
        Ok(self.origins)
    }
}

struct MapMembers<'a> {
    out: &'a mut String,
    /// The length of `out` before the key whose value comes next.
    before_key: usize,
    /// Whether that key is text that the program computed; `None` if a value must not follow.
    key: Option<bool>,
    computed: Computed,
}

impl MapMembers<'_> {
    /// Removes a key that no value followed. Only a faulty `Serialize` leaves one.
    fn drop_key(&mut self) {
        if self.key.take().is_some() {
            self.out.truncate(self.before_key);
        }
    }
}

impl SerializeMap for MapMembers<'_> {
    type Ok = Origins;
    type Error = FlatError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), FlatError> {
        self.drop_key();
        self.before_key = self.out.len();
        self.key = key.serialize(MapKey { out: self.out }).map(Some).inspect_err(|_| {
            self.out.truncate(self.before_key);
        })?;
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), FlatError> {
        let has_computed_key = self.key.take().ok_or(NOT_FLAT)?;
        match value.serialize(Value::new(self.out)) {
            Ok(Written::Nothing) => self.out.truncate(self.before_key),
            Ok(Written::Fixed | Written::ProgramText) => self.computed.push(has_computed_key),
            Ok(Written::Text) => self.computed.push(true),
            Err(error) => {
                self.out.truncate(self.before_key);
                return Err(error);
            }
        }
        Ok(())
    }

    fn end(mut self) -> Result<Origins, FlatError> {
        self.drop_key();
        Ok(Origins { has_text: true, computed: self.computed })
    }
}

/// Adds a property.
fn push_property<T: Serialize + ?Sized>(
    out: &mut String,
    key: &str,
    value: &T,
) -> Result<Written, FlatError> {
    let before = out.len();
    let written = push_key(out, key).and_then(|()| value.serialize(Value::new(out)));
    // Even after an error, because a faulty `Serialize` may go on.
    if matches!(written, Ok(Written::Nothing) | Err(_)) {
        out.truncate(before);
    }
    written
}

/// Serialises a map key, which must be text. Returns whether the program computed it.
struct MapKey<'a> {
    out: &'a mut String,
}

impl Serializer for MapKey<'_> {
    type SerializeMap = Impossible<bool, FlatError>;
    type SerializeStruct = Impossible<bool, FlatError>;

    unwraps_and_nests_nothing! { bool }
    unwraps_newtypes_and_has_no_array! { bool }

    not_flat! { value:
        serialize_bool(bool); serialize_i8(i8); serialize_i16(i16); serialize_i32(i32);
        serialize_i64(i64); serialize_u8(u8); serialize_u16(u16); serialize_u32(u32);
        serialize_u64(u64); serialize_f32(f32); serialize_f64(f64); serialize_bytes(&[u8]);
        serialize_none(); serialize_unit(); serialize_unit_struct(&'static str);
    }

    not_flat! { compound:
        serialize_map(Option<usize>) -> SerializeMap;
        serialize_struct(&'static str, usize) -> SerializeStruct;
    }

    fn serialize_str(self, value: &str) -> Result<bool, FlatError> {
        push_key(self.out, value).map(|()| true)
    }

    fn serialize_char(self, value: char) -> Result<bool, FlatError> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<bool, FlatError> {
        push_key(self.out, variant).map(|()| false)
    }
}
