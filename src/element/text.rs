//! A free text of an event.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

use crate::event::PROGRAM_TEXT;

/// A free text, which counts as computed unless it was given as a `&'static str`.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Text(Cow<'static, str>);

impl Text {
    pub(super) fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self(text.into())
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Cow::Borrowed(text) => serializer.serialize_newtype_struct(PROGRAM_TEXT, text),
            Cow::Owned(text) => serializer.serialize_str(text),
        }
    }
}
