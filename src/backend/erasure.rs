//! The request to a recipient to delete what it holds of a person.

use std::{fmt, future::Future, pin::Pin, time::Duration};

use uuid::Uuid;

use super::BoxError;

/// Asks a service to delete what it holds of a person.
///
/// Give it to [`Recipient::erasure`](crate::Recipient::erasure). It is called only after
/// [`OptOut::erase_recipients`](crate::OptOut::erase_recipients), once for each withdrawal unless
/// a try fails. It must have no default endpoint, open no connection before the first
/// [`erase`](Self::erase), and leave nothing running when that future is dropped.
///
/// With a feature of an HTTP backend, `ErasureEndpoint` is an implementation for a server of the
/// app's own.
pub trait Erasure: Send + Sync + 'static {
    /// Sends `request`, and waits until the service has accepted it for good.
    ///
    /// The same request can be sent several times, with the same
    /// [`key`](ErasureRequest::key): after a failure, and if the process ended before the answer
    /// was recorded.
    ///
    /// # Errors
    ///
    /// Returns an [`ErasureError`] if the service has not accepted the request, or if that is not
    /// known. It is sent again, at growing intervals, until
    /// [`Limits::erasure_max_age`](crate::Limits::erasure_max_age).
    ///
    /// # Cancel safety
    ///
    /// The future is dropped after [`Limits::send_timeout`](crate::Limits::send_timeout), and
    /// when the last [`Analytics`](crate::Analytics) is dropped.
    fn erase(
        &self,
        request: &ErasureRequest,
    ) -> impl Future<Output = Result<(), ErasureError>> + Send;

    /// Returns the host that requests are sent to, for
    /// [`Analytics::disclosure`](crate::Analytics::disclosure); `None` by default.
    fn host(&self) -> Option<String> {
        None
    }
}

/// A request to delete what a recipient holds under one identifier.
///
/// `Debug` does not show the identifier.
#[derive(Clone, PartialEq, Eq)]
pub struct ErasureRequest {
    key: Uuid,
    recipient: String,
    identifier: String,
}

impl ErasureRequest {
    pub(crate) fn new(key: Uuid, recipient: String, identifier: String) -> Self {
        Self { key, recipient, identifier }
    }

    /// Returns the idempotency key, a random UUID. A repeated request has the same one.
    #[must_use]
    pub fn key(&self) -> Uuid {
        self.key
    }

    /// Returns the label of the recipient, as the app set it; its host or its name, if it has none.
    #[must_use]
    pub fn recipient(&self) -> &str {
        &self.recipient
    }

    /// Returns the identifier under which the recipient stores the person.
    #[must_use]
    pub fn identifier(&self) -> &str {
        &self.identifier
    }
}

impl fmt::Debug for ErasureRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErasureRequest").field("recipient", &self.recipient).finish_non_exhaustive()
    }
}

/// The reason why a recipient has not accepted an erasure request. After each of them, the
/// request is sent again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErasureError {
    /// There is no endpoint for erasures: HTTP 404, a redirect, or an answer that does not
    /// confirm the request, such as the page of a captive portal.
    #[error("the endpoint does not take erasure requests")]
    Misconfigured(#[source] BoxError),
    /// The service refuses this request, for example with HTTP 400.
    #[error("the service refuses the erasure request")]
    Rejected(#[source] BoxError),
    /// The service asks to wait, for example with HTTP 429.
    #[error("the service asks to wait")]
    Throttled {
        /// The time that the service asked to wait, if it named one. At most a day is obeyed.
        retry_after: Option<Duration>,
        /// The service's response.
        #[source]
        source: BoxError,
    },
    /// The service refuses this app's credentials: HTTP 401, 403.
    #[error("the service refuses this app's credentials")]
    Unauthorized(#[source] BoxError),
    /// There is no answer, or the service has an internal error.
    #[error("the service cannot be reached")]
    Unreachable(#[source] BoxError),
}

/// The dyn-compatible form of [`Erasure`].
pub(crate) trait DynErasure: Send + Sync {
    fn erase<'a>(&'a self, request: &'a ErasureRequest) -> EraseFuture<'a>;
    fn host(&self) -> Option<String>;
}

pub(crate) type EraseFuture<'a> =
    Pin<Box<dyn Future<Output = Result<(), ErasureError>> + Send + 'a>>;

impl<E: Erasure> DynErasure for E {
    fn erase<'a>(&'a self, request: &'a ErasureRequest) -> EraseFuture<'a> {
        Box::pin(Erasure::erase(self, request))
    }

    fn host(&self) -> Option<String> {
        Erasure::host(self)
    }
}

/// Lets an app keep a handle to an erasure that a recipient also uses.
impl<E: Erasure> Erasure for std::sync::Arc<E> {
    fn erase(
        &self,
        request: &ErasureRequest,
    ) -> impl Future<Output = Result<(), ErasureError>> + Send {
        (**self).erase(request)
    }

    fn host(&self) -> Option<String> {
        (**self).host()
    }
}
