//! The parts that the serialisers of a flat event share.

/// Implements the serialiser methods that a flat event does not use.
macro_rules! not_flat {
    (value: $($method:ident($($argument:ty),*);)*) => {
        $(fn $method(self, $(_: $argument),*) -> Result<Self::Ok, FlatError> { Err(NOT_FLAT) })*
    };
    (compound: $($method:ident($($argument:ty),*) -> $compound:ident;)*) => {
        $(fn $method(self, $(_: $argument),*) -> Result<Self::$compound, FlatError> { Err(NOT_FLAT) })*
    };
}

/// Implements the methods that all serialisers here share: options serialise as their content,
/// and nested values are errors.
macro_rules! unwraps_and_nests_nothing {
    ($ok:ty) => {
        type Ok = $ok;
        type Error = FlatError;
        type SerializeTupleStruct = Impossible<$ok, FlatError>;
        type SerializeTupleVariant = Impossible<$ok, FlatError>;
        type SerializeStructVariant = Impossible<$ok, FlatError>;

        not_flat! { compound:
            serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct;
            serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant;
            serialize_struct_variant(&'static str, u32, &'static str, usize) -> SerializeStructVariant;
        }

        fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<$ok, FlatError> {
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

/// Implements the methods of what is not the value of a property: newtypes serialise as their
/// content, and arrays are errors.
macro_rules! unwraps_newtypes_and_has_no_array {
    ($ok:ty) => {
        type SerializeSeq = Impossible<$ok, FlatError>;
        type SerializeTuple = Impossible<$ok, FlatError>;

        not_flat! { compound:
            serialize_seq(Option<usize>) -> SerializeSeq;
            serialize_tuple(usize) -> SerializeTuple;
        }

        fn serialize_newtype_struct<T: Serialize + ?Sized>(
            self,
            _name: &'static str,
            value: &T,
        ) -> Result<$ok, FlatError> {
            value.serialize(self)
        }
    };
}

pub(super) use {not_flat, unwraps_and_nests_nothing, unwraps_newtypes_and_has_no_array};
