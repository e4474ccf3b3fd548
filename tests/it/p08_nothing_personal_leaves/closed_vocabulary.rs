//! Under `TextPolicy::Refuse`, no text that a program computed leaves, however it is captured.

use std::{borrow::Cow, collections::BTreeSet};

use fastrand::Rng;
use matrix_analytics::{
    Analytics, AnalyticsEvent, DropReason, Properties, PropertyValue, TextPolicy, UserProperties,
    testing::RecordingBackend,
};
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap as _, SerializeSeq as _, SerializeStruct as _},
};
use serde_json::{Map, Value, json};

use super::map;
use crate::support::{AnalyticsExt as _, World, eventually};

/// Part of every computed text.
const PLANTED: &str = "planted";
/// The computed characters.
const PLANTED_CHAR: char = '\u{1f344}';

const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const MANY: usize = 80;

async fn opted_in(world: &World, policy: TextPolicy) -> (Analytics, RecordingBackend) {
    let recorder = RecordingBackend::new();
    let device = world.device("QZXJKVBWPL").await;
    let builder = device.builder().backend(recorder.clone()).text_policy(policy);
    let builder = builder
        .super_properties(Properties::new().with("app", "desktop").with("built", planted("by")))
        .user_properties(UserProperties::new().set("theme", "dark").set("nick", planted("n")));
    let analytics = builder.build().await.unwrap();
    analytics.opt_in_and_settle().await;
    (analytics, recorder)
}

fn planted(text: &str) -> String {
    format!("{text} {PLANTED}")
}

/// A field of a generated event.
#[derive(Clone, Copy)]
enum Field {
    Array,
    Bool,
    Char,
    Collected,
    Float,
    Integer,
    Missing,
    Nested,
    Text,
    Texts,
    Variant,
}

const FIELDS: [Field; 11] = [
    Field::Array,
    Field::Bool,
    Field::Char,
    Field::Collected,
    Field::Float,
    Field::Integer,
    Field::Missing,
    Field::Nested,
    Field::Text,
    Field::Texts,
    Field::Variant,
];

#[derive(Serialize)]
enum Variant {
    Fixed,
}

#[derive(Serialize)]
struct Newtype<T>(T);

impl Field {
    /// Returns the value that may leave.
    fn fixed(self) -> Option<Value> {
        match self {
            Self::Array => Some(json!([1, "Fixed"])),
            Self::Bool => Some(json!(true)),
            Self::Float => Some(json!(0.5)),
            Self::Integer => Some(json!(7)),
            Self::Variant => Some(json!("Fixed")),
            Self::Char
            | Self::Collected
            | Self::Missing
            | Self::Nested
            | Self::Text
            | Self::Texts => None,
        }
    }
}

impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Array => (1, Variant::Fixed).serialize(serializer),
            Self::Bool => serializer.serialize_bool(true),
            Self::Char => serializer.serialize_char(PLANTED_CHAR),
            Self::Collected => serializer.collect_str(&format_args!("{PLANTED}!")),
            Self::Float => serializer.serialize_f64(0.5),
            Self::Integer => serializer.serialize_u8(7),
            Self::Missing => serializer.serialize_none(),
            Self::Nested => Some(Newtype(PLANTED)).serialize(serializer),
            Self::Text => serializer.serialize_str(PLANTED),
            // The computed text is not the last.
            Self::Texts => (1, PLANTED, Variant::Fixed).serialize(serializer),
            Self::Variant => Variant::Fixed.serialize(serializer),
        }
    }
}

/// A key of a generated map.
#[derive(Clone, Copy)]
enum Key {
    Computed(usize),
    Fixed,
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Computed(number) => serializer.collect_str(&format_args!("{PLANTED}{number}")),
            Self::Fixed => Variant::Fixed.serialize(serializer),
        }
    }
}

/// An event that a type describes, or a map, with a hand-written `Serialize`.
enum Typed {
    Map(Vec<(Key, Field)>),
    Struct(Vec<Field>),
}

impl AnalyticsEvent for Typed {
    const NAME: &'static str = "Typed";
}

impl Serialize for Typed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Map(members) => {
                let mut map = serializer.serialize_map(None)?;
                for (key, field) in members {
                    map.serialize_entry(key, field)?;
                }
                map.end()
            }
            Self::Struct(fields) => {
                let mut object = serializer.serialize_struct("Typed", fields.len())?;
                for (key, field) in long_keys().iter().zip(fields) {
                    object.serialize_field(key, field)?;
                }
                object.end()
            }
        }
    }
}

/// Returns more keys than there are marks for computed members.
fn long_keys() -> &'static [&'static str; MANY] {
    static KEYS: std::sync::OnceLock<[&str; MANY]> = std::sync::OnceLock::new();
    KEYS.get_or_init(|| std::array::from_fn(|place| &*format!("key{place}").leak()))
}

/// Returns the members that may leave: `members` holds each one that is written, and whether it
/// is computed. Every 64th shares a mark.
fn kept(members: Vec<(String, Value, bool)>) -> Map<String, Value> {
    let is_computed = |(_, (.., is_computed)): &(usize, &(_, _, bool))| *is_computed;
    let marked: BTreeSet<_> =
        members.iter().enumerate().filter(is_computed).map(|(place, _)| place % 64).collect();
    let kept = members.into_iter().enumerate().filter(|(place, _)| !marked.contains(&(place % 64)));
    kept.map(|(_, (key, value, _))| (key, value)).collect()
}

impl Typed {
    fn generate(rng: &mut Rng) -> Self {
        let few = rng.usize(..6);
        let number = if rng.u8(..20) == 0 { MANY } else { few };
        let is_map = rng.bool();
        let fields: Vec<_> = (0..number).map(|_| FIELDS[rng.usize(..FIELDS.len())]).collect();
        if !is_map {
            return Self::Struct(fields);
        }
        // At most one key is fixed, because each may occur once.
        let fixed = rng.usize(..=number);
        let key = |place| if place == fixed { Key::Fixed } else { Key::Computed(place) };
        Self::Map(
            fields.into_iter().enumerate().map(|(place, field)| (key(place), field)).collect(),
        )
    }

    fn expected(&self) -> Map<String, Value> {
        let written = |key: &str, field: &Field, has_fixed_key: bool| {
            let fixed = field.fixed();
            let is_computed = !has_fixed_key || fixed.is_none();
            (key.to_owned(), fixed.unwrap_or_default(), is_computed)
        };
        let is_written = |field: &Field| !matches!(field, Field::Missing);
        kept(match self {
            Self::Map(members) => (members.iter())
                .filter(|(_, field)| is_written(field))
                .map(|(key, field)| written("Fixed", field, matches!(key, Key::Fixed)))
                .collect(),
            Self::Struct(fields) => (long_keys().iter().zip(fields))
                .filter(|(_, field)| is_written(field))
                .map(|(key, field)| written(key, field, true))
                .collect(),
        })
    }
}

/// Returns properties of an event that has a name only, and those that may leave.
fn named(rng: &mut Rng) -> (Properties, Map<String, Value>) {
    let mut properties = Properties::new();
    let mut expected = Map::new();
    for _ in 0..rng.usize(..6) {
        let key = KEYS[rng.usize(..KEYS.len())];
        let (value, fixed) = match rng.u8(..7) {
            0 => (PropertyValue::from(true), Some(json!(true))),
            1 => (PropertyValue::from(7), Some(json!(7))),
            2 => (PropertyValue::from("fixed"), Some(json!("fixed"))),
            3 => (PropertyValue::from(Cow::Owned(planted("value"))), None),
            4 => (PropertyValue::from(["fixed", "too"]), Some(json!(["fixed", "too"]))),
            5 => {
                let values = vec!["fixed".into(), planted("value").into(), 1.into()];
                (PropertyValue::Array(values), None)
            }
            _ => (PropertyValue::from(planted("value")), None),
        };
        let has_fixed_key = rng.bool();
        if has_fixed_key {
            properties.insert(key, value);
            // A value that is refused also replaces the one before.
            match fixed {
                Some(fixed) => expected.insert(key.to_owned(), fixed),
                None => expected.remove(key),
            };
        } else {
            properties.insert(planted(key), value);
        }
    }
    (properties, expected)
}

#[tokio::test]
async fn of_20_000_generated_events_no_planted_text_leaves_and_all_else_does() {
    const BATCHES: usize = 40;
    const EVENTS: usize = 500;

    let world = World::new().await;
    let (analytics, recorder) = opted_in(&world, TextPolicy::Refuse).await;
    let mut rng = Rng::with_seed(15);
    for _ in 0..BATCHES {
        let mut expected = Vec::new();
        for _ in 0..EVENTS {
            let mut leaves = if rng.bool() {
                let event = Typed::generate(&mut rng);
                analytics.capture(&event);
                event.expected()
            } else {
                let (properties, leaves) = named(&mut rng);
                analytics.capture_named("Named", properties);
                leaves
            };
            leaves.insert("app".to_owned(), json!("desktop"));
            expected.push(leaves);
        }
        assert!(eventually(analytics.flush_all()).await.is_complete());
        let received = recorder.events();
        assert_eq!(received.len(), EVENTS);
        for (event, expected) in received.iter().zip(expected) {
            assert_eq!(event.properties, expected);
            let sent = format!(
                "{} {:?} {:?} {:?}",
                event.name, event.properties, event.set, event.set_once
            );
            assert!(!sent.contains(PLANTED) && !sent.contains(PLANTED_CHAR), "{sent}");
        }
        recorder.clear();
    }
    let stats = analytics.stats();
    assert!(stats.refused_texts > (BATCHES * EVENTS) as u64, "{stats:?}");
    assert!(stats.backends[0].is_balanced());
}

#[tokio::test]
async fn an_event_with_a_computed_name_is_dropped_and_counted() {
    for policy in [TextPolicy::Refuse, TextPolicy::AllowKeys(&["plugin"])] {
        let world = World::new().await;
        let (analytics, recorder) = opted_in(&world, policy).await;
        let before = analytics.stats().refused_texts;
        analytics.capture_named(planted("name"), Properties::new().with("count", 1));
        analytics.capture_named("Fixed", Properties::new());
        assert!(eventually(analytics.flush_all()).await.is_complete());
        assert_eq!(recorder.names(), ["Fixed"]);
        let stats = analytics.stats();
        assert_eq!(stats.backends[0].dropped[&DropReason::Guarded], 1);
        assert_eq!(stats.refused_texts, before + 1);
    }
}

#[tokio::test]
async fn super_properties_and_user_properties_have_no_computed_text() {
    let world = World::new().await;
    let (analytics, recorder) = opted_in(&world, TextPolicy::Refuse).await;
    let shared = Properties::new().with("window", "wide").with("title", planted("t"));
    analytics.set_super_properties(shared).unwrap();
    let user = UserProperties::new().set("rooms", 3).set_once(planted("first"), 1);
    analytics.set_user_properties(user).unwrap();
    analytics.capture_named("Fixed", Properties::new());
    assert!(eventually(analytics.flush_all()).await.is_complete());
    let event = &recorder.events()[0];
    assert_eq!(event.properties, map(&json!({"app": "desktop", "window": "wide"})));
    assert_eq!(event.set, map(&json!({"theme": "dark", "rooms": 3})));
    assert_eq!(event.set_once, Map::new());
    // Two of the builder, two at run time.
    assert_eq!(analytics.stats().refused_texts, 4);
}

#[tokio::test]
async fn a_computed_text_leaves_under_an_allowed_key_after_the_guard_has_seen_it() {
    let world = World::new().await;
    let (analytics, recorder) = opted_in(&world, TextPolicy::AllowKeys(&["plugin", "mail"])).await;
    let properties = Properties::new()
        .with("plugin", "spelling".to_owned())
        .with("mail".to_owned(), "a.b@example.net".to_owned())
        .with("other", "text".to_owned());
    analytics.capture_named("Loaded", properties);
    assert!(eventually(analytics.flush_all()).await.is_complete());
    let expected = json!({"app": "desktop", "plugin": "spelling", "mail": "[email]"});
    assert_eq!(recorder.events()[0].properties, map(&expected));
}

#[tokio::test]
async fn all_texts_leave_if_the_app_sets_no_policy() {
    let world = World::new().await;
    let (analytics, recorder) = opted_in(&world, TextPolicy::default()).await;
    analytics.capture_named(planted("name"), Properties::new().with("text", planted("text")));
    assert!(eventually(analytics.flush_all()).await.is_complete());
    assert_eq!(recorder.names(), [planted("name")]);
    assert_eq!(recorder.events()[0].properties["text"], planted("text"));
    assert_eq!(analytics.stats().refused_texts, 0);
}

/// Breaks the rules of serde in each of the ways that a hand-written `Serialize` can.
struct Faulty(u8);

impl AnalyticsEvent for Faulty {
    const NAME: &'static str = "Faulty";
}

/// Writes a text, and then fails.
struct WritesAndFails;

impl Serialize for WritesAndFails {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(PLANTED)?;
        Err(serde::ser::Error::custom("after the text"))
    }
}

/// Goes on after an element that failed.
struct FaultyArray;

impl Serialize for FaultyArray {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut array = serializer.serialize_seq(None)?;
        let _ = array.serialize_element(&WritesAndFails);
        array.serialize_element(&1)?;
        let _ = array.serialize_element(&[PLANTED]);
        array.serialize_element(&2)?;
        let _ = array.serialize_element(&WritesAndFails);
        array.end()
    }
}

#[derive(Clone, Copy, Serialize)]
enum Fixed {
    A,
    B,
}

impl Serialize for Faulty {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 0 {
            let mut object = serializer.serialize_struct("Faulty", 4)?;
            object.serialize_field("array", &FaultyArray)?;
            let _ = object.serialize_field("a", &WritesAndFails);
            object.serialize_field("b", &1)?;
            let _ = object.serialize_field("c", &WritesAndFails);
            return object.end();
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_key(&Fixed::A)?;
        map.serialize_value(&1)?;
        match self.0 {
            1 => drop(map.serialize_value(&2)),
            2 => {
                map.serialize_key(&Fixed::B)?;
                map.serialize_value(&None::<u8>)?;
                let _ = map.serialize_value(PLANTED);
            }
            3 => drop(map.serialize_key(&WritesAndFails)),
            4 => {
                map.serialize_key(PLANTED)?;
                map.serialize_key(&Fixed::B)?;
            }
            _ => {
                map.serialize_key(&Fixed::B)?;
                let _ = map.serialize_value(&WritesAndFails);
            }
        }
        let _ = map.serialize_key(&Fixed::B);
        let _ = map.serialize_value(PLANTED);
        map.end()
    }
}

#[tokio::test]
async fn a_faulty_serialize_gets_no_text_out() {
    let world = World::new().await;
    let (analytics, recorder) = opted_in(&world, TextPolicy::Refuse).await;
    for case in 0..6 {
        analytics.capture(&Faulty(case));
    }
    assert!(eventually(analytics.flush_all()).await.is_complete());
    let events = recorder.events();
    assert_eq!(events.len(), 6);
    for (case, event) in events.iter().enumerate() {
        let expected = match case {
            0 => json!({"app": "desktop", "array": [1, 2], "b": 1}),
            _ => json!({"app": "desktop", "A": 1}),
        };
        assert_eq!(event.properties, map(&expected), "{case}");
    }
}

#[tokio::test]
async fn a_text_that_is_added_to_properties_of_a_sent_event_is_refused() {
    let world = World::new().await;
    let recorder = RecordingBackend::new();
    let device = world.device("QZXJKVBWPL").await;
    let builder = device.builder().backend(recorder.clone()).text_policy(TextPolicy::Refuse);
    let builder = builder.super_properties([("app", "desktop")]).history(10);
    let analytics = builder.build().await.unwrap();
    analytics.opt_in_and_settle().await;
    analytics.capture_named("First", Properties::new().with("count", 1));
    assert!(eventually(analytics.flush_all()).await.is_complete());
    let sent = analytics.history()[0].event().properties().clone();
    analytics.capture_named("Second", sent.with("note", planted("note")));
    assert!(eventually(analytics.flush_all()).await.is_complete());
    let second = &recorder.events()[1];
    assert!(!second.properties.contains_key("note"), "{:?}", second.properties);
}

#[tokio::test]
async fn events_of_the_past_and_large_sets_follow_the_policy() {
    let world = World::new().await;
    let (analytics, recorder) = opted_in(&world, TextPolicy::Refuse).await;
    let now = std::time::SystemTime::now();
    analytics.capture_at(now, &Typed::Struct(vec![Field::Text, Field::Integer]));
    let past = Properties::new().with("text", planted("t")).with("count", 2);
    analytics.capture_named_at(now, "Past", past);
    // Replaced values that have no room any more are forgotten.
    let mut large = Properties::new();
    for _ in 0..5 {
        large.insert("text", "x".repeat(10_000));
        large.insert("count", 3);
    }
    analytics.capture_named("Large", large);
    let many = (0..MANY).map(|place| (long_keys()[place], place as u64));
    let many = Properties::from_iter(many).with("text", planted("t"));
    analytics.capture_named("Many", many);
    assert!(eventually(analytics.flush_all()).await.is_complete());
    let counts: Vec<_> = recorder.events().iter().map(|event| event.properties.len()).collect();
    // Each with the super property. Of the last, one number is dropped with the text.
    assert_eq!(counts, [2, 2, 2, MANY]);
    assert!(!format!("{:?}", recorder.events()[2].properties).contains("xxx"));
}
