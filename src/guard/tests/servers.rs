//! Server names of every form, and the hosts of this session's server.

use std::sync::Arc;

use super::{assert_left_alone, assert_nothing_left, redacted};
use crate::guard::{OwnIdentifiers, context::Context, redact::redact, scanner::Scanner};

#[test]
fn a_server_name_is_found_in_every_form() {
    for (text, pieces) in [
        ("by @zoë:bücher.example now", &["zoë", "bücher"][..]),
        ("by @zo%C3%AB:b%C3%BCcher.example now", &["zo", "cher"]),
        ("by %40zo%C3%AB%3Ab%C3%BCcher.example now", &["zo", "cher"]),
        ("@theodora:xn--bcher-kva.example", &["theodora", "bcher"]),
        ("@theodora:例子.中国", &["theodora", "例子"]),
        ("@theodora:матрикс.рф:8448", &["theodora", "матрикс", "8448"]),
        ("@theodora:münchen:8448", &["theodora", "nchen", "8448"]),
        ("#theodora:v.e", &["theodora", "v.e"]),
        ("@theodora:vance.e", &["theodora", "vance"]),
        ("@theodora:vance_home.example", &["theodora", "vance", "home"]),
        ("@theodora:vance.example_count", &["theodora", "vance"]),
        ("@theodora:paral·lel.example", &["theodora", "paral", "lel"]),
        ("@theodora:ソ・ニー.example", &["theodora", "ソ", "ニー", "example"]),
        ("@theodora:א״ב.example", &["theodora", "ב", "example"]),
        ("!theodora:my_host:8448", &["theodora", "my_host"]),
        ("@theodora:[fe80::1%eth0]:8448", &["theodora", "fe80", "eth0"]),
        ("@theodora:[fe80::1%25eth0]", &["theodora", "fe80", "eth0"]),
        ("@theodora:vance.example.5", &["theodora", "vance"]),
        ("keys.@theodora:vance.example.2.lost", &["theodora", "vance"]),
        ("mxc://bücher.example/theodora", &["cher", "theodora"]),
        ("mxc://b%C3%BCcher.example/theodora", &["cher", "theodora"]),
        ("mxc://vance_home.example/theodora", &["vance", "theodora"]),
        ("matrix:u/theodora:bücher.example", &["theodora", "cher"]),
        ("matrix:u/theodora:b%C3%BCcher.example", &["theodora", "cher"]),
        ("https://matrix.to/#/@theodora:bücher.example", &["theodora", "cher"]),
    ] {
        assert_nothing_left(text, pieces);
    }
    let long = format!("@theodora:vance.example{}", "a".repeat(300));
    assert_nothing_left(&long, &["theodora", "vance"]);
    let long = format!("@{}:vance.example", "theodora".repeat(30));
    assert_nothing_left(&long, &["theodora", "vance"]);
}

#[test]
fn hosts_in_the_domain_of_the_sessions_server_are_found() {
    for (text, expected) in [
        ("https://cloud.quillmail.example/x", "https://[server_name]/x"),
        ("quillmail.example:8448", "[server_name]"),
        ("HS.QUILLMAIL.EXAMPLE", "[server_name]"),
        ("see a.b.cloud.quillmail.example.", "see [server_name]."),
        ("访问cloud.quillmail.example吧", "访问[server_name]吧"),
        ("bücher.quillmail.example", "[server_name]"),
    ] {
        assert_eq!(redacted(text), expected, "{text}");
    }
    for text in ["notquillmail.example", "quillmail.examples", "example", "other.example"] {
        assert_left_alone(text);
    }
}

/// Returns `text` as redacted by the guard of a session on `server`.
fn redacted_on(server: &str, text: &str) -> String {
    let own = OwnIdentifiers { server_name: server.to_owned(), ..OwnIdentifiers::default() };
    redact(&mut Scanner::new(&own, Arc::default()), text, Context::Anywhere)
        .map_or_else(|| text.to_owned(), |redacted| redacted.text)
}

#[test]
fn a_public_suffix_is_never_treated_as_the_domain_of_a_server() {
    for (server, text, expected) in [
        ("hs.quill.co.uk", "www.quill.co.uk www.bbc.co.uk", "[server_name] www.bbc.co.uk"),
        ("quill.com.au", "a.quill.com.au b.com.au", "[server_name] b.com.au"),
        ("co.uk", "a.bbc.co.uk", "a.bbc.[server_name]"),
        ("quill.example:8448", "quill.example b.quill.example:80", "[server_name] [server_name]"),
        ("192.168.77.9", "1.77.9 and 77.9", "1.77.9 and 77.9"),
        ("localhost", "a.localhosts", "a.localhosts"),
        ("intranet", "at intranet.", "at [server_name]."),
    ] {
        assert_eq!(redacted_on(server, text), expected, "{server}");
    }
}

#[test]
fn an_internationalised_server_is_found_in_both_of_its_forms() {
    for text in ["xn--bcher-kva.example", "bücher.example", "BÜCHER.example", "b%C3%BCcher.example"]
    {
        let found = redacted_on("matrix.xn--bcher-kva.example", text);
        assert_eq!(found, "[server_name]", "{text}");
    }
}
