//! The differences between two JSON values.

use std::collections::BTreeMap;

use serde_json::Value;

use Difference::{OnlyOurs, OnlyTheirs, OtherValue};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Difference {
    /// Only we have this member.
    OnlyOurs,
    /// Only the official SDK has this member.
    OnlyTheirs,
    /// Both have this member, with another value or another kind of value.
    OtherValue,
}

/// Returns the differences between two JSON values, by path.
pub(crate) fn differences(ours: &Value, theirs: &Value) -> BTreeMap<String, Difference> {
    fn compare(path: &str, ours: &Value, theirs: &Value, found: &mut BTreeMap<String, Difference>) {
        let (Value::Object(our_members), Value::Object(their_members)) = (ours, theirs) else {
            if ours != theirs {
                found.insert(path.to_owned(), OtherValue);
            }
            return;
        };
        let path_of =
            |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        for (key, ours) in our_members {
            match their_members.get(key) {
                Some(theirs) => compare(&path_of(key), ours, theirs, found),
                None => drop(found.insert(path_of(key), OnlyOurs)),
            }
        }
        for key in their_members.keys().filter(|key| !our_members.contains_key(*key)) {
            found.insert(path_of(key), OnlyTheirs);
        }
    }

    let mut found = BTreeMap::new();
    compare("", ours, theirs, &mut found);
    found
}

pub(crate) fn listed(differences: &[(&str, Difference)]) -> BTreeMap<String, Difference> {
    differences.iter().map(|(path, difference)| ((*path).to_owned(), *difference)).collect()
}
