//! The context of a text: what the key of a property reveals about it.

use super::{markers::secret_name, named::SecretName, version::is_named_version};

/// The context in which a text was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Context {
    #[default]
    Anywhere,
    /// The text of a property whose key is the name of a secret.
    Secret(SecretName),
    /// The text of a property whose key indicates a version.
    Version,
}

impl Context {
    /// Returns the context of the text under `key`, which is sent as `leaves_as`.
    pub(super) fn under(key: &str, leaves_as: &str) -> Self {
        match secret_name(key) {
            Some(name) => Self::Secret(name),
            None if is_named_version(leaves_as) => Self::Version,
            None => Self::Anywhere,
        }
    }
}
