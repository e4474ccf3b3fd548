//! A network and a server that fail: a typed error, and a report that can be submitted again.

use std::time::Duration;

use matrix_analytics::{BugReport, SubmitError};

use super::{
    full_report, refused,
    server::{Config, Fault, Server},
    submit, submitted,
};
use crate::support::{FrozenTime, eventually};

/// Returns a report of more than the 100,000 bytes after which a connection is reset.
fn long_report() -> BugReport {
    let mut report = full_report();
    report.add_attachment("long.png", vec![7; 200 * 1024]).unwrap();
    report
}

/// Returns a report that the buffers of a connection cannot hold.
fn large_report() -> BugReport {
    let mut report = full_report();
    report.add_attachment("large.png", vec![7; 8 * 1024 * 1024]).unwrap();
    report
}

#[tokio::test]
async fn after_each_fault_the_report_can_be_submitted_again() {
    let server = Server::start(Config::default());
    for (fault, expected) in [
        (Fault::Page("413 Request Entity Too Large"), "the report is too large"),
        (Fault::EarlyPage, "the report is too large"),
        (Fault::Page("400 Bad Request"), "the server answered with HTTP status 400"),
        (Fault::Page("200 OK"), "the server answered with HTTP status 200"),
        (Fault::Page("302 Found"), "the server answered with HTTP status 302"),
        (Fault::Page("307 Temporary Redirect"), "the server answered with HTTP status 307"),
        (Fault::Page("404 Not Found"), "the server answered with HTTP status 404"),
        (Fault::Page("502 Bad Gateway"), "the server answered with HTTP status 502"),
        (Fault::Reset(0), "the server did not answer"),
        (Fault::Reset(100_000), "the server did not answer"),
        (Fault::Disk, "the server answered with HTTP status 500"),
    ] {
        // An answer that comes early does so while a part of the report has not been sent.
        let report = if fault == Fault::EarlyPage { large_report() } else { long_report() };
        server.set_fault(fault);
        assert_eq!(refused(&server, &report).await.to_string(), expected, "{fault:?}");
        server.set_fault(Fault::None);
        let before = server.seen().reports.len();
        submitted(&server, &report).await;
        assert_eq!(server.seen().reports.len(), before + 1, "{fault:?}");
    }
    let seen = server.seen();
    assert_eq!(seen.opened, 22, "one connection for each attempt: nothing is retried or followed");
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_an_error_without_the_endpoint() {
    let server = Server::start(Config::default());
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let report = full_report();
    let nowhere = matrix_analytics::Rageshake::new(&format!("http://{address}/secret")).unwrap();
    let error = report.submit(&nowhere, |_, _| {}).await.unwrap_err();
    assert!(matches!(error, SubmitError::Connection(_)), "{error:?}");
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    submitted(&server, &report).await;
}

#[tokio::test]
async fn a_server_that_reads_nothing_or_never_answers_has_stalled() {
    let _frozen = FrozenTime::new();
    for fault in [Fault::ReadsNothing, Fault::Silent] {
        let server = Server::start(Config { fault, ..Config::default() });
        let report = large_report();
        let (mut submission, mut progress) = submit(&server, &report);
        // The system takes a part of the request, and then no more.
        loop {
            tokio::select! {
                biased;
                Ok(()) = progress.changed() => {}
                () = quiet() => break,
            }
        }
        let (sent, _) = *progress.borrow();
        tokio::time::advance(Duration::from_secs(59)).await;
        quiet().await;
        assert!(!submission.is_finished(), "{fault:?}");
        tokio::time::advance(Duration::from_secs(61)).await;
        let result = eventually(&mut submission).await.unwrap();
        assert!(matches!(result, Err(SubmitError::Stalled)), "{fault:?} {result:?}");
        assert!(sent > 0, "{fault:?}");
        server.set_fault(Fault::None);
        submitted(&server, &report).await;
    }
}

/// Lets everything happen that needs no time, on this thread and on others.
async fn quiet() {
    for _ in 0..200 {
        tokio::task::spawn_blocking(std::thread::yield_now).await.unwrap();
    }
}

#[tokio::test]
async fn the_progress_goes_from_nothing_to_the_whole_request() {
    let server = Server::start(Config::default());
    let mut report = large_report();
    let total = report.preview().await.bytes;
    let mut steps = Vec::new();
    let on_progress = |sent, of| steps.push((sent, of));
    report.submit(&server.endpoint(), on_progress).await.unwrap();
    assert!(steps.is_sorted() && steps.iter().all(|(_, of)| *of == total));
    assert_eq!(*steps.last().unwrap(), (total, total));
    assert!(steps.len() > 2, "{steps:?}");
}

#[tokio::test]
async fn a_submission_that_is_not_polled_does_nothing() {
    let server = Server::start(Config::default());
    drop(full_report().submit(&server.endpoint(), |_, _| {}));
    submitted(&server, &full_report()).await;
    assert_eq!(server.seen().opened, 1);
}
