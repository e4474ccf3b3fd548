//! HTTP for a backend: one client an epoch, and connections that are let go of.

mod answer;
mod exchange;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use reqwest::{Body, Client, Response, StatusCode, Url, header::HeaderMap, redirect, retry};
use tokio::sync::watch;

pub(super) use self::answer::Answer;
use self::exchange::Exchange;
use crate::backend::{BoxError, DeliveryError};

/// How long what was sent may wait for its acknowledgement before the connection is
/// given up. It also bounds how long a connection that closes waits for a service that
/// does not read.
#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// The longest body of an answer that is read to its end, in bytes.
const LONGEST_ANSWER: usize = 64 * 1024;

pub(super) type ClientFactory = Box<dyn Fn() -> Result<Client, reqwest::Error> + Send + Sync>;

/// The client of one backend, and what it has yet to let go of.
pub(super) struct HttpClient {
    make_client: ClientFactory,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Option<Open>,
    /// Of the clients that were closed: each has a receiver for every request body that
    /// something still holds.
    closing: Vec<watch::Sender<()>>,
}

struct Open {
    client: Client,
    in_use: watch::Sender<()>,
}

impl HttpClient {
    /// Makes nothing yet: the client comes from `factory`, or is our own, at the first
    /// request and after each [`close`](Self::close).
    pub(super) fn new(factory: Option<ClientFactory>) -> Self {
        let make_client = factory.unwrap_or_else(|| Box::new(default_client));
        Self { make_client, state: Mutex::default() }
    }

    /// Posts `body` to `url` and waits for the whole answer, for `timeout` at most.
    ///
    /// # Errors
    ///
    /// There was no answer, or not from `url`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts the request.
    pub(super) async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<Answer, DeliveryError> {
        let (client, in_use) = self.open()?;
        let request = client.post(url.clone()).headers(headers).timeout(timeout);
        // Lives until the answer is read: a service may answer before it has the whole
        // request, and the rest must not go on behind our back.
        let mut exchange =
            Exchange::new(Bytes::from(body), in_use, |body| request.body(Body::wrap(body)).send());
        let response = exchange.answer().await.map_err(request_error)?;
        if response.url() != url {
            // The app's client followed a redirect. What answered is not the endpoint,
            // and after a 301, 302 or 303 was not given the events.
            return Err(DeliveryError::Misconfigured(Box::new(HttpError::Redirected)));
        }
        let answer = Answer::new(response.status(), response.headers());
        read_to_end(response).await;
        Ok(answer)
    }

    fn open(&self) -> Result<(Client, watch::Receiver<()>), DeliveryError> {
        if let Some(open) = &self.lock().open {
            return Ok((open.client.clone(), open.in_use.subscribe()));
        }
        // The app's code, so not under the lock.
        let client = (self.make_client)().map_err(|error| {
            DeliveryError::Transient(HttpError::Client(error.without_url()).boxed())
        })?;
        let mut state = self.lock();
        let made = || Open { client, in_use: watch::Sender::new(()) };
        let open = state.open.get_or_insert_with(made);
        Ok((open.client.clone(), open.in_use.subscribe()))
    }

    /// Closes the connections. Those that have nothing to write close at once.
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

    /// Waits until no connection that was closed holds a part of a request.
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

/// Makes a client that takes nothing from the environment or the system (no proxy) and
/// adds nothing (no redirects, cookies, default headers, referer, user agent or repeated
/// requests). With HTTP/1, the connection of a request that is cut is closed.
fn default_client() -> Result<Client, reqwest::Error> {
    let builder = Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(retry::never())
        .http1_only();
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    let builder = builder.tcp_user_timeout(UNACKNOWLEDGED);
    builder.build()
}

/// Reads what follows the head of an answer, without which the connection could not be
/// used again. One that is too long, or breaks off, ends its connection; its status counts.
async fn read_to_end(mut response: Response) {
    let mut bytes = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes += chunk.len();
        if bytes > LONGEST_ANSWER {
            return;
        }
    }
}

/// Returns what it says about the batch that there was no answer.
fn request_error(error: reqwest::Error) -> DeliveryError {
    // The request could not be made of these settings, or was sent in circles.
    let is_misconfigured = error.is_builder() || error.is_redirect();
    let source = HttpError::Request(error.without_url()).boxed();
    if is_misconfigured {
        DeliveryError::Misconfigured(source)
    } else {
        DeliveryError::Transient(source)
    }
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
    #[error("the endpoint redirects to another URL")]
    Redirected,
    #[error("the request got no answer")]
    Request(#[source] reqwest::Error),
    #[error("the endpoint answered with HTTP status {0}")]
    Status(StatusCode),
}

impl HttpError {
    fn boxed(self) -> BoxError {
        Box::new(self)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn closed_waits_for_what_was_closed_and_for_nothing_later() {
        let http = HttpClient::new(None);
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
    fn what_has_let_go_is_forgotten_at_the_next_close() {
        let http = HttpClient::new(None);
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
