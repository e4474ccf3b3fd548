//! A bug report: what the user sees of it before it is submitted.

use matrix_analytics::{
    Analytics, BugReport, Rageshake, RecentLogs, ReportPart, ReportPreview, SubmitError,
};
use matrix_analytics_examples::chain;

use crate::text::Entry;

/// A report, and what it would send.
#[derive(Debug)]
pub(crate) struct Draft {
    report: BugReport,
    preview: ReportPreview,
}

/// Returns a report about the device of `analytics`. An app would ask for the description.
pub(crate) fn new(analytics: &Analytics, logs: &RecentLogs) -> BugReport {
    let mut report = analytics.bug_report("settings-example", env!("CARGO_PKG_VERSION"));
    report.set_text("A problem with the settings page");
    // The names are constants that a rageshake server takes.
    let _ = report.set_metadata("analytics", analytics.state().decision.as_str());
    let _ = report.add_log("recent.log", logs.text());
    report
}

impl Draft {
    pub(crate) async fn of(mut report: BugReport) -> Self {
        let preview = report.preview().await;
        Self { report, preview }
    }

    /// Returns the report without the part of this number.
    pub(crate) fn without(mut self, number: usize) -> BugReport {
        if let Some(part) = self.preview.parts.get(number) {
            self.report.remove(part);
        }
        self.report
    }

    pub(crate) fn with_user_id(mut self, user: &str) -> BugReport {
        self.report.include_user_id(user);
        self.report
    }

    pub(crate) fn report(&self) -> &BugReport {
        &self.report
    }

    /// Returns everything that would be sent.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let ReportPreview { parts, bytes, is_redacted, .. } = &self.preview;
        let redacted = if *is_redacted {
            "Personal data in texts and logs is replaced."
        } else {
            "Texts and logs are sent as they are, because the report says who you are."
        };
        let mut entries = vec![Entry::Heading("This would be sent to the developers".to_owned())];
        for (number, part) in (1..).zip(parts) {
            entries.push(Entry::Item(format!("{number}  {}", name(part))));
            entries.push(Entry::Detail(content(part)));
        }
        entries.push(Entry::Heading(format!("{bytes} bytes in all")));
        entries.push(Entry::Detail(redacted.to_owned()));
        entries
    }
}

fn name(part: &ReportPart) -> &str {
    part.file_name.as_ref().unwrap_or(&part.field)
}

fn content(part: &ReportPart) -> String {
    match (&part.value, part.unreadable) {
        (_, Some(error)) => format!("cannot be read: {error}"),
        (Some(value), _) => value.clone(),
        (None, _) => format!("{} bytes, compressed", part.bytes),
    }
}

/// Submits the report, and returns the outcome for the user.
pub(crate) async fn submit(report: BugReport, server: Rageshake) -> String {
    match report.submit(&server, |_, _| {}).await {
        Ok(submitted) => match submitted.report_url {
            Some(url) => format!("Submitted. Follow it at {url}"),
            None => "Submitted. Thank you.".to_owned(),
        },
        Err(SubmitError::DisallowedApp(refusal) | SubmitError::Rejected(refusal)) => {
            format!("Refused. The server says why at {}", refusal.policy_url.unwrap_or_default())
        }
        Err(error) => format!("Not submitted: {}. You can try again.", chain(&error)),
    }
}
