//! Bug reports, submitted to a double of the rageshake server.

mod cancellation;
mod failures;
mod files;
mod privacy;
mod recent_logs;
mod server;
mod server_rules;

use matrix_analytics::{BugReport, ReportPreview, SubmitError, Submitted};
use tokio::{sync::watch, task::JoinHandle};

use self::server::{Received, Server};

/// Returns a report with one part of each kind.
fn full_report() -> BugReport {
    let mut report = BugReport::new("example-app", "1.2.3");
    report.set_text("The timeline stays empty");
    report.add_label("crash");
    report.add_label("timeline");
    report.set_metadata("os", "Linux").unwrap();
    report.add_log("console.log", "first\nsecond\n").unwrap();
    report.add_attachment("screen.png", [0x89, b'P', 0, 255, b'\r', b'\n']).unwrap();
    report.add_attachment("push_rules.json", "{\"a\":1}").unwrap();
    report
}

/// Submits `report`, which must be taken, and returns what the server has of it.
async fn submitted(server: &Server, report: &BugReport) -> Received {
    report.submit(&server.endpoint(), |_, _| {}).await.unwrap();
    server.seen().reports.pop().unwrap()
}

async fn refused(server: &Server, report: &BugReport) -> SubmitError {
    report.submit(&server.endpoint(), |_, _| {}).await.unwrap_err()
}

type SubmissionTask = JoinHandle<Result<Submitted, SubmitError>>;

/// Submits `report` in a task. Returns it with the number of bytes sent, and of those to send.
fn submit(server: &Server, report: &BugReport) -> (SubmissionTask, watch::Receiver<(u64, u64)>) {
    let (progress, reader) = watch::channel((0, 0));
    let (report, server) = (report.clone(), server.endpoint());
    let task = tokio::spawn(async move {
        let on_progress = |sent, total| progress.send_modify(|known| *known = (sent, total));
        report.submit(&server, on_progress).await
    });
    (task, reader)
}

/// Returns the text of each part that is not a file, by its field.
fn values(preview: &ReportPreview) -> Vec<(&str, &str)> {
    let parts = preview.parts.iter();
    parts.filter_map(|part| Some((&*part.field, part.value.as_deref()?))).collect()
}
