//! The outcome of a submission.

use std::{error::Error, fmt, io};

/// The answer of a server that has taken a report.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Submitted {
    /// The `http` or `https` URL at which the user can follow the report, if the server has an
    /// issue tracker.
    pub report_url: Option<String>,
}

/// The reason why a report was not submitted. The report is unchanged, and can be submitted
/// again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The server could not read the report, or the logs have more lines than it takes
    /// (`max_log_lines` in its configuration).
    #[error("the server cannot read the report")]
    BadContent,
    /// A file has changed since the preview, or while it was sent. A new preview shows its
    /// present content.
    #[error("{part} has changed since it was read")]
    Changed {
        /// The name of the part.
        part: String,
    },
    /// There was no answer: the server cannot be reached, or the connection was lost. The server
    /// may have the report if all of it had been sent.
    #[error("the server did not answer")]
    Connection(#[source] Box<dyn Error + Send + Sync>),
    /// The server takes no reports from this app.
    #[error("the server takes no reports from this app")]
    DisallowedApp(Refusal),
    /// The server refuses this report, for example because the description contains a recovery
    /// key, or the version of the app is too old.
    #[error("the server refuses this report")]
    Rejected(Refusal),
    /// The connection took no byte and gave no answer for the time of
    /// [`Rageshake::patience`](crate::Rageshake::patience).
    #[error("the server has stopped responding")]
    Stalled,
    /// The answer is not that of a rageshake server that takes a report: the endpoint is wrong,
    /// there is a proxy in between, or the server has failed.
    #[error("the server answered with HTTP status {status}")]
    Status {
        /// The HTTP status.
        status: u16,
    },
    /// The report is larger than [`BugReport::MAX_BYTES`](crate::BugReport::MAX_BYTES), and was
    /// not sent, or it is larger than the server accepts.
    #[error("the report is too large")]
    TooLarge,
    /// A file cannot be read. Nothing was sent, unless the disk failed after it was read once.
    #[error("{part} cannot be read")]
    Unreadable {
        /// The name of the part.
        part: String,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
}

/// The reason of a server for refusing a report, in its own words.
#[derive(Clone, PartialEq, Eq)]
pub struct Refusal {
    pub(super) code: String,
    pub(super) message: Option<String>,
    pub(super) policy_url: Option<String>,
}

/// Prints the code only: a server can repeat the report in its message.
impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusal").field("code", &self.code).finish_non_exhaustive()
    }
}

impl Refusal {
    /// Returns the error code, such as `REJECTED_UNEXPECTED_RECOVERY_KEY`. Codes that begin with
    /// `REJECTED_` are defined by the administrator of the server.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Returns an explanation in English.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// Returns the `http` or `https` URL of a page that explains the policy of the server.
    #[must_use]
    pub fn policy_url(&self) -> Option<&str> {
        self.policy_url.as_deref()
    }
}

pub(super) fn no_answer(error: reqwest::Error) -> SubmitError {
    SubmitError::Connection(error.without_url().into())
}
