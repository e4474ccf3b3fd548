//! Finds the ends of runs of one class of bytes, and looks at no byte twice.

use std::ops::Range;

use super::work;

/// Remembers the run that was looked at last.
pub(super) struct Runs {
    is_part: fn(u8) -> bool,
    /// What a run may end with that does not belong to it, such as the end of a sentence.
    is_tail: fn(u8) -> bool,
    last: Range<usize>,
    /// Where the tail of that run begins.
    tail: usize,
}

impl Runs {
    pub(super) fn of(is_part: fn(u8) -> bool) -> Self {
        Self::trimmed(is_part, |_| false)
    }

    /// Returns runs that end before all the bytes at their end that are a tail.
    pub(super) fn trimmed(is_part: fn(u8) -> bool, is_tail: fn(u8) -> bool) -> Self {
        Self { is_part, is_tail, last: 0..0, tail: 0 }
    }

    /// Returns the end of the run that `at` is in; `at` itself if it is in none, or in
    /// its tail.
    pub(super) fn end(&mut self, bytes: &[u8], at: usize) -> usize {
        if !self.last.contains(&at) {
            let rest = bytes.get(at..).unwrap_or_default();
            let length = rest.iter().take_while(|byte| (self.is_part)(**byte)).count();
            let tail = rest[..length].iter().rev().take_while(|byte| (self.is_tail)(**byte));
            let tail = tail.count();
            work::looked_at(length + tail + 1);
            self.last = at..at + length;
            self.tail = self.last.end - tail;
        }
        self.tail.max(at)
    }
}
