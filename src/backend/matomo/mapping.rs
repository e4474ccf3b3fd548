//! How an event becomes one request of Matomo's tracking API.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value};

use super::limits::{LONGEST_DIMENSION, LONGEST_TEXT, OLDEST, stored_length};
use crate::event::{OutgoingEvent, Properties};

/// The choices of an app for the parameters of a request.
pub(super) struct Mapping {
    pub(super) site_id: u32,
    pub(super) url: Option<String>,
    /// The category of an event that has none of `category_properties`.
    pub(super) category: String,
    pub(super) category_properties: Vec<&'static str>,
    pub(super) name_properties: Vec<&'static str>,
    pub(super) value_properties: Vec<&'static str>,
    /// The custom dimensions, by their number in Matomo.
    pub(super) dimensions: Vec<(u16, DimensionSource)>,
}

/// Where the value of a custom dimension comes from.
#[derive(Clone, Copy)]
pub(super) enum DimensionSource {
    /// A property of the event.
    Property(&'static str),
    /// The unique ID of the event.
    UniqueId,
    /// A user property that the event carries.
    UserProperty(&'static str),
}

/// The reason why an event is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsendable {
    Expired,
    /// Its properties cannot be read.
    Malformed,
    TooLarge,
}

/// The parameters of a request: names and values.
pub(super) type Parameters<'a> = Vec<(Cow<'static, str>, Cow<'a, str>)>;

impl Mapping {
    /// Returns the request for `event`, which is sent at `now` for the visitor with the ID
    /// `visitor`.
    pub(super) fn parameters<'a>(
        &'a self,
        visitor: &'a str,
        event: &'a OutgoingEvent,
        now: SystemTime,
    ) -> Result<Parameters<'a>, Unsendable> {
        if now.duration_since(event.time()).unwrap_or_default() > OLDEST {
            return Err(Unsendable::Expired);
        }
        let properties = read(event.properties())?;
        let first_text = |keys: &[&str]| {
            let found = keys.iter().filter_map(|key| text(properties.get(*key)?));
            found.map(Cow::into_owned).find(|text| !text.trim().is_empty())
        };
        let category = first_text(&self.category_properties);
        let category = category.map_or(Cow::Borrowed(&*self.category), Cow::Owned);
        let mut parameters: Parameters<'a> = vec![
            ("idsite".into(), self.site_id.to_string().into()),
            ("rec".into(), "1".into()),
            ("ca".into(), "1".into()),
            ("cid".into(), visitor.into()),
            ("cdt".into(), unix_seconds(event.time()).to_string().into()),
            ("e_c".into(), checked(category)?),
            ("e_a".into(), checked(event.name().into())?),
        ];
        if let Some(name) = first_text(&self.name_properties) {
            parameters.push(("e_n".into(), checked(name.into())?));
        }
        let numbers = self.value_properties.iter().filter_map(|key| properties.get(*key)?.as_f64());
        if let Some(number) = numbers.into_iter().next() {
            parameters.push(("e_v".into(), float(number).ok_or(Unsendable::TooLarge)?.into()));
        }
        if let Some(url) = &self.url {
            parameters.push(("url".into(), url.into()));
        }
        self.add_dimensions(&mut parameters, event, &properties)?;
        Ok(parameters)
    }

    fn add_dimensions(
        &self,
        parameters: &mut Parameters<'_>,
        event: &OutgoingEvent,
        properties: &Map<String, Value>,
    ) -> Result<(), Unsendable> {
        let user = event.user_properties();
        let (set, initial) = (read(user.values())?, read(user.initial_values())?);
        for (number, source) in &self.dimensions {
            let value = match source {
                DimensionSource::Property(key) => properties.get(*key).and_then(text),
                DimensionSource::UserProperty(key) => {
                    set.get(*key).or_else(|| initial.get(*key)).and_then(text)
                }
                DimensionSource::UniqueId => Some(event.uuid().hyphenated().to_string().into()),
            };
            let Some(value) = value else { continue };
            if stored_length(&value) > LONGEST_DIMENSION {
                return Err(Unsendable::TooLarge);
            }
            let name = format!("dimension{number}").into();
            parameters.push((name, Cow::Owned(value.into_owned())));
        }
        Ok(())
    }

    /// Returns whether a dimension shows a user property.
    pub(super) fn has_user_property(&self) -> bool {
        let is_user = |source: &_| matches!(source, DimensionSource::UserProperty(_));
        self.dimensions.iter().any(|(_number, source)| is_user(source))
    }
}

fn read(properties: &Properties) -> Result<Map<String, Value>, Unsendable> {
    properties.deserialize().map_err(|_| Unsendable::Malformed)
}

/// Returns a flat value as text.
fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.into()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string().into()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn checked(text: Cow<'_, str>) -> Result<Cow<'_, str>, Unsendable> {
    if stored_length(&text) > LONGEST_TEXT { Err(Unsendable::TooLarge) } else { Ok(text) }
}

/// Returns a number as Matomo reads it; `None` if its database might not take it.
///
/// Matomo ignores a number that differs from its own spelling of it, which has 14 digits
/// (`Common::getRequestVar`, and `precision` of PHP).
fn float(number: f64) -> Option<String> {
    const PLAIN: std::ops::Range<f64> = 1e-5..1e15;
    /// The values that a column of the type `FLOAT` can hold.
    const STORABLE: std::ops::Range<f64> = 1e-37..3e38;

    let rounded: f64 = format!("{number:.13e}").parse().ok()?;
    let size = rounded.abs();
    if size == 0.0 {
        Some("0".to_owned())
    } else if PLAIN.contains(&size) {
        Some(rounded.to_string())
    } else {
        STORABLE.contains(&size).then(|| format!("{rounded:e}"))
    }
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests;
