//! A part of a report, and the rules of the server about it.

use std::{fmt, io, sync::Arc};

use super::content::{Content, Measured, Pieces, Range};
use crate::guard::Guard;

/// The field with the name of the app, without which many servers refuse a report.
pub(super) const APP: &str = "app";

/// The bytes after the content of each part.
pub(super) const TAIL: &str = "\r\n";

/// The longest name of a file or a key, in bytes. The server makes a file of that name.
const LONGEST_NAME: usize = 128;

/// Fields that metadata cannot use, without separators: what the server gives a meaning
/// (`formPartToPayload` in its `submit.go`), and the identifiers.
const RESERVED: [&str; 10] = [
    APP,
    "compressedlog",
    "deviceid",
    "devicekeys",
    "file",
    "label",
    "log",
    "text",
    "userid",
    "version",
];

/// The handle of a part within its report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PartId(pub(super) u32);

/// The reason why a part cannot be added to a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPart {
    /// Another log or attachment has this name. The server would keep only one of them.
    #[error("another file of the report has this name")]
    DuplicateName,
    /// The server does not keep a file of this name.
    #[error("the server does not keep a file of this name")]
    FileName,
    /// The key of the metadata is empty, too long, or has other characters than allowed.
    #[error(
        "the key is empty, too long, or has other characters than ASCII letters, digits and _-."
    )]
    Key,
    /// The key of the metadata is the name of a field that has a method of its own.
    #[error("the key is the name of a field that has a method of its own")]
    ReservedKey,
}

/// What a report would send; returned by [`BugReport::preview`](crate::BugReport::preview).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReportPreview {
    /// The parts, in the order in which they were added.
    pub parts: Vec<ReportPart>,
    /// The size of the whole request, in bytes. One of more than
    /// [`BugReport::MAX_BYTES`](crate::BugReport::MAX_BYTES) is not sent.
    pub bytes: u64,
    /// Whether the texts are redacted.
    pub is_redacted: bool,
}

/// A part of a report, as it would be sent.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReportPart {
    /// The handle of the part, for [`BugReport::remove`](crate::BugReport::remove).
    pub id: PartId,
    /// The name of the field, such as `text`, `compressed-log` or a key of the metadata.
    pub field: String,
    /// The name of the log or the attachment.
    pub file_name: Option<String>,
    /// The text that would be sent, of a part that is not a file.
    /// [`BugReport::content`](crate::BugReport::content) returns that of a file.
    pub value: Option<String>,
    /// The size of the content as it would be sent, in bytes.
    pub bytes: u64,
    /// The number of bytes at the start of a log that are left out because the log is longer
    /// than [`BugReport::MAX_LOG_BYTES`](crate::BugReport::MAX_LOG_BYTES).
    pub left_out: u64,
    /// The reason why the part's file cannot be read. While there is such a part, the report
    /// cannot be submitted.
    pub unreadable: Option<io::ErrorKind>,
}

/// Prints no value.
impl fmt::Debug for ReportPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReportPart")
            .field("id", &self.id)
            .field("field", &self.field)
            .field("bytes", &self.bytes)
            .field("unreadable", &self.unreadable)
            .finish_non_exhaustive()
    }
}

#[derive(Clone)]
pub(super) struct Part {
    pub(super) id: PartId,
    pub(super) field: String,
    pub(super) file_name: Option<String>,
    pub(super) content: Content,
    /// What the last reading found.
    pub(super) measured: Option<Measured>,
}

impl Part {
    /// Returns the bytes before the content. No name in it needs an escape.
    pub(super) fn head(&self, boundary: &str) -> String {
        let field = &self.field;
        let file = self.file_name.as_ref().map_or_else(String::new, |name| {
            format!("; filename=\"{name}\"\r\nContent-Type: application/octet-stream")
        });
        format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{field}\"{file}\r\n\r\n")
    }

    /// Returns the name that a message can show.
    pub(super) fn name(&self) -> &str {
        self.file_name.as_ref().unwrap_or(&self.field)
    }

    /// Reads the part as it would be sent, unless that was done before.
    pub(super) async fn measure(&mut self, guard: Option<&Arc<Guard>>) -> io::Result<Measured> {
        if let Some(measured) = self.measured.filter(|done| done.redacted == guard.is_some()) {
            return Ok(measured);
        }
        let range = self.range().await?;
        let mut pieces =
            Pieces::open(&self.field, &self.content, range, guard.cloned(), true).await?;
        let mut bytes = 0;
        if self.content.is_sent_as_it_is(guard.is_some()) {
            bytes = range.end - range.start;
        } else {
            while let Some(piece) = pieces.next().await? {
                bytes += piece.len() as u64;
            }
        }
        Ok(*self.measured.insert(Measured { range, redacted: guard.is_some(), bytes }))
    }

    /// Returns the content, of which a log is compressed if `compresses`.
    pub(super) async fn open(
        &self,
        guard: Option<Arc<Guard>>,
        compresses: bool,
    ) -> io::Result<Pieces> {
        let range = self.range().await?;
        Pieces::open(&self.field, &self.content, range, guard, compresses).await
    }

    /// Returns the range that was measured, or the present one.
    async fn range(&self) -> io::Result<Range> {
        match self.measured {
            Some(measured) => Ok(measured.range),
            None => self.content.range().await,
        }
    }

    pub(super) async fn preview(&mut self, guard: Option<&Arc<Guard>>) -> ReportPart {
        let measured = self.measure(guard).await;
        let (bytes, left_out) =
            measured.as_ref().map_or((0, 0), |measured| (measured.bytes, measured.range.start));
        ReportPart {
            id: self.id,
            field: self.field.clone(),
            file_name: self.file_name.clone(),
            value: self.content.value(&self.field, guard.map(Arc::as_ref)),
            bytes,
            left_out,
            unreadable: measured.err().map(|error| error.kind()),
        }
    }
}

/// Checks a key of the metadata.
pub(super) fn check_key(key: &str) -> Result<(), InvalidPart> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if key.is_empty() || key.len() > LONGEST_NAME || !key.chars().all(is_allowed) {
        return Err(InvalidPart::Key);
    }
    let folded: String = key.chars().filter(char::is_ascii_alphanumeric).collect();
    if RESERVED.contains(&&*folded.to_ascii_lowercase()) {
        return Err(InvalidPart::ReservedKey);
    }
    Ok(())
}

/// Checks the name of a log by the rule of the server (`logRegexp` in its `submit.go`).
pub(super) fn check_log_name(name: &str) -> Result<(), InvalidPart> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    match name.rsplit_once('.') {
        Some((stem, "log" | "txt"))
            if is_stem(stem) && !name.starts_with('.') && name.chars().all(is_allowed) =>
        {
            Ok(())
        }
        _ => Err(InvalidPart::FileName),
    }
}

/// Checks the name of an attachment by the rule of the server (`filenameRegexp` in its
/// `submit.go`), without those that are compressed. Returns whether it is that of a text.
pub(super) fn is_text_attachment(name: &str) -> Result<bool, InvalidPart> {
    let (stem, extension) = name.rsplit_once('.').ok_or(InvalidPart::FileName)?;
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match extension {
        _ if !is_stem(stem) || !stem.chars().all(is_allowed) => Err(InvalidPart::FileName),
        "jpg" | "png" => Ok(false),
        "txt" | "json" => Ok(true),
        _ => Err(InvalidPart::FileName),
    }
}

/// Returns whether the server can keep a file whose name begins with `stem`: it writes its own
/// `details.json` and `details.log.gz`.
fn is_stem(stem: &str) -> bool {
    let is_its_own = stem.eq_ignore_ascii_case("details");
    !stem.is_empty() && stem.len() <= LONGEST_NAME && !is_its_own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_logs_are_those_that_the_server_keeps() {
        for name in ["a.log", "console-1.log", "a.b.txt", "-.log", "_x.log"] {
            assert_eq!(check_log_name(name), Ok(()), "{name}");
        }
        let long = format!("{}.log", "x".repeat(200));
        for name in [
            "",
            ".log",
            "log",
            "a.json",
            "a.log.gz",
            "a b.log",
            "a/b.log",
            "ä.log",
            "a\".log",
            "details.log",
            "Details.log",
            "..log",
            &long,
        ] {
            assert_eq!(check_log_name(name), Err(InvalidPart::FileName), "{name}");
        }
    }

    #[test]
    fn the_names_of_attachments_are_those_that_the_server_keeps() {
        for (name, is_text) in
            [("a.jpg", false), ("a-b_1.png", false), ("a.txt", true), ("a.json", true)]
        {
            assert_eq!(is_text_attachment(name), Ok(is_text), "{name}");
        }
        for name in [
            "",
            "a",
            ".png",
            "a.gif",
            "a.b.png",
            "a.json.gz",
            "details.json",
            "../a.png",
            "a\r.png",
        ] {
            assert_eq!(is_text_attachment(name), Err(InvalidPart::FileName), "{name}");
        }
    }

    #[test]
    fn metadata_uses_no_field_of_the_server_and_no_identifier() {
        for key in ["os", "can_contact", "sdk.sha", "user_agent", "Build-Type"] {
            assert_eq!(check_key(key), Ok(()), "{key}");
        }
        for key in
            ["text", "Version", "USER_ID", "user-id", "deviceId", "device.keys", "compressed-log"]
        {
            assert_eq!(check_key(key), Err(InvalidPart::ReservedKey), "{key}");
        }
        for key in ["", "a b", "a\"", "a\r\nb", "ä", &"x".repeat(129)] {
            assert_eq!(check_key(key), Err(InvalidPart::Key), "{key:?}");
        }
    }
}
