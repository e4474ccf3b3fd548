//! The cost of the guard for texts of 1 KB.
//!
//! `docs/measured.md` has the results. The cost of a property includes its copy. A text with
//! findings is searched a second time. The `memchr` and `aho-corasick` crates use AVX2 where
//! it is available.
//!
//! ```sh
//! cargo bench -p matrix-analytics-benches --bench guard
//! ```

#![expect(clippy::print_stdout, reason = "it prints what it measures")]

use std::{hint::black_box, sync::LazyLock, time::Instant};

use matrix_analytics::{Properties, testing::GuardProbe};

/// Texts as apps put them into events, without personal data.
const CLEAN: [(&str, &str); 4] = [
    ("prose", "The room list was slow today, so the cache was built again; it took a while. "),
    ("names", "RoomListView/Filter=Unread MessageComposer.Send timeline_scroll_end "),
    ("json text", "{'trigger':'MessageSent','count':12,'isDm':false,'ms':42.5,'os':'linux'} "),
    (
        "log lines",
        "2026-01-31T12:00:00.25Z WARN sync: took 1.52 s (limit 30), 1.2.3 on 6.8.0; retry ",
    ),
];

/// Identifiers that occur once each in a clean text of 1 KB.
const FEW: [&str; 3] = ["@alice:example.org", "!abcdefghij:example.org", "203.0.113.77:8080"];

/// Texts with personal data in every line of 78 bytes.
const MANY: [(&str, &str); 3] = [
    ("13", "the message of @alice:example.org could not be shown in this place, as it is "),
    (
        "13 escaped",
        "the link https://example.com/?u=%40alice%3Aexample.org of a page that was made ",
    ),
    ("52", "from 203.0.113.77 at https://matrix.to/#/!abc:example.org by bob@example.org "),
];

/// Texts whose bytes a careless search reads more than once.
const COSTLY: [&str; 8] =
    [":1.2.3.4", "1.2.3.4:", "10.0.0.1:f", "81.187.23.9:", "matrix:u/", "::1 ", "syt_", "EsTj "];

fn main() {
    let guard = guard();
    println!("ns per KB, median of 301 (lower quartile)");
    for (name, text) in CLEAN {
        let text = one_kb(text);
        assert_eq!(guard.redact(&text), text, "{name}");
        report(&format!("clean {name}, a text"), || guard.redact(&text).len());
        let properties = Properties::new().with("text", text.clone());
        report(&format!("clean {name}, a property"), || {
            // The figure includes the copy, which is made by the caller.
            guard.properties(properties.clone()).is_some_and(|clean| clean.is_empty()).into()
        });
    }
    let mut few = one_kb(CLEAN[0].1);
    for (at, identifier) in FEW.iter().enumerate() {
        few.replace_range(300 * at..300 * at + identifier.len(), identifier);
    }
    let many = MANY.map(|(name, text)| (name, one_kb(text)));
    for (name, text) in [("3", few)].into_iter().chain(many) {
        assert!(!guard.kinds(&text).is_empty(), "{name}");
        report(&format!("{name} findings, found"), || guard.kinds(&text).len());
        report(&format!("{name} findings, redacted"), || guard.redact(&text).len());
    }
    report_costly();
}

/// Prints the cost of patterns that once took quadratic time, repeated to 32 KB.
fn report_costly() {
    println!("ms per 32 KB, best of 21");
    for pattern in COSTLY {
        let text = pattern.repeat((32 << 10) / pattern.len());
        let times = (0..21).map(|_| {
            let began = Instant::now();
            black_box(guard().redact(&text).len());
            began.elapsed().as_secs_f64() * 1e3
        });
        println!("{pattern:36} {:8.2}", times.fold(f64::INFINITY, f64::min));
    }
}

fn guard() -> &'static GuardProbe {
    static GUARD: LazyLock<GuardProbe> = LazyLock::new(|| {
        GuardProbe::default().of_session("@morgan:quill.example", "QZXJKVBWPL", "opaquetoken1")
    });
    &GUARD
}

fn one_kb(text: &str) -> String {
    let mut text = text.repeat(1024 / text.len() + 1);
    text.truncate(1024);
    text
}

fn report(what: &str, mut run: impl FnMut() -> usize) {
    const RUNS: u32 = 1000;

    let mut times: Vec<_> = (0..301)
        .map(|_| {
            let began = Instant::now();
            for _ in 0..RUNS {
                black_box(run());
            }
            began.elapsed().as_secs_f64() * 1e9 / f64::from(RUNS)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("{what:36} {:8.0} ({:.0})", times[150], times[75]);
}
