//! Redacts a text line by line.

use std::{
    io::{self, BufRead, Read},
    sync::Arc,
};

use crate::guard::Guard;

/// The lines of `input`, each redacted as a whole if there is a guard.
///
/// A line that is too long is replaced by a note: an identifier that is cut in two could not be
/// found.
pub(super) struct Lines<R> {
    input: R,
    longest: usize,
    guard: Option<Arc<Guard>>,
    line: Vec<u8>,
    /// The number of bytes of `line` that were read.
    done: usize,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R, longest: usize, guard: Option<Arc<Guard>>) -> Self {
        Self { input, longest, guard, line: Vec::new(), done: 0 }
    }

    fn next_line(&mut self) -> io::Result<()> {
        self.line.clear();
        self.done = 0;
        let read =
            self.input.by_ref().take(self.longest as u64).read_until(b'\n', &mut self.line)?;
        if read == self.longest && !self.line.ends_with(b"\n") {
            let rest = self.input.skip_until(b'\n')?;
            self.leave_out(read + rest);
            return Ok(());
        }
        if let Some(guard) = &self.guard {
            let text = String::from_utf8_lossy(&self.line);
            let line = text.trim_end_matches(['\r', '\n']);
            let redacted = guard.redacted(None, line).into_owned() + &text[line.len()..];
            self.line = redacted.into_bytes();
            if self.line.len() > self.longest {
                self.leave_out(read);
            }
        }
        Ok(())
    }

    fn leave_out(&mut self, bytes: usize) {
        self.line = format!("[a line of {bytes} bytes was left out]\n").into_bytes();
    }
}

impl<R: BufRead> Read for Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.done == self.line.len() {
            self.next_line()?;
        }
        let read = (&self.line[self.done..]).read(buffer)?;
        self.done += read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &str, redacts: bool) -> String {
        let guard = redacts.then(Arc::<Guard>::default);
        let mut out = String::new();
        Lines::new(input.as_bytes(), 50, guard).read_to_string(&mut out).unwrap();
        out
    }

    #[test]
    fn each_line_is_redacted_and_keeps_its_end() {
        let input = "a @alice:example.org b\r\n\n@bob:example.org\n  last @carol:example.org";
        assert_eq!(lines(input, true), "a [user_id] b\r\n\n[user_id]\n  last [user_id]");
        assert_eq!(lines(input, false), input);
    }

    #[test]
    fn a_line_that_is_too_long_is_left_out_with_or_without_a_guard() {
        let (fits, long) = ("x".repeat(49), "x".repeat(51));
        let input = format!("{fits}\n{long}\nshort\n{long}");
        let expected = format!(
            "{fits}\n[a line of 52 bytes was left out]\nshort\n[a line of 51 bytes was left out]\n"
        );
        for redacts in [true, false] {
            assert_eq!(lines(&input, redacts), expected);
        }
    }

    #[test]
    fn a_line_that_redaction_makes_too_long_is_left_out() {
        let input = "@a:b.c ".repeat(7);
        assert_eq!(lines(&input, true), "[a line of 49 bytes was left out]\n");
        assert_eq!(lines(&input, false), input);
    }
}
