//! Serialises the value of a property.

use serde::{
    Serialize,
    ser::{Impossible, SerializeSeq, SerializeTuple, Serializer},
};

use super::{
    NOT_FLAT,
    macros::{not_flat, unwraps_and_nests_nothing},
    write::{FlatError, close_array, push_bool, push_float, push_number, push_text},
};

/// The name of a newtype around a text that is part of the program. Like any newtype, it
/// serialises as its content elsewhere.
pub(crate) const PROGRAM_TEXT: &str = "$matrix_analytics::private::ProgramText";

/// The kind of value that was written for a property. An array has the kind of its elements that
/// comes last here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Written {
    /// No property, because the value was `None` or `null`.
    Nothing,
    /// A value constrained by its type: a number, a boolean, the name of a variant.
    Fixed,
    /// A text that is part of the program.
    ProgramText,
    /// Arbitrary text.
    Text,
}

/// Serialises one value.
pub(super) struct Value<'a> {
    out: &'a mut String,
    is_element: bool,
}

impl<'a> Value<'a> {
    pub(super) fn new(out: &'a mut String) -> Self {
        Self { out, is_element: false }
    }
}

macro_rules! number {
    ($($method:ident($value:ty);)*) => {
        $(fn $method(self, value: $value) -> Result<Written, FlatError> {
            push_number(self.out, &value).map(|()| Written::Fixed)
        })*
    };
}

impl<'a> Serializer for Value<'a> {
    type SerializeMap = Impossible<Written, FlatError>;
    type SerializeStruct = Impossible<Written, FlatError>;
    type SerializeSeq = Array<'a>;
    type SerializeTuple = Array<'a>;

    unwraps_and_nests_nothing! { Written }

    number! {
        serialize_i8(i8); serialize_i16(i16); serialize_i32(i32); serialize_i64(i64);
        serialize_u16(u16); serialize_u32(u32); serialize_u64(u64);
    }

    fn serialize_u8(self, value: u8) -> Result<Written, FlatError> {
        // serde passes bytes, such as a key, as an array of these.
        if self.is_element { Err(NOT_FLAT) } else { self.serialize_u64(value.into()) }
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

    fn serialize_seq(self, _length: Option<usize>) -> Result<Array<'a>, FlatError> {
        if self.is_element { Err(NOT_FLAT) } else { Ok(Array::open(self.out)) }
    }

    fn serialize_tuple(self, length: usize) -> Result<Array<'a>, FlatError> {
        self.serialize_seq(Some(length))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Written, FlatError> {
        match value.serialize(self)? {
            // Only the types of `element` have this name.
            Written::Text if cfg!(feature = "element-events") && name == PROGRAM_TEXT => {
                Ok(Written::ProgramText)
            }
            written => Ok(written),
        }
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

/// Serialises an array, whose elements are no arrays.
pub(super) struct Array<'a> {
    out: &'a mut String,
    is_empty: bool,
    written: Written,
}

impl<'a> Array<'a> {
    fn open(out: &'a mut String) -> Self {
        out.push('[');
        Self { out, is_empty: true, written: Written::Fixed }
    }

    fn push<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), FlatError> {
        let before = self.out.len();
        if !self.is_empty {
            self.out.push(',');
        }
        let written = element.serialize(Value { out: self.out, is_element: true });
        match written {
            Ok(Written::Nothing) => self.out.truncate(before),
            Ok(written) => {
                self.is_empty = false;
                self.written = self.written.max(written);
            }
            Err(error) => {
                // A faulty `Serialize` may go on.
                self.out.truncate(before);
                return Err(error);
            }
        }
        Ok(())
    }

    fn close(self) -> Result<Written, FlatError> {
        close_array(self.out).map(|()| self.written)
    }
}

impl SerializeSeq for Array<'_> {
    type Ok = Written;
    type Error = FlatError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), FlatError> {
        self.push(element)
    }

    fn end(self) -> Result<Written, FlatError> {
        self.close()
    }
}

impl SerializeTuple for Array<'_> {
    type Ok = Written;
    type Error = FlatError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), FlatError> {
        self.push(element)
    }

    fn end(self) -> Result<Written, FlatError> {
        self.close()
    }
}
