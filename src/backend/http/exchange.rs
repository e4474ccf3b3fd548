//! A request whose body is cut together with it.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::stream;
use http_body::{Frame, SizeHint};
use tokio::sync::watch;

/// The size of the pieces that the HTTP library gets a body in, in bytes: one TLS record.
pub(crate) const PIECE: usize = 16 * 1024;

/// A request that is cut when this value is dropped.
///
/// A task of the HTTP library drives the connection. If the future of the request is
/// dropped, that task closes the connection, but only after it has written its buffer
/// (hyper 1.12 flushes in `Buffered::poll_shutdown`). If the service does not read, this
/// takes as long as the operating system allows. If the *body* fails instead, the task
/// drops the connection at once, together with its buffer. A cut therefore fails the body
/// first, and the future of the request is dropped with the body.
pub(crate) struct Exchange<F: Future + Send + 'static> {
    shared: Arc<Shared>,
    /// `None` once there is a response.
    request: Option<Pin<Box<F>>>,
}

impl<F: Future + Send + 'static> Exchange<F> {
    /// Makes the request that sends `whole`. Every part of the body holds a clone of
    /// `in_use`.
    pub(super) fn new(
        whole: Bytes,
        in_use: watch::Receiver<()>,
        send: impl FnOnce(CuttableBody) -> F,
    ) -> Self {
        let length = whole.len();
        let starts = (0..length).step_by(PIECE);
        let pieces = starts.map(move |start| whole.slice(start..length.min(start + PIECE)));
        Self::streamed(length as u64, stream::iter(pieces), in_use, send)
    }

    /// Makes the request that sends `pieces`, which can be made while they are sent: each is polled
    /// for after the previous one is written. The request fails unless they have `length` bytes
    /// in all.
    pub(crate) fn streamed(
        length: u64,
        pieces: impl Stream<Item = Bytes> + Send + Sync + 'static,
        in_use: watch::Receiver<()>,
        send: impl FnOnce(CuttableBody) -> F,
    ) -> Self {
        let shared = Arc::<Shared>::default();
        let pieces = Box::pin(pieces);
        let body = CuttableBody { left: length, pieces, shared: shared.clone(), in_use };
        Self { shared, request: Some(Box::pin(send(body))) }
    }

    /// Waits for the response. Must be called only once.
    pub(crate) async fn answer(&mut self) -> F::Output {
        match &mut self.request {
            Some(request) => {
                let answer = request.await;
                self.request = None;
                answer
            }
            None => std::future::pending().await,
        }
    }
}

impl<F: Future + Send + 'static> Drop for Exchange<F> {
    fn drop(&mut self) {
        let request = self.request.take();
        self.shared.cut(request.map(|request| -> Box<dyn Send> { Box::new(request) }));
    }
}

/// State that a request and its body share.
#[derive(Default)]
struct Shared(Mutex<Progress>);

#[derive(Default)]
struct Progress {
    cut: bool,
    /// Whether the connection holds a piece that it has not written.
    piece_out: bool,
    /// Wakes the connection if it waits for the next piece.
    waiting: Option<Waker>,
    /// The future of a request that was cut while the connection waited.
    request: Option<Box<dyn Send>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self, request: Option<Box<dyn Send>>) {
        let mut progress = self.lock();
        progress.cut = true;
        match progress.waiting.take() {
            Some(connection) => {
                progress.request = request;
                drop(progress);
                connection.wake();
            }
            // No connection has polled the body, or it has taken all of the body, or it
            // will poll again only after it has written its piece.
            None => {
                drop(progress);
                drop(request);
            }
        }
    }

    fn piece_is_gone(&self) {
        let mut progress = self.lock();
        progress.piece_out = false;
        let waiting = progress.waiting.take();
        drop(progress);
        if let Some(connection) = waiting {
            connection.wake();
        }
    }
}

/// A request body that ends in an error once the request is cut.
///
/// The connection gets the next piece only after it has written the previous one. It
/// therefore keeps polling the body, and has little left to write after a cut.
pub(crate) struct CuttableBody {
    /// The number of bytes in the pieces that are still to come.
    left: u64,
    pieces: Pin<Box<dyn Stream<Item = Bytes> + Send + Sync>>,
    shared: Arc<Shared>,
    in_use: watch::Receiver<()>,
}

#[derive(Debug, thiserror::Error)]
#[error("the request was cut")]
pub(crate) struct RequestCut;

impl http_body::Body for CuttableBody {
    type Data = Bytes;
    type Error = RequestCut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestCut>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        let bytes = {
            let mut progress = this.shared.lock();
            progress.waiting = None;
            if progress.cut {
                return Poll::Ready(Some(Err(RequestCut)));
            }
            let next =
                if progress.piece_out { Poll::Pending } else { this.pieces.as_mut().poll_next(cx) };
            let Poll::Ready(next) = next else {
                progress.waiting = Some(cx.waker().clone());
                return Poll::Pending;
            };
            let fitting = next.filter(|bytes| bytes.len() as u64 <= this.left);
            let Some(bytes) = fitting else { return Poll::Ready(Some(Err(RequestCut))) };
            progress.piece_out = true;
            bytes
        };
        this.left -= bytes.len() as u64;
        let piece = Piece { bytes, shared: this.shared.clone(), _in_use: this.in_use.clone() };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl Drop for CuttableBody {
    fn drop(&mut self) {
        let mut progress = self.shared.lock();
        let left = (progress.waiting.take(), progress.request.take());
        drop(progress);
        drop(left);
    }
}

/// A part of a body, which the connection drops once it has written it.
struct Piece {
    bytes: Bytes,
    shared: Arc<Shared>,
    _in_use: watch::Receiver<()>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.shared.piece_is_gone();
    }
}

#[cfg(test)]
mod tests;
