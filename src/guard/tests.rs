mod addresses;
mod analytics_ids;
mod boundaries;
mod credentials;
mod email;
mod escapes;
mod growth;
mod keyed;
mod linear;
mod servers;
mod sweep;
mod tokens;
mod uris;

use std::sync::Arc;

use super::{OwnIdentifiers, context::Context, cost, redact::redact, scanner::Scanner};

pub(super) fn own() -> OwnIdentifiers {
    OwnIdentifiers {
        user_id: "@Morgan.Quill:hs.quillmail.example".to_owned(),
        localpart: "Morgan.Quill".to_owned(),
        device_id: "QZXJKVBWPL".to_owned(),
        server_name: "hs.quillmail.example".to_owned(),
        hosts: vec!["matrix-client.quillmail.example".to_owned()],
        tokens: vec!["opaqueaccesstoken1".to_owned(), "opaquerefreshtoken2".to_owned()],
    }
}

pub(super) fn scanner() -> Scanner {
    Scanner::new(&own(), Arc::default())
}

fn redacted(text: &str) -> String {
    redact(&mut scanner(), text, Context::Anywhere)
        .map_or_else(|| text.to_owned(), |redacted| redacted.text)
}

/// Checks that none of the `pieces` of an identifier remain in `text`.
fn assert_nothing_left(text: &str, pieces: &[&str]) {
    let clean = redacted(text);
    let left: Vec<_> = pieces.iter().filter(|piece| clean.contains(**piece)).collect();
    assert!(clean != text && left.is_empty(), "{text:?} became {clean:?}");
}

fn assert_left_alone(text: &str) {
    assert_eq!(redacted(text), text);
}

const HASH: &str = "wGYq3Ti0RTb8h2NJ0PlgwpXpJ4uZVpXw7N1dSjbPUhk";

#[test]
fn each_kind_is_replaced_by_its_placeholder() {
    let hash = HASH;
    for (text, expected) in [
        ("hi @alice:example.org!", "hi [user_id]!"),
        ("@Al!ce'(~):Example.ORG:8448.", "[user_id]."),
        ("@alice:[2001:db8::1]:8448", "[user_id]"),
        ("@alice:localhost", "[user_id]"),
        ("@al ice\"<>:example.org", "[user_id]"),
        ("!abc:example.org", "[room_id]"),
        (&format!("in !{hash}, now"), "in [room_id], now"),
        ("$abc:example.org", "[event_id]"),
        (&format!("(${hash})"), "([event_id])"),
        ("#room:example.org and #_irc_#chan:example.org", "[room_alias] and [room_alias]"),
        ("mxc://example.org/AbC-_1", "[media_uri]"),
        (
            "https://h.io/_matrix/client/v1/media/download/example.org/AbC?x=1",
            "https://h.io/_matrix/client/v1/media/download/[media_uri]?x=1",
        ),
        ("see matrix:u/alice:example.org?action=chat.", "see [matrix_uri]."),
        ("https://matrix.to/#/@alice:example.org?via=x.org", "[matrix_uri]"),
        ("https://matrix.to/#/%40alice%3Aexample.org", "[matrix_uri]"),
        ("mail alice.b+c@example.co.uk.", "mail [email]."),
        ("mailto:j\u{fc}rgen@ex\u{e4}mple.de", "mailto:[email]"),
        ("from 203.0.113.77:8080 to 10.1.2.3", "from [ip_address] to [ip_address]"),
        ("ip=2001:db8::42, [fe80::1]:80 and ::1", "ip=[ip_address], [ip_address] and [ip_address]"),
        ("line:2001:0db8:85a3:0000:0000:8a2e:0370:7334.", "line:[ip_address]."),
        (&format!("session {hash} lost"), "session [key] lost"),
        ("ed25519:JLAFKJWSCS", "ed25519:[device_id]"),
        ("syt_YWxpY2U_wCTGBnVpmPVwXaZqLkRs_1Xy9bZ", "[token]"),
        ("/sync?access_token=MDAxabcdefgh0123&x=1", "/sync?access_token=[token]&x=1"),
        ("Authorization: Bearer abcd.efgh-0123_4567", "Authorization: Bearer [token]"),
        ("morgan.quill was here", "[user_id] was here"),
        ("device qzxjkvbwpl", "device [device_id]"),
        ("chat.hs.quillmail.example:443", "[server_name]"),
        ("xopaqueaccesstoken1x", "x[token]x"),
    ] {
        assert_eq!(redacted(text), expected, "{text}");
    }
}

#[test]
fn identifiers_are_found_in_up_to_four_layers_of_escapes() {
    for text in [
        "%40alice%3Aexample.org",
        "%2540alice%253Aexample.org",
        r"\u0040alice\u003aexample.org",
        r#"{\"u\":\"\\u0040alice:example.org\"}"#,
        "morgan%2Equill",
        "alice%40example.org",
        "203%2E0%2e113.77",
    ] {
        let clean = redacted(text);
        assert!(
            !clean.contains("alice") && !clean.contains("quill") && !clean.contains("113"),
            "{clean}"
        );
    }
}

#[test]
fn text_that_only_looks_personal_is_left_alone() {
    for text in [
        "",
        "a:b",
        "12:30:45",
        "1.2.3",
        "1.2.3.4",
        "v1.20.30.44",
        "version 10.2.33.4",
        "$5",
        "$5.00:1",
        "#matrix",
        "#1234",
        "@media (max-width:600px)",
        "@media(max-width:600px)",
        "@page:first{}",
        "#nav:hover{color:red}",
        "$size:1.5em",
        "std::io::Error",
        "a::b",
        "::before",
        "logo@2x.png",
        "react@19.0.0-rc.next",
        "Chrome/120.0.0.0 Safari/537.36",
        "matrix: a film",
        "bearer of good news",
        "9f1c2d7e-0a4b-4c1d-9e2f-3a4b5c6d7e8f",
        "100%!",
        "!important",
        "mxc://",
        "https://matrix.to/#/",
        "0x7f::<u8>",
        "Cargo.toml:12:5",
        "\u{1f600}:smile:",
        "12::30",
        "max",
        "https://matrix.to/#//",
        "ed25519: broken",
    ] {
        assert_eq!(redacted(text), text);
    }
}

#[test]
fn text_that_makes_a_parser_panic_is_not_passed_to_it() {
    for text in [
        "https://matrix.to/#//".to_owned(),
        "https://matrix.to/#///x//".to_owned(),
        "https://matrix.to/#/!a//b".to_owned(),
        "matrix:u//".to_owned(),
        "matrix:r//e/".to_owned(),
        format!("mxc://{}/media", "a".repeat(250)),
        format!("ed25519:{}", "A".repeat(300)),
    ] {
        let _ = redacted(&text);
    }
}

#[test]
fn a_version_is_recognised_by_its_key() {
    let found = |context| scanner().scan("10.20.30.40", context).len();
    assert_eq!((found(Context::Anywhere), found(Context::Version)), (1, 0));
}

#[test]
fn redacted_text_contains_no_findings() {
    for text in [
        "@203.0.113.7:example.org",
        "@@a:b.org:c.org@d.org",
        "203.0.113.7.morgan.quill@hs.quillmail.example:80",
        "%2540@alice:example.org%3A",
        "@[@bob:b.org]:example.org",
    ] {
        let clean = redacted(text);
        assert!(scanner().scan(&clean, Context::Anywhere).is_empty(), "{text}: {clean}");
        assert_eq!(redacted(&clean), clean);
    }
}

#[test]
fn the_cost_grows_linearly_with_the_text() {
    let patterns = [
        "@",
        "@a",
        "!",
        "$",
        "#",
        "@a:",
        ":",
        "::",
        "1.",
        "1:",
        "a:",
        "1.2.3.4",
        "@a.b",
        "a@",
        "%40",
        "%25",
        "\\u0040",
        "\\",
        "matrix:u/",
        "mxc://",
        "mxc://a/",
        "https://matrix.to/#/",
        "_matrix/download/",
        "syt_",
        "bearer ",
        "access_token=",
        "ed25519:",
        "aB3",
        "-",
        "/aB3",
        "[",
        "@[",
        "@a:[",
        "\"@",
        " ",
        "Morgan.Quill",
        "[1::",
        "v1.2.3.4 ",
        "quillmail.example",
        "a.quillmail.example.",
        "quillmail.example%40.mxc://b",
        "\u{8bf7}",
        "\u{8bf7}@\u{e9}.",
        "\u{301}",
        "\"a\"@",
        "a&b@",
        "@1.1.1.",
        "@a:1.1.1.",
        "@b.c:",
        "@\u{e9}:\u{e9}.\u{e9}.",
        "@a:[fe80::1%",
        "matrix:u/a",
        "matrix:r/a:b?",
        "matrix://a",
        "matrix:roomid/a/e/",
        "https://matrix.to/#/!a",
        "mxc://a.b.c",
        "mxc://a.b.c/a",
        "\\.",
        "\\100",
        "\\u{40}",
        "%u0040",
    ];
    for pattern in patterns {
        let cost = |bytes: usize| {
            let text = pattern.repeat(bytes / pattern.len());
            cost::take();
            redact(&mut scanner(), &text, Context::Anywhere);
            cost::take()
        };
        let (small, large) = (cost(4 << 10), cost(32 << 10));
        assert!(large <= 9 * small.max(4 << 10), "{pattern}: {small} then {large}");
        assert!(large <= 300 * (32 << 10), "{pattern}: {large}");
    }
}

#[test]
fn replaced_tokens_of_the_session_are_still_found() {
    let first = OwnIdentifiers { tokens: vec!["first-token".to_owned()], ..own() };
    let second = OwnIdentifiers { tokens: vec!["second-token".to_owned()], ..own() };
    let both = second.with_tokens_of(&first);
    let mut scanner = Scanner::new(&both, Arc::default());
    assert_eq!(scanner.scan("first-token second-token", Context::Anywhere).len(), 2);
    assert_eq!(format!("{both:?}"), "OwnIdentifiers { .. }");
}

#[test]
fn own_identifiers_that_are_short_or_common_words_are_not_searched_for() {
    let own = OwnIdentifiers {
        localpart: "max".to_owned(),
        device_id: "TOKEN".to_owned(),
        server_name: "hs".to_owned(),
        ..OwnIdentifiers::default()
    };
    let mut scanner = Scanner::new(&own, Arc::default());
    assert!(scanner.scan("max token hs [token]", Context::Anywhere).is_empty());
    // They are still found by their form.
    assert_eq!(scanner.scan("@bob:hs", Context::Anywhere).len(), 1);
}

#[test]
fn a_localpart_that_is_only_part_of_a_placeholder_word_is_searched_for() {
    for localpart in ["dress", "acted", "redact", "serve"] {
        let own = OwnIdentifiers { localpart: localpart.to_owned(), ..OwnIdentifiers::default() };
        let mut scanner = Scanner::new(&own, Arc::default());
        let clean = redact(&mut scanner, &format!("{localpart} is here"), Context::Anywhere);
        assert_eq!(clean.unwrap().text, "[user_id] is here");
        // The guard's placeholders contain it, but not as a whole word.
        let text = "[ip_address] [redacted] [server_name]";
        assert!(scanner.scan(text, Context::Anywhere).is_empty(), "{localpart}");
    }
}
