//! Email addresses in every form that is in use.

use super::{assert_left_alone, assert_nothing_left, redacted};

#[test]
fn an_address_is_redacted_completely_whatever_characters_it_contains() {
    for (text, pieces) in [
        ("theodora/sales@vance.example", &["theodora", "sales", "vance"][..]),
        ("to theodora&quentin@vance.example, now", &["theodora", "quentin", "vance"]),
        ("a&b@vance.example", &["a&", "b@", "vance"]),
        ("theodora@[192.0.2.1]", &["theodora", "192"]),
        ("theodora@[IPv6:2001:db8::1]", &["theodora", "2001", "IPv6"]),
        ("theodora@81.187.23.9", &["theodora", "187"]),
        ("theodora@2x.example", &["theodora", "2x"]),
        ("theodora@2x.vance.example", &["theodora", "vance"]),
        ("theodora..quentin@vance.example", &["theodora", "quentin", "vance"]),
        ("theodora.@vance.example", &["theodora", "vance"]),
        (".theodora@vance.example", &["theodora", "vance"]),
        ("theodora!@vance.example", &["theodora", "vance"]),
        ("theodora==@vance.example", &["theodora", "vance"]),
        ("theodora//@vance.example", &["theodora", "vance"]),
        ("theodora@نامه\u{200c}ای.com", &["theodora", "نامه", "com"]),
        ("bounce-theodora=quentin.example@vance.example", &["theodora", "quentin", "vance"]),
        ("\"theo dora\"@vance.example", &["theo", "dora", "vance"]),
        ("zoe\u{308}.theodora@vance.example", &["zoe", "theodora", "vance"]),
        ("theodora@bu\u{308}cher.example", &["theodora", "cher"]),
        ("用户@例子.中国", &["用户", "例子"]),
        ("почта@пример.рф", &["почта", "пример"]),
        ("theodora@vance_mail.example", &["theodora", "vance"]),
        ("theodora@vance.example_count", &["theodora", "vance"]),
        ("theodora@vance.example.5", &["theodora", "vance"]),
        ("theodora@vance..example", &["theodora", "vance"]),
        ("theodora@vance.e", &["theodora", "vance"]),
        ("theodora@v.ance", &["theodora", "v.ance"]),
    ] {
        assert_nothing_left(text, pieces);
    }
    let long = "theodora".repeat(12);
    assert_nothing_left(&format!("{long}@vance.example"), &["theodora", "vance"]);
    assert_nothing_left(&format!("theodora@vance.{}", "q".repeat(300)), &["theodora", "vance"]);
}

#[test]
fn the_text_around_an_address_is_kept() {
    for (text, expected) in [
        ("**alice@example.org**", "**[email]**"),
        ("<alice@example.org>", "<[email]>"),
        ("{'mail':'alice@example.org'}", "{'mail':'[email]'}"),
        ("https://example.com/?alice@example.org", "https://example.com/?[email]"),
        ("alice@example.org.", "[email]."),
        ("_alice@example.org_", "[email]_"),
        ("alice@example.org, bob@example.org", "[email], [email]"),
    ] {
        assert_eq!(redacted(text), expected, "{text}");
    }
}

#[test]
fn versions_densities_and_locales_are_not_addresses() {
    for text in [
        "react@19.0.0-rc.next",
        "lodash@4.17.21",
        "logo@2x.png",
        "icon@1.5x.webp",
        "AppIcon@3x.imageset",
        "ks_in@devanagari.utf8",
        "sr_RS@latin.UTF-8",
        "memcpy@GLIBC_2.14",
        "{{name}}@example.org",
        "@example.org",
    ] {
        assert_left_alone(text);
    }
}
