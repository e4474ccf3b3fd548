//! Properties that the v1 endpoint has members of their own for.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event::Properties;

/// The part of the keys that a quick check looks for. It finds every key, and few others.
const PARTS: [&str; 4] = ["_person_profile", "$product_tour_id", "$session_id", "$window_id"];

/// The properties of one event that PostHog expects next to the event's name, or in `options`. It
/// puts them back into the properties.
///
/// A property of another type than PostHog expects stays where it is, because such an option
/// would make PostHog drop the event.
#[derive(Default)]
pub(super) struct Lifted(Vec<Lift>);

/// One property, as it is sent.
struct Lift {
    key: &'static str,
    /// Whether its place is in `options`.
    is_option: bool,
    name: &'static str,
    /// The value as JSON.
    value: String,
}

#[derive(Deserialize)]
struct Found<'a> {
    #[serde(borrow, default, rename = "$process_person_profile")]
    process_person_profile: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "$product_tour_id")]
    product_tour_id: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "$session_id")]
    session_id: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "$window_id")]
    window_id: Option<&'a RawValue>,
}

impl Lifted {
    /// Finds the properties to lift.
    pub(super) fn of(properties: &Properties) -> Self {
        let members = properties.members();
        // A key may be spelled with escapes, which only a parser can resolve.
        if !members.contains(r"\u") && !PARTS.iter().any(|part| members.contains(part)) {
            return Self::default();
        }
        let json = properties.to_json();
        let Ok(found) = serde_json::from_str::<Found<'_>>(&json) else {
            return Self::default();
        };
        let is_boolean = |value: &&RawValue| matches!(value.get(), "true" | "false");
        let is_text = |value: &&RawValue| value.get().starts_with('"');
        let lift = |value: Option<&RawValue>, key, is_option, name| {
            value.map(|value| Lift { key, is_option, name, value: value.get().to_owned() })
        };
        let profile = found.process_person_profile.filter(is_boolean);
        let tour = found.product_tour_id.filter(is_text);
        let lifted = [
            lift(profile, "$process_person_profile", true, "process_person_profile"),
            lift(tour, "$product_tour_id", true, "product_tour_id"),
            lift(found.session_id.filter(is_text), "$session_id", false, "session_id"),
            lift(found.window_id.filter(is_text), "$window_id", false, "window_id"),
        ];
        Self(lifted.into_iter().flatten().collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether the property under `key` is lifted.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|lift| lift.key == key)
    }

    /// Appends the members with these properties, each after a comma. Time is never corrected:
    /// see the documentation of `PostHog`.
    pub(super) fn push(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#","options":{"disable_skew_correction":true"#);
        self.push_members(out, true);
        out.push(b'}');
        self.push_members(out, false);
    }

    fn push_members(&self, out: &mut Vec<u8>, are_options: bool) {
        for Lift { name, value, .. } in self.0.iter().filter(|lift| lift.is_option == are_options) {
            out.extend_from_slice(format!(r#","{name}":{value}"#).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(properties: &Properties) -> String {
        let mut out = Vec::new();
        Lifted::of(properties).push(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_properties_that_the_endpoint_knows_have_places_of_their_own() {
        let plain = Properties::new().with("trigger", "Icon").with("$screen_name", "Home");
        let nothing = r#","options":{"disable_skew_correction":true}"#;
        assert_eq!(pushed(&plain), nothing);
        assert!(Lifted::of(&plain).is_empty());
        let all = plain
            .with("$window_id", "w\"1")
            .with("$session_id", "s")
            .with("$product_tour_id", "t")
            .with("$process_person_profile", false);
        assert_eq!(
            pushed(&all),
            concat!(
                r#","options":{"disable_skew_correction":true,"process_person_profile":false,"#,
                r#""product_tour_id":"t"},"session_id":"s","window_id":"w\"1""#,
            ),
        );
        let lifted = Lifted::of(&all);
        for key in ["$window_id", "$session_id", "$product_tour_id", "$process_person_profile"] {
            assert!(lifted.has(key), "{key}");
        }
        assert!(!lifted.has("trigger") && !lifted.has("$screen_name"));
    }

    #[test]
    fn a_property_of_another_type_is_left_alone() {
        let other = Properties::new()
            .with("$window_id", 1)
            .with("$session_id", ["s"])
            .with("$product_tour_id", true)
            .with("$process_person_profile", "false");
        assert!(Lifted::of(&other).is_empty());
    }

    #[test]
    fn the_quick_check_finds_every_key() {
        for key in ["$window_id", "$session_id", "$product_tour_id", "$process_person_profile"] {
            assert!(PARTS.iter().any(|part| key.contains(part)), "{key}");
        }
    }
}
