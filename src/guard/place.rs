//! Knows what the key of a property says about its text.

use super::{markers::secret_name, named::SecretName, version::is_named_version};

/// What is known of where a text stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Place {
    #[default]
    Anywhere,
    /// In a property whose key is the name of a secret.
    Secret(SecretName),
    /// In a property whose key says that it is a version.
    Version,
}

impl Place {
    /// Returns the place of the text whose key is `key`, which leaves as `leaves_as`.
    pub(super) fn under(key: &str, leaves_as: &str) -> Self {
        match secret_name(key) {
            Some(name) => Self::Secret(name),
            None if is_named_version(leaves_as) => Self::Version,
            None => Self::Anywhere,
        }
    }
}
