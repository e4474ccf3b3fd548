//! Events that arrived, and the ones that were expected.

use std::{collections::BTreeMap, fmt, ops::RangeInclusive};

use serde_json::Value;

use crate::waiting::{Result, ensure};

/// An event that arrived, without the members that PostHog's protocol adds.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) name: String,
    pub(super) fields: BTreeMap<String, Value>,
}

impl Report {
    pub(super) fn of(event: &Value) -> Result<Self> {
        let name = event["event"].as_str().ok_or("an event has a name")?.to_owned();
        let properties = event["properties"].as_object().ok_or("an event has properties")?;
        let own = properties.iter().filter(|(key, _)| !key.starts_with('$'));
        let fields = own.map(|(key, value)| (key.clone(), value.clone())).collect();
        Ok(Self { name, fields })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.fields.iter().map(|(key, value)| match value {
            Value::String(text) => format!("{key}={text}"),
            value => format!("{key}={value}"),
        });
        write!(f, "{} | {}", self.name, fields.collect::<Vec<_>>().join(" "))
    }
}

/// The value that a field must have.
#[derive(Clone, Debug)]
pub(super) enum Want {
    Is(Value),
    Within(RangeInclusive<i64>),
}

impl Want {
    pub(super) fn is(value: impl Into<Value>) -> Self {
        Self::Is(value.into())
    }

    fn holds(&self, value: &Value) -> bool {
        match self {
            Self::Is(wanted) => wanted == value,
            Self::Within(range) => value.as_i64().is_some_and(|number| range.contains(&number)),
        }
    }
}

/// An event that has to arrive, with exactly these fields.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) name: &'static str,
    pub(super) fields: Vec<(&'static str, Want)>,
}

impl Expected {
    /// Returns an event with fields that each have one value.
    pub(super) fn exact(name: &'static str, fields: &[(&'static str, &str)]) -> Self {
        let fields = fields.iter().map(|(key, value)| (*key, Want::is(*value)));
        Self { name, fields: fields.collect() }
    }

    fn is_met_by(&self, report: &Report) -> bool {
        self.name == report.name
            && self.fields.len() == report.fields.len()
            && self
                .fields
                .iter()
                .all(|(key, want)| report.fields.get(*key).is_some_and(|value| want.holds(value)))
    }
}

/// Fails unless exactly the `expected` events arrived, in any order.
pub(super) fn check(reports: &[Report], expected: &[Expected]) -> Result {
    let mut left: Vec<_> = reports.iter().collect();
    for expected in expected {
        let found = left.iter().position(|report| expected.is_met_by(report));
        let missing = format!("{expected:?} arrived; these did: {reports:#?}");
        left.remove(found.ok_or(missing)?);
    }
    ensure(format!("only the expected events arrived, not {left:#?}"), left.is_empty())
}
