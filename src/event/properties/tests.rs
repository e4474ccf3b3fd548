use std::collections::BTreeMap;

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap as _, SerializeStruct as _},
};
use serde_json::{json, value::RawValue};

use super::*;
use crate::event::MAX_EVENT_BYTES;

/// A value as an app has it, before it is known whether it goes into a typed or a named
/// event.
#[derive(Clone, Debug)]
enum Given {
    Array(Vec<Given>),
    Bool(bool),
    F32(f32),
    F64(f64),
    Signed(i64),
    Text(String),
    Unsigned(u64),
}

impl Given {
    fn any(dice: &mut fastrand::Rng) -> Self {
        match dice.u8(..11) {
            // One in a hundred holds another array.
            10 => Self::Array((0..dice.usize(..3)).map(|_| Self::any(dice)).collect()),
            0 => Self::Bool(dice.bool()),
            1 => Self::F32(f32::from_bits(dice.u32(..))),
            2 => Self::F32(10_f32.powi(dice.i32(-44..39))),
            3 => Self::F64(f64::from_bits(dice.u64(..))),
            4 => Self::F64(f64::from(dice.i32(..)) / 1000.0),
            5 => Self::Signed(dice.i64(..) >> dice.u8(..64)),
            6 => Self::Unsigned(dice.u64(..) >> dice.u8(..64)),
            _ => {
                let length = dice.usize(..12);
                Self::Text(std::iter::repeat_with(|| dice.char(..)).take(length).collect())
            }
        }
    }

    fn named(&self) -> PropertyValue {
        match self {
            Self::Array(values) => PropertyValue::Array(values.iter().map(Self::named).collect()),
            Self::Bool(value) => (*value).into(),
            Self::F32(value) => (*value).into(),
            Self::F64(value) => (*value).into(),
            Self::Signed(value) => (*value).into(),
            Self::Text(value) => value.clone().into(),
            Self::Unsigned(value) => (*value).into(),
        }
    }
}

impl Serialize for Given {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Array(values) => values.serialize(serializer),
            Self::Bool(value) => value.serialize(serializer),
            Self::F32(value) => value.serialize(serializer),
            Self::F64(value) => value.serialize(serializer),
            Self::Signed(value) => value.serialize(serializer),
            Self::Text(value) => value.serialize(serializer),
            Self::Unsigned(value) => value.serialize(serializer),
        }
    }
}

type Members = Vec<(&'static str, Given)>;

struct AsStruct<'a>(&'a Members);
struct AsMap<'a>(&'a Members);

impl Serialize for AsStruct<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Event", self.0.len())?;
        for (key, value) in self.0 {
            fields.serialize_field(key, value)?;
        }
        fields.end()
    }
}

impl Serialize for AsMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entries = serializer.serialize_map(None)?;
        for (key, value) in self.0 {
            entries.serialize_entry(key, value)?;
        }
        entries.end()
    }
}

#[test]
fn a_typed_event_leaves_as_the_same_event_by_name_does() {
    const KEYS: [&str; 6] = ["a", "b", "a b", "\"", "é", "a\\"];

    let mut dice = fastrand::Rng::with_seed(7);
    for round in 0..5000 {
        let members: Members = (0..dice.usize(..8))
            .map(|_| (KEYS[dice.usize(..KEYS.len())], Given::any(&mut dice)))
            .collect();
        let mut named = Properties::new();
        for (key, value) in &members {
            named.insert(*key, value.named());
        }
        let typed = [
            Properties::from_serialize(&AsStruct(&members)),
            Properties::from_serialize(&AsMap(&members)),
        ];
        for typed in typed {
            match (typed, named.check()) {
                (Ok(typed), Ok(())) => {
                    let expected = named.to_json();
                    assert_eq!(typed.to_json(), expected, "{round}");
                    assert_eq!(typed.json_bytes(), expected.len());
                    let parsed: BTreeMap<String, serde_json::Value> =
                        serde_json::from_str(&expected).unwrap();
                    assert_eq!(members::parse(&expected).unwrap().len(), parsed.len());
                    assert_eq!(typed.without_repeats().members(), &expected[1..expected.len() - 1]);
                }
                (Err(typed), Err(named)) => assert_eq!(typed, named, "{round}"),
                (typed, named) => panic!("{round}: {typed:?} {named:?}"),
            }
        }
    }
}

#[test]
fn the_last_of_two_fields_of_one_name_wins() {
    #[derive(Serialize)]
    struct Twice {
        a: u8,
        #[serde(rename = "a")]
        again: u8,
        b: u8,
    }

    let properties = Properties::from_serialize(&Twice { a: 1, again: 2, b: 3 }).unwrap();
    assert_eq!(properties.to_json(), r#"{"a":2,"b":3}"#);
    assert_eq!(properties.without_repeats().members(), r#""a":2,"b":3"#);
}

#[test]
fn an_event_that_is_raw_json_is_not_flat() {
    let raw = RawValue::from_string(r#"{"a":1}"#.to_owned()).unwrap();
    assert_eq!(Properties::from_serialize(&raw).unwrap_err(), InvalidEvent::NotFlat);
    let inside = BTreeMap::from([("a", raw)]);
    assert_eq!(Properties::from_serialize(&inside).unwrap_err(), InvalidEvent::NotFlat);
}

#[test]
fn a_key_that_is_set_again_and_again_takes_the_room_of_one() {
    let mut properties = Properties::new().with("first", 1);
    for count in 0..3000 {
        properties.insert("count", count);
    }
    assert_eq!(properties.to_json(), r#"{"first":1,"count":2999}"#);

    let half = "x".repeat(MAX_EVENT_BYTES * 2 / 3);
    let replaced = Properties::new().with("a", half.clone()).with("a", half.clone());
    assert!(replaced.check().is_ok());
    assert_eq!(replaced.with("b", half).check(), Err(InvalidEvent::TooLarge));
}

#[test]
fn nothing_and_null_leave_a_property_out_wherever_they_stand() {
    #[derive(Serialize)]
    struct Unit;
    #[derive(Serialize)]
    struct Nothing {
        none: Option<u8>,
        nested: Option<Option<u8>>,
        unit: (),
        unit_struct: Unit,
        some_unit: Option<()>,
        kept: Option<Option<u8>>,
    }

    let nothing = Nothing {
        none: None,
        nested: Some(None),
        unit: (),
        unit_struct: Unit,
        some_unit: Some(()),
        kept: Some(Some(1)),
    };
    assert_eq!(Properties::from_serialize(&nothing).unwrap().to_json(), r#"{"kept":1}"#);
    let map = json!({ "null": null, "kept": 1, "z": null });
    assert_eq!(Properties::from_serialize(&map).unwrap().to_json(), r#"{"kept":1}"#);
    for event in [json!(null), json!({}), json!({ "a": null })] {
        assert_eq!(Properties::from_serialize(&event).unwrap().to_json(), "{}");
    }
    assert!(Properties::from_serialize(&None::<Nothing>).unwrap().is_empty());
}

#[test]
fn what_properties_cannot_be_read_as_is_told_without_their_values() {
    const CANARY: &str = "canary";

    let properties = Properties::new().with("n", 1).with(CANARY, CANARY);
    let errors = [
        properties.deserialize::<BTreeMap<String, u8>>().unwrap_err(),
        properties.deserialize::<Vec<u8>>().unwrap_err(),
        properties.deserialize::<Strict>().map(|strict| strict.n).unwrap_err(),
        properties.deserialize::<Quoting>().map(|_| ()).unwrap_err(),
    ];
    for error in errors {
        let DeserializeError::Mismatch { at } = error;
        assert!(at <= properties.json_bytes());
        assert!(std::error::Error::source(&error).is_none());
        assert!(!format!("{error} {error:?}").contains(CANARY), "{error}");
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        n: u8,
    }

    /// A type whose own error quotes what it was given.
    #[derive(Debug)]
    struct Quoting;

    impl<'de> serde::Deserialize<'de> for Quoting {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let given = BTreeMap::<String, serde_json::Value>::deserialize(deserializer)?;
            Err(serde::de::Error::custom(format!("{given:?}")))
        }
    }
}

#[test]
fn properties_are_equal_by_their_last_values_in_any_order() {
    let one = Properties::new().with("a", 1).with("b", "x");
    let other = Properties::from([("b", "y")]).with("b", "x").with("a", 1);
    assert_eq!(one, other);
    assert_ne!(one, Properties::new().with("a", 1));
    assert_ne!(one, Properties::new().with("a", "1").with("b", "x"));
    assert_ne!(one, one.clone().with("c", f64::NAN));
    assert_eq!(Properties::new(), Properties::from_iter(Vec::<(String, bool)>::new()));
}

#[test]
fn arrays_are_joined_compared_and_removed_as_other_values_are() {
    let one = Properties::new().with("a", ["x,y", "]"]).with("b", 1);
    let other = Properties::new().with("b", [2, 3]).with("c", [0; 0]);
    let joined = other.over(&one);
    assert_eq!(joined.to_json(), r#"{"a":["x,y","]"],"b":[2,3],"c":[]}"#);
    assert_eq!(joined.without_same(&one).to_json(), r#"{"b":[2,3],"c":[]}"#);
    assert_eq!(joined, one.with("c", Vec::<bool>::new()).with("b", vec![2, 3]));
    let nested = PropertyValue::Array(vec![PropertyValue::from([1])]);
    assert_eq!(Properties::new().with("a", nested).check(), Err(InvalidEvent::NotFlat));
    assert_eq!(format!("{:?}", PropertyValue::from(["personal"])), "Array(..)");
}

#[test]
fn a_value_that_cannot_be_inspected_is_dropped() {
    let read = Properties {
        members: r#""a":{"b":"c"},"d":[["e"]],"f":[1,"g"]"#.to_owned(),
        ..Properties::default()
    };
    let seen = |key: &str, texts: &[String]| {
        assert_eq!((key, texts), ("f", &["g".to_owned()][..]));
        PropertyFate::Kept
    };
    assert_eq!(read.filtered(seen).unwrap().to_json(), r#"{"f":[1,"g"]}"#);
}
