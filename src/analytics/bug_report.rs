//! Creates bug reports for the session.

use super::Analytics;
use crate::bug_report::BugReport;

impl Analytics {
    /// Creates a bug report, whose texts are redacted like those of events: the guard knows the
    /// present identifiers of the session, and has the detectors of the builder.
    ///
    /// It has nothing to do with the consent to analytics: a user can submit it in any state.
    /// Nothing is sent, counted or kept by this call. `app` is the name that the server knows the
    /// app by, and `version` that of the app.
    #[must_use]
    pub fn bug_report(&self, app: impl Into<String>, version: impl Into<String>) -> BugReport {
        BugReport::with_guard(self.inner().sink.guard.uncounted(), app.into(), version.into())
    }
}
