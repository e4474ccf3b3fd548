//! Tokens and other secrets, recognised by the name before them or by their form.

use super::{assert_left_alone, assert_nothing_left, redacted};

/// Names of secrets, in all spellings that programs use.
const NAMES: [&str; 18] = [
    "access_token",
    "accessToken",
    "access-token",
    "ACCESS_TOKEN",
    "access token",
    "X-Access-Token",
    "newAccessToken",
    "refresh_token",
    "refreshToken",
    "loginToken",
    "id_token",
    "oauthToken",
    "push_token",
    "api_key",
    "apiKey",
    "x-api-key",
    "client_secret",
    "Bearer",
];

/// The text between a name and its value, and the text after the value.
const ASSIGNMENTS: [(&str, &str); 28] = [
    ("=", ""),
    (" = ", ";"),
    (":", ""),
    (": ", ","),
    (":=", ""),
    ("=>", ""),
    (" => ", ""),
    (" -> ", ""),
    (": \"", "\""),
    ("\": \"", "\","),
    ("'='", "'"),
    ("\\\": \\\"", "\\\""),
    (": Some(\"", "\")"),
    (": Some(Token(\"", "\"))"),
    ("=Ok(", ")"),
    (": AccessToken { value: \"", "\" }"),
    (": [\"", "\"]"),
    ("=[", "]"),
    ("={", "}"),
    ("=<", ">"),
    ("\"=>\"", "\""),
    (" (", ")"),
    (": \u{2039}", "\u{203a}"),
    (": \u{201c}", "\u{201d}"),
    (": \u{ab}\u{a0}", "\u{a0}\u{bb}"),
    (":\u{3000}\u{300c}", "\u{300d}"),
    (">", "</access_token>"),
    ("**: `", "`"),
];

/// Opaque values: letters in one case and in both, and one longer than a line.
const VALUES: [&str; 5] = [
    "MDAxYWxvY2F0aW9uMDAxYWxv",
    "qhzkfwpxvnrtgjbmslcdyqhz",
    "QhzKFwpXvnRTgjBmslCDyQhz",
    "QHZKFWPXVNRTGJBMSLCDYQHZ",
    "q.hz~kf-wp_xvn+rt/gj0bmslcdyqhz==",
];

#[test]
fn a_secret_is_found_after_its_name_in_any_assignment() {
    for name in NAMES {
        for (before, after) in ASSIGNMENTS {
            for value in VALUES {
                assert_nothing_left(&format!("{name}{before}{value}{after}"), &[value, "hzkfw"]);
                assert_nothing_left(&format!("at {name}{before}{value}{after} it"), &[value]);
            }
        }
    }
}

#[test]
fn a_long_secret_is_found_completely() {
    let long = "aB3dE5gH".repeat(300);
    for text in [
        format!("access_token={long}"),
        format!("syt_{long}_wCTGBnVpmPVwXaZqLkRs_1Xy9bZ"),
        format!("eyJhbGciOiJIUzI1NiJ9.eyJ{long}.{long}"),
        format!("ghs_{long}"),
    ] {
        assert_nothing_left(&format!("a {text} b"), &["aB3d", "E5gH", "eyJ"]);
    }
}

#[test]
fn a_token_is_found_by_its_form() {
    let alphanumeric = "wCTGBnVpmPVwXaZqLkRs1Xy9bZK2m4Nq7RtU";
    let fcm = "APA91bHPRgkFLJu6uDtkYqvZ3kY0Wn8s5bXcTq2LmE4rJhGfVdNxKoPz7aQwSyUiB1_-tReC6mZ";
    for text in [
        "syl_wCTGBnVpmPVwXaZqLkRs_1Xy9bZ".to_owned(),
        "syt_YWxpY2U_wCTGBnVpmPVwXaZqLkRs_1Xy9bZ".to_owned(),
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"
            .to_owned(),
        format!("ghp_{alphanumeric}"),
        format!("gho_{alphanumeric}"),
        format!("ghu_{alphanumeric}"),
        format!("ghs_{alphanumeric}"),
        format!("ghr_{alphanumeric}"),
        format!("github_pat_11ABCDEFG0wCTGBnVpmPVw_{alphanumeric}{}", &alphanumeric[..23]),
        format!("dQw4w9WgXcQ:{fcm}"),
        format!("cXy9bZK2m4Nq7RtUwCTGBn:{fcm}"),
        fcm.to_owned(),
    ] {
        let pieces: Vec<_> =
            text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| w.len() > 8).collect();
        for text in [
            text.clone(),
            format!("a \"{text}\", b"),
            format!("?x={text}&y=1"),
            format!("({text})"),
        ] {
            assert_nothing_left(&text, &pieces);
        }
    }
    assert_eq!(redacted(&format!("to dQw4w9WgXcQ:{fcm}.")), "to [token].");
}

#[test]
fn a_password_is_found_after_its_name() {
    for text in [
        "password=hunter2",
        "\"password\": \"hunter2\"",
        "db_password: Some(\"hunter2\")",
        "userPassword => hunter2!",
        "passphrase='correct hunter2 horse'",
        "Authorization: Basic YWxpY2U6aHVudGVyMg==",
    ] {
        assert_nothing_left(text, &["hunter2", "YWxpY2U6"]);
    }
}

#[test]
fn a_secret_is_found_with_any_characters_and_any_quotes() {
    let spaces = " ".repeat(200);
    for (text, secrets) in [
        ("password: \"correct-horse-battery-staple-hello-world-7\"", &["correct", "world-7"][..]),
        ("password=пароль123", &["пароль", "123"]),
        (r#"password: "ab\"c1defgh""#, &["ab", "c1d"]),
        (r#"{\"password\": \"ab\\\"c1defgh\"}"#, &["ab", "c1d"]),
        ("secret=abc#1234567890defgh", &["abc", "1234"]),
        ("client_secret: \"abc$1234567890defgh\"", &["abc", "1234"]),
        ("client_secret: \"abc;1234567890defgh\"", &["abc", "1234"]),
        ("access_token=\"abc:1234567890defgh\"", &["abc", "1234"]),
        ("Authorization: Basic  dXNlcjpwYXNzd29yZDEyMzQ=", &["dXNl"]),
        (
            "Authorization: Digest username=\"alice\", response=\"6629fae49393a05\"",
            &["alice", "662"],
        ),
        ("{\"Authorization\": \"X-Matrix origin=a.example,sig=6629fae493\"}", &["example", "662"]),
        ("Authorization: OAuth abcdef1234567890abcd", &["abcdef"]),
        ("Authorization: Key abcdef1234567890abcd", &["abcdef"]),
        ("secret key: abcdef1234567890abcd", &["abcdef"]),
        ("secret.key=abcdef1234567890abcd", &["abcdef"]),
        ("pass_phrase=hunter2", &["hunter2"]),
        ("pass-phrase: hunter2", &["hunter2"]),
        ("pass phrase: hunter2", &["hunter2"]),
        (&format!("password:{spaces}hunter2"), &["hunter2"]),
        ("password: Option::Some(\"hunter2\")", &["hunter2"]),
        ("password: core::option::Option::Some(\"hunter2\")", &["hunter2"]),
        ("password: b\"hunter2\"", &["hunter2"]),
        ("password = r#\"hunter2\"#", &["hunter2"]),
        ("access_token: b'abcdef1234567890abcd'", &["abcdef"]),
    ] {
        assert_nothing_left(text, secrets);
    }
}

#[test]
fn lists_of_words_and_error_codes_are_not_secrets() {
    for text in [
        "user, password, email2fa, name",
        "wrong password, error404x",
        "| user | password | email2fa |",
        "password: M_WEAK_PASSWORD_8",
        "no secret, implementation2024 has",
    ] {
        assert_left_alone(text);
    }
}

#[test]
fn prose_about_secrets_is_left_alone() {
    for text in [
        "bearer of good news",
        "the bearer authentication scheme is unsupported",
        "access token expired",
        "access token expired 20 minutes ago",
        "access_token: missing",
        "access_token: UnrecognizedTokenError",
        "access_token: authentication_required",
        "access_token=&user=someone-with-12-rooms",
        "no access token. Conversations20260131 is next",
        "refresh token rotation is uncharacteristically slow",
        "unexpected token: StringLiteralExpression",
        "unexpected token `implementation2024` in line 5",
        "invalid_token: the_account_has_12_devices",
        "sync token s72594_4483_1934_17_2_11_1_0",
        "next_batch token: t392-516_47314_0_7_1_1_1_11444_1",
        "cancellationToken = CancellationTokenSource",
        "tokens: 1024, max_tokens: 4096",
        "password: M_FORBIDDEN",
        "password=required",
        "login by password: 403 after 2 s",
        "passwordLength: 12",
        "Authorization: required",
        "secret santa 2026 of everyone",
        "secret_storage: enabled",
        "client_secret: not configured",
        "api_key: rejected",
        "syl_label_component_of_words",
        "ghs_of_things_and_more_of_them_and_so_on",
        "https://example.org/eyJ.html",
    ] {
        assert_left_alone(text);
    }
}
