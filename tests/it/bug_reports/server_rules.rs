//! What the real server does, row by row.

use matrix_analytics::{BugReport, EndpointError, Rageshake, SubmitError};

use super::{
    full_report, refused,
    server::{Config, Fault, Received, Rejection, Server, parts},
    submitted, values,
};

#[tokio::test]
async fn each_part_arrives_where_the_server_expects_it() {
    let server = Server::start(Config::default());
    let mut report = full_report();
    report.include_user_id("@alice:example.org");
    report.include_device_id("DEVICEID");
    report.include_device_keys("ed25519:abc");
    let data = [
        ("Version", "1.2.3"),
        ("device_id", "DEVICEID"),
        ("device_keys", "ed25519:abc"),
        ("os", "Linux"),
        ("user_id", "@alice:example.org"),
    ];
    let expected = Received {
        text: "The timeline stays empty".to_owned(),
        app: "example-app".to_owned(),
        labels: vec!["crash".to_owned(), "timeline".to_owned()],
        data: data.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        logs: [("console.log.gz".to_owned(), b"first\nsecond\n".to_vec())].into(),
        files: [
            ("push_rules.json".to_owned(), b"{\"a\":1}".to_vec()),
            ("screen.png".to_owned(), vec![0x89, b'P', 0, 255, b'\r', b'\n']),
        ]
        .into(),
        errors: Vec::new(),
    };
    assert_eq!(submitted(&server, &report).await, expected);
}

#[tokio::test]
async fn the_request_has_a_length_and_nothing_that_was_not_asked_for() {
    let server = Server::start(Config::default());
    let mut report = full_report();
    let bytes = report.preview().await.bytes;
    submitted(&server, &report).await;
    let head = server.seen().heads.pop().unwrap().to_lowercase();
    let mut names: Vec<_> =
        head.lines().skip(1).filter_map(|l| Some(l.split_once(':')?.0)).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "content-length", "content-type", "host"]);
    assert!(head.contains(&format!("content-length: {bytes}\r\n")), "{head}");
}

#[tokio::test]
async fn the_preview_is_what_is_sent_part_by_part() {
    let server = Server::start(Config::default());
    let mut report = full_report();
    report.set_text("I am @alice:example.org");
    let preview = report.preview().await;
    submitted(&server, &report).await;
    let seen = server.seen();
    let content_type = seen.heads[0].lines().find_map(|line| line.split_once("boundary="));
    let sent = parts(content_type.unwrap().1, &seen.bodies[0]).unwrap();
    assert_eq!(sent.len(), preview.parts.len());
    for (sent, shown) in sent.iter().zip(&preview.parts) {
        assert_eq!(sent.field, shown.field);
        assert_eq!(sent.file_name, shown.file_name.as_deref().unwrap_or_default());
        assert_eq!(sent.content.len() as u64, shown.bytes, "{}", shown.field);
        if let Some(value) = &shown.value {
            assert_eq!(sent.content, value.as_bytes());
        }
    }
    assert_eq!(preview.bytes, seen.bodies[0].len() as u64);
    assert!(values(&preview).contains(&("text", "I am [user_id]")), "{preview:?}");
    let log = preview.parts.iter().find(|part| part.field == "compressed-log").unwrap();
    assert_eq!(log.content().await.unwrap(), b"first\nsecond\n");
}

#[tokio::test]
async fn each_part_but_the_app_can_be_removed() {
    let server = Server::start(Config::default());
    let mut report = full_report();
    for part in report.preview().await.parts {
        report.remove(&part);
    }
    let expected = Received { app: "example-app".to_owned(), ..Received::default() };
    assert_eq!(submitted(&server, &report).await, expected);
}

#[tokio::test]
async fn the_url_of_the_issue_is_returned_if_the_server_has_one() {
    let url = "https://issues.example.org/1";
    for report_url in [None, Some(url)] {
        let server = Server::start(Config { report_url, ..Config::default() });
        let answer = full_report().submit(&server.endpoint(), |_, _| {}).await.unwrap();
        assert_eq!(answer.report_url.as_deref(), report_url);
    }
}

#[tokio::test]
async fn a_disallowed_app_is_told_the_policy() {
    let server = Server::start(Config { allowed_apps: &["element-x"], ..Config::default() });
    let SubmitError::DisallowedApp(refusal) = refused(&server, &full_report()).await else {
        panic!("another error");
    };
    assert_eq!(refusal.code, "DISALLOWED_APP");
    assert!(refusal.policy_url.unwrap().ends_with("blocked_rageshake.md"));
    let server = Server::start(Config { allowed_apps: &["example-app"], ..Config::default() });
    submitted(&server, &full_report()).await;
}

#[tokio::test]
async fn a_rejection_has_its_code_and_its_reason() {
    let (reason, code) = ("it matches a recovery key", "REJECTED_UNEXPECTED_RECOVERY_KEY");
    for (rejection, code) in [
        (Rejection { text: "timeline", reason, code, ..Rejection::default() }, code),
        (Rejection { version: "1.2.3", reason, ..Rejection::default() }, "REJECTED"),
        (Rejection { label: "crash", reason, ..Rejection::default() }, "REJECTED"),
    ] {
        let server = Server::start(Config { rejection: Some(rejection), ..Config::default() });
        let error = refused(&server, &full_report()).await;
        let SubmitError::Rejected(refusal) = error else { panic!("{error:?}") };
        assert_eq!(refusal.code, code);
        assert!(refusal.message.unwrap().contains(reason));
        assert!(refusal.policy_url.is_some());
    }
}

#[tokio::test]
async fn too_many_log_lines_are_bad_content() {
    for (most, is_taken) in [(2, false), (3, true)] {
        let server = Server::start(Config { max_log_lines: Some(most), ..Config::default() });
        let result = full_report().submit(&server.endpoint(), |_, _| {}).await;
        match result {
            Ok(_) => assert!(is_taken),
            Err(SubmitError::BadContent) => assert!(!is_taken),
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[tokio::test]
async fn a_report_over_the_limit_opens_no_connection() {
    let server = Server::start(Config::default());
    let mut report = BugReport::new("example-app", "1");
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(BugReport::MAX_BYTES).unwrap();
    report.add_attachment_file("large.png", file.path()).unwrap();
    assert!(report.preview().await.bytes > BugReport::MAX_BYTES);
    assert!(matches!(refused(&server, &report).await, SubmitError::TooLarge));
    assert_eq!(server.seen().opened, 0);
}

#[tokio::test]
async fn the_largest_report_is_taken() {
    let server = Server::start(Config::default());
    let mut report = BugReport::new("example-app", "1");
    report.add_attachment("large.png", []).unwrap();
    let around = report.preview().await.bytes;
    let mut report = BugReport::new("example-app", "1");
    let content = vec![7; (BugReport::MAX_BYTES - around) as usize];
    report.add_attachment("large.png", content.clone()).unwrap();
    assert!(submitted(&server, &report).await.files["large.png"] == content);
}

#[tokio::test]
async fn a_failure_of_the_server_has_its_status() {
    let server = Server::start(Config { fault: Fault::Disk, ..Config::default() });
    let error = refused(&server, &full_report()).await;
    assert!(matches!(error, SubmitError::Status(500)), "{error:?}");
}

#[tokio::test]
async fn a_line_that_ends_a_log_on_the_server_is_left_out() {
    let server = Server::start(Config::default());
    let mut report = BugReport::new("example-app", "1");
    let long = "x".repeat(64 * 1024);
    report.add_log("a.log", format!("before\n{long}\nafter\n")).unwrap();
    let received = submitted(&server, &report).await;
    assert_eq!(received.errors, Vec::<String>::new());
    let log = String::from_utf8_lossy(&received.logs["a.log.gz"]);
    assert_eq!(log, "before\n[a line of 65537 bytes was left out]\nafter\n");
}

#[tokio::test]
async fn a_file_replaces_one_of_its_name_because_the_server_keeps_the_last() {
    let server = Server::start(Config::default());
    let mut report = full_report();
    report.add_log("console.log", "later\n").unwrap();
    report.add_attachment("screen.png", "later").unwrap();
    assert_eq!(report.preview().await.parts.len(), full_report().preview().await.parts.len());
    let Received { logs, files, .. } = submitted(&server, &report).await;
    assert_eq!(logs["console.log.gz"], b"later\n");
    assert_eq!(files["screen.png"], b"later");
}

#[tokio::test]
async fn a_part_is_removed_even_if_its_content_was_replaced_since_the_preview() {
    let server = Server::start(Config::default());
    let mut report = full_report();
    let shown = report.preview().await.parts;
    report.add_log("console.log", "later\n").unwrap();
    report.set_metadata("os", "later").unwrap();
    for part in shown.iter().filter(|part| part.field == "compressed-log" || part.field == "os") {
        report.remove(part);
    }
    let crash = shown.iter().find(|part| part.value.as_deref() == Some("crash"));
    report.remove(crash.unwrap());
    let Received { logs, labels, data, .. } = submitted(&server, &report).await;
    assert!(logs.is_empty() && !data.contains_key("os"), "{logs:?} {data:?}");
    assert_eq!(labels, ["timeline"], "of the labels, only one");
}

#[tokio::test]
async fn values_replace_earlier_ones_and_labels_add_up() {
    let server = Server::start(Config::default());
    let mut report = BugReport::new("example-app", "1");
    for value in ["a", "b"] {
        report.set_text(value);
        report.set_metadata("os", value).unwrap();
        report.add_label(value);
    }
    let Received { text, data, labels, .. } = submitted(&server, &report).await;
    assert_eq!((&*text, &*data["os"], labels), ("b", "b", vec!["a".to_owned(), "b".to_owned()]));
}

#[test]
fn an_endpoint_that_cannot_be_right_is_refused() {
    let error = |endpoint| Rageshake::new(endpoint).unwrap_err();
    assert!(matches!(error("rageshake"), EndpointError::Url(_)));
    assert!(matches!(error("ftp://example.org/"), EndpointError::Scheme));
    assert!(matches!(error("file:///etc/passwd"), EndpointError::Scheme));
    for endpoint in ["https://a:b@example.org/", "https://a@example.org/"] {
        let error = error(endpoint);
        assert!(matches!(error, EndpointError::Credentials));
        assert!(!format!("{error:?} {error}").contains("a@"));
    }
    assert!(matches!(error("https://example.org/?key=1"), EndpointError::Query));
    assert!(matches!(error("https://example.org/#a"), EndpointError::Query));
    let server = Rageshake::new("https://example.org/secret/submit").unwrap();
    assert!(!format!("{server:?}").contains("secret"));
}

#[tokio::test]
async fn a_certificate_that_is_none_is_an_error_before_any_connection() {
    let server = Server::start(Config::default());
    let broken = reqwest::Certificate::from_der(b"no certificate").unwrap();
    let endpoint = server.endpoint().root_certificate(broken);
    let error = full_report().submit(&endpoint, |_, _| {}).await.unwrap_err();
    assert!(matches!(error, SubmitError::Connection(_)), "{error:?}");
    submitted(&server, &full_report()).await;
    assert_eq!(server.seen().opened, 1);
}
