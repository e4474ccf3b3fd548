//! What a type serialises to.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};

use super::Samples;
use crate::event::{AnalyticsEvent, Properties};

/// An event or a set of properties.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) name: String,
    /// Each property, with whether it is required.
    pub(super) properties: BTreeMap<String, (bool, Kind)>,
}

/// The type of a property.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Boolean,
    Enum(BTreeSet<String>),
    EnumArray(BTreeSet<String>),
    Integer,
    Text,
}

pub(super) fn event<T: AnalyticsEvent + Samples>() -> Found {
    properties::<T>(T::NAME)
}

/// Finds out the properties of `T` from its samples.
pub(super) fn properties<T: Serialize + Samples>(name: &str) -> Found {
    let samples: Vec<_> = T::samples().iter().map(sent).collect();
    let mut values: BTreeMap<&String, Vec<(&Value, bool)>> = BTreeMap::new();
    for (sent, fixed) in &samples {
        for (key, value) in sent {
            values.entry(key).or_default().push((value, fixed.contains_key(key)));
        }
    }
    let found = values.into_iter().map(|(key, values)| {
        let is_required = values.len() == samples.len();
        (key.clone(), (is_required, kind(&values)))
    });
    Found { name: name.to_owned(), properties: found.collect() }
}

/// Returns what leaves of `sample`, under an open and under a closed text policy.
fn sent<T: Serialize>(sample: &T) -> (Map<String, Value>, Map<String, Value>) {
    let open = Properties::from_serialize(sample).unwrap();
    let closed = open.without_computed(|_| false).unwrap_or_else(|| open.clone());
    // Any JSON serialiser writes the same.
    assert_eq!(serde_json::to_string(sample).unwrap(), open.to_json());
    (open.deserialize().unwrap(), closed.deserialize().unwrap())
}

/// Returns the type of a property with these `values`, each with whether its texts are fixed.
fn kind(values: &[(&Value, bool)]) -> Kind {
    let all = |is: fn(&Value) -> bool| values.iter().all(|(value, _)| is(value));
    let words = || values.iter().filter_map(|(value, _)| Some(value.as_str()?.to_owned()));
    let is_fixed = values.iter().all(|(_, is_fixed)| *is_fixed);
    if all(Value::is_boolean) {
        Kind::Boolean
    } else if all(|value| value.is_i64() || value.is_u64()) {
        Kind::Integer
    } else if all(Value::is_string) && is_fixed {
        Kind::Enum(words().collect())
    } else if all(Value::is_string) {
        Kind::Text
    } else if all(Value::is_array) && is_fixed {
        let elements = values.iter().filter_map(|(value, _)| value.as_array()).flatten();
        Kind::EnumArray(elements.map(|element| element.as_str().unwrap().to_owned()).collect())
    } else {
        panic!("a property of mixed types: {values:?}");
    }
}
