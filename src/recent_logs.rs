//! The newest log lines, in memory.

use std::{
    collections::VecDeque,
    fmt::{self, Write as _},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    layer::{Context, Layer},
    registry::LookupSpan,
};

use crate::{
    event::unix_time::rfc3339,
    locks::{Mutex, MutexGuard, PoisonError},
};

/// The longest line that is kept, in bytes.
const LONGEST_LINE: usize = 32 * 1024;

/// The memory of a line in addition to its text, in bytes.
const PER_LINE: usize = size_of::<(Instant, String)>();

/// A `tracing` layer that keeps the newest log lines in memory, for a
/// [`BugReport`](crate::BugReport).
///
/// Nothing is kept before the app installs it, and nothing is written anywhere. A line leaves the
/// process only if the app adds [`text`](Self::text) to a report that the user submits.
/// [`AnalyticsBuilder::recent_logs`](crate::AnalyticsBuilder::recent_logs) empties it when the
/// session ends.
///
/// A line has the time, the level, the names of the spans, the target, and the fields of the event.
/// The lines are as they were logged: the report redacts them. Clones share their lines.
///
/// ```
/// use std::time::Duration;
///
/// use matrix_analytics::RecentLogs;
/// use tracing_subscriber::{layer::SubscriberExt as _, registry};
///
/// let logs = RecentLogs::new(1024 * 1024, Duration::from_secs(3600));
/// let subscriber = registry().with(logs.clone());
/// tracing::subscriber::with_default(subscriber, || tracing::info!(rooms = 3, "synced"));
/// assert!(logs.text().ends_with("synced rooms=3\n"));
/// logs.clear();
/// assert_eq!(logs.text(), "");
/// ```
///
/// It keeps the lines of every level. To limit it, add a filter of `tracing_subscriber`, such as
/// `logs.clone().with_filter(LevelFilter::INFO)`.
#[derive(Clone)]
pub struct RecentLogs(Arc<Mutex<Ring>>);

/// Prints the size only.
impl fmt::Debug for RecentLogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecentLogs").field("bytes", &self.ring().bytes).finish_non_exhaustive()
    }
}

impl RecentLogs {
    /// Creates a layer that keeps lines for at most `longest_age`, and at most `most_bytes` bytes of
    /// them, with 40 bytes for each line. A line that is too old goes when the next one comes, or
    /// when the lines are read.
    #[must_use]
    pub fn new(most_bytes: usize, longest_age: Duration) -> Self {
        let (lines, bytes) = (VecDeque::new(), 0);
        Self(Arc::new(Mutex::new(Ring { lines, bytes, most_bytes, longest_age })))
    }

    /// Returns the lines, oldest first.
    #[must_use]
    pub fn text(&self) -> String {
        self.ring().text(Instant::now())
    }

    /// Deletes all lines.
    pub fn clear(&self) {
        let mut ring = self.ring();
        ring.lines = VecDeque::new();
        ring.bytes = 0;
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for RecentLogs {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        // Formatting runs code of the app, so the lock is not held.
        let mut line = Line::default();
        let metadata = event.metadata();
        let _ = write!(line, "{} {:>5} ", rfc3339(SystemTime::now()), metadata.level());
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            let _ = write!(line, "{}:", span.name());
        }
        let _ = write!(line, "{}:", metadata.target());
        event.record(&mut line);
        if line.is_too_long {
            let target = metadata.target();
            line.text =
                format!("{target}: [a line of more than {LONGEST_LINE} bytes was left out]");
        }
        line.text.push('\n');
        self.ring().push(Instant::now(), line.text);
    }
}

/// A line whose length is bounded.
#[derive(Default)]
struct Line {
    text: String,
    is_too_long: bool,
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.is_too_long |= self.text.len() + text.len() > LONGEST_LINE;
        if self.is_too_long {
            return Err(fmt::Error);
        }
        self.text.push_str(text);
        Ok(())
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self, " {value:?}"),
            name => write!(self, " {name}={value:?}"),
        };
    }
}

/// Lines with their times, oldest first.
struct Ring {
    lines: VecDeque<(Instant, String)>,
    bytes: usize,
    most_bytes: usize,
    longest_age: Duration,
}

impl Ring {
    fn push(&mut self, now: Instant, line: String) {
        self.bytes += line.len() + PER_LINE;
        self.lines.push_back((now, line));
        self.trim(now);
    }

    fn trim(&mut self, now: Instant) {
        while let Some((at, line)) = self.lines.front() {
            let is_old = now.saturating_duration_since(*at) > self.longest_age;
            if !is_old && self.bytes <= self.most_bytes {
                return;
            }
            self.bytes -= line.len() + PER_LINE;
            self.lines.pop_front();
        }
    }

    fn text(&mut self, now: Instant) -> String {
        self.trim(now);
        self.lines.iter().map(|(_, line)| &**line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept_for_their_age_and_up_to_the_size() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let most_bytes = 3 * (PER_LINE + 2);
        let (lines, bytes) = (VecDeque::new(), 0);
        let mut ring = Ring { lines, bytes, most_bytes, longest_age: 10 * second };
        for (number, line) in ["a\n", "b\n", "c\n"].into_iter().enumerate() {
            ring.push(start + number as u32 * second, line.to_owned());
        }
        assert_eq!(ring.text(start + 10 * second), "a\nb\nc\n");
        assert_eq!(ring.text(start + 11 * second), "b\nc\n", "the age");
        ring.push(start + 11 * second, "d\n".to_owned());
        ring.push(start + 11 * second, "e\n".to_owned());
        assert_eq!(ring.text(start + 11 * second), "c\nd\ne\n", "the size");
        ring.push(start + 11 * second, "x".repeat(most_bytes));
        assert_eq!((ring.text(start + 11 * second), ring.bytes), (String::new(), 0));
    }

    #[test]
    fn an_old_line_goes_when_the_next_one_comes() {
        let (start, age) = (Instant::now(), Duration::from_secs(1));
        let (lines, bytes) = (VecDeque::new(), 0);
        let mut ring = Ring { lines, bytes, most_bytes: usize::MAX, longest_age: age };
        ring.push(start, "old\n".to_owned());
        ring.push(start + 2 * age, "new\n".to_owned());
        assert_eq!(ring.lines.len(), 1);
    }
}
