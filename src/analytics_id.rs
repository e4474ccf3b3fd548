//! The pseudonym under which an account's events are sent.

use std::fmt;

use matrix_sdk::ruma::{EventId, RoomId, RoomOrAliasId, UserId};
use uuid::Uuid;

/// The longest ID that is used, in bytes.
const MAX_BYTES: usize = 255;

/// The stable random ID of an account that has opted in.
///
/// Made only by [`Analytics::opt_in`](crate::Analytics::opt_in), as a lower-case
/// hyphenated UUIDv4; an ID that another client made is kept in the form that
/// client gave it. `Debug` does not show it, and there is no `Display`: reading
/// it takes a call of [`AnalyticsId::reveal`].
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub struct AnalyticsId(Box<str>);

impl AnalyticsId {
    /// The ID itself, to be given to an embedded component of the same app, or
    /// to an erasure request; never to a log.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// A new ID of 128 bits, 122 of them random, from the operating system.
    pub(crate) fn random() -> Self {
        Self(Uuid::new_v4().hyphenated().to_string().into())
    }

    /// `id` if it can serve as one: not blank, at most 255 bytes, no control
    /// character, and not itself a Matrix identifier.
    pub(crate) fn from_foreign(id: &str) -> Option<Self> {
        let usable = id.len() <= MAX_BYTES
            && !id.trim().is_empty()
            && !id.chars().any(char::is_control)
            && !is_matrix_identifier(id);
        usable.then(|| Self(id.into()))
    }

    #[cfg(feature = "testing")]
    pub(crate) fn for_testing(id: &str) -> Self {
        Self(id.into())
    }
}

fn is_matrix_identifier(id: &str) -> bool {
    let id = id.trim();
    UserId::parse(id).is_ok()
        || RoomId::parse(id).is_ok()
        || RoomOrAliasId::parse(id).is_ok()
        || EventId::parse(id).is_ok()
}

impl fmt::Debug for AnalyticsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnalyticsId(..)")
    }
}
