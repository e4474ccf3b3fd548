//! One attempt to submit a report.

use std::{
    cmp::Ordering,
    io::{BufWriter, Write as _},
    task::Poll,
};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::stream;
use reqwest::{Body, header::CONTENT_TYPE};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::spawn_blocking,
    time::timeout,
};

use super::{
    PATIENCE, Rageshake,
    answer::{self, SubmitError, Submitted},
};
use crate::{
    backend::http::{AnswerBody, Exchange, LONGEST_ANSWER, PIECE, read_body},
    bug_report::{BugReport, output::Output, part::TAIL},
};

impl BugReport {
    /// Submits the report to `server`, once, and waits for the answer.
    ///
    /// Calls `on_progress` with the number of bytes that the connection has taken and with the
    /// size of the request, each time the former has changed. The report stays as it is, so it can
    /// be submitted again.
    ///
    /// # Errors
    ///
    /// [`SubmitError`] says what went wrong.
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the request is cut: no more of the report is produced, and the
    /// connection is closed. Bytes that the operating system has accepted may still leave. The
    /// server discards an incomplete report.
    pub async fn submit(
        &self,
        server: &Rageshake,
        mut on_progress: impl FnMut(u64, u64),
    ) -> Result<Submitted, SubmitError> {
        let mut report = self.clone();
        let guard = report.redacting_guard();
        for part in &mut report.parts {
            let measured = part.measure(guard.clone()).await;
            measured.map_err(|source| SubmitError::Unreadable(part.name(), source))?;
        }
        let total = report.length();
        if total > Self::MAX_BYTES {
            return Err(SubmitError::TooLarge);
        }
        // Closes its connection when it is dropped.
        let client = server.http.client().map_err(no_answer)?;
        let content_type = format!("multipart/form-data; boundary={}", report.boundary);
        let request = client.post(server.url.clone()).header(CONTENT_TYPE, content_type);

        let (failed, failure) = oneshot::channel();
        let sent = watch::Sender::new(0);
        let mut moved = sent.subscribe();
        let body = body(report, sent.clone(), failed);
        let (_, in_use) = watch::channel(());
        let mut exchange =
            Exchange::streamed(total, body, in_use, |body| request.body(Body::wrap(body)).send());
        let answer = async {
            let response = exchange.answer().await.map_err(no_answer)?;
            let status = response.status().as_u16();
            match read_body(response, LONGEST_ANSWER).await {
                AnswerBody::Whole(body) => answer::outcome(status, &body),
                AnswerBody::Incomplete | AnswerBody::TooLong => Err(SubmitError::Status(status)),
            }
        };
        let stalled = async {
            while let Ok(Ok(())) = timeout(PATIENCE, moved.changed()).await {
                on_progress(*moved.borrow_and_update(), total);
            }
        };
        tokio::select! {
            biased;
            Ok(error) = failure => Err(error),
            result = answer => {
                on_progress(*sent.borrow(), total);
                result
            }
            () = stalled => Err(SubmitError::Stalled),
        }
    }

    /// Writes the body of the request in pieces, until `pass` returns `false`.
    fn write(&self, pass: impl FnMut(&[u8]) -> bool) -> Result<(), SubmitError> {
        let output = Output { pass, bytes: 0, most: u64::MAX };
        let mut out = BufWriter::with_capacity(PIECE, output);
        for part in &self.parts {
            let unreadable = |source| SubmitError::Unreadable(part.name(), source);
            let head = write!(out, "{}", part.head(&self.boundary)).and_then(|()| out.flush());
            head.map_err(unreadable)?;
            let end = out.get_ref().bytes + part.bytes;
            out.get_mut().most = end;
            let written = part.write(true, &mut out).and_then(|()| out.flush());
            match (out.get_ref().bytes.cmp(&end), written) {
                (Ordering::Equal, Ok(())) => {}
                (Ordering::Greater, _) | (_, Ok(())) => {
                    return Err(SubmitError::Changed(part.name()));
                }
                (_, Err(source)) => return Err(unreadable(source)),
            }
            out.get_mut().most = u64::MAX;
            write!(out, "{TAIL}").map_err(unreadable)?;
        }
        // Fails only if nothing is read any more.
        let _ = write!(out, "{}", self.end()).and_then(|()| out.flush());
        Ok(())
    }
}

/// Returns the body of the request. Its pieces are written by a thread that starts when the
/// connection asks for the first one: if it could wait for anything but the connection, it could
/// keep the runtime from shutting down.
fn body(
    report: BugReport,
    sent: watch::Sender<u64>,
    failed: oneshot::Sender<SubmitError>,
) -> impl Stream<Item = Bytes> + Send + Sync {
    let (sender, mut pieces) = mpsc::channel(1);
    let mut write = Some(move || {
        let mut is_read = true;
        let written = report.write(|bytes| {
            let mut pieces = bytes.chunks(PIECE).map(Bytes::copy_from_slice);
            is_read = pieces.all(|piece| sender.blocking_send(piece).is_ok());
            is_read
        });
        // A request that has ended has an answer or an error of its own.
        if let (Err(error), true) = (written, is_read) {
            let _ = failed.send(error);
        }
    });
    stream::poll_fn(move |cx| {
        if let Some(write) = write.take() {
            drop(spawn_blocking(write));
        }
        let piece = pieces.poll_recv(cx);
        if let Poll::Ready(Some(piece)) = &piece {
            sent.send_modify(|sent| *sent += Bytes::len(piece) as u64);
        }
        piece
    })
}

fn no_answer(error: reqwest::Error) -> SubmitError {
    SubmitError::Connection(error.without_url().into())
}
