//! A backend, with what the app declares of the service behind it.

use std::fmt;

use serde::Serialize;

use super::{
    Backend, DynBackend,
    erasure::{DynErasure, Erasure},
    identity::{Identity, KnownAs, keyed_hash},
};

/// A backend, with what the app declares of the service behind it.
///
/// The declarations appear in [`Analytics::disclosure`](crate::Analytics::disclosure). Only
/// [`identity`](Self::identity), [`label`](Self::label) and [`erasure`](Self::erasure) have another
/// effect.
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
    identity: Option<Identity>,
    label: Option<String>,
    pub(crate) erasure: Option<Box<dyn DynErasure>>,
}

/// A backend of a running sink.
pub(crate) struct Destination {
    pub(crate) backend: Box<dyn DynBackend>,
    pub(crate) known_as: KnownAs,
}

/// Creates a destination that gets the account's ID.
impl<B: Backend> From<B> for Destination {
    fn from(backend: B) -> Self {
        let known_as = KnownAs { identity: Identity::Account, label: String::new() };
        Self { backend: Box::new(backend), known_as }
    }
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
        Self {
            backend: Box::new(backend),
            declared: Declared::default(),
            identity: None,
            label: None,
            erasure: None,
        }
    }

    /// Makes [`OptOut::erase_recipients`](crate::OptOut::erase_recipients) ask this recipient,
    /// through `erasure`, to delete what it holds of the user. Without it, the recipient is not
    /// asked.
    ///
    /// A request names the recipient by its [`label`](Self::label), or by its host. If several
    /// recipients on one host are asked through one server, set a label for each: their default
    /// labels have the keys of the app, which no request has.
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

    /// Sets the identifier of the person that the service gets;
    /// [`Backend::default_identity`] if not set.
    ///
    /// ```
    /// use matrix_analytics::{Identity, JsonLines, Recipient};
    ///
    /// let recipient = Recipient::new(JsonLines::new(tokio::io::sink()))
    ///     .identity(Identity::Pseudonym)
    ///     .label("example-analytics");
    /// ```
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Sets the label that the identifiers of this recipient are made with;
    /// [`Backend::default_label`] if not set, which for the backends of this crate names the
    /// host and the app's account there.
    ///
    /// With another label, each person becomes another one for the service. So set one if the
    /// host may change, or use the former label then. It is 1 to 300 bytes long, without control
    /// characters. All recipients of an app that do not get the account's ID have different
    /// labels. Another app must not use the same label for another customer of the same service:
    /// begin it with a name that is the app's own, such as `org.example.app/analytics`.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Returns how each of `recipients` knows a person.
    ///
    /// # Errors
    ///
    /// [`LabelError`] if a label is malformed, or one is missing or repeated that makes
    /// identifiers.
    pub(crate) fn all_known_as(recipients: &[Self]) -> Result<Vec<KnownAs>, LabelError> {
        let mut all: Vec<KnownAs> = Vec::with_capacity(recipients.len());
        for recipient in recipients {
            let known_as = recipient.known_as()?;
            let is_keyed = |known_as: &KnownAs| known_as.identity != Identity::Account;
            let is_like = |earlier: &KnownAs| is_keyed(earlier) && earlier.label == known_as.label;
            if is_keyed(&known_as) && all.iter().any(is_like) {
                return Err(LabelError::Repeated { recipient: recipient.shown_name() });
            }
            all.push(known_as);
        }
        Ok(all)
    }

    /// Returns a text for each of `recipients` that tells it from the others and does not depend
    /// on their order: a pseudonym that one of them knows must never be sent to another one.
    /// Recipients that know a person by the same identifier, at the same account of one service,
    /// are numbered.
    pub(crate) fn erasure_ids(recipients: &[Self]) -> Vec<String> {
        let mut ids: Vec<String> = Vec::with_capacity(recipients.len());
        for recipient in recipients {
            let label = recipient.label.clone().or_else(|| recipient.backend.default_label());
            let identity = recipient.chosen_identity().as_str();
            let hash = keyed_hash(label.unwrap_or_default().as_bytes(), &[b"erasure"]);
            let id = format!("{}/{identity}/{hash}", recipient.backend.name());
            let is_like = |other: &&String| other.split('#').next() == Some(&id);
            match ids.iter().filter(is_like).count() {
                0 => ids.push(id),
                earlier => ids.push(format!("{id}#{earlier}")),
            }
        }
        ids
    }

    /// Returns the name by which a policy and an erasure name this recipient: its label, its host,
    /// or its shown name.
    pub(crate) fn public_label(&self) -> String {
        self.label.clone().or_else(|| self.backend.host()).unwrap_or_else(|| self.shown_name())
    }

    fn known_as(&self) -> Result<KnownAs, LabelError> {
        let identity = self.chosen_identity();
        let default = || self.backend.default_label().filter(|_| identity != Identity::Account);
        let label = match self.label.clone().or_else(default) {
            Some(label) if is_label(&label) => label,
            Some(_) => return Err(LabelError::Malformed { recipient: self.shown_name() }),
            None if identity == Identity::Account => String::new(),
            None => return Err(LabelError::Missing { recipient: self.shown_name() }),
        };
        Ok(KnownAs { identity, label })
    }

    pub(crate) fn chosen_identity(&self) -> Identity {
        self.identity.unwrap_or_else(|| self.backend.default_identity())
    }

    /// Returns the declared name, or that of the backend.
    pub(crate) fn shown_name(&self) -> String {
        self.declared.name.clone().unwrap_or_else(|| self.backend.name().to_owned())
    }
}

fn is_label(label: &str) -> bool {
    const LONGEST: usize = 300;

    (1..=LONGEST).contains(&label.len()) && !label.contains(char::is_control)
}

/// A label that cannot make the identifiers of a recipient; see [`Recipient::label`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// The label is empty, has more than 300 bytes or a control character.
    #[error("the label of the recipient {recipient} is malformed")]
    Malformed {
        /// The name of the recipient.
        recipient: String,
    },
    /// The backend has no label by default, so the recipient needs one.
    #[error("the recipient {recipient} needs a label")]
    Missing {
        /// The name of the recipient.
        recipient: String,
    },
    /// Another recipient that does not get the account's ID has the same label.
    /// Both would know a person by the same pseudonym.
    #[error("the recipient {recipient} has the label of another one")]
    Repeated {
        /// The name of the recipient.
        recipient: String,
    },
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
