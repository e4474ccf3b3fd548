//! A submission that is dropped at any point.

use std::{future::poll_fn, net::TcpListener, pin::pin, sync::mpsc, task::Poll, time::Duration};

use matrix_analytics::{BugReport, Rageshake};
use tokio::sync::Notify;

use super::{
    full_report,
    server::{Config, Fault, Server},
    submit, submitted,
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
        if polled(polls, report.submit(&server.endpoint(), |_, _| {})).await.is_some() {
            break;
        }
        let seen = server.seen();
        whole = whole.max(seen.bodies.len());
    }
    // Connections are accepted in their order, so the last one shows that all are known.
    server.wait_until(|seen| seen.opened > 0 && seen.ended == seen.opened).await;
    let seen = server.seen();
    // A report that had left as a whole arrives, even if its answer is not awaited.
    assert!(seen.reports.len() >= whole.max(1), "{whole}");
    assert!(seen.reports.iter().all(|received| received.files["large.png"].len() == 200 * 1024));
}

#[tokio::test]
async fn a_drop_while_the_server_reads_nothing_ends_the_connection() {
    let server = Server::start(Config { fault: Fault::ReadsNothing, ..Config::default() });
    let mut report = report();
    report.add_attachment("larger.png", vec![7; 32 * 1024 * 1024]).unwrap();
    let (task, mut progress) = submit(&server, &report);
    server.wait_until(|seen| seen.heads.len() == 1).await;
    progress.wait_for(|(sent, _)| *sent >= 1024 * 1024).await.unwrap();
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    let (sent, total) = *progress.borrow();
    assert!(sent < total, "the whole request left");
    server.set_fault(Fault::None);
    server.wait_until(|seen| seen.ended == 1).await;
    assert_eq!(server.seen().bodies.len(), 0);
    submitted(&server, &report).await;
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test ends even if this thread does not")]
fn a_runtime_shuts_down_though_a_submission_to_a_server_that_reads_nothing_is_kept() {
    // The system accepts the connection.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Rageshake::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let mut report = report();
    report.add_attachment("larger.png", vec![7; 32 * 1024 * 1024]).unwrap();
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let moved = Notify::new();
        let mut submission = Box::pin(report.submit(&server, |_, _| moved.notify_one()));
        runtime.block_on(async {
            tokio::select! {
                result = &mut submission => panic!("{result:?}"),
                () = moved.notified() => {}
            }
        });
        drop(runtime);
        drop(submission);
        done.send(()).unwrap();
    });
    // It takes a moment. The time is what a test that hangs waits for.
    is_done.recv_timeout(Duration::from_secs(60)).expect("the runtime does not shut down");
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
