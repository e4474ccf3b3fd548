//! Finds the ends of runs of one class of bytes, and looks at no byte twice.

use std::ops::Range;

use super::work;

/// Remembers the run that was looked at last.
pub(super) struct Runs {
    is_part: fn(u8) -> bool,
    last: Range<usize>,
}

impl Runs {
    pub(super) fn of(is_part: fn(u8) -> bool) -> Self {
        Self { is_part, last: 0..0 }
    }

    /// Returns the end of the run that `at` is in; `at` itself if it is in none.
    pub(super) fn end(&mut self, bytes: &[u8], at: usize) -> usize {
        if !self.last.contains(&at) {
            let rest = bytes.get(at..).unwrap_or_default();
            let length = rest.iter().take_while(|byte| (self.is_part)(**byte)).count();
            work::looked_at(length + 1);
            self.last = at..at + length;
        }
        self.last.end
    }
}
