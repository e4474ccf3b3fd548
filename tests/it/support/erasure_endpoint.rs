//! An endpoint for erasure requests on loopback.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use matrix_analytics::ErasureEndpoint;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// How the endpoint reacts to a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Reaction {
    /// Accepts it.
    Accept,
    /// Answers with this status.
    Status(&'static str),
    /// Answers 200 with a page, as a captive portal does.
    Page,
    /// Closes the connection without an answer.
    Hang,
}

/// A request that was received.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Received {
    pub(crate) identifier: String,
    pub(crate) recipient: String,
    pub(crate) key: String,
    pub(crate) was_accepted: bool,
    /// The request line and the headers.
    pub(crate) head: String,
}

pub(crate) struct EndpointDouble {
    address: SocketAddr,
    reaction: Arc<Mutex<Reaction>>,
    received: Arc<watch::Sender<Vec<Received>>>,
}

impl EndpointDouble {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (reaction, received) =
            (Arc::new(Mutex::new(Reaction::Accept)), Arc::new(watch::Sender::default()));
        let (react, receive) = (reaction.clone(), received.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, react.clone(), receive.clone()));
            }
        });
        Self { address, reaction, received }
    }

    pub(crate) fn erasure(&self) -> ErasureEndpoint {
        ErasureEndpoint::new(&format!("http://{}/erase", self.address)).unwrap()
    }

    pub(crate) fn react(&self, reaction: Reaction) {
        *self.reaction.lock().unwrap() = reaction;
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.borrow().clone()
    }

    /// Returns the identifiers of the requests that were accepted.
    pub(crate) fn erased(&self) -> Vec<String> {
        let received = self.received();
        let accepted = received.into_iter().filter(|request| request.was_accepted);
        accepted.map(|request| request.identifier).collect()
    }

    /// Waits until `requests` have been received.
    pub(crate) async fn wait_for(&self, requests: usize) {
        let mut received = self.received.subscribe();
        received.wait_for(|received| received.len() >= requests).await.unwrap();
    }
}

async fn serve(
    stream: TcpStream,
    reaction: Arc<Mutex<Reaction>>,
    received: Arc<watch::Sender<Vec<Received>>>,
) {
    let mut stream = BufStream::new(stream);
    while let Some((head, body)) = read_request(&mut stream).await {
        let reaction = *reaction.lock().unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        let key = head.lines().find_map(|line| line.strip_prefix("idempotency-key: ")).unwrap();
        let key = key.to_owned();
        let answer = match reaction {
            Reaction::Accept => ("200 OK", format!(r#"{{"accepted":"{key}"}}"#)),
            Reaction::Status(status) => (status, String::new()),
            Reaction::Page => ("200 OK", "<html>Log in</html>".to_owned()),
            Reaction::Hang => ("", String::new()),
        };
        let request = Received {
            identifier: text("identifier"),
            recipient: text("recipient"),
            key,
            was_accepted: reaction == Reaction::Accept,
            head,
        };
        received.send_modify(|received| received.push(request));
        let (status, body) = answer;
        if reaction == Reaction::Hang {
            return;
        }
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

async fn read_request(stream: &mut BufStream<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    let mut body = vec![0; length.parse().ok()?];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, body))
}
