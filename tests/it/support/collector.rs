//! A collector on loopback, observed at the socket.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream},
    net::{TcpSocket, TcpStream},
    sync::watch,
};

/// How the collector reacts to a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// Reads the request, and answers with this status and these header lines.
    With(&'static str),
    /// Reads the request, does not accept it, and answers 200 with this body.
    Body(&'static str),
    /// Reads the request, and answers 200 with this result for each event, as PostHog's v1 endpoint
    /// does.
    Each(&'static str),
    /// Reads the request, and answers with the head. The body follows when the test calls
    /// [`Collector::release_body`].
    HeadFirst,
    /// Reads the request, and answers 200 with a body of this many bytes.
    Long(usize),
    /// Reads nothing until the answer is changed. Then it reads the connection to its end, and
    /// discards everything.
    Never,
}

pub(crate) const OK: Answer = Answer::With("200 OK");

/// Counters and requests so far.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) answer: Answer,
    /// The bodies of the accepted requests, oldest first and decompressed.
    pub(crate) requests: Vec<Vec<u8>>,
    /// Their request lines and headers.
    pub(crate) request_heads: Vec<String>,
    /// Response heads sent, each of whose bodies waits for the test.
    pub(crate) heads: usize,
    /// The number of response bodies released by the test.
    released: usize,
    /// Connections opened.
    pub(crate) opened: usize,
    /// Connections that the client has closed.
    pub(crate) ended: usize,
    /// Requests that began to arrive and were not read.
    pub(crate) stalled: usize,
    /// Bytes of the last stalled request, known once its connection has ended.
    pub(crate) stalled_bytes: usize,
}

/// What the system knows of the client's end of a connection.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ClientSide {
    /// The number of bytes that the collector has not acknowledged.
    sending: u64,
    /// Whether a timer runs, which is that of keep-alive if there is nothing to send.
    pub(crate) has_timer: bool,
}

/// Returns the body of the answer to a request that is accepted.
type Respond = Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    seen: Arc<watch::Sender<Seen>>,
}

impl Collector {
    /// Starts the collector on the current runtime, which ends it.
    pub(crate) fn start() -> Self {
        Self::start_answering(|_request| br#"{"status":1}"#.to_vec())
    }

    /// Starts a collector that answers the requests that it accepts with what `respond` returns.
    pub(crate) fn start_answering(
        respond: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let respond: Respond = Arc::new(respond);
        let socket = TcpSocket::new_v4().unwrap();
        // A small buffer: a client notices soon that its request is not read.
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(16).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(watch::Sender::new(Seen {
            answer: OK,
            requests: Vec::new(),
            request_heads: Vec::new(),
            heads: 0,
            released: 0,
            opened: 0,
            ended: 0,
            stalled: 0,
            stalled_bytes: 0,
        }));
        let all_seen = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                all_seen.send_modify(|seen| seen.opened += 1);
                tokio::spawn(serve(stream, all_seen.clone(), respond.clone()));
            }
        });
        Self { address, seen }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    pub(crate) fn set_answer(&self, answer: Answer) {
        self.seen.send_modify(|seen| seen.answer = answer);
    }

    /// Sends the body of the next response whose head was sent.
    pub(crate) fn release_body(&self) {
        self.seen.send_modify(|seen| seen.released += 1);
    }

    /// Returns the client's end of an open connection, if there is one.
    #[cfg(target_os = "linux")]
    pub(crate) fn client_side(&self) -> Option<ClientSide> {
        let remote = format!("0100007F:{:04X}", self.address.port());
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        table.lines().find_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            // Only established connections, seen from the client's end.
            let is_open = fields.get(2) == Some(&&*remote) && fields.get(3) == Some(&"01");
            let (sending, _) = fields.get(4)?.split_once(':')?;
            is_open.then(|| ClientSide {
                sending: u64::from_str_radix(sending, 16).unwrap(),
                has_timer: !fields[5].starts_with("00"),
            })
        })
    }

    /// Waits until the client has filled the socket buffers with a request.
    #[cfg(target_os = "linux")]
    pub(crate) async fn wait_until_blocked(&self) {
        self.wait_until(|seen| seen.stalled == 1).await;
        let mut before = None;
        loop {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            let now = self.client_side().map(|client| client.sending);
            if now == std::mem::replace(&mut before, now) {
                break;
            }
        }
        assert!(before.is_some_and(|bytes| bytes > 0), "the client has sent no bytes");
    }

    pub(crate) async fn wait_until(&self, met: impl FnMut(&Seen) -> bool) {
        self.seen.subscribe().wait_for(met).await.unwrap();
    }
}

async fn serve(stream: TcpStream, all: Arc<watch::Sender<Seen>>, respond: Respond) {
    let mut stream = BufStream::new(stream);
    while !stream.fill_buf().await.unwrap_or_default().is_empty() {
        let answer = all.borrow().answer.clone();
        if answer == Answer::Never {
            all.send_modify(|seen| seen.stalled += 1);
            let _ = all.subscribe().wait_for(|seen| seen.answer != Answer::Never).await;
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            all.send_modify(|seen| seen.stalled_bytes = rest.len());
            break;
        }
        let Some((request_head, request)) = read_request(&mut stream).await else {
            break;
        };
        let status = if let Answer::With(status) = answer { status } else { "200 OK" };
        let is_accepted = match answer {
            Answer::Body(_) => false,
            Answer::Each(result) => result.contains(r#""ok""#),
            _ => status.starts_with('2'),
        };
        let body = match answer {
            Answer::Body(body) => body.as_bytes().to_vec(),
            Answer::Each(result) => result_for_each(&request, result),
            Answer::Long(bytes) => vec![b'x'; bytes],
            _ if is_accepted => respond(&request),
            _ => Vec::new(),
        };
        if is_accepted {
            all.send_modify(|seen| {
                seen.requests.push(request);
                seen.request_heads.push(request_head);
            });
        }
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        if !write(&mut stream, head.as_bytes()).await {
            break;
        }
        if answer == Answer::HeadFirst {
            all.send_modify(|seen| seen.heads += 1);
            let number = all.borrow().heads;
            let _ = all.subscribe().wait_for(|seen| seen.released >= number).await;
        }
        if !write(&mut stream, &body).await {
            break;
        }
    }
    all.send_modify(|seen| seen.ended += 1);
}

/// Returns an answer of PostHog's v1 endpoint with `result` for each event of `request`.
fn result_for_each(request: &[u8], result: &str) -> Vec<u8> {
    let request: serde_json::Value = serde_json::from_slice(request).unwrap();
    let ids = request["batch"].as_array().unwrap().iter().map(|event| &event["uuid"]);
    let results: Vec<_> = ids.map(|id| format!("{id}:{result}")).collect();
    format!(r#"{{"results":{{{}}}}}"#, results.join(",")).into_bytes()
}

/// Returns whether all of `bytes` was written.
async fn write(stream: &mut BufStream<TcpStream>, bytes: &[u8]) -> bool {
    stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok()
}

/// Returns the head of the next request, and its body.
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
    let is_zipped = head.contains("content-encoding: gzip\r\n");
    let body = if is_zipped { unzipped(&body) } else { body };
    Some((head, body))
}

#[cfg(feature = "gzip")]
pub(crate) fn unzipped(body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(body), &mut plain).unwrap();
    plain
}

#[cfg(not(feature = "gzip"))]
pub(crate) fn unzipped(_body: &[u8]) -> Vec<u8> {
    panic!("a compressed request without the feature");
}

/// Creates a builder of a backend that sends as many bytes as an event has.
#[cfg(feature = "posthog")]
pub(crate) fn uncompressed(endpoint: &str, key: &str) -> matrix_analytics::PostHogBuilder {
    let builder = matrix_analytics::PostHog::builder(endpoint, key);
    #[cfg(feature = "gzip")]
    let builder = builder.gzip(false);
    builder
}
