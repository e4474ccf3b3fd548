//! This example sends crash reports with Sentry, and log events to a `tracing` layer, only while
//! the user has opted in to crash reports. The consent to usage analytics is a separate one.
//!
//!     cargo run --example crash_reports
//!
//! `docs/other-telemetry.md` explains it; the tests below check each of its claims.

use std::{
    error::Error,
    panic::Location,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{Stream, StreamExt as _};
use matrix_analytics::{Analytics, ConsentState, CurrentAnalytics, testing::AccountDataServer};
use matrix_analytics_examples::{check, heading, wait_for};
use sentry::{ClientOptions, Envelope, Hub, Transport, protocol::Event};
use tracing::Subscriber;
use tracing_subscriber::{
    Layer,
    filter::DynFilterFn,
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
};

const USAGE: &str = "org.example.analytics";
const CRASH_REPORTS: &str = "org.example.crash_reports";

type MakeTransport = Box<dyn Fn() -> Arc<dyn Transport> + Send + Sync>;

/// A transport that lets events through while the gate is open, and nothing else: no sessions,
/// transactions, logs or attachments, and no counts of what was dropped before.
struct CrashReports {
    consent: CurrentAnalytics,
    make: MakeTransport,
    /// The transport of the network, which is made when the first report leaves.
    inner: Mutex<Option<Arc<dyn Transport>>>,
}

impl CrashReports {
    fn new(consent: CurrentAnalytics, make: MakeTransport) -> Arc<Self> {
        Arc::new(Self { consent, make, inner: Mutex::default() })
    }

    /// Gives up the reports that wait in Sentry's queue. May wait for a request in flight.
    fn close(&self) {
        drop(self.inner.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Transport for CrashReports {
    fn send_envelope(&self, envelope: Envelope) {
        let Some(event) = envelope.event() else { return };
        if self.consent.is_open() {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            inner.get_or_insert_with(&self.make).send_envelope(event.clone().into());
        }
    }

    fn flush(&self, timeout: Duration) -> bool {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner).clone();
        inner.is_none_or(|inner| inner.flush(timeout))
    }
}

fn sentry_options(reports: &Arc<CrashReports>) -> ClientOptions {
    let consent = reports.consent.clone();
    ClientOptions::new()
        .before_send(move |event| consent.is_open().then(|| without_texts(event)))
        // A breadcrumb from before the opt-in would leave with an event after it.
        .max_breadcrumbs(0)
        .transport(reports.clone())
}

/// Keeps types and stack frames. The guard of `matrix-analytics` does not see these events, and
/// a message can contain anything.
fn without_texts(event: Event<'static>) -> Event<'static> {
    let Event { event_id, timestamp, level, release, environment, mut exception, .. } = event;
    for exception in &mut exception.values {
        exception.value = None;
    }
    Event { event_id, timestamp, level, release, environment, exception, ..Event::default() }
}

/// Closes Sentry's queue whenever the gate closes. Runs in a task of its own, which ends with
/// the session.
async fn close_with_the_gate(
    mut states: impl Stream<Item = ConsentState> + Unpin,
    reports: Arc<CrashReports>,
) {
    loop {
        let state = states.next().await;
        if !state.as_ref().is_some_and(ConsentState::is_open) {
            let reports = reports.clone();
            let _ = tokio::task::spawn_blocking(move || reports.close()).await;
        }
        if state.is_none() {
            return;
        }
    }
}

/// Makes `layer` see spans and events only while the gate is open.
fn only_while_open<S, L: Layer<S>>(layer: L, consent: CurrentAnalytics) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    // Not `filter_fn`, whose answer is remembered for each place in the code.
    layer.with_filter(DynFilterFn::new(move |_, _| consent.is_open()))
}

/// A transport and a layer that keep what a real one would send.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<String>>>);

impl Kept {
    fn push(&self, what: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Transport for Kept {
    fn send_envelope(&self, envelope: Envelope) {
        let mut bytes = Vec::new();
        if envelope.to_writer(&mut bytes).is_ok() {
            self.push(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}

impl<S: Subscriber> Layer<S> for Kept {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        self.push(event.metadata().target().to_owned());
    }
}

fn crash() {
    let error = std::io::Error::other("the text of a person");
    sentry::capture_error(&error);
    tracing::error!("crashed at {}", Location::caller());
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    heading("1. At the start: Sentry and the subscriber exist before the login");
    let (consent, sent, logged) = (CurrentAnalytics::new(), Kept::default(), Kept::default());
    let network = sent.clone();
    let reports = CrashReports::new(consent.clone(), Box::new(move || Arc::new(network.clone())));
    let options = sentry_options(&reports).dsn("https://key@sentry.invalid/1");
    Hub::current().bind_client(Some(Arc::new(options.into())));
    let layer = only_while_open(logged.clone(), consent.clone());
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))?;
    crash();
    check("nothing is reported", sent.take().is_empty() && logged.take().is_empty())?;

    heading("2. After the login: one consent for each purpose");
    let homeserver = AccountDataServer::start().await;
    let client = homeserver.client(&homeserver.add_device("@alice:example.org", "PHONE")).await?;
    let build = async |purpose| {
        let builder = Analytics::builder(client.clone(), purpose);
        builder.request_timeout(Duration::from_millis(250)).build().await
    };
    let (usage, crashes) = (build(USAGE).await?, build(CRASH_REPORTS).await?);
    consent.set(&crashes);
    let closing = tokio::spawn(close_with_the_gate(crashes.state_stream(), reports));
    usage.opt_in().await?;
    wait_for(&usage, "usage analytics", |state| state.is_open()).await?;
    crash();
    check(
        "usage analytics do not include them",
        sent.take().is_empty() && logged.take().is_empty(),
    )?;

    heading("3. Opt-in to crash reports");
    crashes.opt_in().await?;
    wait_for(&crashes, "crash reports", |state| state.is_open()).await?;
    crash();
    let report = sent.take().join("");
    check("one is reported", report.matches(r#""type":"event""#).count() == 1)?;
    check("without its text", !report.contains("text of a person"))?;
    check("and logged", logged.take().contains(&"crash_reports".to_owned()))?;

    heading("4. Opt-out of crash reports");
    crashes.opt_out().await;
    crash();
    check("nothing is reported", sent.take().is_empty() && logged.take().is_empty())?;
    check("usage analytics go on", usage.is_open())?;

    drop((usage, crashes));
    closing.await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use matrix_analytics::testing::AccountDataMethod;
    use matrix_sdk::Client;
    use sentry::{Breadcrumb, Level, Scope};

    use super::*;

    const ALICE: &str = "@alice:example.org";
    const OPTED_IN: &str = r#"{"id":"9f1c2d7e","pseudonymousAnalyticsOptIn":true}"#;

    async fn client(homeserver: &AccountDataServer) -> Client {
        homeserver.client(&homeserver.add_device(ALICE, "PHONE")).await.unwrap()
    }

    async fn built(client: &Client, purpose: &str) -> Analytics {
        let builder = Analytics::builder(client.clone(), purpose);
        let analytics = builder.request_timeout(Duration::from_millis(500)).build().await.unwrap();
        wait_for(&analytics, "an answer", |state| state.confirmed).await.unwrap();
        analytics
    }

    /// An account that has opted in to crash reports, and its Sentry client.
    struct Opened {
        crashes: Analytics,
        reports: Arc<CrashReports>,
        hub: Arc<Hub>,
        sent: Kept,
        _homeserver: AccountDataServer,
    }

    impl Opened {
        async fn new(with: impl FnOnce(ClientOptions) -> ClientOptions) -> Self {
            let homeserver = AccountDataServer::start().await;
            homeserver.set_content(ALICE, CRASH_REPORTS, OPTED_IN);
            let crashes = built(&client(&homeserver).await, CRASH_REPORTS).await;
            assert!(crashes.is_open());
            let (consent, sent) = (CurrentAnalytics::new(), Kept::default());
            let network = sent.clone();
            let make = move || -> Arc<dyn Transport> { Arc::new(network.clone()) };
            let reports = CrashReports::new(consent, Box::new(make));
            let options = with(sentry_options(&reports).dsn("https://key@sentry.invalid/1"));
            let hub = Hub::new(Some(Arc::new(options.into())), Arc::new(Scope::default()));
            Self { crashes, reports, hub: Arc::new(hub), sent, _homeserver: homeserver }
        }

        fn open(&self) {
            self.reports.consent.set(&self.crashes);
        }
    }

    #[tokio::test]
    async fn a_report_has_types_and_no_texts() {
        let opened = Opened::new(|options| options.server_name("annas-laptop")).await;
        opened.open();
        opened.hub.configure_scope(|scope| {
            scope.set_tag("room", "secret-tag");
            scope.set_user(Some(sentry::User {
                id: Some("secret-user".into()),
                ..Default::default()
            }));
        });
        opened.hub.add_breadcrumb(Breadcrumb {
            message: Some("secret-crumb".into()),
            ..Default::default()
        });
        opened.hub.capture_message("secret-message", Level::Error);
        let error = std::io::Error::other("secret-error");
        opened.hub.capture_event(sentry::event_from_error(&error));
        let sent = opened.sent.take().join("");
        assert_eq!(sent.matches(r#""type":"event""#).count(), 2, "{sent}");
        assert!(!sent.contains("secret") && !sent.contains("annas"), "{sent}");
        assert!(sent.contains(r#""type":"Custom""#), "{sent}");
    }

    #[tokio::test]
    async fn what_was_dropped_before_the_opt_in_is_not_even_counted() {
        let opened = Opened::new(|options| options).await;
        for _ in 0..7 {
            opened.hub.capture_message("Before", Level::Error);
        }
        assert!(opened.sent.take().is_empty());
        opened.open();
        opened.hub.capture_message("After", Level::Error);
        let sent = opened.sent.take().join("");
        assert!(!sent.contains("client_report"), "{sent}");

        // Sentry itself appends the count to the next event.
        let direct = opened.sent.clone();
        let options = ClientOptions::new().dsn("https://key@sentry.invalid/1");
        let dropping = options.before_send(|event| (event.level == Level::Error).then_some(event));
        let client = Arc::new(dropping.transport(Arc::new(direct)).into());
        let hub = Hub::new(Some(client), Arc::new(Scope::default()));
        hub.capture_message("Dropped", Level::Info);
        hub.capture_message("Sent", Level::Error);
        assert!(opened.sent.take().join("").contains("client_report"));
    }

    #[tokio::test]
    async fn transactions_do_not_pass_even_if_the_app_records_them() {
        let opened = Opened::new(|options| options.traces_sample_rate(1.0)).await;
        opened.open();
        Hub::run(opened.hub.clone(), || {
            let context = sentry::TransactionContext::new("sync", "task");
            sentry::start_transaction(context).finish();
        });
        assert!(opened.sent.take().is_empty());
    }

    #[tokio::test]
    async fn the_queue_is_given_up_with_the_consent_and_made_again_with_the_next() {
        let opened = Opened::new(|options| options).await;
        opened.open();
        let waits = || opened.reports.inner.lock().unwrap().is_some();
        assert!(!waits(), "nothing was sent yet");
        let states = opened.crashes.state_stream();
        let closing = tokio::spawn(close_with_the_gate(states, opened.reports.clone()));
        opened.hub.capture_message("First", Level::Error);
        assert!(waits());
        opened.crashes.opt_out().await;
        while waits() {
            tokio::task::yield_now().await;
        }
        opened.hub.capture_message("Denied", Level::Error);
        assert!(!waits());
        opened.crashes.opt_in().await.unwrap();
        assert!(!closing.is_finished());
        wait_for(&opened.crashes, "an open gate", |state| state.is_open()).await.unwrap();
        opened.hub.capture_message("Again", Level::Error);
        assert!(waits());
        drop(opened.crashes);
        closing.await.unwrap();
        assert!(opened.reports.inner.lock().unwrap().is_none());
    }

    /// Counts events, and spans when they close, as an exporter of spans does.
    #[derive(Clone, Default)]
    struct Exporter(Kept);

    impl<S: Subscriber> Layer<S> for Exporter {
        fn on_event(&self, _: &tracing::Event<'_>, _: Context<'_, S>) {
            self.0.push("event".to_owned());
        }

        fn on_close(&self, _: tracing::span::Id, _: Context<'_, S>) {
            self.0.push("span".to_owned());
        }
    }

    #[tokio::test]
    async fn the_layer_sees_events_only_while_the_gate_is_open() {
        let opened = Opened::new(|options| options).await;
        let exporter = Exporter::default();
        let layer = only_while_open(exporter.clone(), opened.reports.consent.clone());
        let subscriber = tracing_subscriber::registry().with(layer);
        let _default = tracing::subscriber::set_default(subscriber);
        // The same place in the code, whose first event comes at a closed gate.
        let log = || {
            tracing::info!("an event");
            drop(tracing::info_span!("a span"));
            exporter.0.take()
        };
        assert!(log().is_empty());
        opened.open();
        assert_eq!(log(), ["event", "span"]);

        let begun = tracing::info_span!("begun while open");
        opened.crashes.opt_out().await;
        exporter.0.take();
        assert!(log().is_empty());
        drop(begun);
        assert_eq!(exporter.0.take(), ["span"], "the page says that such a span passes");
    }

    #[tokio::test]
    async fn one_purpose_does_not_open_another() {
        let homeserver = AccountDataServer::start().await;
        homeserver.set_content(ALICE, USAGE, OPTED_IN);
        let client = client(&homeserver).await;
        let (usage, crashes) = (built(&client, USAGE).await, built(&client, CRASH_REPORTS).await);
        assert!(usage.is_open() && !crashes.is_open());
    }

    #[tokio::test]
    async fn a_second_purpose_costs_two_tasks_and_one_request() {
        let homeserver = AccountDataServer::start().await;
        let client = client(&homeserver).await;
        let _usage = built(&client, USAGE).await;
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let before = (tasks(), homeserver.requests().len());
        let _crashes = built(&client, CRASH_REPORTS).await;
        tokio::task::yield_now().await;
        assert_eq!((tasks(), homeserver.requests().len()), (before.0 + 2, before.1 + 1));
        assert_eq!(homeserver.requests()[before.1].method, AccountDataMethod::Get);
    }

    #[test]
    fn the_code_of_the_page_is_the_code_of_this_example() {
        let (page, code) =
            (include_str!("../docs/other-telemetry.md"), include_str!("crash_reports.rs"));
        let blocks: Vec<_> = page.split("```rust\n").skip(1).collect();
        assert_eq!(blocks.len(), 3);
        for block in blocks {
            let (block, _) = block.split_once("```").unwrap();
            assert!(code.contains(block), "not in the example:\n{block}");
        }
    }
}
