use std::collections::BTreeMap;

use super::*;
use crate::backend::samples::{UNIQUE_ID, event, noon, with_user};

const VISITOR: &str = "b5580014037f1b40";

fn mapping() -> Mapping {
    Mapping {
        site_id: 7,
        url: None,
        category: "event".to_owned(),
        category_properties: vec!["area", "domain"],
        name_properties: vec!["trigger", "kind"],
        value_properties: vec!["milliseconds", "members"],
        dimensions: vec![
            (1, DimensionSource::Property("is_dm")),
            (2, DimensionSource::UserProperty("app")),
            (3, DimensionSource::UniqueId),
        ],
    }
}

fn parameters(
    mapping: &Mapping,
    event: &OutgoingEvent,
    now: SystemTime,
) -> Result<BTreeMap<String, String>, Unsendable> {
    let parameters = mapping.parameters(VISITOR, event, now)?;
    let count = parameters.len();
    let owned: BTreeMap<_, _> = parameters
        .into_iter()
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    assert_eq!(owned.len(), count, "a parameter is there twice");
    Ok(owned)
}

fn at_once(event: &OutgoingEvent) -> Result<BTreeMap<String, String>, Unsendable> {
    parameters(&mapping(), event, noon())
}

fn owned(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const ALWAYS: [(&str, &str); 6] = [
    ("idsite", "7"),
    ("rec", "1"),
    ("ca", "1"),
    ("cid", VISITOR),
    ("cdt", "1769860800"),
    ("dimension3", "0b42f1a5-6f0c-4a38-9a1d-3c1f1b9f6d0e"),
];

#[test]
fn a_request_has_exactly_the_documented_parameters() {
    let plain = at_once(&event("Opened", Properties::new())).unwrap();
    let own = [("e_c", "event"), ("e_a", "Opened")];
    assert_eq!(plain, owned(&[&ALWAYS[..], &own].concat()));

    let properties = Properties::new()
        .with("domain", "rooms")
        .with("kind", "Direct \"&\" more")
        .with("trigger", "  ")
        .with("members", 12)
        .with("is_dm", true)
        .with("other", "not sent");
    let full = with_user(
        event("RoomJoined", properties),
        Properties::new().with("app", "desktop").with("theme", "not sent"),
        Properties::new().with("app", "replaced"),
    );
    let mapping = Mapping { url: Some("https://app.example.org/".to_owned()), ..mapping() };
    let own = [
        ("e_c", "rooms"),
        ("e_a", "RoomJoined"),
        ("e_n", "Direct \"&\" more"),
        ("e_v", "12"),
        ("url", "https://app.example.org/"),
        ("dimension1", "true"),
        ("dimension2", "desktop"),
    ];
    let found = parameters(&mapping, &full, noon()).unwrap();
    assert_eq!(found, owned(&[&ALWAYS[..], &own].concat()));
    assert_eq!(UNIQUE_ID.to_string(), found["dimension3"]);
}

#[test]
fn an_event_older_than_a_day_is_expired() {
    let event = event("Opened", Properties::new());
    let after = |seconds| parameters(&mapping(), &event, noon() + Duration::from_secs(seconds));
    assert!(after(0).is_ok());
    assert!(after(86_340).is_ok());
    assert_eq!(after(86_341), Err(Unsendable::Expired));
    assert_eq!(after(1_000_000_000), Err(Unsendable::Expired));
    let from_the_future = parameters(&mapping(), &event, noon() - Duration::from_secs(86_400));
    assert_eq!(from_the_future.unwrap()["cdt"], "1769860800");
}

#[test]
fn an_event_with_a_text_that_matomo_cannot_store_is_too_large() {
    let with =
        |key: &'static str, value: String| at_once(&event("A", Properties::from([(key, value)])));
    for key in ["area", "trigger"] {
        assert!(with(key, "x".repeat(4000)).is_ok(), "{key}");
        assert!(with(key, "\u{1f980}".repeat(4000)).is_ok(), "{key}");
        assert_eq!(with(key, "x".repeat(4001)), Err(Unsendable::TooLarge), "{key}");
        assert!(with(key, "&".repeat(800)).is_ok(), "{key}");
        assert_eq!(with(key, "&".repeat(801)), Err(Unsendable::TooLarge), "{key}");
    }
    assert!(with("is_dm", "x".repeat(250)).is_ok());
    assert_eq!(with("is_dm", "x".repeat(251)), Err(Unsendable::TooLarge));
    // A property that is not sent may be as long as it likes.
    assert!(with("other", "x".repeat(10_000)).is_ok());
}

#[test]
fn the_value_is_the_first_number_as_matomo_spells_it() {
    let value = |value: f64| {
        let event = event("A", Properties::from([("milliseconds", value)]));
        at_once(&event).map(|found| found["e_v"].clone())
    };
    for (number, spelled) in [
        (0.0, "0"),
        (-0.0, "0"),
        (3.0, "3"),
        (-12.5, "-12.5"),
        (0.1, "0.1"),
        (0.1 + 0.2, "0.3"),
        (123_456_789.123_456_78, "123456789.12346"),
        (1e15, "1e15"),
        (0.000_01, "0.00001"),
        (0.000_001, "1e-6"),
        (3e37, "3e37"),
    ] {
        assert_eq!(value(number).as_deref(), Ok(spelled), "{number}");
    }
    for number in [1e39, -1e39, 1e-40, f64::MAX, f64::MIN_POSITIVE] {
        assert_eq!(value(number), Err(Unsendable::TooLarge), "{number}");
    }
    let several = Properties::new().with("members", 3).with("milliseconds", "no number");
    assert_eq!(at_once(&event("A", several)).unwrap()["e_v"], "3");
    let none = Properties::new().with("milliseconds", "no number");
    assert_eq!(at_once(&event("A", none)).unwrap().get("e_v"), None);
}

#[test]
fn user_properties_are_wanted_only_if_a_dimension_shows_one() {
    assert!(mapping().has_user_property());
    let without = vec![(1, DimensionSource::Property("app")), (3, DimensionSource::UniqueId)];
    assert!(!Mapping { dimensions: without, ..mapping() }.has_user_property());
}
