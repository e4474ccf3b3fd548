//! Matrix URIs, and where they end.

use super::{assert_nothing_left, redacted};

#[test]
fn a_uri_ends_where_its_identifier_ends_whatever_follows() {
    for uri in [
        "matrix:u/theodora:vance.example",
        "matrix:user/theodora:vance.example",
        "matrix:r/theodora:vance.example",
        "matrix:room/theodora:vance.example",
        "matrix:roomid/theodora:vance.example",
        "matrix:roomid/theodora:vance.example/e/quentin",
        "matrix:r/theodora:vance.example/event/quentin:vance.example",
        "matrix:roomid/theodora/e/quentin",
        "matrix://vance.example/u/theodora:vance.example",
        "MATRIX:U/theodora:vance.example",
        "Matrix:RoomId/theodora:vance.example/E/quentin",
        "matrix:u/theodora:vance",
        "matrix:u/theodora:vance:8448",
        "matrix:u/theodora%3Avance.example",
        "matrix:u/theo%2Fdora:vance.example",
        "https://matrix.to/#/@theodora:vance",
        "https://matrix.to/#/#theodora:vance.example/$quentin",
        "HTTPS://MATRIX.TO/#/@theodora:vance.example",
        "https://matrix.to/#/%40theodora%3Avance.example",
        "https://matrix.to/#/%23theodora:vance.example",
    ] {
        for tail in [
            "",
            "&x=1",
            "**",
            "%20",
            "%20next",
            "/x",
            "#f",
            ",",
            ", next",
            ")",
            "]",
            "}",
            "\"",
            "'",
            ";x",
            "|x",
            "=x",
            "?via=vance.example",
            "?action=chat&via=vance.example&via=b.org.",
            "\u{201d}",
            "…",
            "~",
            "`",
            "\\n",
            ",matrix:u/quentin:vance.example",
            "^",
            "!",
            "*",
        ] {
            let pieces = &["theodora", "vance", "quentin", "theo", "dora"];
            assert_nothing_left(&format!("{uri}{tail}"), pieces);
            assert_nothing_left(&format!("see [x]({uri}{tail} there"), pieces);
        }
    }
}

#[test]
fn a_media_link_is_found_after_any_path() {
    for path in
        ["media/unstable/a_b/download", "client/unstable/org.matrix.msc3916.v2/media/thumbnail"]
    {
        let text = format!("GET /_matrix/{path}/theodora.example/AbCdEf?width=9");
        assert_nothing_left(&text, &["theodora", "AbCdEf"]);
    }
}

#[test]
fn the_text_after_a_uri_is_kept() {
    for (text, expected) in [
        ("matrix:u/alice:example.org&x=1", "[matrix_uri]&x=1"),
        ("**matrix:u/alice:example.org**", "**[matrix_uri]**"),
        ("matrix:u/alice:example.org%20there", "[matrix_uri]%20there"),
        ("matrix:u/alice:example.org/x#f", "[matrix_uri]/x#f"),
        ("MATRIX:U/alice:example.org,matrix:R/b:c.org", "[matrix_uri],[matrix_uri]"),
        ("matrix:u/alice:example.org?action=chat, then", "[matrix_uri], then"),
        ("\u{201c}https://matrix.to/#/!abc/$def\u{201d}", "\u{201c}[matrix_uri]\u{201d}"),
        ("matrix: u/x", "matrix: u/x"),
        ("matrix:u/", "matrix:u/"),
        ("matrix:use/x:y.org", "matrix:use/x:y.org"),
    ] {
        assert_eq!(redacted(text), expected, "{text}");
    }
}
