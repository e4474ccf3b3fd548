//! Redaction does not make a text larger than an event may be.

use std::borrow::Cow;

use super::{Context, redact, scanner};
use crate::{
    event::{MAX_EVENT_BYTES, Properties},
    guard::{Guard, GuardPolicy},
};

/// Short texts that grow when they are redacted.
const GROWING: [&str; 4] = ["::1 ", "a@b.c ", "x://y@z ", "$a:b.c "];

#[test]
fn a_text_that_would_exceed_the_event_limit_is_replaced_as_a_whole() {
    for pattern in GROWING {
        let text = pattern.repeat(MAX_EVENT_BYTES / pattern.len());
        let clean = redact(&mut scanner(), &text, Context::Anywhere).unwrap();
        assert!(clean.text.len() <= MAX_EVENT_BYTES, "{pattern}: {}", clean.text.len());
        assert!(!clean.kinds.is_empty());
    }
}

#[test]
fn redaction_never_makes_an_event_exceed_its_limit() {
    let guard = Guard::new(GuardPolicy::Redact, Vec::new());
    for pattern in GROWING {
        for length in [pattern.len(), 40, 400, 4000, 32_000] {
            let text = pattern.repeat(length / pattern.len());
            let mut properties = Properties::new();
            for number in 0.. {
                let more = properties.clone().with(format!("k{number:x}"), text.clone());
                if more.check().is_err() {
                    break;
                }
                properties = more;
            }
            assert!(!properties.is_empty());
            let (name, guarded) = guard.event(Cow::Borrowed("Event"), properties).unwrap();
            assert_eq!(name, "Event");
            assert!(guarded.json_bytes() <= MAX_EVENT_BYTES, "{pattern}: {}", guarded.json_bytes());
            assert!(!guarded.members().contains(pattern.trim_end()), "{pattern}");
        }
    }
}

#[test]
fn keys_and_texts_that_grow_together_stay_within_the_limit() {
    let guard = Guard::new(GuardPolicy::Redact, Vec::new());
    let mut properties = Properties::new();
    for number in 0.. {
        let more = properties.clone().with(format!("::1 {number:x}"), "::1");
        if more.check().is_err() {
            break;
        }
        properties = more;
    }
    let (_, guarded) = guard.event(Cow::Borrowed("Event"), properties).unwrap();
    assert!(guarded.json_bytes() <= MAX_EVENT_BYTES, "{}", guarded.json_bytes());
    assert!(!guarded.members().contains("::1"));
}

#[test]
fn an_event_with_room_is_redacted_finding_by_finding() {
    let guard = Guard::new(GuardPolicy::Redact, Vec::new());
    let properties = Properties::new().with("text", "::1 ".repeat(1000));
    let (_, guarded) = guard.event(Cow::Borrowed("Event"), properties).unwrap();
    assert_eq!(guarded.members().matches("[ip_address] ").count(), 1000);
}
