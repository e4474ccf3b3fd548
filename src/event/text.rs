//! The target that the members of an event are written to.

/// A text buffer.
pub(super) trait Text {
    fn len(&self) -> usize;
    fn push_ascii(&mut self, text: &[u8]);
    fn push_str(&mut self, text: &str);

    /// Appends `text` with an ASCII prefix and suffix in one operation, because an event
    /// consists mostly of such pieces.
    fn push_framed<const B: usize, const A: usize>(
        &mut self,
        before: [u8; B],
        text: &str,
        after: [u8; A],
    );
}

impl Text for String {
    fn len(&self) -> usize {
        self.len()
    }

    fn push_ascii(&mut self, text: &[u8]) {
        self.extend(text.iter().map(|byte| char::from(*byte)));
    }

    fn push_str(&mut self, text: &str) {
        self.push_str(text);
    }

    fn push_framed<const B: usize, const A: usize>(
        &mut self,
        before: [u8; B],
        text: &str,
        after: [u8; A],
    ) {
        self.push_ascii(&before);
        self.push_str(text);
        self.push_ascii(&after);
    }
}
