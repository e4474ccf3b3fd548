//! Finds the ends of runs of one class of bytes without reading a byte twice.

use std::ops::Range;

use super::cost;

/// The last run of one class of bytes.
pub(super) struct Runs {
    is_part: fn(u8) -> bool,
    /// Bytes that do not belong to the run at its end, such as the end of a sentence.
    is_tail: fn(u8) -> bool,
    last: Range<usize>,
    /// The start of that run's tail.
    tail: usize,
}

impl Runs {
    pub(super) fn of(is_part: fn(u8) -> bool) -> Self {
        Self::trimmed(is_part, |_| false)
    }

    /// Returns runs that exclude trailing bytes for which `is_tail` returns true.
    pub(super) fn trimmed(is_part: fn(u8) -> bool, is_tail: fn(u8) -> bool) -> Self {
        Self { is_part, is_tail, last: 0..0, tail: 0 }
    }

    /// Returns the end of the run that contains `at`, or `at` itself if it is outside a
    /// run or in the tail of one.
    pub(super) fn end(&mut self, bytes: &[u8], at: usize) -> usize {
        if !self.last.contains(&at) {
            let rest = bytes.get(at..).unwrap_or_default();
            let length = rest.iter().take_while(|byte| (self.is_part)(**byte)).count();
            let tail = rest[..length].iter().rev().take_while(|byte| (self.is_tail)(**byte));
            let tail = tail.count();
            cost::add(length + tail + 1);
            self.last = at..at + length;
            self.tail = self.last.end - tail;
        }
        self.tail.max(at)
    }
}
