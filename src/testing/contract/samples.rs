//! The events that the suite sends.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Promises;
use crate::{
    event::{OutgoingEvent, Properties, PropertyValue},
    testing::{event_at, with_user_properties},
};

/// An analytics ID that needs escapes in JSON.
pub(super) const ID: &str = "id \"with\" \\ and ü 4f1d";
pub(super) const OTHER_ID: &str = "9f1c2d7e-0d5e-4c9b-8a53-b6f1d1f1a0aa";
/// A value that is recognised wherever it appears.
pub(super) const MARK: &str = "mark-7c0a93";

pub(super) fn marked() -> Properties {
    Properties::new().with("mark", MARK)
}

/// Events that a service accepts.
pub(super) struct Samples {
    /// When the events happened, which has a quarter of a second.
    at: SystemTime,
}

impl Samples {
    /// Returns events that are not too old for a service with these limitations.
    pub(super) fn new(promises: &Promises) -> Self {
        let age = promises.limitations.iter().find_map(|limitation| limitation.age());
        let since = match age {
            None => Duration::from_secs(1_769_860_800),
            Some(age) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Duration::from_secs(now.saturating_sub(age / 2).as_secs())
            }
        };
        Self { at: UNIX_EPOCH + since + Duration::from_millis(250) }
    }

    pub(super) fn event(&self, name: &str, properties: Properties) -> OutgoingEvent {
        event_at(name, properties, self.at)
    }

    /// Returns events with user properties.
    pub(super) fn about_the_person(&self) -> Vec<OutgoingEvent> {
        vec![
            with_user_properties(
                self.event("AboutThePerson", marked()),
                Properties::new().with("app", "desk\"top").with("rooms", 12),
                Properties::new().with("first_app", "mobile"),
            ),
            with_user_properties(
                self.event("SetOnly", Properties::new()),
                Properties::new().with("app", "desktop"),
                Properties::new(),
            ),
            with_user_properties(
                self.event("SetOnceOnly", Properties::new()),
                Properties::new(),
                Properties::new().with("first_app", "desktop"),
            ),
        ]
    }

    /// Returns events whose names, keys or values are easily damaged on the way.
    pub(super) fn awkward(&self) -> Vec<OutgoingEvent> {
        let event = |name, properties| self.event(name, properties);
        let mut events = vec![
            event("NoProperties", Properties::new()),
            event("Unicode \"quoted\" \\ ünïcødé \u{1f980}", marked()),
            event(
                "Texts",
                Properties::new()
                    .with("empty", "")
                    .with("quotes", "\"double\" 'single' \\ / back\\\\slash")
                    .with("controls", "\0\u{1}\t\r\n\u{1f}\u{7f}\u{85}\u{2028}\u{feff}")
                    .with("unicode", "ünïcødé \u{1f980} \u{10ffff}")
                    .with("json", r#"{"not":["parsed"]},"#)
                    .with("long", "l".repeat(10_000)),
            ),
            event(
                "Numbers",
                Properties::new()
                    .with("zero", 0)
                    .with("least", i64::MIN)
                    .with("most", u64::MAX)
                    .with("past_53_bits", (1_i64 << 53) + 1)
                    .with("half", 0.5)
                    .with("whole_float", 3.0)
                    .with("tenth", 0.1)
                    .with("large_float", 1e300)
                    .with("small_float", -5e-324),
            ),
            event(
                "Arrays",
                Properties::new()
                    .with("texts", ["", "a,b", "\"quoted\" ] \\", "ünïcødé \u{1f980}"])
                    .with("numbers", [i64::MIN, 0, i64::MAX])
                    .with("mixed", vec![PropertyValue::from(true), 0.5.into(), "text".into()])
                    .with("empty", [0; 0]),
            ),
            event("Booleans", Properties::new().with("yes", true).with("no", false)),
            event(
                "Keys",
                Properties::new()
                    .with("with space", 1)
                    .with("with \"quotes\" and \\", 2)
                    .with("schlüssel", 3)
                    .with("event", "not the name")
                    .with("timestamp", "not the time")
                    .with("uuid", "not the uuid")
                    .with("properties", "not the properties"),
            ),
        ];
        events.extend(self.about_the_person());
        events
    }
}

/// Returns events from years ago.
pub(super) fn old_events() -> Vec<OutgoingEvent> {
    let seconds = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    vec![
        event_at("Epoch", marked(), UNIX_EPOCH),
        event_at("Old", marked(), seconds(1_000_000_000)),
        event_at("WithMilliseconds", marked(), seconds(1_700_000_000) + Duration::from_millis(7)),
    ]
}
