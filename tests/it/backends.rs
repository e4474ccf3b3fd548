//! The crate's backends, tested against the backend contract and against their services.

mod contract;
mod doubles;
mod jsonl;

#[cfg(all(feature = "matomo", feature = "otlp", feature = "posthog"))]
mod bad_input;
#[cfg(feature = "posthog")]
mod connections;
#[cfg(all(feature = "matomo", feature = "otlp", feature = "posthog"))]
mod hostile;
#[cfg(feature = "matomo")]
mod matomo;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(feature = "posthog")]
mod posthog;
#[cfg(feature = "posthog")]
mod posthog_v1;
#[cfg(feature = "posthog")]
mod routes;

use std::time::SystemTime;

use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

fn time(text: &Value) -> SystemTime {
    OffsetDateTime::parse(text.as_str().unwrap(), &Rfc3339).unwrap().into()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Removes the object under `key`; returns an empty one if there is none.
fn object(of: &mut Map<String, Value>, key: &str) -> Map<String, Value> {
    match of.remove(key) {
        None => Map::new(),
        Some(Value::Object(object)) => object,
        Some(other) => panic!("{key} is not an object: {other}"),
    }
}
