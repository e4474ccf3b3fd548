//! Properties in a text that belongs to another value.

use super::computed::Computed;

/// Properties in borrowed text, so that a capture copies them once.
#[derive(Clone, Copy)]
pub(crate) struct BorrowedProperties<'a> {
    /// As in [`Properties`](super::Properties).
    pub(crate) members: &'a str,
    pub(crate) may_repeat: bool,
    pub(crate) has_text: bool,
    pub(crate) computed: Computed,
}

impl BorrowedProperties<'_> {
    /// Returns properties of the same kind with other text.
    pub(crate) fn with_members(self, members: &str) -> BorrowedProperties<'_> {
        BorrowedProperties { members, ..self }
    }
}
