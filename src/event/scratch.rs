//! A stack buffer that most events fit into.

use super::text::Text;

/// About twice the size of a typical event.
const INLINE_BYTES: usize = 192;

/// Text on its way into one allocation of its exact size, so that `capture` allocates no
/// more than it keeps.
pub(super) struct Scratch {
    inline: [u8; INLINE_BYTES],
    inline_length: usize,
    /// The whole text, once it no longer fits into `inline`.
    spilled: Vec<u8>,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self { inline: [0; INLINE_BYTES], inline_length: 0, spilled: Vec::new() }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        if self.spilled.is_empty() { &self.inline[..self.inline_length] } else { &self.spilled }
    }

    /// Returns room for `bytes` more, if they fit inline.
    #[inline]
    fn inline_room(&mut self, bytes: usize) -> Option<&mut [u8]> {
        if !self.spilled.is_empty() {
            return None;
        }
        let end = self.inline_length.checked_add(bytes)?;
        let room = self.inline.get_mut(self.inline_length..end)?;
        self.inline_length = end;
        Some(room)
    }

    #[cold]
    fn spill(&mut self, bytes: &[u8]) {
        if self.spilled.is_empty() {
            self.spilled.reserve(2 * (self.inline_length + bytes.len()));
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
    #[inline]
    fn len(&self) -> usize {
        if self.spilled.is_empty() { self.inline_length } else { self.spilled.len() }
    }

    #[inline]
    fn push_ascii(&mut self, text: &[u8]) {
        match self.inline_room(text.len()) {
            Some(room) => room.copy_from_slice(text),
            None => self.spill(text),
        }
    }

    #[inline]
    fn push_str(&mut self, text: &str) {
        self.push_ascii(text.as_bytes());
    }

    #[inline]
    fn push_framed<const B: usize, const A: usize>(
        &mut self,
        before: [u8; B],
        text: &str,
        after: [u8; A],
    ) {
        match self.inline_room(B + text.len() + A) {
            Some(room) => {
                let (start, room) = room.split_at_mut(B);
                let (middle, end) = room.split_at_mut(text.len());
                start.copy_from_slice(&before);
                middle.copy_from_slice(text.as_bytes());
                end.copy_from_slice(&after);
            }
            None => {
                for part in [&before, text.as_bytes(), &after] {
                    self.spill(part);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_pushed_text_is_kept_whether_or_not_it_fits_inline() {
        for piece in [1, 7, INLINE_BYTES - 1, INLINE_BYTES, INLINE_BYTES + 1, 5000] {
            let mut scratch = Scratch::new();
            let mut expected = Vec::new();
            for n in 0..10_u8 {
                scratch.push_ascii(&vec![n; piece]);
                expected.extend(vec![n; piece]);
                assert_eq!(scratch.as_bytes(), expected);
                assert_eq!(scratch.len(), expected.len());
            }
            for length in [9 * piece, piece, 0] {
                scratch.truncate(length);
                expected.truncate(length);
                assert_eq!(scratch.as_bytes(), expected, "{length}");
            }
            scratch.push_framed(*b"<", "more", *b"/>");
            assert_eq!(scratch.as_bytes(), b"<more/>");
        }
    }
}
