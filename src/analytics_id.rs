//! The pseudonym under which an account's events are sent.

use std::fmt;

use matrix_sdk::ruma::{EventId, RoomId, RoomOrAliasId, UserId};
use uuid::Uuid;

/// The longest ID that is used, in bytes: PostHog cuts a longer one
/// (`distinct_id`, at 200 characters).
const MAX_BYTES: usize = 200;

/// Texts that stand for no value or for no particular user, in lower case: two accounts with the
/// same one would count as one person.
const NO_VALUES: [&str; 20] = [
    "-1",
    "0",
    "[object object]",
    "{}",
    "anon",
    "anonymous",
    "default",
    "false",
    "guest",
    "id",
    "n/a",
    "nan",
    "nil",
    "none",
    "null",
    "true",
    "undefined",
    "unknown",
    "unset",
    "user",
];

/// The stable random ID of an account that has opted in.
///
/// Created only by [`Analytics::opt_in`](crate::Analytics::opt_in), as a lower-case hyphenated
/// UUIDv4. An ID that another client created keeps its form. `Debug` does not show the ID, and
/// there is no `Display`: reading it takes a call of [`AnalyticsId::reveal`].
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub struct AnalyticsId(Box<str>);

impl AnalyticsId {
    /// Returns the ID itself, for an embedded component of the same app or an erasure request;
    /// never for a log.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Creates an ID of 128 bits, 122 of them random, from the operating system.
    pub(crate) fn random() -> Self {
        Self(Uuid::new_v4().hyphenated().to_string().into())
    }

    /// Returns `id` if it can serve as an analytics ID: at most 200 bytes, no control
    /// character, not blank, not a placeholder such as `null` or `undefined`, not the nil
    /// UUID, and not a Matrix identifier.
    pub(crate) fn from_foreign(id: &str) -> Option<Self> {
        let usable = id.len() <= MAX_BYTES
            && !stands_for_nothing(id)
            && !id.chars().any(char::is_control)
            && !is_matrix_identifier(id);
        usable.then(|| Self(id.into()))
    }
}

fn stands_for_nothing(id: &str) -> bool {
    let id = id.trim();
    let unquoted = id.trim_matches(['"', '\'']);
    unquoted.is_empty()
        || NO_VALUES.contains(&unquoted.to_ascii_lowercase().as_str())
        || Uuid::parse_str(id).is_ok_and(|id| id.is_nil() || id.is_max())
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
