//! Any text through the guard: no panic, no text that is not whole characters, and
//! nothing to be found in what it lets pass.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use matrix_analytics_fuzz::{GuardProbe, Properties};

static GUARD: LazyLock<GuardProbe> = LazyLock::new(|| {
    GuardProbe::default().of_session("@alice:example.org", "GHTYAJCEWZ", "secrettoken1")
});

fuzz_target!(|text: &str| {
    let clean = GUARD.redact(text);
    assert!(GUARD.kinds(&clean).is_empty(), "{text:?} became {clean:?}");
    assert!(!clean.contains("@alice:example.org") && !clean.contains("secrettoken1"));

    // As a property, behind the quick look at all of an event.
    let middle = text.floor_char_boundary(text.len() / 2);
    let (key, value) = text.split_at(middle);
    let properties = Properties::new().with(key, value).with("other", 1.5);
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
