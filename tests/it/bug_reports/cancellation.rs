//! A submission that is dropped at any point.

use std::{future::poll_fn, pin::pin, task::Poll};

use futures_util::StreamExt as _;
use matrix_analytics::BugReport;

use super::{
    full_report,
    server::{Config, Fault, Server},
    submitted,
};

/// Polls `future` at most `times` times. Returns `None` if it is not done by then.
async fn polled<F: Future>(times: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        let polled = future.as_mut().poll(cx).map(Some);
        // At the last poll the future is dropped without being woken again.
        if polled.is_pending() && left == 0 { Poll::Ready(None) } else { polled }
    })
    .await
}

fn report() -> BugReport {
    let mut report = full_report();
    report.add_attachment("large.png", vec![7; 200 * 1024]).unwrap();
    report
}

#[tokio::test]
async fn no_request_goes_on_after_a_drop_at_any_point() {
    let server = Server::start(Config::default());
    let (report, mut whole) = (report(), 0);
    let mut polls = 0;
    loop {
        polls += 1;
        assert!(polls < 100_000);
        if polled(polls, report.submit(&server.endpoint())).await.is_some() {
            break;
        }
        let seen = server.seen();
        whole = whole.max(seen.bodies.len());
    }
    // Connections are accepted in their order, so the last one shows that all are known.
    server.wait_until(|seen| seen.opened > 0 && seen.ended == seen.opened).await;
    let seen = server.seen();
    let incomplete = seen.opened - seen.bodies.len();
    assert!(incomplete > 5, "{polls} polls, {} opened, {incomplete} incomplete", seen.opened);
    // A report that had left as a whole arrives, even if its answer is not awaited.
    assert!(seen.reports.len() >= whole.max(1), "{whole}");
    assert!(seen.reports.iter().all(|received| received.files["large.png"].len() == 200 * 1024));
}

#[tokio::test]
async fn a_drop_while_the_server_reads_nothing_ends_the_connection() {
    let server = Server::start(Config { fault: Fault::ReadsNothing, ..Config::default() });
    let mut report = report();
    report.add_attachment("larger.png", vec![7; 32 * 1024 * 1024]).unwrap();
    let total = report.preview().await.bytes;
    let submission = report.submit(&server.endpoint());
    let mut progress = submission.progress();
    let task = tokio::spawn(submission);
    server.wait_until(|seen| seen.heads.len() == 1).await;
    let mut sent = 0;
    while sent < 1024 * 1024 {
        sent = progress.next().await.unwrap().sent;
    }
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    let rest: Vec<_> = progress.collect().await;
    assert!(rest.iter().all(|step| step.sent < total), "the whole request left");
    server.set_fault(Fault::None);
    server.wait_until(|seen| seen.ended == 1).await;
    assert_eq!(server.seen().bodies.len(), 0);
    submitted(&server, &report).await;
}

#[tokio::test]
async fn a_preview_that_is_dropped_leaves_the_report_as_it_is() {
    let server = Server::start(Config::default());
    let mut report = report();
    for polls in 1..5 {
        let _ = polled(polls, report.preview()).await;
    }
    assert_eq!(submitted(&server, &report).await.logs["console.log.gz"], b"first\nsecond\n");
}
