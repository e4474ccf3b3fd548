//! A server in place of PostHog that keeps every byte of the requests.

use std::{
    convert::Infallible,
    fmt::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};

use super::report::Report;
use crate::waiting::Result;

/// A server that answers as PostHog does.
pub(super) struct Recorder {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Recorded>>>,
    server: JoinHandle<()>,
}

/// A request: its head as text, and its body.
struct Recorded {
    head: String,
    body: Bytes,
}

impl Recorder {
    pub(super) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let requests = Arc::<Mutex<Vec<Recorded>>>::default();
        let keep = requests.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let keep = keep.clone();
                let service = service_fn(move |request| answer(request, keep.clone()));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self { address, requests, server })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns everything that arrived, as text.
    pub(super) fn everything(&self) -> String {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = requests.iter().flat_map(|request| {
            [request.head.clone(), String::from_utf8_lossy(&request.body).into_owned()]
        });
        parts.collect::<Vec<_>>().join("\n")
    }

    /// Returns the events that arrived, oldest first.
    pub(super) fn reports(&self) -> Result<Vec<Report>> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reports = Vec::new();
        for request in requests.iter() {
            let body: Value = serde_json::from_slice(&request.body)?;
            for event in body["batch"].as_array().ok_or("a batch has events")? {
                reports.push(Report::of(event)?);
            }
        }
        Ok(reports)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    request: Request<Incoming>,
    keep: Arc<Mutex<Vec<Recorded>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut head = format!("{} {}", request.method(), request.uri());
    for (name, value) in request.headers() {
        let _ = write!(head, "\n{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    // A request whose body was cut off did not arrive.
    if let Ok(body) = request.into_body().collect().await {
        let recorded = Recorded { head, body: body.to_bytes() };
        keep.lock().unwrap_or_else(PoisonError::into_inner).push(recorded);
    }
    Ok(Response::new(Full::from(r#"{"status":1}"#)))
}
