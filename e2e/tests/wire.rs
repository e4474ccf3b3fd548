//! A proxy between one client and the homeserver. It records the client's requests for the
//! analytics event, and can stop a write halfway.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use matrix_analytics::ELEMENT_EVENT_TYPE;
use matrix_sdk::reqwest;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::Instant};

use crate::{
    user::http_client,
    waiting::{Result, within},
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How the next write is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writes {
    Pass,
    /// The homeserver never receives it.
    StopBefore,
    /// The homeserver applies it, and the client never receives the answer.
    StopAfter,
    /// A write was stopped, and its connection stays open.
    Stopped,
}

/// A request for the analytics event that the homeserver has answered.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) body: String,
    pub(crate) status: u16,
    pub(crate) answer: String,
    pub(crate) sent: Instant,
    pub(crate) answered: Instant,
}

impl Asked {
    pub(crate) fn is_write(&self) -> bool {
        self.method != Method::GET
    }
}

pub(crate) struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    upstream: String,
    http: reqwest::Client,
    log: Mutex<Vec<Asked>>,
    /// The number of requests for the event, and of answers to them.
    begun: AtomicUsize,
    ended: AtomicUsize,
    writes: watch::Sender<Writes>,
}

impl Wire {
    pub(crate) async fn start(upstream: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            http: http_client(),
            log: Mutex::default(),
            begun: AtomicUsize::default(),
            ended: AtomicUsize::default(),
            writes: watch::Sender::new(Writes::Pass),
        });
        let accepting = shared.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = accepting.clone();
                let service = service_fn(move |request| answer(shared.clone(), request));
                // Serving fails if the upstream does not answer.
                let connection = http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self { address, shared, server })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the requests since the last call.
    pub(crate) fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.shared.log())
    }

    /// Returns the requests since the last call of [`Self::take`].
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.log().clone()
    }

    /// Returns the total number of requests, or `None` while one is in flight.
    pub(crate) fn idle_after(&self) -> Option<usize> {
        let ended = self.shared.ended.load(Ordering::SeqCst);
        (self.shared.begun.load(Ordering::SeqCst) == ended).then_some(ended)
    }

    /// Returns the methods of the requests since the last call, such as `"GET PUT"`.
    pub(crate) fn take_methods(&self) -> String {
        let methods: Vec<_> = self.take().iter().map(|asked| asked.method.to_string()).collect();
        methods.join(" ")
    }

    pub(crate) fn set_writes(&self, writes: Writes) {
        self.shared.writes.send_replace(writes);
    }

    /// Waits until a write is stopped.
    pub(crate) async fn stopped(&self) -> Result {
        let mut writes = self.shared.writes.subscribe();
        within("a write", writes.wait_for(|writes| *writes == Writes::Stopped)).await??;
        Ok(())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Vec<Asked>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the connection open until writes pass again, and then closes it.
    async fn stop<T>(&self) -> Result<T, BoxError> {
        let mut writes = self.writes.subscribe();
        self.writes.send_replace(Writes::Stopped);
        writes.wait_for(|writes| *writes == Writes::Pass).await?;
        Err("the connection is cut".into())
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, BoxError> {
    let is_ours = request.uri().path().ends_with(&format!("/account_data/{ELEMENT_EVENT_TYPE}"));
    let is_write = is_ours && request.method() != Method::GET;
    let (parts, body) = request.into_parts();
    if is_ours {
        shared.begun.fetch_add(1, Ordering::SeqCst);
    }
    let body = body.collect().await?.to_bytes();
    if is_write && *shared.writes.borrow() == Writes::StopBefore {
        return shared.stop().await;
    }

    let (method, sent) = (parts.method.clone(), Instant::now());
    let mut headers = parts.headers;
    headers.remove("host");
    let url = format!("{}{}", shared.upstream, parts.uri);
    let forward = shared.http.request(parts.method, url).headers(headers).body(body.clone());
    let answer = forward.send().await?;
    let status = answer.status().as_u16();
    let answer = answer.bytes().await?;
    let mut response = Response::new(Full::new(answer.clone()));
    *response.status_mut() = StatusCode::from_u16(status)?;
    response.headers_mut().insert("content-type", "application/json".parse()?);

    if is_ours {
        let [body, answer] = [body, answer].map(|text| String::from_utf8_lossy(&text).into_owned());
        let answered = Instant::now();
        shared.log().push(Asked { method, body, status, answer, sent, answered });
        shared.ended.fetch_add(1, Ordering::SeqCst);
    }
    if is_write && *shared.writes.borrow() == Writes::StopAfter {
        return shared.stop().await;
    }
    Ok(response)
}
