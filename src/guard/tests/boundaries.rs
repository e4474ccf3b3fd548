//! Identifiers with all kinds of neighbouring characters.

use super::{assert_left_alone, assert_nothing_left, redacted};

/// Non-ASCII punctuation, spaces and format characters, and letters of scripts without
/// spaces between words.
const NEIGHBOURS: [&str; 36] = [
    "\u{201c}",
    "\u{201d}",
    "\u{2018}",
    "\u{2019}",
    "\u{201e}",
    "\u{ab}",
    "\u{bb}",
    "\u{2039}",
    "\u{203a}",
    "\u{2026}",
    "\u{2014}",
    "\u{2013}",
    "\u{a0}",
    "\u{202f}",
    "\u{2009}",
    "\u{3000}",
    "\u{200b}",
    "\u{200c}",
    "\u{200d}",
    "\u{feff}",
    "\u{ad}",
    "\u{2066}",
    "\u{2068}",
    "\u{2069}",
    "\u{202a}",
    "\u{202c}",
    "\u{2028}",
    "\u{b7}",
    "\u{2022}",
    "\u{2192}",
    "\u{3001}",
    "\u{3002}",
    "\u{ff0c}",
    "\u{300c}",
    "\u{1f600}",
    "\u{fe0f}",
];

/// Letters of other scripts than the identifier's own.
const LETTERS: [&str; 9] = ["请", "は", "カ", "님", "ไ", "д", "λ", "ع", "अ"];

#[test]
fn any_character_but_a_letter_of_its_own_script_ends_an_identifier() {
    for (identifier, pieces) in [
        ("theodora@vance.example", &["theodora", "vance"][..]),
        ("morgan.quill", &["morgan", "quill"]),
        ("QZXJKVBWPL", &["QZXJKVBWPL"]),
        ("hs.quillmail.example", &["quillmail"]),
        ("@theodora:vance.example", &["theodora", "vance"]),
        ("#theodora:vance.example", &["theodora", "vance"]),
        ("$theodora:vance.example", &["theodora", "vance"]),
        ("!theodora:vance.example", &["theodora", "vance"]),
        ("matrix:u/theodora:vance.example", &["theodora", "vance"]),
        ("https://matrix.to/#/@theodora:vance.example", &["theodora", "vance"]),
        ("https://matrix.to/#/!theodora/$vance", &["theodora", "vance"]),
        ("mxc://vance.example/theodora", &["theodora", "vance"]),
    ] {
        for neighbour in NEIGHBOURS.iter().chain(&LETTERS) {
            assert_nothing_left(&format!("{neighbour}{identifier}{neighbour}"), pieces);
            assert_nothing_left(&format!("a {neighbour}{identifier} b"), pieces);
            assert_nothing_left(&format!("a {identifier}{neighbour} b"), pieces);
        }
    }
}

#[test]
fn an_identifier_that_runs_into_another_one_is_found_to_its_end() {
    for (text, pieces) in [
        ("access_token=secret123456789mxc://vance.example/theodora", &["theodora", "vance"][..]),
        ("ed25519:ABCDEFmatrix:u/theodora:vance.example", &["theodora", "vance"]),
        ("matrix:r/a:matrix:u/theodora:vance.example", &["theodora", "vance"]),
        ("https://matrix.to/#/@b:c.dmatrix:u/theodora:vance.example", &["theodora", "vance"]),
        ("mxc://vance.example/Tmxc://vance.example/theodora", &["theodora", "vance"]),
    ] {
        assert_nothing_left(text, pieces);
    }
}

#[test]
fn text_without_spaces_keeps_everything_but_the_identifier() {
    for (text, expected) in [
        ("用户morgan.quill已登录", "用户[user_id]已登录"),
        ("设备QZXJKVBWPL离线", "设备[device_id]离线"),
        ("服务器hs.quillmail.example超时", "服务器[server_name]超时"),
        ("用户@alice:example.org登录了", "用户[user_id]登录了"),
        ("打开matrix:u/alice:example.org吧", "打开[matrix_uri]吧"),
        ("\u{201c}alice@example.org\u{201d}", "\u{201c}[email]\u{201d}"),
        ("邮箱：alice@example.org。谢谢", "邮箱：[email]。谢谢"),
        ("alice@example.org様へ", "[email]様へ"),
    ] {
        assert_eq!(redacted(text), expected, "{text}");
    }
}

#[test]
fn a_longer_word_of_the_same_script_is_not_a_match() {
    for text in ["morgan.quills", "xmorgan.quill", "morgan.quillé", "émorgan.quill", "1QZXJKVBWPL"]
    {
        assert_left_alone(text);
    }
}
