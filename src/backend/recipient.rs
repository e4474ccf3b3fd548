//! A backend, with what the app declares of the service behind it.

use std::fmt;

use serde::Serialize;

use super::{
    Backend, DynBackend,
    erasure::{DynErasure, Erasure},
};

/// A backend, with what the app declares of the service behind it.
///
/// The declarations appear in [`Analytics::disclosure`](crate::Analytics::disclosure) and have
/// no other effect. [`erasure`](Self::erasure) is not a declaration.
///
/// ```
/// use matrix_analytics::{JsonLines, Party, Recipient};
///
/// let recipient = Recipient::new(JsonLines::new(tokio::io::sink()))
///     .name("Example Analytics")
///     .party(Party::First)
///     .purpose("To learn which features are used")
///     .retention("13 months");
/// ```
#[must_use = "a recipient receives nothing until it is given to a builder"]
pub struct Recipient {
    pub(crate) backend: Box<dyn DynBackend>,
    pub(crate) declared: Declared,
    pub(crate) erasure: Option<Box<dyn DynErasure>>,
}

/// What the app declares of a recipient.
#[derive(Debug, Default)]
pub(crate) struct Declared {
    pub(crate) name: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) party: Option<Party>,
    pub(crate) purpose: Option<String>,
    pub(crate) retention: Option<String>,
}

/// Whose service a recipient is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Party {
    /// The app's own.
    First,
    /// Another company's, even if it works on behalf of the app.
    Third,
}

impl Recipient {
    /// Creates a recipient that receives events through `backend`, with nothing declared.
    pub fn new(backend: impl Backend) -> Self {
        Self { backend: Box::new(backend), declared: Declared::default(), erasure: None }
    }

    /// Makes [`OptOut::erase_recipients`](crate::OptOut::erase_recipients) ask this recipient,
    /// through `erasure`, to delete what it holds of the user. Without it, the recipient is not
    /// asked.
    pub fn erasure(mut self, erasure: impl Erasure) -> Self {
        self.erasure = Some(Box::new(erasure));
        self
    }

    /// Declares the name that a user knows the service by; [`Backend::name`] if not set.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.declared.name = Some(name.into());
        self
    }

    /// Declares the host of the service, for a backend whose [`Backend::host`] is not known.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.declared.host = Some(host.into());
        self
    }

    /// Declares whose service this is.
    pub fn party(mut self, party: Party) -> Self {
        self.declared.party = Some(party);
        self
    }

    /// Declares the purpose for which the service receives events.
    pub fn purpose(mut self, purpose: impl Into<String>) -> Self {
        self.declared.purpose = Some(purpose.into());
        self
    }

    /// Declares for how long the service keeps events, such as "13 months".
    pub fn retention(mut self, retention: impl Into<String>) -> Self {
        self.declared.retention = Some(retention.into());
        self
    }
}

impl<B: Backend> From<B> for Recipient {
    fn from(backend: B) -> Self {
        Self::new(backend)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recipient")
            .field("backend", &self.backend)
            .field("declared", &self.declared)
            .field("has_erasure", &self.erasure.is_some())
            .finish()
    }
}
