//! The function that sends a request through matrix-sdk.

use std::{fmt, pin::Pin, sync::Arc};

use matrix_sdk::{Client, HttpError, config::RequestConfig};

use super::request::{Answer, Request};

type Sending = Pin<Box<dyn Future<Output = Result<Answer, HttpError>> + Send>>;

/// Sends requests through a client, which renews its token if it has to.
#[derive(Clone)]
pub(crate) struct Sender(Arc<dyn Fn(Request, RequestConfig) -> Sending + Send + Sync>);

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl Sender {
    /// Creates a sender.
    ///
    /// Inline, so that the compiler generates the code in the app's own crate: this request
    /// needs the code of the SDK for OAuth, token refreshes and versions, 0.4 MB, which
    /// rustc generates again in each crate that awaits a request. An app's own does.
    #[inline]
    pub(crate) fn new(client: Client) -> Self {
        Self(Arc::new(move |request, config| {
            client.send(request).with_request_config(config).into_future()
        }))
    }

    pub(super) fn send(&self, request: Request, config: RequestConfig) -> Sending {
        (self.0)(request, config)
    }
}
