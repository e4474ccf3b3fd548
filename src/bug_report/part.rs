//! A part of a report, and the rules of the server about it.

use std::{
    fmt,
    io::{self, Write},
    sync::{Arc, Weak},
};

use tokio::task::spawn_blocking;

use super::{
    content::{Content, Kind, Source},
    output::Output,
};
use crate::guard::Guard;

/// The field with the name of the app, without which many servers refuse a report.
pub(super) const APP: &str = "app";

/// The only field that a report can have several times.
pub(super) const LABEL: &str = "label";

/// The fields that identify the user or the device.
pub(super) const IDENTIFIERS: [&str; 3] = ["user_id", "device_id", "device_keys"];

/// The bytes after the content of each part.
pub(crate) const TAIL: &str = "\r\n";

/// The longest name of a file or a key, in bytes. The server makes a file of that name.
const LONGEST_NAME: usize = 128;

/// The reason why a part cannot be added to a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPart {
    /// The name has an extension that the server does not keep, is too long, or has other
    /// characters than ASCII letters, digits, `_`, `-`, and `.` for a log.
    #[error("the server does not keep a file of this name")]
    FileName,
    /// The key is empty, too long, has other characters than ASCII letters, digits, `_`, `-` and
    /// `.`, or is the name of a field that has a method of its own.
    #[error("metadata cannot have this key")]
    Key,
}

/// The parts that a report would send; returned by [`BugReport::preview`](crate::BugReport::preview).
#[derive(Clone, Debug)]
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
#[derive(Clone)]
#[non_exhaustive]
pub struct ReportPart {
    /// The name of the field, such as `text`, `compressed-log` or a key of the metadata.
    pub field: String,
    /// The name of the log or the attachment.
    pub file_name: Option<String>,
    /// The text that would be sent, of a part that is not a file. [`content`](Self::content)
    /// returns that of a file.
    pub value: Option<String>,
    /// The size of the content as it would be sent, in bytes.
    pub bytes: u64,
    /// The number of bytes at the start of a log that are left out because the log is longer
    /// than [`BugReport::MAX_LOG_BYTES`](crate::BugReport::MAX_LOG_BYTES).
    pub left_out: u64,
    /// The reason why the part's file cannot be read; [`FileTooLarge`](io::ErrorKind::FileTooLarge)
    /// if it is an attachment of more than [`BugReport::MAX_BYTES`](crate::BugReport::MAX_BYTES).
    /// While there is such a part, the report cannot be submitted.
    pub unreadable: Option<io::ErrorKind>,
    pub(super) content: Content,
}

/// Prints no value.
impl fmt::Debug for ReportPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, bytes, unreadable, .. } = self;
        write!(f, "ReportPart({field}, {bytes} bytes, {unreadable:?})")
    }
}

impl ReportPart {
    pub(super) fn new(field: &str, file_name: Option<&str>, kind: Kind, source: Source) -> Self {
        let (field, file_name) = (field.to_owned(), file_name.map(str::to_owned));
        let (value, bytes, left_out, unreadable) = (None, 0, 0, None);
        let content = Content { kind, source, guard: None, range: None };
        Self { field, file_name, value, bytes, left_out, unreadable, content }
    }

    /// Returns the content as it would be sent, before compression, for the user to read.
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
    pub async fn content(&self) -> io::Result<Vec<u8>> {
        let (part, mut content) = (self.clone(), Vec::new());
        let read = move || part.write(false, &mut content).map(|()| content);
        spawn_blocking(read).await.map_err(io::Error::other)?
    }

    /// Reads the part as it is sent with this guard, unless that was done before.
    pub(crate) async fn measure(&mut self, guard: Option<Arc<Guard>>) -> io::Result<()> {
        if self.content.range.is_some() && self.content.guard.is_some() == guard.is_some() {
            return Ok(());
        }
        let mut part = self.clone();
        part.content.guard = guard;
        // Dropped with this future, which ends the reading.
        let reader = Arc::new(());
        let is_read = Arc::downgrade(&reader);
        let read = spawn_blocking(move || part.read(&is_read).map(|()| part)).await;
        let read = read.map_err(io::Error::other).flatten();
        self.unreadable = read.as_ref().err().map(io::Error::kind);
        *self = read?;
        Ok(())
    }

    /// Writes the content as it is sent. A log is compressed if `gzip`.
    pub(crate) fn write(&self, gzip: bool, out: &mut dyn Write) -> io::Result<()> {
        self.content.write(&self.field, gzip, out)
    }

    fn read(&mut self, reader: &Weak<()>) -> io::Result<()> {
        let range = self.content.present_range()?;
        self.left_out = range.start;
        self.content.range = Some(range);
        let (is_value, mut value) = (self.file_name.is_none(), Vec::new());
        let pass = |bytes: &[u8]| {
            if is_value {
                value.extend_from_slice(bytes);
            }
            reader.strong_count() > 0
        };
        let mut output = Output { pass, bytes: 0, most: u64::MAX };
        self.write(true, &mut output)?;
        (self.bytes, self.unreadable) = (output.bytes, None);
        self.value = is_value.then(|| String::from_utf8_lossy(&value).into_owned());
        Ok(())
    }

    /// Returns whether this part and `other` cannot be in one report.
    pub(super) fn has_place_of(&self, other: &Self) -> bool {
        (&self.field, &self.file_name) == (&other.field, &other.file_name)
            && (self.field != LABEL || self.content.source == other.content.source)
    }

    /// Returns the bytes before the content. No name in it needs an escape.
    pub(crate) fn head(&self, boundary: &str) -> String {
        let field = &self.field;
        let file = self.file_name.as_ref().map_or_else(String::new, |name| {
            format!("; filename=\"{name}\"\r\nContent-Type: application/octet-stream")
        });
        format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{field}\"{file}\r\n\r\n")
    }

    /// Returns the name that a message can show.
    pub(crate) fn name(&self) -> String {
        self.file_name.as_ref().unwrap_or(&self.field).clone()
    }
}

/// Checks a key of the metadata, which cannot have a meaning for the server
/// (`formPartToPayload` in its `submit.go`) or be an identifier, in any notation.
pub(super) fn check_key(key: &str) -> Result<(), InvalidPart> {
    let letters: String = key.chars().filter(char::is_ascii_alphanumeric).collect();
    match &*letters.to_ascii_lowercase() {
        "" | "app" | "compressedlog" | "file" | "label" | "log" | "text" | "version" => {}
        "deviceid" | "devicekeys" | "userid" => {}
        _ if is_name(key, "._-") => return Ok(()),
        _ => {}
    }
    Err(InvalidPart::Key)
}

/// Checks the name of a file by the rules of the server (`logRegexp` and `filenameRegexp` in its
/// `submit.go`), which writes its own `details.json` and `details.log.gz`. Returns the extension.
pub(super) fn check_file_name<'n>(
    name: &'n str,
    extensions: &[&str],
    others: &str,
) -> Result<&'n str, InvalidPart> {
    let (stem, extension) = name.rsplit_once('.').ok_or(InvalidPart::FileName)?;
    let is_kept = extensions.contains(&extension) && is_name(stem, others);
    let is_own = stem.starts_with('.') || stem.eq_ignore_ascii_case("details");
    if is_kept && !is_own { Ok(extension) } else { Err(InvalidPart::FileName) }
}

fn is_name(name: &str, others: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
    (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_logs_are_those_that_the_server_keeps() {
        let check = |name| check_file_name(name, &["log", "txt"], "._-").err();
        for name in ["a.log", "console-1.log", "a.b.txt", "-.log", "_x.log"] {
            assert_eq!(check(name), None, "{name}");
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
            assert_eq!(check(name), Some(InvalidPart::FileName), "{name}");
        }
    }

    #[test]
    fn the_names_of_attachments_are_those_that_the_server_keeps() {
        let check = |name| check_file_name(name, &["png", "json"], "_-");
        for (name, extension) in [("a.png", "png"), ("a-b_1.png", "png"), ("a.json", "json")] {
            assert_eq!(check(name), Ok(extension), "{name}");
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
            assert_eq!(check(name), Err(InvalidPart::FileName), "{name}");
        }
    }

    #[test]
    fn metadata_uses_no_field_of_the_server_and_no_identifier() {
        for key in ["os", "can_contact", "sdk.sha", "user_agent", "Build-Type"] {
            assert_eq!(check_key(key), Ok(()), "{key}");
        }
        for key in [
            "text",
            "Version",
            "USER_ID",
            "user-id",
            "deviceId",
            "device.keys",
            "compressed-log",
            "",
            "_",
            "a b",
            "a\"",
            "a\r\nb",
            "ä",
            &"x".repeat(129),
        ] {
            assert_eq!(check_key(key), Err(InvalidPart::Key), "{key:?}");
        }
    }

    #[test]
    fn every_identifier_is_reserved() {
        for field in IDENTIFIERS {
            assert_eq!(check_key(field), Err(InvalidPart::Key), "{field}");
        }
    }
}
