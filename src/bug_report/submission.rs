//! One attempt to submit a report.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::stream;
use reqwest::{Body, header::CONTENT_TYPE};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::{
    BugReport, answer,
    outcome::{SubmitError, Submitted, no_answer},
    part::{Part, TAIL},
    rageshake::Rageshake,
};
use crate::{
    guard::Guard,
    transport::exchange::{Exchange, Streamed},
};

/// The submission of a report; returned by [`BugReport::submit`].
///
/// Resolves with the answer of the server. Dropping it cuts the request: no more of the report is
/// produced, and the connection is closed. Bytes that the operating system has accepted may still
/// leave. The server discards an incomplete report.
///
/// # Panics
///
/// Panics if it is polled outside of a Tokio runtime.
#[must_use = "a submission does nothing until it is awaited"]
pub struct Submission {
    future: Pin<Box<dyn Future<Output = Result<Submitted, SubmitError>> + Send>>,
    progress: watch::Receiver<SubmitProgress>,
}

/// How much of a report has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubmitProgress {
    /// The number of bytes that the connection has taken.
    pub sent: u64,
    /// The size of the request in bytes; `None` while the parts are being read.
    pub total: Option<u64>,
}

impl Submission {
    pub(super) fn new(report: BugReport, server: Rageshake) -> Self {
        let (sender, progress) = watch::channel(SubmitProgress::default());
        Self { future: Box::pin(submit(report, server, sender)), progress }
    }

    /// Returns a stream of the progress now and after each piece that has left, until the
    /// submission has ended. A slow reader misses steps.
    pub fn progress(&self) -> impl Stream<Item = SubmitProgress> + Send + Unpin + use<> {
        let reader = (self.progress.clone(), true);
        Box::pin(stream::unfold(reader, |(mut progress, is_first)| async move {
            if !is_first {
                progress.changed().await.ok()?;
            }
            let now = *progress.borrow_and_update();
            Some((now, (progress, false)))
        }))
    }
}

impl fmt::Debug for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let progress = *self.progress.borrow();
        f.debug_struct("Submission").field("progress", &progress).finish_non_exhaustive()
    }
}

impl Future for Submission {
    type Output = Result<Submitted, SubmitError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

async fn submit(
    mut report: BugReport,
    server: Rageshake,
    progress: watch::Sender<SubmitProgress>,
) -> Result<Submitted, SubmitError> {
    let guard = report.redacting_guard();
    let mut total = report.end().len() as u64;
    for part in &mut report.parts {
        let measured = part.measure(guard.as_ref()).await;
        let measured = measured.map_err(|source| unreadable(part, source))?;
        let around = part.head(&report.boundary).len() + TAIL.len();
        // An attachment can have any size.
        total = total.saturating_add(around as u64).saturating_add(measured.bytes);
    }
    if total > BugReport::MAX_BYTES {
        return Err(SubmitError::TooLarge);
    }
    progress.send_modify(|progress| progress.total = Some(total));
    // Closes its connection when it is dropped.
    let client = server.http.client().map_err(no_answer)?;
    let content_type = format!("multipart/form-data; boundary={}", report.boundary);
    let request = client.post(server.url.clone()).header(CONTENT_TYPE, content_type);
    let (pieces, body) = Streamed::new(total);
    let (_, in_use) = watch::channel(());
    let mut exchange = Exchange::new(body, in_use, |body| request.body(Body::wrap(body)).send());
    let answer = async {
        let response = exchange.answer().await.map_err(no_answer)?;
        answer::read(response).await
    };
    let mut moved = progress.subscribe();
    let stalled =
        async { while let Ok(Ok(())) = timeout(server.http.timeout, moved.changed()).await {} };
    tokio::select! {
        biased;
        result = answer => result,
        // The pieces go on during the answer: the connection would be lost with them.
        Err(error) = produce(&report, guard, &pieces, &progress) => Err(error),
        () = stalled => Err(SubmitError::Stalled),
    }
}

/// Makes the request's body, and passes it to the connection.
async fn produce(
    report: &BugReport,
    guard: Option<Arc<Guard>>,
    pieces: &mpsc::Sender<Bytes>,
    progress: &watch::Sender<SubmitProgress>,
) -> Result<(), SubmitError> {
    let pass = async |piece: Bytes| {
        let bytes = piece.len() as u64;
        // The connection may have ended; its answer says how.
        if pieces.send(piece).await.is_ok() {
            progress.send_modify(|progress| progress.sent += bytes);
        }
    };
    for part in &report.parts {
        let Some(measured) = part.measured else { continue };
        let changed = || SubmitError::Changed { part: part.name().to_owned() };
        pass(part.head(&report.boundary).into()).await;
        let mut left = measured.bytes;
        let content = part.open(guard.clone(), true).await;
        let mut content = content.map_err(|source| unreadable(part, source))?;
        while let Some(piece) = content.next().await.map_err(|source| unreadable(part, source))? {
            left = left.checked_sub(piece.len() as u64).ok_or_else(changed)?;
            pass(piece).await;
        }
        if left > 0 {
            return Err(changed());
        }
        pass(TAIL.into()).await;
    }
    pass(report.end().into()).await;
    Ok(())
}

fn unreadable(part: &Part, source: io::Error) -> SubmitError {
    SubmitError::Unreadable { part: part.name().to_owned(), source }
}
