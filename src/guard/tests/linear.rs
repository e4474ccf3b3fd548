//! The cost of a text grows linearly, whatever the text contains.

use super::{Context, redact, scanner};
use crate::guard::{cost, scanner::Scanner};

/// Bytes that are significant to a detector, and one of each other class.
const SIGNIFICANT: [&str; 20] = [
    "@", "!", "%", ".", ":", "/", "1", "a", "-", "=", "\"", "[", " ", "\\", "$", "#", "]", "_",
    "(", "F",
];
/// How many of them are combined into patterns of three.
const MOST_SIGNIFICANT: usize = 8;

/// Texts that are costly for a detector.
const COSTLY: [&str; 42] = [
    "::1",
    "81.187.23.9",
    "1.2.3.4",
    "10.0.0.1:f",
    "fe80",
    "f:1::",
    "token",
    "access_token",
    "Bearer ",
    "password=",
    "passwd=",
    "authorization: digest a=",
    "api_key: \"",
    "secret",
    "Some(",
    "eyJ",
    "eyJabcdefghijklm.",
    "ghp_",
    "ghp_-",
    "syt_",
    "APA91b",
    "://",
    "a://",
    "mxc://",
    "matrix:u/",
    "https://matrix.to/#/",
    "_matrix/",
    "download/",
    "ed25519:",
    "EsTj",
    "aB3",
    "%40",
    "%25",
    "\\u0040",
    "@a:b.c",
    "a@b.c",
    "Morgan.Quill",
    "quillmail.example",
    "secret_storage.key.",
    "version",
    "\u{e9}",
    "\u{8bf7}",
];

#[test]
fn the_cost_of_any_repeated_bytes_grows_linearly() {
    let mut patterns: Vec<_> = SIGNIFICANT.iter().map(ToString::to_string).collect();
    for (at, a) in SIGNIFICANT.iter().enumerate() {
        for (and_at, b) in SIGNIFICANT.iter().enumerate() {
            patterns.push(format!("{a}{b}"));
            if at < MOST_SIGNIFICANT && and_at < MOST_SIGNIFICANT {
                let c = &SIGNIFICANT[..MOST_SIGNIFICANT];
                patterns.extend(c.iter().map(|c| format!("{a}{b}{c}")));
            }
        }
    }
    assert_linear(&patterns);
}

#[test]
fn the_cost_of_any_two_costly_texts_grows_linearly() {
    let mut patterns: Vec<_> = COSTLY.iter().map(ToString::to_string).collect();
    for (at, a) in COSTLY.iter().enumerate() {
        for (and_at, b) in COSTLY.iter().enumerate() {
            let between = ["", " ", ":", "/"][(at + and_at) % 4];
            patterns.push(format!("{a}{between}{b}"));
        }
    }
    assert_linear(&patterns);
}

/// A tail that every run before it shares is not trimmed once per run.
#[test]
fn the_cost_of_many_prefixes_before_one_long_tail_grows_linearly() {
    const SEPARATORS: [&str; 2] = ["", "."];
    const TAILS: [&str; 10] = [".", "-", "_", "\\", "=", "/", " ", "1", "\\.", ".-"];

    let mut scanner = scanner();
    for prefix in COSTLY {
        for separator in SEPARATORS {
            let prefix = format!("{separator}{prefix}");
            for tail in TAILS {
                let mut cost = |bytes: usize| {
                    let many = |text: &str| text.repeat(bytes / 2 / text.len());
                    work_in(&mut scanner, &format!("{}{}", many(&prefix), many(tail)))
                };
                let (small, large) = (cost(512), cost(2048));
                assert!(large <= 6 * small.max(2048), "{prefix:?} {tail:?}: {small} then {large}");
                assert!(large <= MOST_PER_BYTE * 1024, "{prefix:?} {tail:?}: {large}");
            }
        }
    }
}

fn assert_linear(patterns: &[String]) {
    let mut scanner = scanner();
    for pattern in patterns {
        let mut cost = |bytes| cost_of(&mut scanner, pattern, bytes);
        // In shorter texts, the fixed cost would dominate.
        let (small, large) = (cost(512), cost(2048));
        assert!(large <= 5 * small.max(2048), "{pattern:?}: {small} then {large}");
        assert!(large <= MOST_PER_BYTE * 1024, "{pattern:?}: {large}");
    }
}

/// Each detector reads a byte once per layer of escapes, in up to five searches until
/// nothing is found.
const MOST_PER_BYTE: usize = 160;

#[test]
fn the_cost_of_32_kb_of_formerly_slow_texts_is_bounded() {
    let mut scanner = scanner();
    for pattern in [
        ":1.2.3.4",
        "1.2.3.4:",
        "10.0.0.1:f",
        "81.187.23.9:",
        "matrix:u/",
        "::1 ",
        "syt_",
        "eyJ",
        "ghp_",
        "EsTj ",
        "Es",
        "token=",
        "password=/",
        "-",
        "/aB3",
        "access_token=access_token",
    ] {
        let cost = cost_of(&mut scanner, pattern, 32 << 10);
        assert!(cost <= MOST_PER_BYTE * (32 << 10), "{pattern:?}: {cost}");
    }
}

fn cost_of(scanner: &mut Scanner, pattern: &str, bytes: usize) -> usize {
    work_in(scanner, &pattern.repeat(bytes / pattern.len()))
}

fn work_in(scanner: &mut Scanner, text: &str) -> usize {
    cost::take();
    redact(scanner, text, Context::Anywhere);
    cost::take()
}
