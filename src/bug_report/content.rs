//! The content of a part, and how it is written.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, ErrorKind, Read as _, Seek as _, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

use super::BugReport;
use crate::guard::Guard;

/// The longest line of a log, in bytes. The server gives up a log at a line of 64 KiB
/// (`copyLines` in its `submit.go`, by the limit of Go's `bufio.Scanner`).
const LONGEST_LOG_LINE: usize = 60 * 1024;

/// The longest line of a document that is redacted, in bytes.
const LONGEST_DOCUMENT_LINE: usize = 1024 * 1024;

#[derive(Clone)]
pub(super) struct Content {
    pub(super) kind: Kind,
    pub(super) source: Source,
    /// Redacts the content, if it is redacted.
    pub(super) guard: Option<Arc<Guard>>,
    /// The bytes of the source that are sent, once it was read.
    pub(super) range: Option<Range<u64>>,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A text that is never redacted.
    Fixed,
    Text,
    Log,
    /// An attachment in text form.
    Document,
    /// An attachment that cannot be redacted.
    Image,
}

#[derive(Clone, PartialEq)]
pub(super) enum Source {
    Memory(Bytes),
    File(PathBuf),
}

impl Source {
    fn length(&self) -> io::Result<u64> {
        match self {
            Self::Memory(bytes) => Ok(bytes.len() as u64),
            Self::File(path) => open(path)?.metadata().map(|file| file.len()),
        }
    }

    fn reader(&self, range: &Range<u64>) -> io::Result<Box<dyn BufRead + '_>> {
        Ok(match self {
            Self::Memory(bytes) => Box::new(&bytes[range.start as usize..range.end as usize]),
            Self::File(path) => {
                let mut file = open(path)?;
                file.seek(SeekFrom::Start(range.start))?;
                Box::new(BufReader::new(file).take(range.end - range.start))
            }
        })
    }
}

/// Opens a file, and nothing else: to open a named pipe would wait for its writer.
fn open(path: &Path) -> io::Result<File> {
    if fs::metadata(path)?.is_file() {
        File::open(path)
    } else {
        Err(ErrorKind::InvalidInput.into())
    }
}

impl Content {
    /// Returns the range that was read before, or the present one. A file may grow behind it.
    pub(super) fn present_range(&self) -> io::Result<Range<u64>> {
        if let Some(range) = &self.range {
            return Ok(range.clone());
        }
        let end = self.source.length()?;
        let start = match self.kind {
            Kind::Log => end.saturating_sub(BugReport::MAX_LOG_BYTES),
            _ if end > BugReport::MAX_BYTES => return Err(ErrorKind::FileTooLarge.into()),
            _ => 0,
        };
        Ok(start..end)
    }

    /// Writes the content, which is that of `field`. A log is compressed if `gzip`.
    pub(super) fn write(&self, field: &str, gzip: bool, out: &mut dyn Write) -> io::Result<()> {
        let (range, guard) = (self.present_range()?, self.guard.as_deref());
        let mut input = self.source.reader(&range)?;
        match (self.kind, guard) {
            (Kind::Text, Some(guard)) => {
                let text = io::read_to_string(input)?;
                out.write_all(guard.redacted(Some(field), &text).as_bytes())
            }
            (Kind::Log, _) => {
                if range.start > 0 {
                    // The first line is incomplete.
                    input.skip_until(b'\n')?;
                }
                if !gzip {
                    return copy_lines(input, LONGEST_LOG_LINE, guard, out);
                }
                let mut encoder = GzEncoder::new(out, Compression::default());
                copy_lines(input, LONGEST_LOG_LINE, guard, &mut encoder)?;
                encoder.finish().map(drop)
            }
            (Kind::Document, Some(_)) => copy_lines(input, LONGEST_DOCUMENT_LINE, guard, out),
            _ => io::copy(&mut input, out).map(drop),
        }
    }
}

/// Copies the lines of `input`, each redacted as a whole if there is a guard.
///
/// A line that is too long is replaced by a note: an identifier that is cut in two could not be
/// found.
fn copy_lines(
    mut input: impl BufRead,
    longest: usize,
    guard: Option<&Guard>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut length = input.by_ref().take(longest as u64 + 1).read_until(b'\n', &mut line)?;
        if length == 0 {
            return Ok(());
        }
        if length > longest {
            if !line.ends_with(b"\n") {
                length += input.skip_until(b'\n')?;
            }
        } else if let Some(guard) = guard {
            let text = String::from_utf8_lossy(&line);
            let (content, end) = text.split_at(text.trim_end_matches(['\r', '\n']).len());
            line = [&*guard.redacted(None, content), end].concat().into_bytes();
        }
        if length.max(line.len()) > longest {
            line = format!("[a line of {length} bytes was left out]\n").into_bytes();
        }
        out.write_all(&line)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &str, redacts: bool) -> String {
        let guard = redacts.then(Guard::default);
        let mut out = Vec::new();
        copy_lines(input.as_bytes(), 50, guard.as_ref(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
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
    fn the_longest_line_is_redacted_without_a_line_feed_at_its_end() {
        let words = "x".repeat(31);
        let line = format!("{words} @alice:example.org");
        assert_eq!(line.len(), 50);
        assert_eq!(lines(&line, true), format!("{words} [user_id]"));
        assert_eq!(lines(&line, false), line);
    }

    #[test]
    fn a_line_that_redaction_makes_too_long_is_left_out() {
        let input = "@a:b.c ".repeat(7);
        assert_eq!(lines(&input, true), "[a line of 49 bytes was left out]\n");
        assert_eq!(lines(&input, false), input);
    }
}
