//! A buffer on the stack for what nearly every event fits into.

use super::flat::Text;

/// The usual event is a third of this.
const INLINE_BYTES: usize = 256;

/// Text on its way into one allocation of its exact size: `capture` allocates no
/// more than it keeps.
pub(super) struct Scratch {
    inline: [u8; INLINE_BYTES],
    inline_length: usize,
    /// Everything, from the moment when it was too much for `inline`.
    spilled: Vec<u8>,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self { inline: [0; INLINE_BYTES], inline_length: 0, spilled: Vec::new() }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        if self.spilled.is_empty() { &self.inline[..self.inline_length] } else { &self.spilled }
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.spilled.is_empty() {
            let end = self.inline_length + bytes.len();
            if let Some(room) = self.inline.get_mut(self.inline_length..end) {
                room.copy_from_slice(bytes);
                self.inline_length = end;
                return;
            }
            self.spilled.reserve(2 * end);
            self.spilled.extend_from_slice(&self.inline[..self.inline_length]);
        }
        self.spilled.extend_from_slice(bytes);
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.inline_length = self.inline_length.min(length);
        self.spilled.truncate(length);
    }
}

impl Text for Scratch {
    fn push_str(&mut self, text: &str) {
        self.push(text.as_bytes());
    }

    fn len(&self) -> usize {
        if self.spilled.is_empty() { self.inline_length } else { self.spilled.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_is_there_whether_or_not_it_fits() {
        for piece in [1, 7, INLINE_BYTES - 1, INLINE_BYTES, INLINE_BYTES + 1, 5000] {
            let mut scratch = Scratch::new();
            let mut expected = Vec::new();
            for n in 0..10_u8 {
                scratch.push(&vec![n; piece]);
                expected.extend(vec![n; piece]);
                assert_eq!(scratch.as_bytes(), expected);
                assert_eq!(scratch.len(), expected.len());
            }
            for length in [9 * piece, piece, 0] {
                scratch.truncate(length);
                expected.truncate(length);
                assert_eq!(scratch.as_bytes(), expected, "{length}");
            }
            scratch.push(b"more");
            assert_eq!(scratch.as_bytes(), b"more");
        }
    }
}
