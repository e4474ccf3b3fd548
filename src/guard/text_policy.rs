//! The closed vocabulary: which texts may leave at all.

use std::borrow::Cow;
#[cfg(feature = "sqlite")]
use std::collections::BTreeSet;

use serde::Serialize;
#[cfg(feature = "sqlite")]
use sha2::{Digest as _, Sha256};

use crate::event::Properties;

/// Which texts of an event may leave at all, whatever they say.
///
/// A text is a *part of the program* if its type says so: the name of an event type, a field
/// or an enum variant, and a `&'static str` that is given to
/// [`Properties::with`](crate::Properties::with). Every other text is *computed*, even if it is
/// a constant: a `&str` or `String` in the field of a typed event, an owned key, the keys of a
/// map. serde passes these as computed, too: the name of an enum variant under
/// `#[serde(tag = "…")]` or `#[serde(untagged)]`, and every key of a struct with
/// `#[serde(flatten)]`.
///
/// [`TextPolicy::Refuse`] is recommended for new apps. The guard looks for personal data and can
/// miss some; a computed text that is refused cannot leave. The guard still inspects the texts
/// that are left, under every policy.
///
/// Numbers and booleans always leave. Numbers are data as well: a phone number in a `u64` field
/// is not found by any policy.
///
/// A property that is refused is removed from its event. An event whose name is computed is
/// dropped as [`DropReason::Guarded`](crate::DropReason::Guarded). Both are counted in
/// [`Stats::refused_texts`](crate::Stats::refused_texts). The same holds for super properties
/// and user properties.
///
/// Events that wait in a durable queue are dropped if the app starts with a stricter policy than
/// the one that they were captured under, because the origin of their texts is not known.
///
/// ```
/// use matrix_analytics::TextPolicy;
///
/// // Closed, except for the text of one property.
/// let policy = TextPolicy::AllowKeys(&["plugin"]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TextPolicy {
    /// All texts may leave, after the guard has inspected them.
    #[default]
    Scan,
    /// A computed text may leave only as the value of one of these keys.
    AllowKeys(&'static [&'static str]),
    /// No computed text may leave.
    Refuse,
}

impl TextPolicy {
    /// Returns whether no event of this name may leave.
    pub(super) fn refuses_name(self, name: &Cow<'static, str>) -> bool {
        self != Self::Scan && matches!(name, Cow::Owned(_))
    }

    /// Returns `properties` without the refused ones, and the number of these.
    pub(super) fn apply(self, properties: Properties) -> (Properties, usize) {
        let allowed = match self {
            Self::Scan => return (properties, 0),
            Self::AllowKeys(keys) => keys,
            Self::Refuse => &[],
        };
        // A value that was replaced must not come back when its successor is refused.
        let properties = properties.without_repeats();
        match properties.without_computed(|key| allowed.contains(&key)) {
            Some(kept) => {
                let refused = properties.held_members() - kept.held_members();
                (kept, refused)
            }
            None => (properties, 0),
        }
    }

    /// Returns a value that tells this policy from others, for the file of a durable queue.
    #[cfg(feature = "sqlite")]
    pub(crate) fn fingerprint(self) -> Vec<u8> {
        match self {
            Self::Scan => b"scan".to_vec(),
            Self::AllowKeys(keys) => {
                let mut hash = Sha256::new_with_prefix(b"allow");
                for key in BTreeSet::from_iter(keys) {
                    hash.update((key.len() as u64).to_le_bytes());
                    hash.update(key);
                }
                hash.finalize().to_vec()
            }
            Self::Refuse => b"refuse".to_vec(),
        }
    }

    /// Returns whether events that were captured under the policy of `fingerprint` hold no text
    /// that this policy refuses.
    #[cfg(feature = "sqlite")]
    pub(crate) fn covers(self, fingerprint: Option<&[u8]>) -> bool {
        self == Self::Scan
            || fingerprint.is_some_and(|captured_under| {
                captured_under == Self::Refuse.fingerprint() || captured_under == self.fingerprint()
            })
    }
}
