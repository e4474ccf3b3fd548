//! The error of reading properties as another type.

/// Why [`Properties::deserialize`](crate::Properties::deserialize) failed.
///
/// It has no source, because the messages of `serde_json` quote the offending value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeserializeError {
    /// The type expects other keys or values.
    #[error("the properties do not fit the type (at byte {at} of their JSON text)")]
    Mismatch {
        /// The position of the error: a byte of
        /// [`Properties::to_json`](crate::Properties::to_json), counted from 1.
        at: usize,
    },
}
