//! HTTP for a backend: one client per epoch, and a way to wait until its connections are
//! closed.

mod answer;
mod endpoint;
mod exchange;
#[cfg(feature = "gzip")]
mod gzip;
mod settings;

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
#[cfg(any(feature = "matomo", feature = "posthog"))]
use reqwest::header::{self, HeaderValue};
use reqwest::{Body, Client, Response, StatusCode, Url, header::HeaderMap};
use tokio::sync::watch;

pub use self::endpoint::EndpointError;
pub(super) use self::{
    answer::Answer,
    endpoint::{endpoint_url, host_of},
};
pub(crate) use self::{answer::AnswerBody, exchange::Exchange, settings::HttpSettings};
#[cfg(feature = "rageshake")]
pub(crate) use self::{endpoint::whole_url, exchange::PIECE};
use crate::backend::{BoxError, DeliveryError};

/// The longest response body that is read to its end by default, in bytes.
pub(crate) const LONGEST_ANSWER: usize = 64 * 1024;

/// The client of one backend, and the earlier clients whose connections are closing.
pub(super) struct HttpClient {
    settings: HttpSettings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Option<Open>,
    /// One sender for each closed client. It has a receiver for every request body of
    /// which the HTTP library still holds a part.
    closing: Vec<watch::Sender<()>>,
}

struct Open {
    client: Client,
    in_use: watch::Sender<()>,
}

impl HttpClient {
    /// Creates a backend's client without connecting. The underlying client is made at the
    /// first request and again after each [`close`](Self::close).
    ///
    /// # Errors
    ///
    /// Fails if a root certificate of the settings is not one.
    pub(super) fn new(settings: HttpSettings) -> Result<Self, BoxError> {
        settings.check()?;
        Ok(Self { settings, state: Mutex::default() })
    }

    /// Posts `body` to `url` and waits for the whole response, for at most the timeout of
    /// the settings. Compresses the body if the settings ask for it, and says so in the headers.
    ///
    /// # Errors
    ///
    /// Fails if there was no response.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts the request.
    pub(super) async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Answer, DeliveryError> {
        self.post_and_read(url, headers, body, LONGEST_ANSWER).await
    }

    /// Does the same as [`post`](Self::post), and reads a response of up to `longest` bytes.
    pub(super) async fn post_and_read(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Vec<u8>,
        longest: usize,
    ) -> Result<Answer, DeliveryError> {
        #[cfg(feature = "gzip")]
        let (headers, body) =
            if self.settings.gzip { gzip::compressed(headers, &body)? } else { (headers, body) };
        let (client, in_use) = self.open()?;
        let request = client.post(url.clone()).headers(headers).timeout(self.settings.timeout);
        // Kept until the response is read: a service may respond before it has received
        // the whole request, and the rest must not be sent after this function returns.
        let mut exchange =
            Exchange::new(Bytes::from(body), in_use, |body| request.body(Body::wrap(body)).send());
        let response = exchange.answer().await.map_err(request_error)?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Answer::new(status, &headers, read_body(response, longest).await))
    }

    fn open(&self) -> Result<(Client, watch::Receiver<()>), DeliveryError> {
        if let Some(open) = &self.lock().open {
            return Ok((open.client.clone(), open.in_use.subscribe()));
        }
        // This reads the system's certificates, so the lock is not held.
        let client = self.settings.client().map_err(|error| {
            DeliveryError::Transient(HttpError::Client(error.without_url()).boxed())
        })?;
        let mut state = self.lock();
        let made = || Open { client, in_use: watch::Sender::new(()) };
        let open = state.open.get_or_insert_with(made);
        Ok((open.client.clone(), open.in_use.subscribe()))
    }

    /// Closes the connections. Those with nothing left to write close at once.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        let open = state.open.take();
        state.closing.retain(|in_use| !in_use.is_closed());
        if let Some(Open { client, in_use }) = open {
            state.closing.push(in_use);
            drop(state);
            drop(client);
        }
    }

    /// Waits until no closed connection holds a part of a request.
    pub(super) async fn closed(&self) {
        let closing = self.lock().closing.clone();
        for in_use in closing {
            in_use.closed().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the body of a response, so that its connection can be reused. If the body is longer
/// than `longest` bytes or incomplete, the connection is closed, and the status still counts.
pub(crate) async fn read_body(mut response: Response, longest: usize) -> AnswerBody {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > longest => {
                return AnswerBody::TooLong;
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return AnswerBody::Whole(body),
            Err(_) => return AnswerBody::Incomplete,
        }
    }
}

/// Returns the headers of a request whose body is JSON.
#[cfg(any(feature = "matomo", feature = "posthog"))]
pub(super) fn json_headers() -> HeaderMap {
    let content_type = HeaderValue::from_static("application/json");
    HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)])
}

/// Classifies a request that got no response.
fn request_error(error: reqwest::Error) -> DeliveryError {
    // The settings do not make a valid request.
    let is_misconfigured = error.is_builder();
    let source = HttpError::Request(error.without_url()).boxed();
    if is_misconfigured {
        DeliveryError::Misconfigured(source)
    } else {
        DeliveryError::Transient(source)
    }
}

/// The reason why a batch was not accepted.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
    #[cfg(feature = "gzip")]
    #[error("the batch cannot be compressed")]
    Gzip(#[source] std::io::Error),
    #[error("the request got no response")]
    Request(#[source] reqwest::Error),
    #[error("the endpoint responded with HTTP status {0}")]
    Status(StatusCode),
    #[error("the response with HTTP status {0} ended early")]
    Incomplete(StatusCode),
    #[error("the response with HTTP status {0} has a body that its protocol does not have")]
    Unreadable(StatusCode),
}

impl HttpError {
    pub(super) fn boxed(self) -> BoxError {
        Box::new(self)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn closed_waits_for_closed_clients_and_not_for_later_ones() {
        let http = HttpClient::new(HttpSettings::default()).unwrap();
        assert!(poll!(pin!(http.closed())).is_ready());
        let (_, first) = http.open().unwrap();
        let second = http.open().unwrap().1;
        assert!(poll!(pin!(http.closed())).is_ready(), "nothing was closed");
        http.close();
        let (_, _later) = http.open().unwrap();
        let mut closed = pin!(http.closed());
        assert!(poll!(&mut closed).is_pending());
        drop(first);
        assert!(poll!(&mut closed).is_pending());
        drop(second);
        assert!(poll!(&mut closed).is_ready());
        assert!(poll!(pin!(http.closed())).is_ready());
    }

    #[test]
    fn a_close_forgets_earlier_clients_that_hold_nothing() {
        let http = HttpClient::new(HttpSettings::default()).unwrap();
        let held = http.open().unwrap().1;
        http.close();
        for _ in 0..3 {
            drop(http.open().unwrap());
            http.close();
        }
        assert_eq!(http.lock().closing.len(), 2);
        drop(held);
        http.close();
        assert_eq!(http.lock().closing.len(), 0);
    }
}
