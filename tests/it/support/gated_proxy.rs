//! An HTTP proxy on loopback that holds each account-data request until the test releases it. Tests
//! use it to order the requests of two devices.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use matrix_sdk::reqwest;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::eventually;

/// A proxy in front of a homeserver. Requests for anything but account data pass at once, and so do
/// those for types of the Matrix specification, which a client with encryption sends itself.
pub(crate) struct GatedProxy {
    address: SocketAddr,
    held: mpsc::UnboundedReceiver<HeldRequest>,
    server: JoinHandle<()>,
}

/// A request held by the proxy.
pub(crate) struct HeldRequest {
    pub(crate) method: Method,
    pass: oneshot::Sender<()>,
    /// Resolves when the homeserver's answer has reached the proxy.
    answered: oneshot::Receiver<()>,
    deliver: oneshot::Sender<()>,
}

impl HeldRequest {
    /// Forwards the request to the homeserver, and the answer to the client.
    pub(crate) async fn pass(self) {
        self.apply().await.deliver();
    }

    /// Forwards the request to the homeserver, and holds the answer.
    pub(crate) async fn apply(self) -> HeldAnswer {
        let _ = self.pass.send(());
        let _ = eventually(self.answered).await;
        HeldAnswer { deliver: self.deliver }
    }
}

/// An answer held by the proxy. If it is dropped, the answer never arrives.
pub(crate) struct HeldAnswer {
    deliver: oneshot::Sender<()>,
}

impl HeldAnswer {
    pub(crate) fn deliver(self) {
        let _ = self.deliver.send(());
    }
}

impl GatedProxy {
    pub(crate) async fn start(upstream: &str) -> Self {
        let listener = listener_with_new_address().await;
        let address = listener.local_addr().unwrap();
        let (hold, held) = mpsc::unbounded_channel();
        let upstream = Upstream { url: upstream.to_owned(), http: plain_http_client() };
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (upstream, hold) = (upstream.clone(), hold.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let (upstream, hold) = (upstream.clone(), hold.clone());
                        async move { handle(&upstream, &hold, request).await }
                    });
                    // Serving fails when the client goes away or the upstream does not answer. Both
                    // are normal.
                    let _ =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, held, server }
    }

    pub(crate) fn uri(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits for the next account-data request, which must be a `method`.
    pub(crate) async fn next(&mut self, method: Method) -> HeldRequest {
        let held = eventually(self.next_of_any_method()).await;
        assert_eq!(held.method, method);
        held
    }

    pub(crate) async fn next_of_any_method(&mut self) -> HeldRequest {
        self.held.recv().await.expect("the proxy is running")
    }

    /// Returns whether no request is held.
    pub(crate) fn is_idle(&self) -> bool {
        self.held.is_empty()
    }
}

impl Drop for GatedProxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Listens on a port that no proxy of this test run has used. An `Analytics` hands its unsaved
/// record to the next one for the same device and homeserver, and some tests need two that do not
/// share it.
async fn listener_with_new_address() -> TcpListener {
    static USED: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

    loop {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        if USED.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            return listener;
        }
    }
}

/// Builds an HTTP client for loopback. It loads no system certificates, because that is slow.
pub(crate) fn plain_http_client() -> reqwest::Client {
    reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap()
}

/// The homeserver behind the proxy.
#[derive(Clone)]
struct Upstream {
    url: String,
    http: reqwest::Client,
}

async fn handle(
    upstream: &Upstream,
    hold: &mpsc::UnboundedSender<HeldRequest>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, reqwest::Error> {
    let account_data = request.uri().path().split_once("/account_data/");
    let gate =
        account_data.is_some_and(|(_, event_type)| !event_type.starts_with("m.")).then(|| {
            let (pass, passed) = oneshot::channel();
            let (answer, answered) = oneshot::channel();
            let (deliver, delivered) = oneshot::channel();
            let _ = hold.send(HeldRequest {
                method: request.method().clone(),
                pass,
                answered,
                deliver,
            });
            (passed, answer, delivered)
        });
    // A request that the test drops never arrives.
    let Some((passed, answer, delivered)) = gate else {
        return forward(upstream, request).await;
    };
    if passed.await.is_err() {
        return std::future::pending().await;
    }
    let response = forward(upstream, request).await?;
    let _ = answer.send(());
    if delivered.await.is_err() {
        return std::future::pending().await;
    }
    Ok(response)
}

async fn forward(
    upstream: &Upstream,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, reqwest::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let url = format!("{}{}", upstream.url, parts.uri);
    let mut headers = parts.headers;
    headers.remove("host");
    let answer =
        upstream.http.request(parts.method, url).headers(headers).body(body).send().await?;
    let status = answer.status();
    let mut response = Response::new(Full::new(answer.bytes().await?));
    *response.status_mut() = StatusCode::from_u16(status.as_u16()).unwrap();
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    Ok(response)
}
