use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use matrix_analytics::{
    Backend as _, JsonLines, Properties,
    testing::{
        self, DeliveryFailure, ReceivedEvent,
        contract::{self, BackendHarness, Mode, Promises},
    },
};
use serde_json::{Map, Value};
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite},
    sync::Notify,
};

use super::{object, text, time};

/// The writer behind a [`JsonLines`]: memory that can be made to fail.
#[derive(Clone, Default)]
struct Sink(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    stalled: Notify,
}

#[derive(Default)]
struct State {
    written: Vec<u8>,
    flushed: usize,
    /// The number of bytes that it still accepts; `None` is unlimited.
    room: Option<usize>,
    /// The error when it is full. If `None`, writes stall.
    error: Option<io::ErrorKind>,
}

impl Sink {
    fn set(&self, room: Option<usize>, error: Option<io::ErrorKind>) {
        let mut state = self.0.state.lock().unwrap();
        state.room = room;
        state.error = error;
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.state.lock().unwrap().written.clone()).unwrap()
    }
}

impl AsyncWrite for Sink {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.state.lock().unwrap();
        let room = state.room.unwrap_or(bytes.len()).min(bytes.len());
        if room == 0 {
            return match state.error {
                Some(io::ErrorKind::WriteZero) => Poll::Ready(Ok(0)),
                Some(error) => Poll::Ready(Err(error.into())),
                None => {
                    self.0.stalled.notify_one();
                    Poll::Pending
                }
            };
        }
        state.room = state.room.map(|before| before - room);
        state.written.extend_from_slice(&bytes[..room]);
        Poll::Ready(Ok(room))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.state.lock().unwrap();
        state.flushed = state.written.len();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn received(line: &str) -> ReceivedEvent {
    let mut line: Map<String, Value> = serde_json::from_str(line).unwrap();
    let event = ReceivedEvent {
        name: text(&line.remove("event").unwrap()),
        uuid: text(&line.remove("uuid").unwrap()).parse().unwrap(),
        distinct_id: text(&line.remove("distinct_id").unwrap()),
        time: time(&line.remove("timestamp").unwrap()),
        properties: object(&mut line, "properties"),
        set: object(&mut line, "set"),
        set_once: object(&mut line, "set_once"),
    };
    assert!(line.is_empty(), "members that are not documented: {line:?}");
    event
}

struct Harness {
    sink: Sink,
    backend: JsonLines,
}

impl BackendHarness for Harness {
    type Backend = JsonLines;

    fn promises(&self) -> Promises {
        Promises {
            modes: vec![
                Mode::Refuse(DeliveryFailure::Misconfigured),
                Mode::Refuse(DeliveryFailure::Transient),
                Mode::Stall,
            ],
            added_properties: &[],
            limitations: &[],
            secrets: &[],
        }
    }

    fn backend(&self) -> &JsonLines {
        &self.backend
    }

    async fn was_contacted(&self) -> bool {
        !self.sink.text().is_empty()
    }

    async fn received(&self) -> Vec<ReceivedEvent> {
        let text = self.sink.text();
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with("}\n"));
        lines.map(received).collect()
    }

    async fn set_mode(&self, mode: Mode) {
        match mode {
            Mode::Refuse(DeliveryFailure::Misconfigured) => {
                self.sink.set(Some(100), Some(io::ErrorKind::BrokenPipe));
            }
            Mode::Refuse(_) => self.sink.set(Some(100), Some(io::ErrorKind::StorageFull)),
            Mode::Stall => self.sink.set(Some(100), None),
            _ => self.sink.set(None, None),
        }
    }

    async fn stalled(&self) {
        self.sink.0.stalled.notified().await;
    }
}

#[tokio::test]
async fn json_lines_keep_the_contract() {
    let sink = Sink::default();
    contract::check(&Harness { backend: JsonLines::new(sink.clone()), sink }).await;
}

#[tokio::test]
async fn a_line_has_the_documented_form() {
    let (writer, mut reader) = tokio::io::duplex(64 * 1024);
    let backend = JsonLines::new(writer);
    let plain = testing::event("Opened", Properties::new());
    let full = testing::with_user_properties(
        testing::event("Joined \"Room\"", Properties::new().with("trigger", "In\nvite")),
        Properties::new().with("app", "desktop"),
        Properties::new().with("first_app", "mobile"),
    );
    let (plain_uuid, full_uuid) = (plain.uuid(), full.uuid());
    backend.send(&testing::batch("an \"ID\"", [plain, full])).await.unwrap();
    drop(backend);
    let mut text = String::new();
    reader.read_to_string(&mut text).await.unwrap();
    let time = "2026-01-31T12:00:00.25Z";
    let expected = [
        format!(
            r#"{{"event":"Opened","uuid":"{plain_uuid}","timestamp":"{time}","distinct_id":"an \"ID\"","properties":{{}}}}"#
        ),
        format!(
            r#"{{"event":"Joined \"Room\"","uuid":"{full_uuid}","timestamp":"{time}","distinct_id":"an \"ID\"","properties":{{"trigger":"In\nvite"}},"set":{{"app":"desktop"}},"set_once":{{"first_app":"mobile"}}}}"#
        ),
    ];
    assert_eq!(text, expected.map(|line| line + "\n").concat());
}

#[tokio::test]
async fn a_torn_line_stays_torn_and_the_next_line_is_whole() {
    let whole = Sink::default();
    let first = testing::batch("id", [testing::event("First", Properties::new())]);
    let second = testing::batch("id", [testing::event("Second", Properties::new())]);
    JsonLines::new(whole.clone()).send(&first).await.unwrap();
    let line = whole.text();

    // A write can be cut at every byte of the line.
    for room in 0..line.len() {
        let sink = Sink::default();
        let backend = JsonLines::new(sink.clone());
        sink.set(Some(room), None);
        tokio::select! {
            biased;
            result = backend.send(&first) => panic!("sent without room: {result:?}"),
            () = sink.0.stalled.notified() => {}
        }
        sink.set(None, None);
        assert_eq!(sink.text(), line[..room], "nothing is written after the drop");
        backend.send(&second).await.unwrap();
        let text = sink.text();
        let after = text.strip_prefix(&line[..room]).unwrap();
        let after = if room == 0 { after } else { after.strip_prefix('\n').unwrap() };
        assert_eq!(received(after.strip_suffix('\n').unwrap()).name, "Second");
        backend.send(&first).await.unwrap();
        assert!(sink.text().ends_with(&format!("}}\n{line}")), "one line break is enough");
    }
}

/// A writer that reports a failed write only at the next flush, as `tokio::fs::File` does.
#[derive(Default)]
struct Buffering {
    buffer: Vec<u8>,
    disk: Arc<Mutex<Disk>>,
}

#[derive(Default)]
struct Disk {
    written: Vec<u8>,
    /// The number of bytes that still fit.
    room: usize,
}

impl AsyncWrite for Buffering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.buffer.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let bytes = std::mem::take(&mut self.buffer);
        let mut disk = self.disk.lock().unwrap();
        let fits = bytes.len().min(disk.room);
        disk.room -= fits;
        disk.written.extend_from_slice(&bytes[..fits]);
        let is_whole = fits == bytes.len();
        Poll::Ready(if is_whole { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) })
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

#[tokio::test]
async fn events_reported_as_delivered_are_readable_after_a_failed_flush() {
    let event = testing::event("Opened", Properties::new().with("text", "some words"));
    let batch = testing::batch("id", [event]);
    let whole = Sink::default();
    JsonLines::new(whole.clone()).send(&batch).await.unwrap();

    // The disk can be full at every byte of the line.
    for room in 0..whole.text().len() {
        let writer = Buffering::default();
        let disk = writer.disk.clone();
        let backend = JsonLines::new(writer);
        for _ in 0..2 {
            disk.lock().unwrap().room = room;
            let error = backend.send(&batch).await.unwrap_err();
            assert_eq!(DeliveryFailure::from(&error), DeliveryFailure::Transient);
        }
        disk.lock().unwrap().room = usize::MAX;
        for _ in 0..2 {
            backend.send(&batch).await.unwrap();
        }
        let text = String::from_utf8(disk.lock().unwrap().written.clone()).unwrap();
        let readable = text.lines().filter(|line| format!("{line}\n") == whole.text());
        // A line whose delivery was not reported may still be complete.
        assert!(readable.count() >= 2, "room for {room} bytes: {text:?}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_on_a_full_disk_accepts_no_batch() {
    let file = tokio::fs::OpenOptions::new().write(true).open("/dev/full").await.unwrap();
    let backend = JsonLines::new(file);
    for _ in 0..3 {
        let batch = testing::batch("id", [testing::event("Opened", Properties::new())]);
        let error = backend.send(&batch).await.unwrap_err();
        assert_eq!(DeliveryFailure::from(&error), DeliveryFailure::Transient);
    }
}

#[tokio::test]
async fn every_batch_is_flushed() {
    let sink = Sink::default();
    let backend = JsonLines::new(sink.clone());
    for name in ["First", "Second"] {
        let event = testing::event(name, Properties::new());
        backend.send(&testing::batch("id", [event])).await.unwrap();
        let state = sink.0.state.lock().unwrap();
        assert!(state.flushed > 0);
        assert_eq!(state.flushed, state.written.len());
    }
}

#[tokio::test]
async fn only_a_closed_writer_counts_as_misconfigured() {
    use io::ErrorKind as Kind;

    for (kind, failure) in [
        (Kind::BrokenPipe, DeliveryFailure::Misconfigured),
        (Kind::ConnectionAborted, DeliveryFailure::Misconfigured),
        (Kind::ConnectionReset, DeliveryFailure::Misconfigured),
        (Kind::NotConnected, DeliveryFailure::Misconfigured),
        (Kind::WriteZero, DeliveryFailure::Misconfigured),
        (Kind::StorageFull, DeliveryFailure::Transient),
        (Kind::TimedOut, DeliveryFailure::Transient),
        (Kind::PermissionDenied, DeliveryFailure::Transient),
        (Kind::Other, DeliveryFailure::Transient),
    ] {
        let sink = Sink::default();
        sink.set(Some(0), Some(kind));
        let event = testing::event("Opened", Properties::new());
        let error = JsonLines::new(sink).send(&testing::batch("id", [event])).await.unwrap_err();
        assert_eq!(DeliveryFailure::from(&error), failure, "{kind:?}");
    }
}

#[test]
fn the_debug_output_of_json_lines_is_its_name() {
    assert_eq!(format!("{:?}", JsonLines::new(Vec::new())), "JsonLines { .. }");
}
