//! The guard in a report, identifiers by methods that name them, and silence without a submission.

use matrix_analytics::{Analytics, BugReport, Detector, testing::GuardProbe};

use super::{
    full_report,
    server::{Config, Received, Server},
    submitted, values,
};
use crate::support::{ALICE, AnalyticsExt as _, World, eventually};

const CANARIES: &str = include_str!("../../data/guard/canaries.tsv");

fn canaries() -> impl Iterator<Item = &'static str> {
    CANARIES.lines().filter_map(|line| Some(line.split_once('\t')?.1))
}

/// Returns everything that the server has of a report as text.
fn text(received: &Received) -> String {
    let files = received.logs.values().chain(received.files.values());
    let files: String = files.map(|file| String::from_utf8_lossy(file)).collect();
    let Received { text, labels, data, .. } = received;
    format!("{text} {labels:?} {data:?} {files}")
}

/// Puts `canary` in every place of a report that can have a text.
fn everywhere(report: &mut BugReport, number: usize, canary: &str) {
    report.set_text(format!("I am {canary}, and my problem is"));
    report.add_label(canary);
    report.set_metadata(&format!("value-{number}"), canary).unwrap();
    report.add_log(&format!("{number}.log"), format!("a\nsent to {canary}\r\n{canary}\n")).unwrap();
    let json = serde_json::json!({ "a": [canary] });
    report.add_attachment(&format!("{number}.json"), format!("{json:#}")).unwrap();
    report.add_attachment(&format!("{number}.txt"), canary).unwrap();
}

#[tokio::test]
async fn no_canary_of_the_guard_leaves_in_any_text() {
    let world = World::new().await;
    // One of the canaries is the ID of this device.
    let login = world.server.add_device("@canaryself:canary-home.example", "CANARYDEVX");
    let analytics = world.device_of(login).await.builder().build().await.unwrap();
    let server = Server::start(Config::default());
    for (number, canary) in canaries().enumerate() {
        let mut report = analytics.bug_report("example-app", "1");
        everywhere(&mut report, number, canary);
        let text = text(&eventually(submitted(&server, &report)).await);
        assert!(!text.contains(canary), "{canary} in {text}");
        assert!(text.contains("my problem is"), "{text}");
    }
}

#[tokio::test]
async fn the_identifiers_of_the_session_and_the_detectors_of_the_app_are_known() {
    struct Ticket;

    impl Detector for Ticket {
        fn name(&self) -> &'static str {
            "ticket"
        }

        fn find(&self, text: &str) -> Vec<std::ops::Range<usize>> {
            text.match_indices("TICKET").map(|(at, found)| at..at + found.len()).collect()
        }
    }

    let world = World::new().await;
    let login = world.server.add_device("@caroline:home.example", "MYDEVICEX");
    let token = login.access_token.clone();
    let device = world.device_of(login).await;
    let analytics = device.builder().detector(Ticket).build().await.unwrap();
    let mut report = analytics.bug_report("example-app", "1");
    report.set_text(format!("caroline MYDEVICEX {token} TICKET chat.home.example"));
    let preview = eventually(report.preview()).await;
    let expected = "[user_id] [device_id] [token] [ticket] [server_name]";
    assert!(values(&preview).contains(&("text", expected)), "{:?}", values(&preview));
    assert!(analytics.stats().guarded.is_empty(), "nothing is counted");
}

#[tokio::test]
async fn a_report_with_an_identifier_is_sent_as_it_is_unless_its_logs_are_redacted() {
    let server = Server::start(Config::default());
    let secret = "from @bob:example.org";
    for (redacts, expected) in [(false, secret), (true, "from [user_id]")] {
        let mut report = BugReport::new("example-app", "1");
        report.set_text(secret);
        report.add_log("a.log", secret).unwrap();
        report.add_attachment("a.json", secret).unwrap();
        report.include_user_id(ALICE);
        if redacts {
            report.redact_logs();
        }
        assert_eq!(report.preview().await.is_redacted, redacts);
        let received = submitted(&server, &report).await;
        assert_eq!(received.data["user_id"], ALICE);
        assert_eq!(received.text, expected);
        assert_eq!(received.logs["a.log.gz"], expected.as_bytes());
        assert_eq!(received.files["a.json"], expected.as_bytes());
    }
}

#[tokio::test]
async fn the_texts_are_redacted_again_once_the_user_has_removed_the_identifiers() {
    let server = Server::start(Config::default());
    let mut report = BugReport::new("example-app", "1");
    report.add_log("a.log", "from @bob:example.org").unwrap();
    report.include_user_id(ALICE);
    let shown = report.preview().await.parts.pop().unwrap();
    assert_eq!(shown.value.as_deref(), Some(ALICE));
    report.remove(&shown);
    let received = submitted(&server, &report).await;
    assert_eq!(received.logs["a.log.gz"], b"from [user_id]");
    assert!(!received.data.contains_key("user_id"));
}

/// Texts made of identifiers, separators and words, in an order that a seed decides.
#[tokio::test]
async fn each_line_of_a_log_leaves_as_the_guard_redacts_it() {
    let probe = GuardProbe::default();
    let pieces: Vec<_> = canaries()
        .chain([
            "@a:b.c", "word", " ", ":", "\"", "%40", "\\u0040", "ä", "=", "password", "1.2.3.4",
        ])
        .collect();
    for seed in 0..50 {
        let mut random = random_below(seed);
        let mut log = String::new();
        for _ in 0..40 {
            for _ in 0..random(8) {
                log.push_str(pieces[random(pieces.len())]);
            }
            log.push_str(["\n", "\r\n"][random(2)]);
        }
        let mut report = BugReport::new("example-app", "1");
        report.add_log("a.log", log.clone()).unwrap();
        let content = report.preview().await.parts.pop().unwrap().content().await.unwrap();
        let expected: Vec<_> = log.lines().map(|line| probe.redact(line)).collect();
        let content = String::from_utf8(content).unwrap();
        assert_eq!(content.lines().collect::<Vec<_>>(), expected, "seed {seed}");
    }
}

/// Returns a generator of numbers below a bound (xorshift64).
fn random_below(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    }
}

#[tokio::test]
async fn nothing_of_a_report_is_printed() {
    let mut report = full_report();
    report.include_user_id(ALICE);
    report.set_text("words of a person");
    let preview = report.preview().await;
    let server = Server::start(Config::default());
    let printed = format!("{report:?} {preview:?} {:?}", server.endpoint());
    for secret in ["alice", "words of a person", "timeline", "Linux"] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
}

#[tokio::test]
async fn a_report_can_be_submitted_whatever_the_consent_to_analytics() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let server = Server::start(Config::default());
    let (analytics, recorder): (Analytics, _) = device.start_confirmed().await;
    for consent in [None, Some(true), Some(false)] {
        match consent {
            None => {}
            Some(true) => analytics.opt_in_and_settle().await,
            Some(false) => drop(eventually(analytics.opt_out().into_future()).await),
        }
        let before = (analytics.state(), analytics.stats());
        let report = analytics.bug_report("example-app", "1");
        eventually(submitted(&server, &report)).await;
        assert_eq!((analytics.state(), analytics.stats()), before, "{consent:?}");
    }
    assert!(recorder.events().is_empty());
}
