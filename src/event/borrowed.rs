//! Properties in a text that belongs to another value.

/// Properties in borrowed text, so that a capture copies them once.
#[derive(Clone, Copy)]
pub(crate) struct BorrowedProperties<'a> {
    /// As in [`Properties`](super::Properties).
    pub(crate) members: &'a str,
    pub(crate) may_repeat: bool,
    pub(crate) has_text: bool,
}
