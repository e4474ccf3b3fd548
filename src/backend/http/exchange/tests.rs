use std::{future::poll_fn, pin::pin};

use futures_util::poll;
use http_body::Body as _;
use hyper::{Request, Response, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, DuplexStream},
    sync::mpsc,
    task::JoinHandle,
};

use super::*;

fn whole(bytes: usize) -> Bytes {
    Bytes::from(vec![7; bytes])
}

/// Returns a body, its request, which gets no response, and the sender that counts the
/// parts of the body in use.
fn body(bytes: usize) -> (CuttableBody, Exchange<std::future::Pending<()>>, watch::Sender<()>) {
    let in_use = watch::Sender::new(());
    let mut body = None;
    let exchange = Exchange::new(whole(bytes), in_use.subscribe(), |made| {
        body = Some(made);
        std::future::pending()
    });
    (body.unwrap(), exchange, in_use)
}

async fn next_piece(body: &mut CuttableBody) -> Option<Result<Bytes, RequestCut>> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
    Some(frame.map(|frame| frame.into_data().unwrap()))
}

#[tokio::test]
async fn a_body_is_sent_in_pieces_each_after_the_previous_one_is_written() {
    let bytes = 2 * PIECE + 1;
    let (mut body, _exchange, in_use) = body(bytes);
    assert_eq!(body.size_hint().exact(), Some(bytes as u64));
    let mut sent = Vec::new();
    while let Some(piece) = next_piece(&mut body).await {
        let piece = piece.unwrap();
        assert!(piece.len() <= PIECE);
        sent.extend_from_slice(&piece);
        if !body.is_end_stream() {
            assert!(poll!(pin!(next_piece(&mut body))).is_pending());
        }
    }
    assert_eq!(sent, whole(bytes));
    drop(body);
    assert!(in_use.is_closed());
}

/// Returns a body of `length` bytes, the sender of its pieces, and its request.
fn streamed(
    length: u64,
) -> (CuttableBody, mpsc::Sender<Bytes>, Exchange<std::future::Pending<()>>) {
    let (sender, mut pieces) = mpsc::channel(1);
    let pieces = stream::poll_fn(move |cx| pieces.poll_recv(cx));
    let mut body = None;
    let in_use = watch::Sender::new(()).subscribe();
    let exchange = Exchange::streamed(length, pieces, in_use, |made| {
        body = Some(made);
        std::future::pending()
    });
    (body.unwrap(), sender, exchange)
}

#[tokio::test]
async fn pieces_that_are_made_while_they_are_sent_end_with_the_length_or_in_an_error() {
    let (mut body, sender, _exchange) = streamed(3);
    assert_eq!(body.size_hint().exact(), Some(3));
    assert!(poll!(pin!(next_piece(&mut body))).is_pending());
    sender.send(Bytes::from_static(b"ab")).await.unwrap();
    assert_eq!(next_piece(&mut body).await.unwrap().unwrap(), "ab");
    sender.send(Bytes::from_static(b"c")).await.unwrap();
    assert_eq!(next_piece(&mut body).await.unwrap().unwrap(), "c");
    assert!(next_piece(&mut body).await.is_none());

    for (length, is_first_taken) in [(3, true), (1, false)] {
        let (mut body, sender, _exchange) = streamed(length);
        sender.send(Bytes::from_static(b"ab")).await.unwrap();
        drop(sender);
        assert_eq!(next_piece(&mut body).await.unwrap().is_ok(), is_first_taken);
        assert!(next_piece(&mut body).await.unwrap().is_err(), "{length}");
    }
}

#[tokio::test]
async fn a_cut_wakes_a_connection_that_waits_for_a_piece_to_be_made() {
    let (mut body, _sender, exchange) = streamed(3);
    let connection = tokio::spawn(async move { next_piece(&mut body).await });
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!connection.is_finished());
    drop(exchange);
    assert!(connection.await.unwrap().unwrap().is_err());
}

#[tokio::test]
async fn a_body_fails_after_a_cut() {
    let (mut body, exchange, _in_use) = body(2 * PIECE);
    assert!(next_piece(&mut body).await.unwrap().is_ok());
    drop(exchange);
    assert!(next_piece(&mut body).await.unwrap().is_err());
}

#[tokio::test]
async fn a_body_is_in_use_until_its_last_piece_is_dropped() {
    let (mut body, exchange, in_use) = body(PIECE + 1);
    let first = next_piece(&mut body).await.unwrap().unwrap();
    let rest = first.slice(1..);
    drop((first, exchange));
    drop(body);
    assert!(!in_use.is_closed());
    assert!(poll!(pin!(in_use.closed())).is_pending());
    drop(rest);
    assert!(poll!(pin!(in_use.closed())).is_ready());
}

type Sent = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

/// A real connection over a pipe, with a request on it.
struct Wire {
    exchange: Exchange<Sent>,
    in_use: watch::Sender<()>,
    connection: JoinHandle<hyper::Result<()>>,
    service: DuplexStream,
}

/// Sends a request with a body of `bytes` bytes over a pipe that buffers `room` bytes.
async fn wire(room: usize, bytes: usize) -> Wire {
    let (client, service) = tokio::io::duplex(room);
    let (mut sender, connection) = http1::handshake(TokioIo::new(client)).await.unwrap();
    let connection = tokio::spawn(connection);
    let in_use = watch::Sender::new(());
    let exchange = Exchange::new(whole(bytes), in_use.subscribe(), |body| -> Sent {
        let request = Request::post("/").header("host", "example.org").body(body).unwrap();
        // Keeps the sender, because the connection ends when it is dropped.
        Box::pin(async move { sender.send_request(request).await })
    });
    Wire { exchange, in_use, connection, service }
}

impl Wire {
    /// Lets the connection write until the pipe is full.
    async fn fill(&mut self) {
        assert!(poll!(pin!(self.exchange.answer())).is_pending());
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_cut_ends_a_connection_whose_service_does_not_read() {
    for room in [1, 100, PIECE, 3 * PIECE] {
        let mut wire = wire(room, 5 * PIECE).await;
        wire.fill().await;
        drop(wire.exchange);
        // Nothing reads from the pipe.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(wire.connection.is_finished(), "{room}");
        assert!(wire.in_use.is_closed(), "{room}");
    }
}

#[tokio::test]
async fn a_connection_with_the_last_piece_is_in_use_until_it_ends() {
    let mut wire = wire(1000, PIECE).await;
    wire.fill().await;
    let Wire { exchange, in_use, connection, service } = wire;
    drop(exchange);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!connection.is_finished() && !in_use.is_closed());
    // This is what happens when the operating system gives up the connection.
    drop(service);
    let _ = connection.await.unwrap();
    assert!(in_use.is_closed());
}

#[tokio::test]
async fn a_request_that_is_not_cut_arrives_completely() {
    for bytes in [1, PIECE, PIECE + 1, 5 * PIECE] {
        let mut wire = wire(700, bytes).await;
        let mut answer = pin!(wire.exchange.answer());
        let mut head = Vec::new();
        let read = async {
            while !head.ends_with(b"\r\n\r\n") {
                head.push(wire.service.read_u8().await.unwrap());
            }
            let mut body = vec![0; bytes];
            wire.service.read_exact(&mut body).await.unwrap();
            body
        };
        tokio::select! {
            body = read => assert_eq!(body, whole(bytes)),
            answer = &mut answer => panic!("{answer:?}"),
        }
        assert!(wire.in_use.is_closed(), "{bytes}");
    }
}
