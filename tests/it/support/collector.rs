//! A collector on a loopback address, down to the socket.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream},
    net::{TcpSocket, TcpStream},
    sync::watch,
};

/// What a collector does with what it is sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// Reads the request and answers with these status and header lines.
    With(&'static str),
    /// Reads the request and answers with a head. The body follows once the test
    /// calls [`Collector::release_body`].
    HeadFirst,
    /// Reads the request and answers 200 with a body of this many bytes.
    Long(usize),
    /// Reads nothing, until there is another answer: then the connection is
    /// read to its end, and forgotten.
    Never,
}

pub(crate) const OK: Answer = Answer::With("200 OK");

/// What a collector has seen so far.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) answer: Answer,
    /// The body of each request that was accepted, oldest first.
    pub(crate) requests: Vec<Vec<u8>>,
    /// Heads sent whose body waits for the test.
    pub(crate) heads: usize,
    /// How many of these bodies may be sent.
    released: usize,
    /// Connections opened.
    pub(crate) opened: usize,
    /// Connections that the client has closed.
    pub(crate) ended: usize,
    /// Requests that began and were not read.
    pub(crate) stalled: usize,
    /// Bytes of the request that stalled last, read once its connection ended.
    pub(crate) stalled_bytes: usize,
}

pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    seen: Arc<watch::Sender<Seen>>,
}

impl Collector {
    /// Must be called in a runtime, which ends the collector.
    pub(crate) fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // A client that is not read from must soon notice.
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(16).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(watch::Sender::new(Seen {
            answer: OK,
            requests: Vec::new(),
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
                tokio::spawn(serve(stream, all_seen.clone()));
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

    /// Sends the body of one more answer whose head is out.
    pub(crate) fn release_body(&self) {
        self.seen.send_modify(|seen| seen.released += 1);
    }

    /// Whether a client's side of a connection is open, and how many bytes wait in it.
    #[cfg(target_os = "linux")]
    pub(crate) fn client_side(&self) -> Option<u64> {
        let remote = format!("0100007F:{:04X}", self.address.port());
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        table.lines().find_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            // Established, from the client to here.
            let is_open = fields.get(2) == Some(&&*remote) && fields.get(3) == Some(&"01");
            let (sending, _) = fields.get(4)?.split_once(':')?;
            is_open.then(|| u64::from_str_radix(sending, 16).unwrap())
        })
    }

    /// Waits until the client has a request out that the sockets take no more of.
    #[cfg(target_os = "linux")]
    pub(crate) async fn wait_until_blocked(&self) {
        self.wait_until(|seen| seen.stalled == 1).await;
        let mut before = None;
        loop {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            let now = self.client_side();
            if now == std::mem::replace(&mut before, now) {
                break;
            }
        }
        assert!(before.is_some_and(|bytes| bytes > 0), "nothing is out");
    }

    pub(crate) async fn wait_until(&self, met: impl FnMut(&Seen) -> bool) {
        self.seen.subscribe().wait_for(met).await.unwrap();
    }
}

async fn serve(stream: TcpStream, all: Arc<watch::Sender<Seen>>) {
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
        let Some(request) = read_request(&mut stream).await else {
            break;
        };
        let (status, body) = match answer {
            Answer::With(status) => (status, br#"{"status":1}"#.to_vec()),
            Answer::Long(bytes) => ("200 OK", vec![b'x'; bytes]),
            Answer::HeadFirst | Answer::Never => ("200 OK", br#"{"status":1}"#.to_vec()),
        };
        if status.starts_with('2') {
            all.send_modify(|seen| seen.requests.push(request));
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

/// Whether all of `bytes` was written.
async fn write(stream: &mut BufStream<TcpStream>, bytes: &[u8]) -> bool {
    stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok()
}

async fn read_request(stream: &mut BufStream<TcpStream>) -> Option<Vec<u8>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    let mut body = vec![0; length.parse().ok()?];
    stream.read_exact(&mut body).await.ok()?;
    Some(body)
}
