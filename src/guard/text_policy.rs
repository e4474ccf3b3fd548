//! The closed vocabulary: which texts may leave at all.

use serde::Serialize;

use crate::event::Properties;

/// Which texts of an event may leave at all, whatever they say.
///
/// A text is a *part of the program* if its type says so: the name of an event type, a field
/// or an enum variant, and a `&'static str` that is given to
/// [`Properties::with`](crate::Properties::with). Every other text is *computed*, even if it is
/// a constant: a `&str` or `String` in the field of a typed event, an owned key, the keys of a
/// map. serde passes these as computed as well: the name of an enum variant under
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
/// An array is computed if one of its elements is.
///
/// A property that is refused is removed from its event. An event whose name is computed is
/// dropped as [`DropReason::Guarded`](crate::DropReason::Guarded). Both are counted in
/// [`Stats::refused_texts`](crate::Stats::refused_texts). The same holds for super properties
/// and user properties.
///
/// Events that wait in a durable queue are dropped if the app starts with a policy that does not
/// allow all texts of the one that they were captured under: the origin of a text in the file is
/// not known, nor is that of a key or a name.
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
    /// Returns whether no event with a computed name may leave.
    pub(super) fn refuses_computed_names(self) -> bool {
        self != Self::Scan
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

    /// Returns a text that describes this policy in the file of a durable queue.
    #[cfg(feature = "sqlite")]
    pub(crate) fn describe(self) -> String {
        match self {
            Self::Scan => "scan".to_owned(),
            Self::AllowKeys(keys) => format!("{ALLOW}{}", keys.join(SEPARATOR)),
            Self::Refuse => ALLOW.to_owned(),
        }
    }

    /// Returns whether events that were captured under the `described` policy hold no text that
    /// this policy refuses.
    #[cfg(feature = "sqlite")]
    pub(crate) fn covers(self, described: Option<&str>) -> bool {
        let allowed = match self {
            Self::Scan => return true,
            Self::AllowKeys(keys) => keys,
            Self::Refuse => &[],
        };
        let captured_under = described.and_then(|described| described.strip_prefix(ALLOW));
        captured_under.is_some_and(|keys| {
            keys.is_empty() || keys.split(SEPARATOR).all(|key| allowed.contains(&key))
        })
    }
}

/// Begins the description of a closed policy, before its keys.
#[cfg(feature = "sqlite")]
const ALLOW: &str = "allow\0";

/// Stands between two keys. No key of a property has a control character.
#[cfg(feature = "sqlite")]
const SEPARATOR: &str = "\0";
