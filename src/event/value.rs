//! The value of a property.

use std::{borrow::Cow, fmt};

use serde::{Serialize, Serializer};

/// The value of a property.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum PropertyValue {
    /// An array of values that are no arrays themselves.
    Array(Vec<Self>),
    /// `true` or `false`.
    Bool(bool),
    /// A floating-point number of double precision; it must be finite.
    Float(f64),
    /// A floating-point number of single precision; it must be finite. It is written
    /// with the digits that single precision needs, as in a typed event: `0.1`.
    Float32(f32),
    /// A signed integer.
    Integer(i64),
    /// Text: borrowed if it is part of the program, owned if it was computed.
    Text(Cow<'static, str>),
    /// An integer that may be larger than [`i64::MAX`].
    Unsigned(u64),
}

impl PropertyValue {
    /// Returns whether this is, or holds, a text that is not part of the program.
    pub(super) fn is_computed(&self) -> bool {
        match self {
            Self::Array(values) => values.iter().any(Self::is_computed),
            value => matches!(value, Self::Text(Cow::Owned(_))),
        }
    }
}

/// Prints the kind of the value only, because the value may be personal.
impl fmt::Debug for PropertyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Array(_) => "Array(..)",
            Self::Bool(_) => "Bool(..)",
            Self::Float(_) => "Float(..)",
            Self::Float32(_) => "Float32(..)",
            Self::Integer(_) => "Integer(..)",
            Self::Text(_) => "Text(..)",
            Self::Unsigned(_) => "Unsigned(..)",
        })
    }
}

impl Serialize for PropertyValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Array(values) => serializer.collect_seq(values),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Float32(value) => serializer.serialize_f32(*value),
            Self::Integer(value) => serializer.serialize_i64(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::Unsigned(value) => serializer.serialize_u64(*value),
        }
    }
}

macro_rules! value_from {
    ($($source:ty => $variant:ident),* $(,)?) => {
        $(impl From<$source> for PropertyValue {
            fn from(value: $source) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}

value_from! {
    bool => Bool,
    f32 => Float32, f64 => Float,
    i8 => Integer, i16 => Integer, i32 => Integer, i64 => Integer,
    u8 => Integer, u16 => Integer, u32 => Integer, u64 => Unsigned,
    String => Text,
}

macro_rules! array_from {
    ($($element:ty),* $(,)?) => {
        $(
            impl From<Vec<$element>> for PropertyValue {
                fn from(values: Vec<$element>) -> Self {
                    Self::Array(values.into_iter().map(Into::into).collect())
                }
            }

            impl<const N: usize> From<[$element; N]> for PropertyValue {
                fn from(values: [$element; N]) -> Self {
                    Self::Array(values.into_iter().map(Into::into).collect())
                }
            }
        )*
    };
}

// Not `u8`: an array of these is bytes, such as a key.
array_from! {
    bool, f32, f64, i8, i16, i32, i64, u16, u32, u64,
    &'static str, Cow<'static, str>, String, PropertyValue,
}

/// The text is part of the program. Pass a text that was computed as a `String`.
impl From<&'static str> for PropertyValue {
    fn from(value: &'static str) -> Self {
        Self::Text(Cow::Borrowed(value))
    }
}

impl From<Cow<'static, str>> for PropertyValue {
    fn from(value: Cow<'static, str>) -> Self {
        Self::Text(value)
    }
}
