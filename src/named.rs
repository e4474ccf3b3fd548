//! Enums whose variants have a stable name for logs, metrics and JSON.

/// Implements `as_str`, `Display` and `Serialize` by the name of each variant.
macro_rules! named {
    ($type:ident { $($variant:ident => $name:literal),+ $(,)? }) => {
        impl $type {
            /// Returns a name in snake case for logs, metrics and JSON. It stays the same from
            /// one version to the next.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }

            #[cfg(test)]
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant),+];
        }

        /// Writes [`as_str`](Self::as_str).
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        /// Writes [`as_str`](Self::as_str).
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

pub(crate) use named;

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fmt::{Debug, Display},
    };

    use serde::Serialize;

    use crate::{
        consent::{
            state::{ClosedReason, Consent, HoldReason, Prompt},
            switch::{Note, Switch},
        },
        sink::stats::DropReason,
    };

    /// Sees that the name of each variant is the variant's own, in snake case.
    fn check<T: Debug + Display + Serialize>(variants: &[T]) {
        let mut names = BTreeSet::new();
        for variant in variants {
            let name = variant.to_string();
            assert!(!name.starts_with('_') && !name.ends_with('_'), "{name}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            assert_eq!(name.replace('_', ""), format!("{variant:?}").to_lowercase());
            assert_eq!(serde_json::to_value(variant).unwrap(), name);
            assert!(names.insert(name));
        }
    }

    #[test]
    fn every_variant_has_its_own_name_in_snake_case() {
        check(Consent::ALL);
        check(ClosedReason::ALL);
        check(HoldReason::ALL);
        check(Prompt::ALL);
        check(Switch::ALL);
        check(Note::ALL);
        check(DropReason::ALL);
    }
}
