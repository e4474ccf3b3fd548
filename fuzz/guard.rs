//! Passes arbitrary text through the guard. The guard must not panic or split characters,
//! and a second search must find nothing in its output. The target then places known
//! identifiers into arbitrary text and checks that none of them remain.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use matrix_analytics_fuzz::{GuardProbe, Properties};

static GUARD: LazyLock<GuardProbe> = LazyLock::new(|| {
    GuardProbe::default().of_session("@alice:example.org", "GHTYAJCEWZ", "secrettoken1")
});

/// Identifiers, and the part of each that must not remain. They begin and end with a
/// letter or sign that arbitrary neighbours cannot turn into part of something else.
const PLANTED: [(&str, &str); 12] = [
    ("@theodora:vance.example", "theodora"),
    ("@theodora:bücher.example", "theodora"),
    ("!theodora:vance.example", "theodora"),
    ("$theodora:vance.example", "theodora"),
    ("#theodora:vance.example", "theodora"),
    ("mxc://vance.example/theodora", "theodora"),
    ("matrix:u/theodora:vance.example", "theodora"),
    ("MATRIX:ROOMID/theodora:vance.example/e/quentin", "theodora"),
    ("https://matrix.to/#/@theodora:vance.example", "theodora"),
    ("theodora@vance.example", "theodora"),
    ("theodora@[192.0.2.1]", "theodora"),
    ("secrettoken1", "secrettoken1"),
];

/// The session's own identifiers, which are found only as whole words.
const WORDS: [(&str, &str); 2] = [("GHTYAJCEWZ", "ghtyajcewz"), ("example.org", "example.org")];

fuzz_target!(|text: &str| {
    let clean = GUARD.redact(text);
    assert!(GUARD.kinds(&clean).is_empty(), "{text:?} became {clean:?}");
    assert!(!clean.contains("@alice:example.org") && !clean.contains("secrettoken1"));

    let middle = text.floor_char_boundary(text.len() / 2);
    let (before, after) = text.split_at(middle);
    plant(before, after);

    // As a property, after the quick check of the whole event.
    let (key, value) = (before, after);
    let properties = Properties::new().with(key.to_owned(), value.to_owned()).with("other", 1.5);
    if properties.check().is_err() {
        return;
    }
    let guarded = GUARD.properties(properties).expect("it redacts");
    let read: std::collections::BTreeMap<String, serde_json::Value> =
        guarded.deserialize().expect("it is an object");
    for (key, value) in &read {
        assert!(GUARD.kinds(key).is_empty(), "{text:?}: {key:?}");
        let is_version = key.to_ascii_lowercase().contains("version");
        if let Some(value) = value.as_str().filter(|_| !is_version) {
            assert!(GUARD.kinds(value).is_empty(), "{text:?}: {value:?}");
        }
    }
});

/// Checks that no identifier remains when placed between `before` and `after`.
fn plant(before: &str, after: &str) {
    // An adjacent letter or digit would make the identifier part of another word.
    let is_apart = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
    let words = if is_apart(before.chars().next_back()) && is_apart(after.chars().next()) {
        &WORDS[..]
    } else {
        &[]
    };
    let surroundings = format!("{before}\n{after}").to_ascii_lowercase();
    for (identifier, piece) in PLANTED.iter().chain(words) {
        if surroundings.contains(piece) {
            continue;
        }
        let text = format!("{before}{identifier}{after}");
        let clean = GUARD.redact(&text);
        let is_left = clean.to_ascii_lowercase().contains(piece);
        assert!(!is_left, "{identifier} is left: {text:?} became {clean:?}");
        let properties = Properties::new().with("text", text.clone());
        if properties.check().is_ok() {
            let guarded = GUARD.properties(properties).expect("it redacts");
            let is_left = format!("{:?}", guarded.deserialize::<serde_json::Value>().ok())
                .to_ascii_lowercase()
                .contains(piece);
            assert!(!is_left, "{identifier} is left of a property: {text:?}");
        }
    }
}
