//! Bug reports: what a user submits to a rageshake server.

mod content;
pub(crate) mod output;
pub(crate) mod part;

use std::{fmt, path::Path, sync::Arc};

use uuid::Uuid;

use self::{
    content::{Kind, Source},
    part::{APP, IDENTIFIERS, InvalidPart, LABEL, ReportPart, ReportPreview, TAIL},
};
use crate::guard::Guard;

/// A bug report that a user submits to a [`Rageshake`](crate::Rageshake) server.
///
/// A report is not telemetry: it leaves only when the app calls [`submit`](Self::submit) because
/// the user asked for that, whatever the consent to analytics. There is one attempt, no queue,
/// and nothing on disk. `docs/bug-reports.md` says what to ask the user.
///
/// The guard redacts every text in a report: the description, labels, metadata, logs, and
/// attachments in text form. A report with the user ID, the device ID or the device keys is sent
/// as it is, because it identifies the user anyway, unless [`redact_logs`](Self::redact_logs) was
/// called. The guard knows the identifiers of the session if the report comes from
/// [`Analytics::bug_report`](crate::Analytics::bug_report).
///
/// ```no_run
/// # async fn example(analytics: matrix_analytics::Analytics, logs: matrix_analytics::RecentLogs)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// use matrix_analytics::Rageshake;
///
/// let server = Rageshake::new("https://rageshake.example.org/api/submit")?;
/// let mut report = analytics.bug_report("example-app", "1.2.3");
/// report.set_text("The timeline stays empty");
/// report.set_metadata("os", "Linux")?;
/// report.add_log("recent.log", logs.text())?;
/// report.add_log_file("app.log", "/var/log/example-app.log")?;
/// for part in report.preview().await.parts {
///     println!("{}: {} bytes", part.field, part.bytes);
/// }
/// // After the user has seen the preview and agreed:
/// let submitted = report.submit(&server, |sent, total| println!("{sent} of {total}")).await?;
/// println!("{:?}", submitted.report_url);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct BugReport {
    pub(crate) parts: Vec<ReportPart>,
    guard: Arc<Guard>,
    always_redacts: bool,
    /// Separates the parts. It is random, so no part contains it.
    pub(crate) boundary: String,
}

/// Prints the number of parts only, because the parts are personal.
impl fmt::Debug for BugReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BugReport").field("parts", &self.parts.len()).finish_non_exhaustive()
    }
}

impl BugReport {
    /// The size of the largest request that a rageshake server takes, in bytes (`maxPayloadSize`
    /// in its `submit.go`).
    pub const MAX_BYTES: u64 = 55 * 1024 * 1024;

    /// The most that is read of one log, in bytes before compression. Of a longer log, the end
    /// is sent.
    pub const MAX_LOG_BYTES: u64 = 32 * 1024 * 1024;

    /// Creates a report for an app without a session, for example before the login.
    ///
    /// `app` is the name that the server knows the app by, and `version` that of the app. Both
    /// are sent as they are.
    #[must_use]
    pub fn new(app: impl Into<String>, version: impl Into<String>) -> Self {
        Self::with_guard(Guard::default(), app.into(), version.into())
    }

    pub(crate) fn with_guard(guard: Guard, app: String, version: String) -> Self {
        let boundary = Uuid::new_v4().simple().to_string();
        let (parts, guard) = (Vec::new(), Arc::new(guard));
        let mut report = Self { parts, guard, always_redacts: false, boundary };
        report.put_value(APP, Kind::Fixed, app);
        report.put_value("version", Kind::Fixed, version);
        report
    }

    /// Sets the description of the problem in the user's words. Many servers make its first line
    /// the title of a public issue.
    pub fn set_text(&mut self, text: impl Into<String>) {
        self.put_value("text", Kind::Text, text);
    }

    /// Adds a label, which a server can pass on to its issue tracker.
    pub fn add_label(&mut self, label: impl Into<String>) {
        self.put_value(LABEL, Kind::Text, label);
    }

    /// Sets a fact about the app or the device, such as the operating system. Replaces the value
    /// of an earlier call with the same `key`.
    ///
    /// # Errors
    ///
    /// [`InvalidPart::Key`].
    pub fn set_metadata(&mut self, key: &str, value: impl Into<String>) -> Result<(), InvalidPart> {
        part::check_key(key)?;
        self.put_value(key, Kind::Text, value);
        Ok(())
    }

    /// Adds a log that is in memory, such as [`RecentLogs::text`](crate::RecentLogs::text).
    /// Replaces an earlier log of this name, because the server would keep only one.
    ///
    /// It is sent compressed. A line of more than 60 KiB is replaced by a note, because the
    /// server would give up the log there.
    ///
    /// # Errors
    ///
    /// [`InvalidPart::FileName`] unless the name ends in `.log` or `.txt`.
    pub fn add_log(&mut self, name: &str, log: impl Into<Vec<u8>>) -> Result<(), InvalidPart> {
        self.put_log(name, Source::Memory(log.into().into()))
    }

    /// Adds a log file; otherwise like [`add_log`](Self::add_log). The file is read for the
    /// preview and for the submission. What is written to it after the preview is not sent.
    ///
    /// # Errors
    ///
    /// [`InvalidPart`], as for [`add_log`](Self::add_log). A missing file is no error here: see
    /// [`ReportPart::unreadable`].
    pub fn add_log_file(&mut self, name: &str, path: impl AsRef<Path>) -> Result<(), InvalidPart> {
        self.put_log(name, Source::File(path.as_ref().into()))
    }

    /// Adds an attachment that is in memory, such as a screenshot. Replaces an earlier one of this
    /// name. Only those in text form (`txt`, `json`) can be redacted, line by line.
    ///
    /// # Errors
    ///
    /// [`InvalidPart::FileName`] unless the name ends in `.jpg`, `.png`, `.txt` or `.json`, and has
    /// no other dot.
    pub fn add_attachment(
        &mut self,
        name: &str,
        content: impl Into<Vec<u8>>,
    ) -> Result<(), InvalidPart> {
        self.put_attachment(name, Source::Memory(content.into().into()))
    }

    /// Adds a file as an attachment; otherwise like [`add_attachment`](Self::add_attachment).
    ///
    /// # Errors
    ///
    /// [`InvalidPart`], as for [`add_attachment`](Self::add_attachment).
    pub fn add_attachment_file(
        &mut self,
        name: &str,
        path: impl AsRef<Path>,
    ) -> Result<(), InvalidPart> {
        self.put_attachment(name, Source::File(path.as_ref().into()))
    }

    /// Includes the user's Matrix ID. Call this only after the user has agreed: the texts of the
    /// report are then no longer redacted.
    pub fn include_user_id(&mut self, user_id: impl Into<String>) {
        self.put_value(IDENTIFIERS[0], Kind::Fixed, user_id);
    }

    /// Includes the ID of the device; otherwise like [`include_user_id`](Self::include_user_id).
    pub fn include_device_id(&mut self, device_id: impl Into<String>) {
        self.put_value(IDENTIFIERS[1], Kind::Fixed, device_id);
    }

    /// Includes the public keys of the device; otherwise like
    /// [`include_user_id`](Self::include_user_id).
    pub fn include_device_keys(&mut self, keys: impl Into<String>) {
        self.put_value(IDENTIFIERS[2], Kind::Fixed, keys);
    }

    /// Redacts the logs and the other texts even if the report has identifiers. Without
    /// identifiers they are redacted in any case.
    pub fn redact_logs(&mut self) {
        self.always_redacts = true;
    }

    /// Removes a part that a [`preview`](Self::preview) has shown, even if its content was replaced
    /// since then. The name of the app stays.
    pub fn remove(&mut self, part: &ReportPart) {
        self.parts.retain(|kept| kept.field == APP || !kept.has_place_of(part));
    }

    /// Returns the parts exactly as [`submit`](Self::submit) would send them, with their sizes.
    ///
    /// Reads the files, and records how much of each was read: a later submission sends the same,
    /// or fails. Another preview reads them again.
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, reading stops. The report can still be submitted.
    pub async fn preview(&mut self) -> ReportPreview {
        let guard = self.redacting_guard();
        for part in &mut self.parts {
            (part.content.range, part.bytes) = (None, 0);
            // The part shows the error.
            let _ = part.measure(guard.clone()).await;
        }
        let is_redacted = guard.is_some();
        ReportPreview { parts: self.parts.clone(), bytes: self.length(), is_redacted }
    }

    fn put_log(&mut self, name: &str, source: Source) -> Result<(), InvalidPart> {
        part::check_file_name(name, &["log", "txt"], "._-")?;
        self.put(ReportPart::new("compressed-log", Some(name), Kind::Log, source));
        Ok(())
    }

    fn put_attachment(&mut self, name: &str, source: Source) -> Result<(), InvalidPart> {
        let extension = part::check_file_name(name, &["jpg", "png", "txt", "json"], "_-")?;
        let is_text = matches!(extension, "txt" | "json");
        let kind = if is_text { Kind::Document } else { Kind::Image };
        self.put(ReportPart::new("file", Some(name), kind, source));
        Ok(())
    }

    fn put_value(&mut self, field: &str, kind: Kind, value: impl Into<String>) {
        self.put(ReportPart::new(field, None, kind, Source::Memory(value.into().into())));
    }

    fn put(&mut self, part: ReportPart) {
        self.parts.retain(|kept| !kept.has_place_of(&part));
        self.parts.push(part);
    }

    /// Returns the guard, if the texts of this report are redacted.
    pub(crate) fn redacting_guard(&self) -> Option<Arc<Guard>> {
        let identifies = self.parts.iter().any(|part| IDENTIFIERS.contains(&&*part.field));
        (self.always_redacts || !identifies).then(|| self.guard.clone())
    }

    /// Returns the size of the request, in bytes.
    pub(crate) fn length(&self) -> u64 {
        let around = |part: &ReportPart| (part.head(&self.boundary).len() + TAIL.len()) as u64;
        let parts = self.parts.iter().map(|part| around(part) + part.bytes);
        parts.sum::<u64>() + self.end().len() as u64
    }

    /// Returns the bytes after the last part.
    pub(crate) fn end(&self) -> String {
        format!("--{}--\r\n", self.boundary)
    }
}
