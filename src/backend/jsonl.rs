//! A backend that writes JSON Lines.

use std::{fmt, io};

use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    sync::Mutex,
};

use super::{Backend, Batch, DeliveryError};
use crate::event::OutgoingEvent;

/// A backend that writes each event as one line of JSON, to a file, a pipe, a socket or
/// memory.
///
/// It answers the question "what exactly do you send?". An app that adds it next to its
/// other backend can show its users each event as it is sent, with its ID and time. It
/// obeys consent like every other backend.
///
/// ```json
/// {"event":"RoomJoined","uuid":"0b42f1a5-6f0c-4a38-9a1d-3c1f1b9f6d0e","timestamp":"2026-01-31T12:00:00.25Z","distinct_id":"9f1c2d7e-0d5e-4c9b-8a53-b6f1d1f1a0aa","properties":{"trigger":"Invite"},"set":{"app":"desktop"},"set_once":{"first_app":"desktop"}}
/// ```
///
/// `set` and `set_once` are present only if the event carries user properties. The writer
/// is flushed after each batch, and a batch counts as delivered only once that flush has
/// succeeded. For a file this means that the operating system has the lines, not that
/// they are on the disk.
///
/// ```
/// use matrix_analytics::JsonLines;
///
/// let backend = JsonLines::new(Vec::new());
/// ```
///
/// To append to a file:
///
/// ```no_run
/// use matrix_analytics::JsonLines;
/// use tokio::fs::OpenOptions;
///
/// # async fn example() -> std::io::Result<()> {
/// let file = OpenOptions::new().create(true).append(true).open("events.jsonl").await?;
/// let backend = JsonLines::new(file);
/// # Ok(())
/// # }
/// ```
///
/// # Cancel safety
///
/// When the future of [`send`](Backend::send) is dropped, nothing more is written. The
/// user may have withdrawn, so even a line that is partly written is left incomplete. The
/// next batch begins with a line break, so that an incomplete line never runs into
/// another one. Readers should skip lines that are not valid JSON.
///
/// A writer with a buffer of its own, such as `tokio::fs::File`, may still write the
/// bytes that it has accepted. The next batch begins with a line break in that case as
/// well, which leaves an empty line after a complete one.
///
/// # Errors
///
/// A writer that is gone (a broken pipe, a closed connection, a writer that accepts no
/// more bytes) leads to [`DeliveryError::Misconfigured`], because only the app can supply
/// another one. The events wait; those in a durable queue wait for the next start. Any
/// other error is [`DeliveryError::Transient`]. After an error, including one of the
/// flush, the next batch begins on a new line. A batch that is sent again is written as a
/// whole, so readers should ignore a `uuid` that they have seen before.
pub struct JsonLines {
    out: Mutex<Out>,
}

struct Out {
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// Whether the last line may be incomplete, because bytes were written that no flush
    /// has confirmed.
    torn: bool,
}

impl fmt::Debug for JsonLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonLines").finish_non_exhaustive()
    }
}

impl JsonLines {
    /// Creates a backend that writes to `writer`. Nothing is written yet.
    pub fn new(writer: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        Self { out: Mutex::new(Out { writer: Box::new(writer), torn: false }) }
    }
}

impl Backend for JsonLines {
    fn name(&self) -> &'static str {
        "jsonl"
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let lines = lines(batch)
            .map_err(|error| DeliveryError::Rejected(Box::new(JsonLinesError::Serialize(error))))?;
        self.out.lock().await.write(&lines).await.map_err(write_error)
    }
}

impl Out {
    /// Writes and flushes `lines`.
    ///
    /// A writer may report a failed write only at the next flush, so the lines are known
    /// to be complete only once the flush has succeeded.
    async fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.torn {
            self.writer.write_all(b"\n").await?;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            // Not `write_all`, which does not reveal how far it got if it is dropped.
            let written = match self.writer.write(rest).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                bytes => bytes,
            };
            self.torn = true;
            rest = &rest[written..];
        }
        self.writer.flush().await?;
        self.torn = false;
        Ok(())
    }
}

/// The reason why a batch was not written.
#[derive(Debug, thiserror::Error)]
enum JsonLinesError {
    #[error("the batch cannot be serialised")]
    Serialize(#[source] serde_json::Error),
    #[error("the batch cannot be written")]
    Write(#[source] io::Error),
}

fn write_error(error: io::Error) -> DeliveryError {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, WriteZero};

    let gone = matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | WriteZero
    );
    let source = Box::new(JsonLinesError::Write(error));
    if gone { DeliveryError::Misconfigured(source) } else { DeliveryError::Transient(source) }
}

/// Returns the lines that are written for `batch`.
pub(crate) fn lines(batch: &Batch) -> serde_json::Result<Vec<u8>> {
    let id = serde_json::to_string(batch.distinct_id())?;
    let mut out = Vec::with_capacity(batch.events().map(|event| event.bytes() + id.len()).sum());
    for event in batch.events() {
        push_line(&mut out, &id, event)?;
    }
    Ok(out)
}

fn push_line(out: &mut Vec<u8>, id: &str, event: &OutgoingEvent) -> serde_json::Result<()> {
    out.extend_from_slice(br#"{"event":"#);
    serde_json::to_writer(&mut *out, event.name())?;
    out.extend_from_slice(br#","uuid":""#);
    let mut uuid = uuid::Uuid::encode_buffer();
    out.extend_from_slice(event.uuid().hyphenated().encode_lower(&mut uuid).as_bytes());
    out.extend_from_slice(br#"","timestamp":""#);
    out.extend_from_slice(event.rfc3339_time().as_bytes());
    out.extend_from_slice(br#"","distinct_id":"#);
    out.extend_from_slice(id.as_bytes());
    for (key, properties, needed) in [
        ("properties", event.properties(), true),
        ("set", event.user_properties().values(), false),
        ("set_once", event.user_properties().initial_values(), false),
    ] {
        if needed || !properties.is_empty() {
            for part in [",\"", key, "\":{", properties.members(), "}"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
    }
    out.extend_from_slice(b"}\n");
    Ok(())
}
