//! The content of a part, read piece by piece.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read, Seek as _, SeekFrom},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use flate2::{Compression, read::GzEncoder};

use super::{BugReport, lines::Lines};
use crate::{guard::Guard, transport::exchange::PIECE};

/// The longest line of a log, in bytes. The server gives up a log at a line of 64 KiB
/// (`copyLines` in its `submit.go`, by the limit of Go's `bufio.Scanner`).
const LONGEST_LOG_LINE: usize = 60 * 1024;

/// The longest line of an attachment in text form that is redacted, in bytes.
const LONGEST_TEXT_LINE: usize = 1024 * 1024;

#[derive(Clone)]
pub(super) enum Content {
    /// A text that is never redacted.
    Plain(String),
    /// The user ID, the device ID or the device keys, which the app included on purpose.
    Identifier(String),
    /// A text.
    Value(String),
    Log(Source),
    /// An attachment in text form.
    Text(Source),
    /// An attachment that cannot be redacted.
    Binary(Source),
}

#[derive(Clone)]
pub(super) enum Source {
    Memory(Bytes),
    File(Arc<Path>),
}

/// The part of a source that is sent, in bytes. A file may grow behind it.
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// What a reading of a part has found.
#[derive(Clone, Copy)]
pub(super) struct Measured {
    pub(super) range: Range,
    pub(super) redacted: bool,
    /// The size of the content as it is sent, in bytes.
    pub(super) bytes: u64,
}

impl Content {
    /// Returns the text of a part that is not a file, as it is sent in `field`.
    pub(super) fn value(&self, field: &str, guard: Option<&Guard>) -> Option<String> {
        match (self, guard) {
            (Self::Value(text), Some(guard)) => {
                Some(guard.redacted(Some(field), text).into_owned())
            }
            (Self::Plain(text) | Self::Identifier(text) | Self::Value(text), _) => {
                Some(text.clone())
            }
            (Self::Log(_) | Self::Text(_) | Self::Binary(_), _) => None,
        }
    }

    /// Returns whether the file is sent byte for byte, so that its length is known unread.
    pub(super) fn is_sent_as_it_is(&self, redacts: bool) -> bool {
        match self {
            Self::Binary(_) => true,
            Self::Text(_) => !redacts,
            Self::Plain(_) | Self::Identifier(_) | Self::Value(_) | Self::Log(_) => false,
        }
    }

    /// Returns the range to send.
    pub(super) async fn range(&self) -> io::Result<Range> {
        let (source, longest) = match self {
            Self::Log(source) => (source, BugReport::MAX_LOG_BYTES),
            Self::Text(source) | Self::Binary(source) => (source, u64::MAX),
            Self::Plain(_) | Self::Identifier(_) | Self::Value(_) => {
                return Ok(Range { start: 0, end: 0 });
            }
        };
        let end = match source {
            Source::Memory(bytes) => bytes.len() as u64,
            Source::File(path) => {
                let path = path.clone();
                blocking(move || regular_file(&path).map(|file| file.len())).await?
            }
        };
        Ok(Range { start: end.saturating_sub(longest), end })
    }
}

/// Refuses what is not a file: to open a named pipe would wait for its writer.
fn regular_file(path: &Path) -> io::Result<std::fs::Metadata> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_file() { Ok(metadata) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// The content of a part in pieces of at most [`PIECE`] bytes.
pub(super) struct Pieces(Option<Box<dyn Read + Send>>);

impl Pieces {
    pub(super) async fn open(
        field: &str,
        content: &Content,
        range: Range,
        guard: Option<Arc<Guard>>,
        compresses: bool,
    ) -> io::Result<Self> {
        if let Some(value) = content.value(field, guard.as_deref()) {
            return Ok(Self(Some(Box::new(Cursor::new(value)))));
        }
        let content = content.clone();
        let reader = blocking(move || content.reader(range, guard, compresses)).await?;
        Ok(Self(Some(reader)))
    }

    /// Returns the next piece, or `None` at the end.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let Some(mut reader) = self.0.take() else { return Ok(None) };
        let (reader, piece) = blocking(move || {
            let mut piece = Vec::with_capacity(PIECE);
            reader.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
            Ok((reader, piece))
        })
        .await?;
        if piece.is_empty() {
            return Ok(None);
        }
        self.0 = Some(reader);
        Ok(Some(piece.into()))
    }
}

impl Content {
    fn reader(
        self,
        range: Range,
        guard: Option<Arc<Guard>>,
        compresses: bool,
    ) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::Log(source) => {
                let mut input = source.open(range)?;
                if range.start > 0 {
                    // The first line is incomplete.
                    input.skip_until(b'\n')?;
                }
                let lines = Lines::new(input, LONGEST_LOG_LINE, guard);
                if compresses {
                    Box::new(GzEncoder::new(lines, Compression::default()))
                } else {
                    Box::new(lines)
                }
            }
            Self::Text(source) if guard.is_some() => {
                Box::new(Lines::new(source.open(range)?, LONGEST_TEXT_LINE, guard))
            }
            Self::Text(source) | Self::Binary(source) => Box::new(source.open(range)?),
            Self::Plain(_) | Self::Identifier(_) | Self::Value(_) => Box::new(io::empty()),
        })
    }
}

impl Source {
    fn open(self, range: Range) -> io::Result<Box<dyn BufRead + Send>> {
        let length = range.end - range.start;
        Ok(match self {
            Self::Memory(bytes) => {
                Box::new(Cursor::new(bytes.slice(range.start as usize..range.end as usize)))
            }
            Self::File(path) => {
                regular_file(&path)?;
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(range.start))?;
                Box::new(BufReader::new(file).take(length))
            }
        })
    }
}

/// Runs `read` where it may wait for a disk. It reads one piece at most, and ends after that if
/// the caller is gone.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}
