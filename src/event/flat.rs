//! Serialises a flat value as JSON members without braces.

#[cfg(test)]
mod tests;
mod write;

use std::cell::Cell;

use serde::{
    Serialize,
    ser::{Impossible, SerializeMap, SerializeStruct, Serializer},
};

use self::write::{FlatError, push_bool, push_float, push_key, push_number, push_text};
use super::{InvalidEvent, PropertyValue, computed::Computed};

pub(super) struct Flat {
    pub(super) members: String,
    pub(super) origins: Origins,
}

/// Where the texts and keys of an event come from.
#[derive(Default)]
pub(super) struct Origins {
    /// Whether there is a text or a key that the type of the event does not fix.
    pub(super) has_text: bool,
    pub(super) computed: Computed,
}

thread_local! {
    /// Holds an event while it is written, so that `capture` allocates once, and no more
    /// than it keeps.
    static BUFFER: Cell<String> = const { Cell::new(String::new()) };
}

/// Twice the size of a usual event.
const BUFFER_BYTES: usize = 256;
/// Larger buffers are not kept, because few events need them.
const LARGEST_KEPT_BYTES: usize = 4096;

/// Serialises `value` to JSON members.
pub(super) fn members<T: Serialize + ?Sized>(value: &T) -> Result<Flat, InvalidEvent> {
    // Taken, not borrowed: `value` may capture another event while it is serialised.
    let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    buffer.clear();
    buffer.reserve(BUFFER_BYTES);
    let written = value.serialize(Object { out: &mut buffer });
    let origins = written.map_err(|FlatError(error)| error)?;
    let flat = Flat { members: buffer.as_str().to_owned(), origins };
    if buffer.capacity() <= LARGEST_KEPT_BYTES {
        // Fails on a thread that is ending.
        let _ = BUFFER.try_with(|kept| kept.set(buffer));
    }
    Ok(flat)
}

/// Adds `"key":value` to `members`.
pub(super) fn push_member(
    members: &mut String,
    key: &str,
    value: &PropertyValue,
) -> Result<(), InvalidEvent> {
    let length = members.len();
    let written = push_key(members, key).and_then(|()| match value {
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

/// Implements the serialiser methods that a flat event does not use.
macro_rules! not_flat {
    (value: $($method:ident($($argument:ty),*);)*) => {
        $(fn $method(self, $(_: $argument),*) -> Result<Self::Ok, FlatError> { Err(NOT_FLAT) })*
    };
    (compound: $($method:ident($($argument:ty),*) -> $compound:ident;)*) => {
        $(fn $method(self, $(_: $argument),*) -> Result<Self::$compound, FlatError> { Err(NOT_FLAT) })*
    };
}

/// Implements the methods that all serialisers here share: options and newtypes serialise as
/// their content, and nested values are errors.
macro_rules! unwraps_and_nests_nothing {
    ($ok:ty) => {
        type Ok = $ok;
        type Error = FlatError;
        type SerializeSeq = Impossible<$ok, FlatError>;
        type SerializeTuple = Impossible<$ok, FlatError>;
        type SerializeTupleStruct = Impossible<$ok, FlatError>;
        type SerializeTupleVariant = Impossible<$ok, FlatError>;
        type SerializeStructVariant = Impossible<$ok, FlatError>;

        not_flat! { compound:
            serialize_seq(Option<usize>) -> SerializeSeq;
            serialize_tuple(usize) -> SerializeTuple;
            serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct;
            serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant;
            serialize_struct_variant(&'static str, u32, &'static str, usize) -> SerializeStructVariant;
        }

        fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<$ok, FlatError> {
            value.serialize(self)
        }

        fn serialize_newtype_struct<T: Serialize + ?Sized>(
            self,
            _name: &'static str,
            value: &T,
        ) -> Result<$ok, FlatError> {
            value.serialize(self)
        }

        fn serialize_newtype_variant<T: Serialize + ?Sized>(
            self,
            _name: &'static str,
            _index: u32,
            _variant: &'static str,
            _value: &T,
        ) -> Result<$ok, FlatError> {
            Err(NOT_FLAT)
        }
    };
}

/// Serialises the event itself, a struct or a map.
struct Object<'a> {
    out: &'a mut String,
}

impl<'a> Serializer for Object<'a> {
    type SerializeMap = MapMembers<'a>;
    type SerializeStruct = StructMembers<'a>;

    unwraps_and_nests_nothing! { Origins }

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
            Written::Fixed => self.origins.computed.push(false),
            Written::Nothing => {}
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
        match value.serialize(Scalar { out: self.out }) {
            Ok(Written::Fixed) => self.computed.push(has_computed_key),
            Ok(Written::Text) => self.computed.push(true),
            Ok(Written::Nothing) => self.out.truncate(self.before_key),
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
    let written = push_key(out, key).and_then(|()| value.serialize(Scalar { out }));
    // Even after an error, because a faulty `Serialize` may go on.
    if !matches!(written, Ok(Written::Fixed | Written::Text)) {
        out.truncate(before);
    }
    written
}

/// The kind of value that was written for a property.
enum Written {
    /// A value constrained by its type: a number, a boolean, the name of a variant.
    Fixed,
    /// No property, because the value was `None` or `null`.
    Nothing,
    /// Arbitrary text.
    Text,
}

/// Serialises one property value.
struct Scalar<'a> {
    out: &'a mut String,
}

macro_rules! scalar {
    ($($method:ident($value:ty);)*) => {
        $(fn $method(self, value: $value) -> Result<Written, FlatError> {
            push_number(self.out, &value).map(|()| Written::Fixed)
        })*
    };
}

impl Serializer for Scalar<'_> {
    type SerializeMap = Impossible<Written, FlatError>;
    type SerializeStruct = Impossible<Written, FlatError>;

    unwraps_and_nests_nothing! { Written }

    scalar! {
        serialize_i8(i8); serialize_i16(i16); serialize_i32(i32); serialize_i64(i64);
        serialize_u8(u8); serialize_u16(u16); serialize_u32(u32); serialize_u64(u64);
    }

    fn serialize_bool(self, value: bool) -> Result<Written, FlatError> {
        push_bool(self.out, value).map(|()| Written::Fixed)
    }

    fn serialize_char(self, value: char) -> Result<Written, FlatError> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_i128(self, value: i128) -> Result<Written, FlatError> {
        match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => self.serialize_i64(value),
            (_, Ok(value)) => self.serialize_u64(value),
            _ => Err(NOT_FLAT),
        }
    }

    fn serialize_u128(self, value: u128) -> Result<Written, FlatError> {
        u64::try_from(value).map_err(|_| NOT_FLAT).and_then(|value| self.serialize_u64(value))
    }

    fn serialize_str(self, value: &str) -> Result<Written, FlatError> {
        push_text(self.out, value).map(|()| Written::Text)
    }

    not_flat! { value: serialize_bytes(&[u8]); }

    not_flat! { compound:
        serialize_map(Option<usize>) -> SerializeMap;
        serialize_struct(&'static str, usize) -> SerializeStruct;
    }

    fn serialize_f32(self, value: f32) -> Result<Written, FlatError> {
        push_float(self.out, value, value.is_finite()).map(|()| Written::Fixed)
    }

    fn serialize_f64(self, value: f64) -> Result<Written, FlatError> {
        push_float(self.out, value, value.is_finite()).map(|()| Written::Fixed)
    }

    fn serialize_none(self) -> Result<Written, FlatError> {
        Ok(Written::Nothing)
    }

    fn serialize_unit(self) -> Result<Written, FlatError> {
        Ok(Written::Nothing)
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<Written, FlatError> {
        Ok(Written::Nothing)
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<Written, FlatError> {
        push_text(self.out, variant).map(|()| Written::Fixed)
    }
}

/// Serialises a map key, which must be text. Returns whether the program computed it.
struct MapKey<'a> {
    out: &'a mut String,
}

impl Serializer for MapKey<'_> {
    type SerializeMap = Impossible<bool, FlatError>;
    type SerializeStruct = Impossible<bool, FlatError>;

    unwraps_and_nests_nothing! { bool }

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
