//! The destination of what a report writes.

use std::io::{self, ErrorKind, Write};

/// Passes on what is written, until the reader does not take it.
pub(crate) struct Output<F> {
    /// Gets the bytes, and returns whether the reader has taken them.
    pub(crate) pass: F,
    /// The number of bytes written.
    pub(crate) bytes: u64,
    /// The number of bytes after which nothing is passed on.
    pub(crate) most: u64,
}

impl<F: FnMut(&[u8]) -> bool> Write for Output<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes += bytes.len() as u64;
        if self.bytes > self.most || !(self.pass)(bytes) {
            return Err(ErrorKind::BrokenPipe.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
