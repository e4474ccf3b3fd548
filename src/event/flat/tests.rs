use super::{write::is_plain, *};
use crate::event::members::{Key, parse, split};

const TEXTS: [&str; 15] = [
    "a",
    "seven b",
    "eight by",
    "\"",
    "\\",
    "\\\"",
    "a,b",
    "\":\"",
    "\",\"b\":1",
    "{}",
    "é",
    "\u{2028}",
    "🦀",
    "~",
    "$set",
];

/// Returns the members that `value` serialises to.
fn members<T: Serialize>(value: &T) -> Result<String, InvalidEvent> {
    write_flat(value, |properties| Ok(properties.members.to_owned()))
}

#[test]
fn members_are_split_where_a_parser_splits_them() {
    for key in TEXTS {
        for value in TEXTS.iter().chain(&["", "line\nbreak", "\u{0}", "\u{7f}"]).copied() {
            let mut members = String::new();
            for value in [
                PropertyValue::from(value),
                PropertyValue::from(-1.5),
                PropertyValue::from([value, key]),
                PropertyValue::from([0; 0]),
                PropertyValue::from(true),
            ] {
                push_member(&mut members, key, &value).unwrap();
            }
            let json = format!("{{{members}}}");
            let parsed = parse(&json).unwrap();
            let split = split(&members).unwrap();
            assert_eq!(split.len(), parsed.len(), "{members}");
            for (member, (Key(parsed_key), parsed_value)) in split.iter().zip(parsed) {
                assert_eq!(serde_json::from_str::<String>(member.key).unwrap(), parsed_key);
                assert_eq!(member.text, format!("{}:{parsed_value}", member.key));
            }
        }
    }
}

#[test]
fn text_that_is_not_a_list_of_members_is_not_split() {
    for bad in [
        "a",
        ",",
        "\"a",
        "\"a\\",
        "\"a\"",
        "\"a\":",
        "\"a\":1,",
        "\"a\":\"",
        "\"a\":1,2",
        "\"a\":[",
        "\"a\":[\"b]",
        "\"a\":[[]]",
        "\"a\":[{}]",
        "\"a\":[1]2",
    ] {
        assert!(split(bad).is_none(), "{bad}");
    }
    assert!(split("").unwrap().is_empty());
}

#[test]
fn an_event_is_written_as_serde_json_writes_it() {
    #[derive(Serialize)]
    struct All<'a> {
        text: &'a str,
        character: char,
        yes: bool,
        no: bool,
        byte: u8,
        least: i64,
        most: u64,
        small: f32,
        float: f64,
        tiny: f64,
        huge: f64,
        negative_zero: f64,
        whole: f64,
        pair: (&'a str, bool),
        floats: Vec<f32>,
        empty: [bool; 0],
    }

    for text in TEXTS.iter().chain(&["", "line\nbreak", "\u{0}", "\u{7f}", &"long".repeat(100)]) {
        let all = All {
            text,
            character: '"',
            yes: true,
            no: false,
            byte: u8::MAX,
            least: i64::MIN,
            most: u64::MAX,
            small: 0.1,
            float: 1.0 / 3.0,
            tiny: f64::MIN_POSITIVE,
            huge: f64::MAX,
            negative_zero: -0.0,
            whole: 3.0,
            pair: (text, true),
            floats: vec![0.1, -1e30],
            empty: [],
        };
        let members = members(&all).unwrap();
        assert_eq!(format!("{{{members}}}"), serde_json::to_string(&all).unwrap());
    }
}

/// Returns what a value becomes as the only property of an event.
fn property<T: Serialize>(value: T) -> Result<String, InvalidEvent> {
    members(&std::collections::BTreeMap::from([("a", value)]))
}

#[test]
fn an_array_holds_everything_but_arrays_objects_and_bytes() {
    use serde_json::json;

    assert_eq!(property([None, Some(1), None, Some(2)]).unwrap(), r#""a":[1,2]"#);
    assert_eq!(property(json!([null, "x", null])).unwrap(), r#""a":["x"]"#);
    assert_eq!(property(((), (), 'c')).unwrap(), r#""a":["c"]"#);
    assert_eq!(property([1_u16]).unwrap(), r#""a":[1]"#);
    assert_eq!(property(Some([Some(true)])).unwrap(), r#""a":[true]"#);
    for nested in [json!([["x"]]), json!([1, []]), json!(["x", {}]), json!({"b": []})] {
        assert_eq!(property(&nested), Err(InvalidEvent::NotFlat), "{nested}");
    }
    assert_eq!(property(b"key"), Err(InvalidEvent::NotFlat));
    assert_eq!(property(vec![7_u8]), Err(InvalidEvent::NotFlat));
    assert_eq!(property([1.0, f64::NAN]), Err(InvalidEvent::NotFinite));
    assert_eq!(property([u128::MAX]), Err(InvalidEvent::NotFlat));
    assert_eq!(members(&["an array is no event"]), Err(InvalidEvent::NotFlat));
}

#[test]
fn an_array_counts_with_its_brackets_and_commas() {
    let fits = (crate::event::MAX_EVENT_BYTES - "\"a\":[]".len()) / 2;
    assert!(property(vec![1_u32; fits]).is_ok());
    assert_eq!(property(vec![1_u32; fits + 1]), Err(InvalidEvent::TooLarge));
}

#[test]
fn an_event_may_serialise_another_while_it_is_serialised() {
    struct Nested;

    impl Serialize for Nested {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(None)?;
            map.serialize_entry("outer", &1)?;
            let inner = members(&std::collections::BTreeMap::from([("inner", 2)]));
            assert_eq!(inner.unwrap(), r#""inner":2"#);
            map.serialize_entry("last", &3)?;
            map.end()
        }
    }

    for _ in 0..2 {
        assert_eq!(members(&Nested).unwrap(), r#""outer":1,"last":3"#);
    }
}

#[test]
fn an_event_after_one_that_was_refused_is_whole() {
    assert!(members(&[("unfinished", 1)]).is_err());
    assert!(members(&std::collections::BTreeMap::from([("a", f64::NAN)])).is_err());
    assert_eq!(members(&std::collections::BTreeMap::from([("b", 2)])).unwrap(), r#""b":2"#);
}

#[test]
fn a_character_that_may_need_an_escape_is_found_wherever_it_stands() {
    for length in 0..20 {
        assert!(is_plain(&"x".repeat(length)), "{length}");
        for at in 0..length {
            for character in ('\0'..='\u{80}').chain(['\u{7ff}', '\u{2028}', '🦀']) {
                let text = format!("{}{character}{}", "~".repeat(at), " ".repeat(length - at - 1));
                let plain = matches!(character, ' '..='~') && !matches!(character, '"' | '\\');
                assert_eq!(is_plain(&text), plain, "{character:?} at {at} of {length}");
            }
        }
    }
}
