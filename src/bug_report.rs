//! Bug reports: what a user submits to a rageshake server.

mod answer;
mod content;
mod lines;
pub(crate) mod outcome;
pub(crate) mod part;
pub(crate) mod rageshake;
pub(crate) mod submission;

use std::{fmt, io, sync::Arc};

use uuid::Uuid;

use self::{
    content::{Content, Source},
    part::{InvalidPart, Part, PartId, ReportPreview},
    rageshake::Rageshake,
    submission::Submission,
};
use crate::guard::Guard;

/// Tests the example in `docs/bug-reports.md`.
#[cfg(doctest)]
#[doc = include_str!("../docs/bug-reports.md")]
struct BugReportsPage;

/// A bug report that a user submits to a [`Rageshake`] server.
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
/// let submitted = report.submit(&server).await?;
/// println!("{:?}", submitted.report_url);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct BugReport {
    parts: Vec<Part>,
    next_id: u32,
    guard: Arc<Guard>,
    always_redacts: bool,
    /// Separates the parts. It is random, so no part contains it.
    boundary: String,
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
        let mut report = Self { parts, next_id: 0, guard, always_redacts: false, boundary };
        report.set(part::APP, Content::Plain(app));
        report.set("version", Content::Plain(version));
        report
    }

    /// Sets the description of the problem in the user's words. Many servers make its first line
    /// the title of a public issue.
    pub fn set_text(&mut self, text: impl Into<String>) {
        self.set("text", Content::Value(text.into()));
    }

    /// Adds a label, which a server can pass on to its issue tracker.
    pub fn add_label(&mut self, label: impl Into<String>) {
        self.push("label", None, Content::Value(label.into()));
    }

    /// Sets a fact about the app or the device, such as the operating system. Replaces the value
    /// of an earlier call with the same `key`.
    ///
    /// # Errors
    ///
    /// [`InvalidPart`] if the key has other characters than ASCII letters, digits, `_`, `-` and
    /// `.`, or if it is the name of a field that has a method of its own.
    pub fn set_metadata(&mut self, key: &str, value: impl Into<String>) -> Result<(), InvalidPart> {
        part::check_key(key)?;
        self.set(key, Content::Value(value.into()));
        Ok(())
    }

    /// Adds a log that is in memory, such as [`RecentLogs::text`](crate::RecentLogs::text).
    ///
    /// It is sent compressed. A line of more than 60 KiB is replaced by a note, because the
    /// server would give up the log there.
    ///
    /// # Errors
    ///
    /// [`InvalidPart`] unless the name ends in `.log` or `.txt`, consists of ASCII letters, digits,
    /// `_`, `-` and `.`, and is not in use yet.
    pub fn add_log(&mut self, name: &str, log: impl Into<Vec<u8>>) -> Result<(), InvalidPart> {
        self.push_log(name, Source::Memory(log.into().into()))
    }

    /// Adds a log file; otherwise like [`add_log`](Self::add_log). The file is read for the
    /// preview and for the submission. What is written to it after the preview is not sent.
    ///
    /// # Errors
    ///
    /// [`InvalidPart`], as for [`add_log`](Self::add_log). A missing file is no error here: see
    /// [`ReportPart::unreadable`].
    pub fn add_log_file(
        &mut self,
        name: &str,
        path: impl Into<std::path::PathBuf>,
    ) -> Result<(), InvalidPart> {
        self.push_log(name, Source::File(path.into().into()))
    }

    /// Adds an attachment that is in memory, such as a screenshot. Only those in text form
    /// (`txt`, `json`) can be redacted, line by line.
    ///
    /// # Errors
    ///
    /// [`InvalidPart`] unless the name ends in `.jpg`, `.png`, `.txt` or `.json`, consists of ASCII
    /// letters, digits, `_` and `-` before that, and is not in use yet.
    pub fn add_attachment(
        &mut self,
        name: &str,
        bytes: impl Into<Vec<u8>>,
    ) -> Result<(), InvalidPart> {
        self.push_attachment(name, Source::Memory(bytes.into().into()))
    }

    /// Adds a file as an attachment; otherwise like [`add_attachment`](Self::add_attachment).
    ///
    /// # Errors
    ///
    /// [`InvalidPart`], as for [`add_attachment`](Self::add_attachment).
    pub fn add_attachment_file(
        &mut self,
        name: &str,
        path: impl Into<std::path::PathBuf>,
    ) -> Result<(), InvalidPart> {
        self.push_attachment(name, Source::File(path.into().into()))
    }

    /// Includes the user's Matrix ID. Call this only after the user has agreed: the texts of the
    /// report are then no longer redacted.
    pub fn include_user_id(&mut self, user_id: impl Into<String>) {
        self.set("user_id", Content::Identifier(user_id.into()));
    }

    /// Includes the ID of the device; otherwise like [`include_user_id`](Self::include_user_id).
    pub fn include_device_id(&mut self, device_id: impl Into<String>) {
        self.set("device_id", Content::Identifier(device_id.into()));
    }

    /// Includes the public keys of the device; otherwise like
    /// [`include_user_id`](Self::include_user_id).
    pub fn include_device_keys(&mut self, keys: impl Into<String>) {
        self.set("device_keys", Content::Identifier(keys.into()));
    }

    /// Redacts the logs and the other texts even if the report has identifiers. Without
    /// identifiers they are redacted in any case.
    pub fn redact_logs(&mut self) {
        self.always_redacts = true;
    }

    /// Removes a part. Returns whether there was such a part; the name of the app stays.
    pub fn remove(&mut self, id: PartId) -> bool {
        let before = self.parts.len();
        self.parts.retain(|part| part.id != id || part.field == part::APP);
        self.parts.len() < before
    }

    /// Returns the parts exactly as [`submit`](Self::submit) would send them, with their sizes.
    ///
    /// Reads the files, and keeps in mind how much of each was read: a later submission sends
    /// the same, or fails. Another preview reads them again.
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime, if there is a log or a file.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, reading stops. The report can still be submitted.
    pub async fn preview(&mut self) -> ReportPreview {
        let guard = self.redacting_guard();
        let mut parts = Vec::new();
        let mut bytes = self.end().len() as u64;
        for part in &mut self.parts {
            part.measured = None;
            let shown = part.preview(guard.as_ref()).await;
            bytes += part.head(&self.boundary).len() as u64 + shown.bytes + part::TAIL.len() as u64;
            parts.push(shown);
        }
        ReportPreview { parts, bytes, is_redacted: guard.is_some() }
    }

    /// Returns the content of a part as it would be sent, before compression, for the user to
    /// read; `None` if there is no such part.
    ///
    /// # Errors
    ///
    /// Fails if the part's file cannot be read.
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect on the report.
    pub async fn content(&self, id: PartId) -> io::Result<Option<Vec<u8>>> {
        let Some(part) = self.parts.iter().find(|part| part.id == id) else { return Ok(None) };
        let mut pieces = part.open(self.redacting_guard(), false).await?;
        let mut content = Vec::new();
        while let Some(piece) = pieces.next().await? {
            content.extend_from_slice(&piece);
        }
        Ok(Some(content))
    }

    /// Submits the report to `server`, once.
    ///
    /// Nothing happens before the returned future is polled, and the report stays as it is, so
    /// it can be submitted again.
    pub fn submit(&self, server: &Rageshake) -> Submission {
        Submission::new(self.clone(), server.clone())
    }

    fn set(&mut self, field: &str, content: Content) {
        self.parts.retain(|part| part.field != field);
        self.push(field, None, content);
    }

    fn push_log(&mut self, name: &str, source: Source) -> Result<(), InvalidPart> {
        part::check_log_name(name)?;
        self.push_file("compressed-log", name, Content::Log(source))
    }

    fn push_attachment(&mut self, name: &str, source: Source) -> Result<(), InvalidPart> {
        let is_text = part::is_text_attachment(name)?;
        let content = if is_text { Content::Text(source) } else { Content::Binary(source) };
        self.push_file("file", name, content)
    }

    fn push_file(&mut self, field: &str, name: &str, content: Content) -> Result<(), InvalidPart> {
        let mut names = self.parts.iter().filter_map(|part| part.file_name.as_ref());
        if names.any(|used| used.eq_ignore_ascii_case(name)) {
            return Err(InvalidPart::DuplicateName);
        }
        self.push(field, Some(name.to_owned()), content);
        Ok(())
    }

    fn push(&mut self, field: &str, file_name: Option<String>, content: Content) {
        let id = PartId(self.next_id);
        self.next_id += 1;
        self.parts.push(Part { id, field: field.to_owned(), file_name, content, measured: None });
    }

    /// Returns the guard, if the texts of this report are redacted.
    fn redacting_guard(&self) -> Option<Arc<Guard>> {
        let identifies =
            self.parts.iter().any(|part| matches!(part.content, Content::Identifier(_)));
        (self.always_redacts || !identifies).then(|| self.guard.clone())
    }

    /// Returns the bytes after the last part.
    fn end(&self) -> String {
        format!("--{}--\r\n", self.boundary)
    }
}
