//! What the members of an event are written to.

/// Text that grows.
pub(super) trait Text {
    fn len(&self) -> usize;
    fn push_ascii(&mut self, text: &[u8]);
    fn push_str(&mut self, text: &str);

    /// Adds `text` between what is put around it, all of it ASCII: at once, for these
    /// are what an event is made of.
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
