//! Properties in a text that belongs to another value.

use super::{InvalidEvent, MAX_EVENT_BYTES, Properties};

/// Valid properties in borrowed text, so that a capture copies them once.
#[derive(Clone, Copy)]
pub(crate) struct BorrowedProperties<'a> {
    /// As in [`Properties`].
    pub(crate) members: &'a str,
    pub(crate) may_repeat: bool,
    pub(crate) has_text: bool,
}

impl BorrowedProperties<'_> {
    /// Finds what would keep these properties from being captured.
    pub(super) fn check(self) -> Result<(), InvalidEvent> {
        // Only a text that repeats keys can be larger than the properties.
        if self.members.len() + 2 > MAX_EVENT_BYTES { self.to_owned().check() } else { Ok(()) }
    }

    /// Returns a copy of these properties.
    pub(crate) fn to_owned(self) -> Properties {
        Properties::from(self)
    }
}
