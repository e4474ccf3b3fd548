//! The canary sweep: puts one identifier of each kind in every place, and searches every byte that
//! is sent, written or logged. `src/guard/tests/sweep.rs` shows that the sweep notices a missing
//! detector.

use std::{fmt::Write as _, sync::Mutex, time::Duration};

use matrix_analytics::{
    Analytics, ELEMENT_EVENT_TYPE, JsonLines, Properties, UserProperties,
    testing::{DeliveryFailure, FailingBackend},
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::support::{AnalyticsExt as _, World, eventually};

const CANARIES: &str = include_str!("../../data/guard/canaries.tsv");
/// Canaries of which another detector would also find a part.
const MORE_CANARIES: [&str; 8] = [
    "!Yk3vT9qXw2Zc7LmB5nRj8sHd1fGpKu6Ae0iVoQyXtPz",
    "$Yk3vT9qXw2Zc7LmB5nRj8sHd1fGpKu6Ae0iVoQyXtPy",
    "$Yk3vT9qXw2Zc7LmB+nRj8sHd1fGpKu6Ae0iVoQ/XtPx",
    "https://matrix.to/#/@canaryto:canary8.example",
    "@Canary!Historical'(~):canary9.example:8448",
    "2001:db8::ca:9a27",
    "@canaryself:canary-home.example",
    "canaryself",
];

#[tokio::test]
async fn no_canary_is_sent_written_or_logged() {
    // Set for all threads. The first thread to reach a log line decides whether it is enabled, so a
    // thread without a subscriber would disable it for this one.
    tracing::subscriber::set_global_default(Log).unwrap();
    let world = World::new().await;
    let login = world.server.add_device("@canaryself:canary-home.example", "CANARYDEVX");
    let token = login.access_token.clone();
    let device = world.device_of(login).await;
    // All disk writes of the sink go below this directory.
    let files = tempfile::tempdir().unwrap();
    let lines = tokio::fs::File::create(files.path().join("events.jsonl")).await.unwrap();
    let failing = FailingBackend::new();
    let builder = Analytics::builder(device.client.clone(), ELEMENT_EVENT_TYPE)
        .backend(failing.clone())
        .backend(JsonLines::new(lines));
    #[cfg(feature = "sqlite")]
    let builder =
        builder.queue(matrix_analytics::SqliteQueue::new(files.path().join("queue.sqlite")));
    #[cfg(feature = "posthog")]
    let collector = crate::support::collector::Collector::start();
    #[cfg(feature = "posthog")]
    let builder = {
        let posthog = matrix_analytics::PostHog::builder(&collector.url(), "phc_canary_key");
        builder.backend(posthog.build().unwrap())
    };
    let analytics = builder.build().await.unwrap();
    analytics.opt_in_and_settle().await;
    let id = analytics.analytics_id().unwrap();

    let canaries: Vec<_> = CANARIES
        .lines()
        .filter_map(|line| Some(line.split_once('\t')?.1))
        .chain(MORE_CANARIES)
        .chain([token.as_str()])
        .collect();
    for canary in &canaries {
        capture_everywhere(&analytics, canary);
    }
    // The guard does not know this text, but no log line may contain it.
    analytics.capture_named("Plain", Properties::new().with("text", "words of a person"));
    analytics.capture_named("Count", Properties::new().with("float", f64::NAN));
    analytics.capture_named("Large", Properties::new().with("text", "x".repeat(1 << 20)));
    failing.panic_next();
    for failure in [
        DeliveryFailure::Transient,
        DeliveryFailure::Throttled { retry_after: Some(Duration::from_secs(1)) },
        DeliveryFailure::TooLarge,
        DeliveryFailure::Rejected,
        DeliveryFailure::Unauthorized,
        DeliveryFailure::Misconfigured,
    ] {
        failing.fail_next(failure);
        capture_everywhere(&analytics, canaries[0]);
        eventually(analytics.flush_all()).await;
        tokio::time::advance(Duration::from_secs(3600)).await;
    }
    eventually(analytics.flush_all()).await;

    let mut seen = format!("{analytics:?} {:?}", analytics.stats());
    for entry in std::fs::read_dir(files.path()).unwrap() {
        let entry = entry.unwrap();
        let content = std::fs::read(entry.path()).unwrap();
        write!(seen, "{:?} {}", entry.file_name(), String::from_utf8_lossy(&content)).unwrap();
    }
    #[cfg(feature = "posthog")]
    {
        let requests = collector.seen().requests;
        assert!(!requests.is_empty());
        seen.extend(requests.iter().map(|request| String::from_utf8_lossy(request)));
    }
    for event in failing.accepted_events() {
        write!(seen, "{} {:?} {:?} {:?}", event.name, event.properties, event.set, event.set_once)
            .unwrap();
    }
    let logged = LOGGED.lock().unwrap().clone();
    assert!(logged.contains("personal data was kept back"), "{logged}");
    assert!(logged.contains("backend=\"failing\""), "{logged}");
    assert!(!logged.contains(id.reveal()) && !logged.contains("phc_canary_key"), "{logged}");
    assert!(seen.contains("words of a person") && !logged.contains("words of a person"));
    for text in layers(format!("{seen}{logged}")) {
        for canary in &canaries {
            let parts = [canary.to_owned(), canary.trim_start_matches(['@', '!', '$', '#'])];
            for part in parts {
                assert!(!text.contains(part), "{part} is in {}", around(&text, part));
            }
        }
    }
}

/// Captures `canary` as a name, a key, a value, inside other text, and encoded.
fn capture_everywhere(analytics: &Analytics, canary: &str) {
    let encoded: String = canary.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let escaped: String = canary.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
    let json = serde_json::json!({"a": {"b": canary}}).to_string();
    let properties = Properties::new()
        .with("value", canary.to_owned())
        .with(canary.to_owned(), "key")
        .with(format!("a key with {canary} in it"), 1)
        .with("nested", serde_json::json!({"json": json.as_str()}).to_string())
        .with("json", json)
        .with("url", format!("https://app.example/?twice={}", encoded.replace('%', "%25")))
        .with("encoded", encoded)
        .with("escaped", escaped)
        .with("words", format!("Error: {canary}, and more"));
    analytics.set_super_properties(Properties::new().with("super", canary.to_owned())).unwrap();
    let user = UserProperties::from(properties.clone());
    let user = user
        .set_once("value", canary.to_owned())
        .set_once(canary.to_owned(), format!("first {canary}"));
    analytics.set_user_properties(user).unwrap();
    analytics.capture_named(format!("Event {canary}"), properties);
}

/// Returns `text`, and the results of undoing its escapes up to five times.
fn layers(text: String) -> Vec<String> {
    let mut layers = vec![text];
    for _ in 0..5 {
        let last = layers.last().unwrap();
        layers.push(undone(last));
    }
    layers
}

/// Undoes one layer of percent and JSON escapes.
fn undone(text: &str) -> String {
    let mut undone = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = |range: std::ops::Range<usize>| {
            let digits = std::str::from_utf8(rest.get(range)?).ok()?;
            u32::from_str_radix(digits, 16).ok()
        };
        let (byte, length) = match (first, after.first()) {
            (b'%', _) => hex(1..3).map_or((b'%', 1), |byte| (byte as u8, 3)),
            (b'\\', Some(b'u')) => hex(2..6).map_or((b'\\', 1), |code| (code as u8, 6)),
            (b'\\', Some(next)) => (*next, 2),
            (byte, _) => (*byte, 1),
        };
        undone.push(byte);
        rest = &rest[length..];
    }
    String::from_utf8_lossy(&undone).into_owned()
}

fn around<'t>(text: &'t str, part: &str) -> &'t str {
    let at = text.find(part).unwrap_or_default();
    let (start, end) = (at.saturating_sub(80), (at + 120).min(text.len()));
    &text[text.floor_char_boundary(start)..text.ceil_char_boundary(end)]
}

/// All log lines with a target of this crate, from any test in this process.
static LOGGED: Mutex<String> = Mutex::new(String::new());

/// Records every log line down to `TRACE`: target, name and fields.
struct Log;

impl Log {
    fn write(metadata: &Metadata<'_>, record: impl FnOnce(&mut Line)) {
        if metadata.target().starts_with("matrix_analytics") {
            let mut line = Line(format!("{} {}", metadata.target(), metadata.name()));
            record(&mut line);
            LOGGED.lock().unwrap().push_str(&(line.0 + "\n"));
        }
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        Self::write(span.metadata(), |line| span.record(line));
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        Self::write(event.metadata(), |line| event.record(line));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
