//! Secrets as the text of a property whose key is their name.

use std::borrow::Cow;

use crate::{
    event::{Properties, UserProperties},
    guard::{Guard, GuardPolicy},
};

const SECRETS: [(&str, &str); 18] = [
    ("password", "hunter22"),
    ("password", "hunter22 with \"quotes\" and spaces"),
    ("db_password", "пароль22"),
    ("passphrases", "correct horse battery 22"),
    ("pass-phrase", "hunter22."),
    ("password:", "Some(\"hunter22\")"),
    ("access_token", "abcdef1234567890abcd"),
    ("access_token", "Some(\"abcdef1234567890abcd\")"),
    ("accessToken", "abc:1234567890#22"),
    ("refreshToken", "qhzkfwpxvnrtgjbmslcdyqhz"),
    ("X-Access-Token", "abcdef1234567890abcd"),
    ("api_key", "abcdef1234567890abcd"),
    ("client secret", "[\"abcdef1234567890abcd\"]"),
    ("Authorization", "Basic dXNlcjpwYXNzd29yZDEyMzQ="),
    ("proxy-authorization", "Custom  dXNlcjpwYXNzd29yZDEyMzQ="),
    ("authorization", "Bearer abcdef1234567890abcd"),
    ("token", "wCTGBnVpmPVwXaZqLkRs1Xy9bZK2m4Nq7RtU"),
    ("password", "%68unter22"),
];

fn guarded(policy: GuardPolicy, properties: Properties) -> Option<String> {
    let guard = Guard::new(policy, Vec::new());
    guard.event(Cow::Borrowed("Event"), properties).map(|(_, left)| left.members().to_owned())
}

fn assert_no_piece(secret: &str, left: &str) {
    let pieces = secret.split(|c: char| !c.is_alphanumeric());
    for piece in pieces.filter(|piece| piece.chars().any(|c| c.is_ascii_digit())) {
        assert!(!left.contains(piece), "{secret}: {left}");
    }
}

#[test]
fn a_secret_under_its_own_name_is_kept_back_under_every_policy() {
    for (key, secret) in SECRETS {
        let properties = Properties::new().with("kind", "login").with(key, secret);
        let left = guarded(GuardPolicy::Redact, properties.clone()).unwrap();
        assert_no_piece(secret, &left);
        assert!(left.contains("[credentials]") || left.contains("[token]"), "{left}");
        let left = guarded(GuardPolicy::DropProperty, properties.clone()).unwrap();
        assert_eq!(left, "\"kind\":\"login\"", "{key}");
        assert_eq!(guarded(GuardPolicy::DropEvent, properties.clone()), None, "{key}");
        let guard = Guard::new(GuardPolicy::Redact, Vec::new());
        let user = UserProperties { set: properties.clone(), set_once: properties };
        let user = guard.user("Event", user);
        assert_no_piece(secret, user.set.members());
        assert_no_piece(secret, user.set_once.members());
    }
}

#[test]
fn the_name_of_a_secret_without_a_secret_under_it_is_left_alone() {
    for (key, text) in [
        ("password", "required"),
        ("password", "M_FORBIDDEN"),
        ("password", "M_WEAK_PASSWORD_8"),
        ("password", ""),
        ("password_length", "twelve12"),
        ("passwordless", "level2login"),
        ("access_token", "expired 20 minutes ago"),
        ("access_token", "UnrecognizedTokenError"),
        ("access_token", "[token]"),
        ("password", "[credentials]"),
        ("Authorization", "Bearer"),
        ("Authorization", "required"),
        ("next_batch_token", "s72594_4483_1934_17_2_11_1_0"),
        ("cancellationToken", "CancellationTokenSource"),
        ("tokens", "1024"),
        ("secret", "santa"),
        ("login", "abcdef1234567890abcd"),
    ] {
        let properties = Properties::new().with(key, text);
        let left = guarded(GuardPolicy::DropProperty, properties.clone()).unwrap();
        assert_eq!(left, properties.members(), "{key}");
    }
}
