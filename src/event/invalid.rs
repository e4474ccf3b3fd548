//! The error of an event that cannot be captured.

use super::{MAX_EVENT_BYTES, MAX_KEY_BYTES, MAX_NAME_BYTES};

/// Why an event cannot be captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEvent {
    /// A property's key is empty or contains a control character.
    #[error("a property's key is empty or contains a control character")]
    Key,
    /// A property's key is longer than [`MAX_KEY_BYTES`].
    #[error("a property's key is longer than {MAX_KEY_BYTES} bytes")]
    KeyTooLong,
    /// The name is empty, consists of white space, or contains a control character.
    #[error("the name is empty, consists of white space, or contains a control character")]
    Name,
    /// The name is longer than [`MAX_NAME_BYTES`].
    #[error("the name is longer than {MAX_NAME_BYTES} bytes")]
    NameTooLong,
    /// A property is an object, bytes, raw JSON, an integer of more than 64 bits, or an array
    /// with one of these or with another array; or the event is not a struct or map.
    #[error(
        "an event must be flat: a struct or map of text, 64-bit numbers, booleans and arrays of these"
    )]
    NotFlat,
    /// A float is infinite or not a number, which JSON cannot represent.
    #[error("a float is infinite or not a number")]
    NotFinite,
    /// The properties are larger than [`MAX_EVENT_BYTES`].
    #[error("the properties are larger than {MAX_EVENT_BYTES} bytes")]
    TooLarge,
    /// The type's own `Serialize` implementation failed.
    #[error("the event's own serialisation failed")]
    Serialize,
}
