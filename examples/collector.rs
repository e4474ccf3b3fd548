//! A local server in place of PostHog and of rageshake, which accepts and keeps every request.

use std::{
    convert::Infallible,
    io::{self, Read as _},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use flate2::read::GzDecoder;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinHandle};

/// A local server that counts connections and keeps the requests.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    seen: Arc<Seen>,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    connections: AtomicUsize,
    requests: Mutex<Vec<(String, Vec<u8>)>>,
}

impl Collector {
    /// Starts a server on a free loopback port.
    ///
    /// # Errors
    ///
    /// Returns an error if no port is available.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let seen = Arc::<Seen>::default();
        let server = tokio::spawn(serve(listener, seen.clone()));
        Ok(Self { address, seen, server })
    }

    /// Returns the base URL of the server.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the number of connections accepted, including those without a request.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// Returns the method and path of every request, with its decompressed body, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<(String, Vec<u8>)> {
        let requests = self.seen.requests.lock();
        requests.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, seen: Arc<Seen>) {
    while let Ok((stream, _)) = listener.accept().await {
        seen.connections.fetch_add(1, Ordering::SeqCst);
        let seen = seen.clone();
        let service = service_fn(move |request| answer(request, seen.clone()));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Seen>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = format!("{} {}", request.method(), request.uri().path());
    // A request whose body was cut off does not count.
    if let Ok(body) = request.into_body().collect().await {
        let mut plain = Vec::new();
        let body = body.to_bytes();
        // A bug report is compressed in parts.
        if GzDecoder::new(&body[..]).read_to_end(&mut plain).is_err() {
            plain = body.into();
        }
        let mut requests = seen.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.push((path, plain));
    }
    Ok(Response::new(Full::from(r#"{"status":1}"#)))
}
