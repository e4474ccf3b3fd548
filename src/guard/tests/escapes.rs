//! Identifiers in escapes of programming languages and Markdown.

use super::{assert_left_alone, assert_nothing_left};

#[test]
fn an_identifier_is_found_in_every_supported_escape() {
    for text in [
        r"\u{40}theodora:vance.example",
        r"\u{000040}theodora\u{3a}vance.example",
        "%u0040theodora:vance.example",
        "theodora%u0040vance.example",
        r"\100theodora\072vance.example",
        r"theodora\100vance\056example",
        r"theodora@vance\.example",
        r"@theodora:vance\.example",
        r"theodora\@vance\.example",
        r"\@theodora\:vance\.example",
        r"theodora\x40vance.example",
        r"\U00000040theodora\U0000003Avance.example",
        r"@theodora\72vance\56example",
        r"theodora@b\303\274cher-vance.example",
        r"theodora\u{40}b\u{fc}cher-vance.example",
    ] {
        assert_nothing_left(text, &["theodora", "vance", "cher"]);
    }
    assert_nothing_left(r"morgan\.quill", &["morgan", "quill"]);
    for control in ["\\0", "\\a", "\\e", "\\v", "\\n"] {
        assert_nothing_left(&format!("at {control}morgan.quill"), &["morgan"]);
    }
    assert_nothing_left(r"hs\.quillmail\.example", &["quillmail"]);
}

#[test]
fn text_that_only_looks_like_an_escape_is_left_alone() {
    for text in
        [r"C:\100\x", r"\u{}", r"\u{110000}", "%u00", r"a\.b", r"C:\.config", r"\400", r"\8"]
    {
        assert_left_alone(text);
    }
}
