//! Why properties could not be read as another type.

/// Why [`Properties::deserialize`](crate::Properties::deserialize) failed.
///
/// It has no source: the message of `serde_json` quotes the value it stopped at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeserializeError {
    /// The type expects other keys or other values.
    #[error("the properties do not fit the type (at byte {at} of their JSON text)")]
    Mismatch {
        /// Where the reader stopped: a byte of
        /// [`Properties::to_json`](crate::Properties::to_json), counted from 1.
        at: usize,
    },
}
